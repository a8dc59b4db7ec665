// What a node that takes part in nothing yet waits for, for its administrator, and what one has left to do. It looks, and
// changes nothing.
import Catalog
import Model

extension ClusterNode {
    /// Nil: its catalog commits. Else which voters are missing, as far as this node knows them.
    package var waitsFor: String? {
        guard !catalog.isActive else { return nil }
        let voters = catalog.record.voters.map(\.node).sorted()
        guard !voters.isEmpty else { return "it has not heard from the cluster yet" }
        let missing = voters.filter { voter in voter != id && !members.contains { $0.node == voter } }
        let here = voters.count - missing.count
        let needed = voters.count / 2 + 1
        if here >= needed { return "the voters that are here have not agreed yet" }
        return "no quorum: \(here) of \(voters.count) voters are here and \(needed) are needed; waits for "
            + "\(needed - here) of node \(missing.map(\.description).joined(separator: ", node "))"
    }

    /// Nothing is left to do here: no operation, no recovery, nothing to be removed.
    package var isQuiet: Bool { firstUnrest == nil }
    /// The first thing that is left to do here, if any.
    package var firstUnrest: String? {
        if !volumes.isAtRest { return "volumes in motion: \(volumes.restless)" }
        if isSettling || !unsettled.isEmpty { return "copies to be made equal: \(unsettled)" }
        if catalog.waitingCount > 0 { return "\(catalog.waitingCount) commands not decided" }
        if node.recovery.behindCount > 0 { return "\(node.recovery.behindCount) copies behind" }
        if node.recovery.status.phase != .idle { return "recovery: \(node.recovery.status.phase)" }
        for id in node.gateway.volumeOrder {
            let open = (node.gateway.volumes[id]?.exceptions ?? [:]).filter { $0.value.contains(where: isOpen) }
            if let index = open.keys.min() { return "copies of \(ObjectId(id, index)) that are not complete" }
        }
        if node.pruner.pendingVolumes > 0 { return "\(node.pruner.pendingVolumes) volumes to be pruned" }
        return node.scrubber.status.isRunning ? "a scrub" : nil
    }
    private func isOpen(_ copy: (key: StoreId, value: SlotStatus)) -> Bool { copy.value != .complete }
}
