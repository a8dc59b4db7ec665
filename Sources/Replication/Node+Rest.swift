// When a node has nothing left to do by itself: what a simulation, and whoever stops a cluster, waits for.
import Catalog
import Model

extension LocalCatalog: CatalogStorage {}

extension Node {
    /// Nothing is left to recover, to move or to prune, as far as this node and its map know.
    package var isAtRest: Bool {
        let map = catalog.state.map
        return map.to == nil && recovery.behindCount == 0 && recovery.status.phase == .idle
            && pruner.pendingVolumes == 0 && !scrubber.status.isRunning
            && map.stores.allSatisfy { $0.status != .up || map.missingRanges(of: $0.id).isEmpty }
    }
}
