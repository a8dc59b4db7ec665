// The service manager's side channel (systemd): readiness, status, and the descriptor store that keeps the
// mount's descriptor over a restart. Without a manager everything here does nothing and says so.
// Protocol: sd_notify(3), sd_listen_fds(3).
import CSheep
import Glibc
import Model

/// A descriptor that the service manager handed over at start.
package struct InheritedDescriptor: Hashable, Sendable {
    package let name: String
    /// The process owns it from now on.
    package let descriptor: Int32
}

package enum ServiceManager {
    private static let firstInherited: Int32 = 3

    /// Sends `state` (lines like `READY=1`) to the manager at `socket`. False when there is no manager.
    @discardableResult
    package static func notify(
        _ state: String, descriptors: [Int32] = [], socket path: String? = Machine.environment("NOTIFY_SOCKET")
    ) throws(Errno) -> Bool {
        guard let path, !path.isEmpty else { return false }
        guard path.utf8.first == UInt8(ascii: "/") || path.utf8.first == UInt8(ascii: "@") else {
            throw .notSupported
        }
        let socket = try UnixSocket.make(.datagram)
        let raw = socket.raw
        let bytes = Array(state.utf8)
        try UnixSocket.withAddress(path) { address, length throws(Errno) in
            while csheep_send(raw, bytes, bytes.count, descriptors, Int32(descriptors.count), address, length) < 0 {
                guard errno == EINTR else { throw .last }
            }
        }
        return true
    }

    /// Leaves a duplicate of `descriptor` with the manager, which hands it to the next start under `name`
    /// (letters, digits, `-`, `_`). False when there is no manager.
    @discardableResult
    package static func store(
        _ descriptor: Int32, name: String, socket path: String? = Machine.environment("NOTIFY_SOCKET")
    ) throws(Errno) -> Bool {
        // Not polled: the manager would drop a FUSE descriptor whose mount has no server at the moment.
        try notify("FDSTORE=1\nFDNAME=\(name)\nFDPOLL=0", descriptors: [descriptor], socket: path)
    }

    /// Makes the manager close what it keeps under `name`.
    @discardableResult
    package static func removeStored(
        name: String, socket path: String? = Machine.environment("NOTIFY_SOCKET")
    ) throws(Errno) -> Bool { try notify("FDSTOREREMOVE=1\nFDNAME=\(name)", socket: path) }

    /// The descriptors handed over at start, made close-on-exec. To be called once, before anything else is opened.
    package static func inheritedDescriptors() -> [InheritedDescriptor] {
        let found = inheritedDescriptors(
            count: Machine.environment("LISTEN_FDS"), names: Machine.environment("LISTEN_FDNAMES"),
            processId: Machine.environment("LISTEN_PID"))
        for name in ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"] { unsetenv(name) }
        for inherited in found { _ = fcntl(inherited.descriptor, F_SETFD, FD_CLOEXEC) }
        return found
    }

    static func inheritedDescriptors(count: String?, names: String?, processId: String?) -> [InheritedDescriptor] {
        guard let processId, Int32(processId) == getpid(), let count, let count = Int32(count), count > 0,
            count <= 65536
        else { return [] }
        let names = names?.split(separator: ":", omittingEmptySubsequences: false) ?? []
        return (0..<count).map { index in
            InheritedDescriptor(
                name: Int(index) < names.count ? String(names[Int(index)]) : "unknown",
                descriptor: firstInherited + index)
        }
    }
}
