// Requests as the kernel lays them out: one well-formed request of every kind, as seeds; and a session over a socket
// pair whose answers can be looked at.
import Glibc
import Model

@testable import Fuse

enum FuseBytes {
    static func request(_ opcode: UInt32, unique: UInt64, node: UInt64, _ body: [UInt8]) -> [UInt8] {
        littleEndian(UInt32(40 + body.count)) + littleEndian(opcode) + littleEndian(unique) + littleEndian(node)
            + littleEndian(UInt32(0)) + littleEndian(UInt32(0)) + littleEndian(UInt32(9)) + littleEndian(UInt32(0))
            + body
    }
    private static func text(_ text: String) -> [UInt8] { Array(text.utf8) + [0] }
    private static func words(_ values: UInt32...) -> [UInt8] { values.flatMap(littleEndian) }
    private static func longs(_ values: UInt64...) -> [UInt8] { values.flatMap(littleEndian) }

    /// The handle of the first file that a mount opens.
    static let handle: UInt64 = 1 << 32
    private static func io(_ offset: UInt64, _ size: UInt32) -> [UInt8] {
        longs(handle, offset) + words(size, 2) + longs(99) + words(0x8002, 0)
    }
    private static func lock(_ start: UInt64, _ end: UInt64, _ type: UInt32) -> [UInt8] {
        longs(handle, 0xabc, start, end) + words(type, 4711, 0, 0)
    }
    static func write(_ offset: UInt64, _ data: [UInt8]) -> [UInt8] { io(offset, UInt32(data.count)) + data }

    static let bodies: [(opcode: FuseOpcode, body: [UInt8])] = [
        (.lookup, text("a.img")), (.lookup, text("a@wednesday.img")), (.lookup, text(".sheep")),
        (.lookup, text(".lineage")), (.lookup, text(".snap")), (.lookup, text("images")), (.forget, longs(3)),
        (.getattr, words(1, 0) + longs(handle)),
        (
            .setattr,
            words(1 << 3 | 1 << 5 | 1 << 8 | 1, 0) + longs(handle, 1 << 20, 0, 1, 2, 3)
                + words(4, 5, 6, 0o644, 0, 10, 11, 0)
        ),
        (.readlink, []), (.symlink, text("name") + text("../target")),
        (.mknod, words(0o100644, 0, 0o22, 0) + text("node")), (.mkdir, words(0o755, 0o22) + text("dir")),
        (.unlink, text("b")), (.rmdir, text("images")), (.rename, longs(1) + text("a.img") + text("z.img")),
        (.rename2, longs(1) + words(1, 0) + text("b") + text("y")),
        (.link, longs(1 << 60 | 1 << 28) + text("a@new.img")),
        (.link, longs(1 << 60 | 1 << 28) + text("clone.img")), (.open, words(0x8002, 0)), (.open, words(0, 0)),
        (.read, io(0, 4096)), (.read, io(8192, 65536)), (.write, write(0, [UInt8](repeating: 7, count: 100))),
        (.write, write(1 << 30, [UInt8](repeating: 7, count: 5000))), (.statfs, []),
        (.release, longs(handle) + words(0x8002, 2) + longs(99)), (.fsync, longs(handle) + words(1, 0)),
        (.setxattr, words(1, 0) + text("user.sheep.copies") + [50]), (.getxattr, words(64, 0) + text("user.sheep.id")),
        (.getxattr, words(0, 0) + text("user.sheep.allocated")), (.listxattr, words(0, 0)),
        (.removexattr, text("user.x")), (.flush, longs(handle, 0, 99)), (.opendir, words(0, 0)),
        (.readdir, io(0, 4096)), (.releasedir, longs(handle) + words(0, 0) + longs(0)),
        (.fsyncdir, longs(handle) + words(0, 0)), (.getlk, lock(0, .max, 0)), (.setlk, lock(100, 201, 1)),
        (.setlkw, lock(0, UInt64(Int64.max), 1)), (.setlk, lock(100, 101, 2)), (.access, words(4, 0)),
        (.create, words(0x8042, 0o644, 0o22, 0) + text("new.img")),
        (.create, words(0x8042, 0o644, 0o22, 0) + text("a@now.img")), (.interrupt, longs(40)),
        (.bmap, longs(0) + words(512, 0)), (.destroy, []),
        (.ioctl, longs(handle) + words(0, 0x1268) + longs(0) + words(2, 4) + [1, 2]),
        (.poll, longs(handle, 1) + words(0, 1)), (.batchForget, words(2, 0) + longs(3, 1, 4, 2)),
        (.fallocate, longs(handle, 4096, 8192) + words(3, 0)), (.fallocate, longs(handle, 0, 2 << 30) + words(0, 0)),
        (.fallocate, longs(handle, 100, 5000) + words(16, 0)), (.readdirplus, io(0, 8192)),
        (.lseek, longs(handle, 0) + words(3, 0)), (.lseek, longs(handle, 4096) + words(4, 0)),
        (.copyFileRange, longs(handle, 0, 1 << 60 | 2 << 28, handle, 4096, 5 << 20, 0)),
        (.copyFileRange64, longs(handle, 0, 1 << 60 | 2 << 28, handle, 0, 5 << 32, 0)), (.syncfs, longs(0)),
        (.tmpfile, words(0x8042, 0o644, 0o22, 0) + text("unnamed")),
        (.statx, words(1, 0) + longs(handle) + words(0, 0x7ff)),
        (
            .initialize,
            words(7, 45, 131_072, .max, .max) + [UInt8](repeating: 0, count: 44)
        ),
    ]
}

/// A session over one end of a socket pair; its answers are read at the other. One serves input after input, for its
/// locked memory costs more than all else, until a request changes what the next one would see.
final class SocketSession: FuseHandler {
    private var session: FuseSession!
    private let ends: [Int32]
    private var buffer = [UInt8](repeating: 0, count: 2 << 20)
    private weak var target: (any FuseHandler)?
    private var isUsedUp = false
    nonisolated(unsafe) private static var shared: SocketSession?
    static let pool = BufferPool(limitBytes: 8 << 20)

    /// For one thread at a time, as everything here.
    static func serving(_ handler: any FuseHandler) -> SocketSession {
        if shared.map({ $0.isUsedUp || !$0.session.isOpen }) ?? true {
            shared?.retire()
            shared = SocketSession()
        }
        let socket = shared!
        socket.target = handler
        _ = socket.answers()
        return socket
    }
    /// The process is gone: what was not answered stays so.
    func retire() {
        isUsedUp = true
        session.close()
    }
    var hasPendingReplies: Bool { session.pendingReplies > 0 }
    func handle(_ request: FuseRequest, reply: FuseReply) { target?.handle(request, reply: reply) }

    private init() {
        var ends: [Int32] = [0, 0]
        guard socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0 else { fatalError("no socket pair") }
        var size: Int32 = 4 << 20
        for end in ends { setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &size, 4) }
        _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
        self.ends = ends
        session = FuseSession(descriptor: ends[0], handler: self, pool: SocketSession.pool)
    }
    deinit {
        for end in ends { close(end) }
    }

    struct Answer {
        let error: Int32
        let unique: UInt64
        let count: Int
    }
    /// What was answered since the last call; nil: something that is no answer.
    func answers() -> [Answer]? {
        var answers: [Answer] = []
        while true {
            let count = recv(ends[1], &buffer, buffer.count, Int32(0x40 /* MSG_DONTWAIT */))
            guard count >= 0 else { return answers }
            guard count >= 16, buffer.get(0, UInt32.self) == UInt32(count) else { return nil }
            answers.append(
                Answer(error: -buffer.get(4, Int32.self), unique: buffer.get(8, UInt64.self), count: count - 16))
        }
    }
    func receive(_ bytes: [UInt8]) {
        if bytes.get(4, UInt32.self) == FuseOpcode.initialize.rawValue { isUsedUp = true }
        bytes.withUnsafeBytes { session.inject($0) }
    }
}
