// Faults on request, so that tests of the whole product can make a live store fail. Asked before the system
// call; it must never be set unless an option that says "test" asks for it.
import Glibc
import Model

package enum DiskOperationKind: String, Sendable { case read, write, sync, create, remove, list }

package protocol FaultInjector: AnyObject, Sendable {
    /// The error that the operation is to fail with; nil for none. Called on any thread.
    func fault(for operation: DiskOperationKind, _ file: StoreFile?) -> Errno?
    /// Whether syncs are skipped and reported as done: the disk that lies.
    var dropSyncs: Bool { get }
}

/// Faults read from a control file, one a line: `eio-read`, `eio-write`, `eio-sync`, `enospc` (writes and
/// creations), `drop-syncs`; a store's path after it restricts the line to that store. `#` begins a comment.
/// Read at the start only, for all stores: `skip-journal-sync`, `apply-early` (negative controls of power loss).
package final class FaultFile: Sendable {
    private let path: String
    private let lines = Locked<[[Substring]]>([])

    package init(path: String) {
        self.path = path
        reload()
    }

    /// Reads the file again; to be called on each tick. A missing file is no faults.
    package func reload() {
        var text = ""
        if let file = try? FileDescriptor.open(path, O_RDONLY) {
            let bytes = [UInt8](unsafeUninitializedCapacity: 65536) { buffer, count in
                count = (try? file.readFully(buffer.baseAddress!, buffer.count, at: 0)) ?? 0
            }
            text = String(decoding: bytes, as: UTF8.self)
        }
        let parsed = text.split(whereSeparator: \.isNewline).map { line in
            line.prefix { $0 != "#" }.split(separator: " ")
        }.filter { !$0.isEmpty }
        lines.withLock { $0 = parsed }
    }

    /// Whether a line says `name` for all stores. For switches that are read once, at the start.
    package func says(_ name: String) -> Bool { lines.withLock { $0.contains { $0[0] == name && $0.count == 1 } } }

    /// The faults of the store at `path`, as that path is written in the control file.
    package func injector(store path: String) -> any FaultInjector { StoreFaults(self, path) }

    fileprivate func isOn(_ name: String, store: String) -> Bool {
        lines.withLock { $0.contains { $0[0] == name && ($0.count == 1 || $0[1] == store) } }
    }
}

private final class StoreFaults: FaultInjector {
    private let file: FaultFile
    private let store: String
    init(_ file: FaultFile, _ store: String) {
        self.file = file
        self.store = store
    }

    func fault(for operation: DiskOperationKind, _: StoreFile?) -> Errno? {
        switch operation {
        case .read, .list: return file.isOn("eio-read", store: store) ? .inputOutput : nil
        case .sync: return file.isOn("eio-sync", store: store) ? .inputOutput : nil
        case .write, .create:
            if file.isOn("enospc", store: store) { return .noSpace }
            return file.isOn("eio-write", store: store) ? .inputOutput : nil
        case .remove: return file.isOn("eio-write", store: store) ? .inputOutput : nil
        }
    }
    var dropSyncs: Bool { file.isOn("drop-syncs", store: store) }
}
