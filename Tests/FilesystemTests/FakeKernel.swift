// The kernel's side of a mount without a kernel: requests as bytes through a socket pair, answers as they were written.
// Several processes can serve one after the other, which is what a crash looks like.
import Filesystem
import Fuse
import Glibc
import Logging
import Model
import Testing

final class FakeKernel {
    struct Answer {
        let error: Int32
        let body: [UInt8]
        func u64(_ offset: Int) -> UInt64 {
            body.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
        }
        func u32(_ offset: Int) -> UInt32 {
            body.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
        }
        /// Of an entry.
        var node: UInt64 { u64(0) }
        var entrySize: UInt64 { u64(40 + 8) }
        /// Of GETATTR and SETATTR.
        var size: UInt64 { u64(16 + 8) }
        var count: Int { Int(u32(0)) }
    }
    let world: World
    private(set) var volumes: FakeVolumes
    private(set) var uses: VolumeUses
    private(set) var filesystem: Filesystem
    private var session: FuseSession
    private var ends: [Int32]
    private(set) var kept: [UInt8] = []
    private(set) var keptCount = 0
    private var unique: UInt64 = 2
    private var answers: [UInt64: Answer] = [:]
    private let options: MountOptions
    private let pool = BufferPool(limitBytes: 1 << 20)

    init(_ options: String = "") throws {
        world = World()
        volumes = FakeVolumes(world: world)
        self.options = try MountOptions(options)
        (uses, filesystem, session, ends) = try Self.make(world, volumes, self.options, pool)
        connect()
    }
    deinit { for end in ends { close(end) } }

    private static func make(
        _ world: World, _ volumes: FakeVolumes, _ options: MountOptions, _ pool: BufferPool
    ) throws -> (VolumeUses, Filesystem, FuseSession, [Int32]) {
        var ends: [Int32] = [0, 0]
        try #require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0)
        let uses = VolumeUses(service: volumes, clock: world)
        let filesystem = try Filesystem(
            service: volumes, uses: uses, clock: world, pool: pool, options: options, mountId: 7,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, text: { $0.name })
        return (uses, filesystem, FuseSession(descriptor: ends[0], handler: filesystem, pool: pool), ends)
    }
    private func connect() {
        filesystem.keepState = { [unowned self] bytes in
            kept = bytes
            keptCount += 1
        }
        world.batchHooks = [
            { [unowned self] in
                guard filesystem.isKeepingDue else { return }
                filesystem.keepChanges()
                // As the daemon does: behind what other hooks have brought.
                world.later { [filesystem] in filesystem.answerHeld() }
            }
        ]
        session.start()
        var resend = [UInt8](repeating: 0, count: 64)
        _ = Glibc.read(ends[1], &resend, 64)  // the notification that asks for what was in flight
    }

    /// The process is killed; what it had not answered and not kept is lost. Another one takes the mount over.
    func killAndResume() throws {
        session.close()
        for end in ends { close(end) }
        world.forgetAll()
        volumes = FakeVolumes(world: world, takingOver: volumes)
        (uses, filesystem, session, ends) = try Self.make(world, volumes, options, pool)
        try filesystem.importState(kept)
        connect()
        world.drain()
    }

    /// Sends a request and does everything that follows from it. `drains` false: nothing yet.
    @discardableResult
    func send(
        _ opcode: FuseOpcode, node: UInt64 = 1, uid: UInt32 = 0, resend: UInt64? = nil, drains: Bool = true,
        _ body: (inout ByteWriter) -> Void
    ) -> UInt64 {
        if resend == nil { unique += 2 }
        let id = resend ?? unique
        var payload = ByteWriter()
        body(&payload)
        var message = ByteWriter()
        message.write(UInt32(40 + payload.bytes.count))
        message.write(opcode.rawValue)
        message.write(resend == nil ? id : id | 1 << 63)
        message.write(node)
        message.write(uid)
        message.write(uid)
        message.write(UInt32(99))
        message.write(UInt32(0))
        message.writeRaw(payload.bytes)
        let count = message.bytes.withUnsafeBytes { Glibc.write(ends[1], $0.baseAddress, $0.count) }
        precondition(count == message.bytes.count, "the socket takes no more")
        session.processReadable()
        if drains {
            world.drain()
            collect()
        }
        return id
    }
    private func collect() {
        var buffer = [UInt8](repeating: 0, count: 1 << 17)
        while true {
            let count = recv(ends[1], &buffer, buffer.count, Int32(0x40 /* MSG_DONTWAIT */))
            guard count >= 16 else { return }
            let head = ByteReaderBox(Array(buffer[..<count]))
            answers[head.unique & ~(1 << 63)] = Answer(error: -head.error, body: Array(buffer[16..<count]))
        }
    }
    private struct ByteReaderBox {
        let error: Int32
        let unique: UInt64
        init(_ bytes: [UInt8]) {
            error = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 4, as: Int32.self) }
            unique = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self) }
        }
    }
    func answer(_ id: UInt64) -> Answer? {
        collect()
        return answers[id]
    }
    func ask(_ opcode: FuseOpcode, node: UInt64 = 1, _ body: (inout ByteWriter) -> Void = { _ in }) throws -> Answer {
        try #require(answer(send(opcode, node: node, body)))
    }

    // MARK: Requests by name

    static func name(_ text: String, _ writer: inout ByteWriter) { writer.writeRaw(Array(text.utf8) + [0]) }
    func lookup(_ name: String, in node: UInt64 = 1) throws -> Answer {
        try ask(.lookup, node: node) { FakeKernel.name(name, &$0) }
    }
    static func createBody(_ name: String, _ writer: inout ByteWriter) {
        for field in [UInt32(0o102 /* O_CREAT|O_RDWR */), 0o644, 0, 0] { writer.write(field) }
        FakeKernel.name(name, &writer)
    }
    /// Creates and opens a volume: its node and handle.
    func create(_ name: String) throws -> (node: UInt64, handle: UInt64) {
        let answer = try ask(.create) { FakeKernel.createBody(name, &$0) }
        try #require(answer.error == 0)
        return (answer.node, answer.u64(128))
    }
    static func writeBody(_ handle: UInt64, _ offset: UInt64, _ bytes: [UInt8], _ writer: inout ByteWriter) {
        writer.write(handle)
        writer.write(offset)
        writer.write(UInt32(bytes.count))
        writer.write(UInt32(0))
        writer.write(UInt64(0))
        writer.write(UInt32(2))
        writer.write(UInt32(0))
        writer.writeRaw(bytes)
    }
    func write(_ file: (node: UInt64, handle: UInt64), _ offset: UInt64, _ bytes: [UInt8]) throws -> Answer {
        try ask(.write, node: file.node) { FakeKernel.writeBody(file.handle, offset, bytes, &$0) }
    }
    func read(_ file: (node: UInt64, handle: UInt64), _ offset: UInt64, _ count: Int) throws -> [UInt8] {
        let answer = try ask(.read, node: file.node) { body in
            body.write(file.handle)
            body.write(offset)
            body.write(UInt32(count))
            body.write(UInt32(0))
            body.write(UInt64(0))
            body.write(UInt64(0))
        }
        try #require(answer.error == 0)
        return answer.body
    }
    func size(_ node: UInt64) throws -> UInt64 {
        let answer = try ask(.getattr, node: node) { body in
            body.write(UInt64(0))
            body.write(UInt64(0))
        }
        try #require(answer.error == 0)
        return answer.size
    }
    func fsync(_ file: (node: UInt64, handle: UInt64)) throws -> Int32 {
        try ask(.fsync, node: file.node) { body in
            body.write(file.handle)
            body.write(UInt64(0))
        }.error
    }
    func release(_ file: (node: UInt64, handle: UInt64)) throws {
        _ = try ask(.release, node: file.node) { body in
            body.write(file.handle)
            body.write(UInt64(0))
            body.write(UInt64(0))
        }
    }
    func unlink(_ name: String) throws -> Int32 { try ask(.unlink) { FakeKernel.name(name, &$0) }.error }
    static func linkBody(_ node: UInt64, _ name: String, _ writer: inout ByteWriter) {
        writer.write(node)
        FakeKernel.name(name, &writer)
    }
}
