// Requests as the kernel lays them out, made by hand, and a session whose answers can be looked at.
import CSheep
import Glibc
import Model

@testable import Fuse

struct RequestBytes {
    var body: [UInt8] = []
    mutating func add<T: FixedWidthInteger>(_ values: T...) {
        for value in values { withUnsafeBytes(of: value.littleEndian) { body.append(contentsOf: $0) } }
    }
    mutating func add(_ text: String) { body += Array(text.utf8) + [0] }

    static func make(
        _ opcode: FuseOpcode, unique: UInt64 = 42, node: UInt64 = 7, _ fill: (inout RequestBytes) -> Void = { _ in }
    ) -> [UInt8] {
        make(rawOpcode: opcode.rawValue, unique: unique, node: node, fill)
    }
    static func make(
        rawOpcode: UInt32, unique: UInt64 = 42, node: UInt64 = 7, _ fill: (inout RequestBytes) -> Void = { _ in }
    ) -> [UInt8] {
        var body = RequestBytes()
        fill(&body)
        var request = RequestBytes()
        request.add(UInt32(40 + body.body.count), rawOpcode)
        request.add(unique, node)
        request.add(UInt32(1000), UInt32(100), UInt32(4711), UInt32(0))
        return request.body + body.body
    }
    static func initialize(minor: UInt32 = 45, flags: UInt64 = .max, unique: UInt64 = 2) -> [UInt8] {
        make(.initialize, unique: unique, node: 0) {
            $0.add(UInt32(7), minor, UInt32(131072), UInt32(truncatingIfNeeded: flags), UInt32(flags >> 32))
            for _ in 0..<11 { $0.add(UInt32(0)) }
        }
    }
    private static func readLike(_ bytes: inout RequestBytes, size: UInt32) {
        bytes.add(UInt64(5), UInt64(8192))
        bytes.add(size, UInt32(2))
        bytes.add(UInt64(99))
        bytes.add(UInt32(0x8000), UInt32(0))
    }
    static func write(_ data: [UInt8], unique: UInt64 = 42) -> [UInt8] {
        make(.write, unique: unique) {
            readLike(&$0, size: UInt32(data.count))
            $0.body += data
        }
    }
    private static func lock(_ bytes: inout RequestBytes) {
        bytes.add(UInt64(5), UInt64(0xabc), UInt64(100), UInt64(201))
        bytes.add(UInt32(1), UInt32(4711), UInt32(0), UInt32(0))
    }

    /// One well-formed request of every kind that the kernel may send.
    static let all: [(opcode: FuseOpcode, bytes: [UInt8])] = {
        var all: [(FuseOpcode, [UInt8])] = []
        func add(_ opcode: FuseOpcode, _ fill: (inout RequestBytes) -> Void = { _ in }) {
            all.append((opcode, make(opcode, fill)))
        }
        add(.lookup) { $0.add("vol.img") }
        add(.forget) { $0.add(UInt64(3)) }
        add(.getattr) {
            $0.add(UInt32(1), UInt32(0)); $0.add(UInt64(5))
        }
        add(.setattr) {
            $0.add(UInt32(1 << 3 | 1 << 5 | 1 << 8 | 1), UInt32(0))
            $0.add(UInt64(5), UInt64(1 << 30), UInt64(0), UInt64(1), UInt64(2), UInt64(3))
            $0.add(UInt32(4), UInt32(5), UInt32(6), UInt32(0o644), UInt32(0), UInt32(10), UInt32(11), UInt32(0))
        }
        add(.readlink)
        add(.symlink) {
            $0.add("name"); $0.add("../target")
        }
        add(.mknod) {
            $0.add(UInt32(0o100644), UInt32(0), UInt32(0o22), UInt32(0)); $0.add("node")
        }
        add(.mkdir) {
            $0.add(UInt32(0o755), UInt32(0o22)); $0.add("dir")
        }
        add(.unlink) { $0.add("vol.img") }
        add(.rmdir) { $0.add("dir") }
        add(.rename) {
            $0.add(UInt64(9)); $0.add("old"); $0.add("new")
        }
        add(.rename2) {
            $0.add(UInt64(9)); $0.add(UInt32(1), UInt32(0)); $0.add("old"); $0.add("new")
        }
        add(.link) {
            $0.add(UInt64(11)); $0.add("vol@monday.img")
        }
        add(.open) { $0.add(UInt32(0x8002), UInt32(0)) }
        add(.read) { readLike(&$0, size: 65536) }
        all.append((.write, write([UInt8](repeating: 7, count: 5000))))
        add(.statfs)
        add(.release) {
            $0.add(UInt64(5)); $0.add(UInt32(0x8002), UInt32(2)); $0.add(UInt64(99))
        }
        add(.fsync) {
            $0.add(UInt64(5)); $0.add(UInt32(1), UInt32(0))
        }
        add(.setxattr) {
            $0.add(UInt32(3), UInt32(1)); $0.add("user.sheep.copies"); $0.body += [1, 2, 3]
        }
        add(.getxattr) {
            $0.add(UInt32(64), UInt32(0)); $0.add("user.sheep.id")
        }
        add(.listxattr) { $0.add(UInt32(0), UInt32(0)) }
        add(.removexattr) { $0.add("user.x") }
        add(.flush) { $0.add(UInt64(5), UInt64(0), UInt64(99)) }
        add(.opendir) { $0.add(UInt32(0), UInt32(0)) }
        add(.readdir) { readLike(&$0, size: 4096) }
        add(.releasedir) {
            $0.add(UInt64(5)); $0.add(UInt32(0), UInt32(0)); $0.add(UInt64(0))
        }
        add(.fsyncdir) {
            $0.add(UInt64(5)); $0.add(UInt32(0), UInt32(0))
        }
        add(.getlk) { lock(&$0) }
        add(.setlk) { lock(&$0) }
        add(.setlkw) { lock(&$0) }
        add(.access) { $0.add(UInt32(4), UInt32(0)) }
        add(.create) {
            $0.add(UInt32(0x8042), UInt32(0o644), UInt32(0o22), UInt32(0)); $0.add("new.img")
        }
        add(.interrupt) { $0.add(UInt64(40) | FuseHeader.resendBit) }
        add(.bmap) {
            $0.add(UInt64(0)); $0.add(UInt32(512), UInt32(0))
        }
        add(.destroy)
        add(.ioctl) {
            $0.add(UInt64(5)); $0.add(UInt32(0), UInt32(0x1268)); $0.add(UInt64(0)); $0.add(UInt32(2), UInt32(4))
            $0.body += [1, 2]
        }
        add(.poll) {
            $0.add(UInt64(5), UInt64(1)); $0.add(UInt32(0), UInt32(1))
        }
        add(.batchForget) {
            $0.add(UInt32(2), UInt32(0)); $0.add(UInt64(3), UInt64(1), UInt64(4), UInt64(2))
        }
        add(.fallocate) {
            $0.add(UInt64(5), UInt64(4096), UInt64(8192)); $0.add(UInt32(3), UInt32(0))
        }
        add(.readdirplus) { readLike(&$0, size: 4096) }
        add(.lseek) {
            $0.add(UInt64(5), UInt64(4096)); $0.add(UInt32(3), UInt32(0))
        }
        for opcode in [FuseOpcode.copyFileRange, .copyFileRange64] {
            add(opcode) {
                $0.add(UInt64(5), UInt64(0), UInt64(12), UInt64(6), UInt64(4096), UInt64(5) << 32, UInt64(0))
            }
        }
        add(.syncfs) { $0.add(UInt64(0)) }
        add(.tmpfile) {
            $0.add(UInt32(0x8042), UInt32(0o644), UInt32(0o22), UInt32(0)); $0.add("unnamed")
        }
        add(.statx) {
            $0.add(UInt32(1), UInt32(0)); $0.add(UInt64(5)); $0.add(UInt32(0), UInt32(0x7ff))
        }
        all.append((.initialize, initialize()))
        return all
    }()
}

/// Keeps what is dispatched; answers at once with an error unless told to hold the replies.
final class Recorder: FuseHandler {
    var requests: [FuseRequest] = []
    var replies: [FuseReply] = []
    var holds = false
    var isForgetful = false
    func handle(_ request: FuseRequest, reply: FuseReply) {
        if !isForgetful { requests.append(request) }
        if holds { return replies.append(reply) }
        if request.header.opcode?.expectsAnswer ?? true { reply.error(.notImplemented) } else { reply.none() }
    }
}

/// A session over one end of a socket pair: what it answers is read at the other.
final class LoopbackSession {
    let handler = Recorder()
    let session: FuseSession
    private let ours: Int32
    private let theirs: Int32

    init(resumed: FuseNegotiated? = nil, settings: FuseSettings = FuseSettings()) {
        var ends: [Int32] = [0, 0]
        let result = socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends)
        precondition(result == 0)
        (ours, theirs) = (ends[0], ends[1])
        session = FuseSession(
            descriptor: ends[0], handler: handler, pool: BufferPool(limitBytes: 16 << 20), settings: settings,
            resumed: resumed)
    }
    deinit {
        session.close()
        close(ours)
        close(theirs)
    }
    func receive(_ bytes: [UInt8]) { bytes.withUnsafeBytes { session.inject($0) } }
    /// As the kernel would: through the descriptor.
    func queue(_ bytes: [UInt8]) { precondition(send(theirs, bytes, bytes.count, 0) == bytes.count) }

    struct Answer {
        let length: Int
        let error: Int32
        let unique: UInt64
        let body: [UInt8]
        func u32(_ offset: Int) -> UInt32 {
            body.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
        }
        func u64(_ offset: Int) -> UInt64 {
            body.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
        }
    }
    /// The next answer; nil if there is none.
    func answer() -> Answer? {
        var bytes = [UInt8](repeating: 0, count: 1 << 18)
        let count = recv(theirs, &bytes, bytes.count, Int32(MSG_DONTWAIT))
        guard count >= 16 else { return nil }
        return bytes.withUnsafeBytes {
            Answer(
                length: Int($0.load(as: UInt32.self)), error: $0.load(fromByteOffset: 4, as: Int32.self),
                unique: $0.load(fromByteOffset: 8, as: UInt64.self), body: Array($0[16..<count]))
        }
    }
}

/// Numbers that are the same in each run (SplitMix64).
struct Seeded {
    var state: UInt64
    mutating func next(_ bound: Int) -> Int {
        state &+= 0x9e37_79b9_7f4a_7c15
        var x = state
        x = (x ^ (x >> 30)) &* 0xbf58_476d_1ce4_e5b9
        x = (x ^ (x >> 27)) &* 0x94d0_49bb_1331_11eb
        return Int((x ^ (x >> 31)) % UInt64(bound))
    }
}
