// The other end of the socket: asks one question at a time and waits for the answer. For `dog` and for the short
// commands of `sheep`; it blocks, so the daemon itself must never use it.
import Glibc
import Model

package final class AdminClient {
    private let descriptor: Int32
    private let path: String
    private var received: [UInt8] = []
    private var nextId: UInt64 = 1

    /// Connects. ENOENT, ECONNREFUSED and EACCES become errors that say what to do.
    package init(path: String) throws(SheepError) {
        self.path = path
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        guard path.utf8.count < capacity else {
            throw SheepError(
                .nameTooLong, what: "the daemon cannot be asked", why: "the socket's path is too long: \(path)",
                remedy: "use a path of at most \(capacity - 1) bytes")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw AdminClient.unreachable(path, errno) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let outcome = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, size) }
        }
        // A signal during connect on a Unix socket leaves nothing half done.
        guard outcome == 0 else { throw AdminClient.unreachable(path, errno) }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Sends the request and returns the result with all its parts. Throws what the daemon answered.
    package func ask(
        _ operation: AdminOperation, progress: (AdminProgress) -> Void = { _ in }
    ) throws(SheepError) -> AdminResult {
        let request = AdminRequest(id: nextId, operation)
        nextId += 1
        try send(AdminCoding.encode(request))
        var result = AdminResult()
        while true {
            let answer = try AdminCoding.decodeAnswer(try receiveLine())
            guard answer.id == request.id || answer.id == 0 else { continue }
            if let error = answer.error { throw error.error }
            if let now = answer.progress { progress(now) }
            if let part = answer.part { result.merge(part) }
            if let last = answer.result {
                result.merge(last)
                return result
            }
        }
    }

    private func send(_ bytes: [UInt8]) throws(SheepError) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { raw in
                Glibc.send(descriptor, raw.baseAddress! + sent, raw.count - sent, Int32(MSG_NOSIGNAL))
            }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw AdminClient.lost(path) }
            sent += count
        }
    }

    private func receiveLine() throws(SheepError) -> [UInt8] {
        var searched = 0
        while true {
            if let end = received[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                let line = Array(received[..<end])
                received.removeFirst(end + 1)
                return line
            }
            searched = received.count
            var chunk = [UInt8](repeating: 0, count: 65_536)
            let count = chunk.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, 0) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw AdminClient.lost(path) }
            received += chunk[..<count]
        }
    }

    private static func unreachable(_ path: String, _ code: Int32) -> SheepError {
        switch code {
        case EACCES, EPERM:
            SheepError(
                .accessDenied, what: "the daemon cannot be asked", why: "no permission for its socket \(path)",
                remedy: "do it as root, as the user that runs sheep, or as a member of the group sheep")
        default:
            SheepError(
                .connectionRefused, what: "no sheep answers",
                why: code == ENOENT
                    ? "there is no socket \(path)" : "nobody listens at \(path): \(String(cString: strerror(code)))",
                remedy: "start it: sheep run --store DIR --mount DIR (or say where its socket is: --socket PATH)")
        }
    }

    private static func lost(_ path: String) -> SheepError {
        SheepError(
            .connectionRefused, what: "the daemon went away before it had answered",
            why: "the connection to \(path) was closed; what was asked may have been done or not",
            remedy: "look at the daemon's log, then at dog status, then ask again")
    }
}
