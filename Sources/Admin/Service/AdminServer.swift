// The administrator's socket: accepts who is allowed, hands lines to the service, sends its lines back. One request
// after the other on a connection is usual, several at once are served too. Must never let in anybody else.
import Model
import Runtime

package final class AdminServer {
    private let service: AdminService
    private let loop: EventLoop
    private let access: AdminAccess
    private var listener: SocketListener?
    private var connections: [ObjectIdentifier: SocketConnection] = [:]

    /// Connections at a time; more are closed at once.
    private static let maximumConnections = 64
    /// Bytes that may wait for a client that does not read: a map of some hundred thousand objects.
    private static let outputLimit = 256 << 20

    /// Listens at `path`. Its directory is made if it is missing (mode 0755 as root, 0700 otherwise). The socket gets
    /// mode 0660 and, as root, the group `sheep` if there is one.
    package init(
        path: String, service: AdminService, loop: EventLoop, access: AdminAccess = AdminAccess()
    ) throws(SheepError) {
        self.service = service
        self.loop = loop
        self.access = access
        try access.makeDirectory(of: path)
        do throws(Errno) {
            listener = try SocketListener(
                loop: loop, path: path, kind: .stream, mode: 0o660, groupId: access.socketGroup
            ) { [weak self] socket, peer in self?.accept(socket, peer) }
        } catch {
            throw AdminServer.refused(path, error)
        }
    }

    /// Stops listening, removes the socket's path, and ends all connections after what is queued is sent.
    package func close() {
        listener?.close()
        listener = nil
        for connection in connections.values { connection.closeAfterSending() }
        connections = [:]
    }

    private func accept(_ socket: consuming FileDescriptor, _ peer: PeerCredentials) {
        let groups = AdminAccess.supplementaryGroups(of: socket.raw)
        guard
            let connection = try? SocketConnection(
                loop: loop, socket: socket, framing: .lines, messageLimit: 4 * maximumAdminRequestSize,
                outputLimit: AdminServer.outputLimit)
        else { return }
        if let reason = refusal(peer, groups) {
            send(AdminCoding.encode(AdminAnswer(id: 0, error: AdminFailure(reason))), on: connection)
            return connection.closeAfterSending()
        }
        connections[ObjectIdentifier(connection)] = connection
        connection.onClose = { [weak self] connection, _ in
            self?.connections[ObjectIdentifier(connection)] = nil
        }
        let asker = AdminPeer(uid: peer.userId, gid: peer.groupId)
        connection.onMessage = { [weak self] connection, line, _ in
            self?.service.handle(line, from: asker) { [weak self, weak connection] answer in
                if let connection { self?.send(answer, on: connection) }
            }
        }
    }

    private func refusal(_ peer: PeerCredentials, _ groups: [UInt32]) -> SheepError? {
        guard access.allows(uid: peer.userId, groups: groups + [peer.groupId]) else {
            return SheepError(
                .accessDenied, what: "the daemon does not talk to you",
                why: "uid \(peer.userId) is not root, nor the daemon's user, nor in the group sheep",
                remedy: "join the group (usermod -aG sheep NAME, then log in again), or ask as root")
        }
        guard connections.count < AdminServer.maximumConnections else {
            return SheepError(
                .busy, what: "the daemon does not answer now",
                why: "\(AdminServer.maximumConnections) clients ask already", remedy: "try again")
        }
        return nil
    }

    /// The connection ends lines itself.
    private func send(_ line: [UInt8], on connection: SocketConnection) {
        connection.send(line.last == UInt8(ascii: "\n") ? Array(line.dropLast()) : line)
    }

    private static func refused(_ path: String, _ error: Errno) -> SheepError {
        let why =
            switch error.code {
            case 98: "another sheep listens at \(path)"  // EADDRINUSE
            case 17: "\(path) exists and is not a socket"  // EEXIST
            case 13: "no permission to make \(path)"  // EACCES
            default: "\(path) cannot be made: \(error)"
            }
        return SheepError(
            error, what: "the administrator's socket was not made", why: why,
            remedy: "choose another path: --socket PATH, and the same for dog")
    }
}
