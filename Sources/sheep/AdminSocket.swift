// The administrator's socket: connections, lines in, lines out.
import Admin
import Glibc
import Model
import Replication
import Runtime

final class AdminSocket {
    private let loop: EventLoop
    private var listener: SocketListener?
    private var connections: [ObjectIdentifier: SocketConnection] = [:]
    private let service: AdminService
    private let access = AdminAccess()
    private static let connectionLimit = 64

    init(_ daemon: Daemon, node: Node, mounts: MountManager) throws(SheepError) {
        loop = daemon.loop
        service = AdminService(volumes: node, node: node, mounts: mounts, clock: daemon.loop)
        let path = daemon.options.socketPath
        do throws(Errno) {
            listener = try SocketListener(
                loop: daemon.loop, path: path, kind: .stream, mode: 0o660, groupId: access.socketGroup
            ) { [unowned self] descriptor, peer in accept(descriptor, peer) }
        } catch {
            throw SheepError(
                error, what: "the administrator's socket cannot be made at \(path)",
                why: error == Errno(EADDRINUSE) ? "another sheep listens there" : error.message,
                remedy: "stop the other one, or give another path with --socket")
        }
    }

    func close() {
        listener?.close()
        listener = nil
    }

    private func accept(_ descriptor: consuming FileDescriptor, _ peer: PeerCredentials) {
        let groups = AdminAccess.groups(of: descriptor.raw) + [peer.groupId]
        guard connections.count < AdminSocket.connectionLimit, access.allows(uid: peer.userId, groups: groups) else {
            return
        }
        do throws(Errno) {
            let connection = try SocketConnection(
                loop: loop, socket: descriptor, framing: .lines, messageLimit: 1 << 20)
            connections[ObjectIdentifier(connection)] = connection
            connection.onMessage = { [service] connection, line, _ in
                let peer = AdminPeer(uid: connection.peer.userId, gid: connection.peer.groupId)
                service.handle(line, from: peer) { [weak connection] answer in
                    guard let connection, connection.isOpen else { return }
                    var text = answer
                    if text.last == UInt8(ascii: "\n") { text.removeLast() }
                    connection.send(text)
                }
            }
            connection.onClose = { [weak self] connection, _ in
                self?.connections[ObjectIdentifier(connection)] = nil
            }
        } catch {
            return
        }
    }
}
