// Store directories as the node needs them: claimed, looked into, let go.
import Catalog
import Glibc
import Logging
import Model
import ObjectStore
import Placement
import Replication
import Runtime

final class DirectoryProvider: StoreProvider {
    enum Content {
        case empty, store
        case other(String)
    }

    private let loop: EventLoop
    private let faults: FaultFile?
    private var directories: [String: StoreDirectory] = [:]
    let bootId: ClusterId

    init(loop: EventLoop, faults: FaultFile?) {
        self.loop = loop
        self.faults = faults
        // Without a boot id every start counts as one after a power loss: safe.
        bootId = (try? Machine.bootId()) ?? ClusterId(high: Machine.random(), low: Machine.random())
    }

    func newStoreId() -> StoreId {
        while true {
            let id = Machine.random()
            if id != 0 { return StoreId(id) }
        }
    }

    /// Takes a directory for this process. `creating`: a missing one is made.
    func claim(_ path: String, creating: Bool) throws(SheepError) -> StoreDirectory {
        if !creating, access(path, F_OK) != 0 {
            throw SheepError(
                .noEntry, what: "the store \(path) cannot be opened", why: "the directory is not there",
                remedy: "mount its disk, or replace the store")
        }
        let directory = try StoreDirectory(
            try StoreDirectory.claim(path), loop: loop, faults: faults?.injector(store: path))
        directories[path] = directory
        return directory
    }

    func release(path: String) { directories.removeValue(forKey: path)?.close() }

    /// Looks whether a claimed directory is a store, is empty, or holds something else.
    func content(of path: String) -> Content {
        if access(path + "/superblock", F_OK) == 0 { return .store }
        let ours: Set<String> = [
            ".", "..", "lock", "journal", "objects", "catalog", "quarantine", "lost+found", Neighbours.fileName,
        ]
        guard let directory = opendir(path) else { return .other("something unreadable") }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if !ours.contains(name) { return .other(name) }
            if name == "journal" || name == "objects" || name == "catalog" { names.append(name) }
        }
        // Our own folders may be there, empty, after a start that was cut short; content means a lost superblock.
        for name in names where holdsFiles(path + "/" + name) { return .other("\(name)/ with content") }
        return .empty
    }

    private func holdsFiles(_ path: String) -> Bool {
        guard let directory = opendir(path) else { return false }
        defer { closedir(directory) }
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name == "." || name == ".." { continue }
            if entry.pointee.d_type == UInt8(DT_DIR) {
                if holdsFiles(path + "/" + name) { return true }
            } else {
                return true
            }
        }
        return false
    }

    func claimEmpty(path: String, _ completion: @escaping (Result<any Disk, SheepError>) -> Void) {
        let result: Result<any Disk, SheepError>
        do throws(SheepError) {
            let disk = try claim(path, creating: true)
            switch content(of: path) {
            case .empty: result = .success(disk)
            case .store:
                release(path: path)
                result = .failure(notEmpty(path, "it is a store already"))
            case .other(let name):
                release(path: path)
                result = .failure(notEmpty(path, "it holds \(name)"))
            }
        } catch {
            result = .failure(error)
        }
        loop.enqueue { completion(result) }
    }

    private func notEmpty(_ path: String, _ why: String) -> SheepError {
        SheepError(
            .exists, what: "\(path) cannot become a new store", why: why,
            remedy: "give an empty directory on the new disk")
    }

    /// Small disks (tests, trials) keep a small reserve.
    func scaleReserve(_ configuration: inout StoreConfiguration, _ space: DiskSpace) {
        guard space.capacityBytes > 0 else { return }
        configuration.reserveBytes = min(configuration.reserveBytes, space.capacityBytes / 20)
        configuration.lowSpaceBytes = min(configuration.lowSpaceBytes, space.capacityBytes / 8)
    }
}
