// A listening Unix socket on a loop. Nobody can connect before the path has its mode and group.
// It must never take away a path that somebody still listens on.
import CSheep
import Glibc
import Model

package final class SocketListener {
    package let path: String
    private let loop: EventLoop
    private var socket: Int32
    private var identity: (device: dev_t, inode: ino_t)?
    private let accept: (consuming FileDescriptor, PeerCredentials) -> Void
    private static let pauseMilliseconds: UInt64 = 100

    /// Listens at `path` (mode and group as given; a path beginning with "@" is abstract and has neither) and gives
    /// each new, non-blocking connection to `accept`. A dead socket at the path is replaced; EADDRINUSE when
    /// somebody listens there, EEXIST when something else than a socket lies there.
    package init(
        loop: EventLoop, path: String, kind: SocketKind, mode: UInt32 = 0o600, groupId: UInt32? = nil,
        accept: @escaping (consuming FileDescriptor, PeerCredentials) -> Void
    ) throws(Errno) {
        self.loop = loop
        self.path = path
        self.accept = accept
        let made = try UnixSocket.make(kind)
        try made.setNonBlocking()
        let isAbstract = path.utf8.first == UInt8(ascii: "@")
        if !isAbstract { try SocketListener.clear(path, kind) }
        let raw = made.raw
        try UnixSocket.withAddress(path) { address, length throws(Errno) in
            guard bind(raw, address, length) == 0 else { throw .last }
        }
        if !isAbstract {
            let isReady = chmod(path, mode) == 0 && (groupId == nil || chown(path, uid_t.max, groupId!) == 0)
            guard isReady else {
                let failure = Errno.last
                unlink(path)
                throw failure
            }
            var state = stat()
            if lstat(path, &state) == 0 { identity = (state.st_dev, state.st_ino) }
        }
        guard listen(raw, 128) == 0 else { throw .last }
        socket = made.release()
        try loop.register(descriptor: socket, interest: .readable) { [weak self] _ in self?.acceptAll() }
    }

    deinit { close() }

    /// Stops listening and removes the path, if it is still this socket's.
    package func close() {
        guard socket >= 0 else { return }
        loop.unregister(descriptor: socket)
        Glibc.close(socket)
        socket = -1
        var state = stat()
        if let identity, lstat(path, &state) == 0, state.st_dev == identity.device, state.st_ino == identity.inode {
            unlink(path)
        }
    }

    private static func clear(_ path: String, _ kind: SocketKind) throws(Errno) {
        var state = stat()
        guard lstat(path, &state) == 0 else { return }
        guard state.st_mode & S_IFMT == S_IFSOCK else { throw .exists }
        do {
            _ = try UnixSocket.connect(path, kind)
        } catch {
            guard error == Errno(ECONNREFUSED) else { throw Errno(EADDRINUSE) }
            unlink(path)
            return
        }
        throw Errno(EADDRINUSE)
    }

    private func acceptAll() {
        while socket >= 0 {
            let number = csheep_accept(socket)
            if number >= 0 {
                let connection = FileDescriptor(owning: number)
                if let peer = try? UnixSocket.peer(of: number) { accept(connection, peer) }
                continue
            }
            switch errno {
            case EINTR, ECONNABORTED: continue
            case EMFILE, ENFILE, ENOMEM, ENOBUFS: return pause()
            default: return
            }
        }
    }

    /// Out of descriptors: the waiting connection would wake the loop again and again.
    private func pause() {
        try? loop.modify(descriptor: socket, interest: [])
        loop.after(milliseconds: SocketListener.pauseMilliseconds) { [weak self] in
            guard let self, self.socket >= 0 else { return }
            try? self.loop.modify(descriptor: self.socket, interest: .readable)
        }
    }
}
