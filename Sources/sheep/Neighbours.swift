// Each store directory lists where the cluster's other stores of this host are, so that the same words start the daemon
// after stores were added or replaced. A hint only: what a store is, its superblock and the catalog say.
import Catalog
import Glibc
import Logging
import Model
import ObjectStore
import Placement
import Runtime

final class Neighbours {
    static let fileName = "neighbours"
    private var written: [String] = []

    /// Full paths that the file in `store` names; none when there is no file.
    static func read(_ store: String) -> [String] {
        guard let file = fopen(store + "/" + fileName, "r") else { return [] }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = fread(&bytes, 1, bytes.count, file)
        let text = String(decoding: bytes[..<count], as: UTF8.self)
        return text.split(separator: "\n").map(String.init).filter { $0.hasPrefix("/") }
    }

    /// Writes the files now and whenever the map changes.
    func keepUpToDate(_ catalog: any CatalogProposer) {
        write(catalog.state.map)
        catalog.observe { [weak self, unowned catalog] changes in
            if changes.contains(.map) { self?.write(catalog.state.map) }
        }
    }

    private func write(_ map: ClusterMap) {
        let paths = map.stores.filter { $0.status != .out }.map(\.path)
        guard paths != written else { return }
        written = paths
        for store in map.stores where store.status == .up {
            let final = store.path + "/" + Neighbours.fileName
            let temporary = final + ".new"
            guard let file = fopen(temporary, "w") else { continue }
            fputs(paths.joined(separator: "\n") + "\n", file)
            fclose(file)
            rename(temporary, final)
        }
    }
}
