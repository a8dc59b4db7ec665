// Unix sockets on the loop: framing, descriptors, credentials, bounds, ends; and the service manager's protocol.
import Glibc
import Model
import Testing

@testable import Runtime

/// A listener whose connections are kept, and a client.
private final class SocketTest {
    let directory = TemporaryDirectory()
    let loop: EventLoop
    let listener: SocketListener
    let server: Box
    var path: String { directory.path + "/socket" }

    final class Box {
        var connection: SocketConnection?
        var peer: PeerCredentials?
        var messages: [[UInt8]] = []
        var descriptors: [ReceivedDescriptors] = []
        var closed: [Errno?] = []

        func take(_ connection: SocketConnection) {
            self.connection = connection
            connection.onMessage = { [unowned self] _, message, descriptors in
                self.messages.append(message)
                if let descriptors { self.descriptors.append(descriptors) }
            }
            connection.onClose = { [unowned self] _, error in self.closed.append(error) }
        }
        var texts: [String] { messages.map { String(decoding: $0, as: UTF8.self) } }
    }

    init(_ framing: MessageFraming, limit: Int = 1 << 20, outputLimit: Int = 16 << 20) throws {
        let loop = try EventLoop()
        let server = Box()
        let kind: SocketKind
        if case .packets = framing { kind = .packet } else { kind = .stream }
        listener = try SocketListener(loop: loop, path: directory.path + "/socket", kind: kind, mode: 0o640, groupId: 1)
        {
            descriptor, peer in
            server.peer = peer
            do {
                server.take(
                    try SocketConnection(
                        loop: loop, socket: descriptor, framing: framing, messageLimit: limit, outputLimit: outputLimit)
                )
            } catch { Issue.record(error) }
        }
        self.loop = loop
        self.server = server
    }

    func client(_ framing: MessageFraming) throws -> Box {
        let box = Box()
        box.take(try SocketConnection.connect(loop: loop, path: path, framing: framing))
        return box
    }
}

struct SocketTests {
    @Test func linesArriveWholeAndInOrder() throws {
        let test = try SocketTest(.lines)
        let raw = try UnixSocket.connect(test.path, .stream)
        for piece in ["he", "llo\nwor", "ld\n\nlast"] {
            #expect(write(raw.raw, piece, piece.utf8.count) == piece.utf8.count)
            for _ in 0..<3 { test.loop.runOnce() }
        }
        test.loop.run(until: { test.server.messages.count == 3 })
        #expect(test.server.texts == ["hello", "world", ""])
        test.server.connection?.send("answer")
        var bytes = [UInt8](repeating: 0, count: 20)
        #expect(read(raw.raw, &bytes, 20) == 7)
        #expect(bytes.prefix(7) == ArraySlice("answer\n".utf8))
    }

    @Test func theSocketHasItsModeAndGroupAndThePeerItsCredentials() throws {
        let test = try SocketTest(.lines)
        var state = stat()
        #expect(stat(test.path, &state) == 0)
        #expect(state.st_mode & 0o777 == 0o640)
        #expect(state.st_gid == 1)
        let client = try test.client(.lines)
        test.loop.run(until: { test.server.peer != nil })
        #expect(test.server.peer == PeerCredentials(processId: getpid(), userId: getuid(), groupId: getgid()))
        #expect(client.connection?.peer.processId == getpid())
    }

    @Test(arguments: [MessageFraming.packets, .lengthPrefixed, .lines])
    func descriptorsTravelWithTheirMessage(framing: MessageFraming) throws {
        let test = try SocketTest(framing)
        let client = try test.client(framing)
        let file = try FileDescriptor.open(test.directory.path + "/file", O_RDWR | O_CREAT)
        try file.writeFully("precious", at: 0)
        client.connection?.send(Array("take this".utf8), descriptors: [file.raw, file.raw])
        test.loop.run(until: { test.server.messages.count == 1 })
        #expect(test.server.texts == ["take this"])
        let received = try #require(test.server.descriptors.first)
        #expect(received.count == 2)
        guard let first = received.takeFirst() else {
            Issue.record("no descriptor")
            return
        }
        var bytes = [UInt8](repeating: 0, count: 8)
        #expect(try first.readFully(&bytes, 8, at: 0) == 8)
        #expect(bytes == Array("precious".utf8))
        #expect(fcntl(first.raw, F_GETFD) == FD_CLOEXEC)
    }

    @Test func packetsKeepTheirBorders() throws {
        let test = try SocketTest(.packets, limit: 1000)
        let client = try test.client(.packets)
        for text in ["a", "bc", "def"] { client.connection?.send(text) }
        test.loop.run(until: { test.server.messages.count == 3 })
        #expect(test.server.texts == ["a", "bc", "def"])
        client.connection?.send([UInt8](repeating: 0, count: 1001))
        test.loop.run(until: { test.server.closed.count == 1 })
        #expect(test.server.closed == [Errno(EMSGSIZE)])
    }

    @Test func largeMessagesGoThroughInBothDirections() throws {
        let test = try SocketTest(.lengthPrefixed, limit: 4 << 20)
        let client = Box(
            try SocketConnection.connect(
                loop: test.loop, path: test.path, framing: .lengthPrefixed, messageLimit: 4 << 20))
        let large = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 / 251) }
        client.connection.send(large)
        client.connection.send([])
        test.loop.run(until: { test.server.messages.count == 2 })
        #expect(test.server.messages == [large, []])
        var back: [UInt8]?
        client.connection.onMessage = { _, message, _ in back = message }
        test.server.connection?.send(large)
        test.loop.run(until: { back != nil })
        #expect(back == large)
    }
    private struct Box {
        let connection: SocketConnection
        init(_ connection: SocketConnection) { self.connection = connection }
    }

    @Test(arguments: [MessageFraming.lines, .lengthPrefixed])
    func tooLongMessagesCloseTheConnection(framing: MessageFraming) throws {
        let test = try SocketTest(framing, limit: 100)
        let client = try test.client(framing)
        client.connection?.send([UInt8](repeating: 65, count: 100))
        test.loop.run(until: { test.server.messages.count == 1 })
        client.connection?.send([UInt8](repeating: 65, count: 101))
        test.loop.run(until: { test.server.closed.count == 1 && client.closed.count == 1 })
        #expect(test.server.closed == [Errno(EMSGSIZE)])
        #expect(client.closed == [nil])
    }

    @Test func aPeerThatDoesNotReadIsDropped() throws {
        let test = try SocketTest(.lines, limit: 1 << 20, outputLimit: 1 << 20)
        let raw = try UnixSocket.connect(test.path, .stream)
        test.loop.run(until: { test.server.connection != nil })
        for _ in 0..<40 { test.server.connection?.send([UInt8](repeating: 65, count: 1 << 16)) }
        #expect(test.server.closed.isEmpty, "closed inside send")
        test.loop.run(until: { test.server.closed.count == 1 })
        #expect(test.server.closed == [Errno(ENOBUFS)])
        #expect(raw.raw >= 0)
    }

    @Test func whatIsQueuedIsSentBeforeAnOrderlyClose() throws {
        let test = try SocketTest(.lines)
        let client = try test.client(.lines)
        test.loop.run(until: { test.server.connection != nil })
        for _ in 0..<30 { test.server.connection?.send([UInt8](repeating: 65, count: 50_000)) }
        test.server.connection?.closeAfterSending()
        test.loop.run(until: { client.closed.count == 1 && test.server.closed.count == 1 })
        #expect(client.messages.count == 30)
        #expect(test.server.closed == [nil])
        client.connection?.send("too late")
    }

    @Test func aPausedConnectionDeliversAfterItIsResumed() throws {
        let test = try SocketTest(.lines)
        let client = try test.client(.lines)
        test.loop.run(until: { test.server.connection != nil })
        test.server.connection?.pause()
        client.connection?.send("one")
        client.connection?.send("two")
        for _ in 0..<5 { test.loop.runOnce() }
        #expect(test.server.messages.isEmpty)
        test.server.connection?.resume()
        test.loop.run(until: { test.server.messages.count == 2 })
        #expect(test.server.texts == ["one", "two"])
    }

    @Test func aDeadSocketIsReplacedALiveOneIsNot() throws {
        let test = try SocketTest(.lines)
        func listen() throws -> SocketListener {
            try SocketListener(loop: test.loop, path: test.path, kind: .stream) { descriptor, _ in _ = descriptor.raw }
        }
        #expect(throws: Errno(EADDRINUSE)) { try listen() }
        test.listener.close()
        #expect(access(test.path, F_OK) != 0)
        // A process that was killed leaves its socket behind.
        do {
            let dead = try UnixSocket.make(.stream)
            let raw = dead.raw
            try UnixSocket.withAddress(test.path) { address, length throws(Errno) in
                guard bind(raw, address, length) == 0 else { throw .last }
            }
        }
        #expect(access(test.path, F_OK) == 0)
        try listen().close()
        _ = try FileDescriptor.open(test.path, O_CREAT | O_WRONLY)
        #expect(throws: Errno.exists) { try listen() }
    }

    @Test func tooLongPathsAreRefused() throws {
        #expect(throws: Errno.nameTooLong) {
            _ = try UnixSocket.connect("/tmp/" + String(repeating: "x", count: 110), .stream).raw
        }
        #expect(throws: Errno.invalid) { _ = try UnixSocket.connect("", .stream).raw }
    }

    @Test func blockingMessagesCarryDescriptors() throws {
        let pair = try UnixSocket.pair(.packet)
        let file = try FileDescriptor.open("/dev/null", O_RDONLY)
        let text = Array("init".utf8)
        let descriptors = [file.raw]
        try text.withUnsafeBytes { _ = try UnixSocket.send($0, descriptors: descriptors, on: pair.first.raw) }
        var bytes = [UInt8](repeating: 0, count: 10)
        let (count, received) = try bytes.withUnsafeMutableBytes { try UnixSocket.receive($0, on: pair.second.raw) }
        #expect(count == 4)
        #expect(received?.count == 1)
    }
}

struct ServiceManagerTests {
    @Test func notificationsAndStoredDescriptorsReachTheManager() throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/notify"
        let manager = try UnixSocket.make(.datagram)
        let raw = manager.raw
        try UnixSocket.withAddress(path) { address, length throws(Errno) in
            guard bind(raw, address, length) == 0 else { throw .last }
        }
        func receive() throws -> (String, Int) {
            var bytes = [UInt8](repeating: 0, count: 200)
            let (count, descriptors) = try bytes.withUnsafeMutableBytes { try UnixSocket.receive($0, on: raw) }
            return (String(decoding: bytes[..<count], as: UTF8.self), descriptors?.count ?? 0)
        }
        #expect(try ServiceManager.notify("READY=1", socket: path))
        #expect(try receive() == ("READY=1", 0))
        #expect(try ServiceManager.store(raw, name: "mount-1", socket: path))
        #expect(try receive() == ("FDSTORE=1\nFDNAME=mount-1\nFDPOLL=0", 1))
        #expect(try ServiceManager.removeStored(name: "mount-1", socket: path))
        #expect(try receive() == ("FDSTOREREMOVE=1\nFDNAME=mount-1", 0))
        #expect(try !ServiceManager.notify("READY=1", socket: nil))
    }

    @Test func inheritedDescriptorsAreForThisProcessOnly() {
        let own = String(getpid())
        func parse(_ count: String?, _ names: String?, _ id: String?) -> [String] {
            ServiceManager.inheritedDescriptors(count: count, names: names, processId: id).map {
                "\($0.name):\($0.descriptor)"
            }
        }
        #expect(parse("2", "mount:admin", own) == ["mount:3", "admin:4"])
        #expect(parse("2", "mount", own) == ["mount:3", "unknown:4"])
        #expect(parse("2", nil, own) == ["unknown:3", "unknown:4"])
        #expect(parse("2", "a:b", "1") == [])
        #expect(parse("x", "a:b", own) == [])
        #expect(parse("-2", "a:b", own) == [])
        #expect(parse("99999999", "a:b", own) == [])
        #expect(parse(nil, nil, nil) == [])
    }
}

struct MachineTests {
    @Test func theBootIdIsTheKernels() throws {
        let id = try Machine.bootId()
        #expect(id.description.utf8.count == 32)
        #expect(try Machine.bootId() == id)
    }

    @Test func randomNumbersDiffer() { #expect(Set((0..<100).map { _ in Machine.random() }).count == 100) }

    @Test func groupsAreFoundByName() {
        #expect(Machine.groupId(named: "root") == 0)
        #expect(Machine.groupId(named: "no-such-group") == nil)
    }

    @Test func theHostHasAName() { #expect(!Machine.hostName().isEmpty) }

    @Test func theDescriptorLimitIsRaisedToItsMaximum() {
        var limit = rlimit()
        let raised = Machine.raiseDescriptorLimit()
        #expect(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
        #expect(limit.rlim_cur == limit.rlim_max)
        #expect(raised == Int(clamping: limit.rlim_max))
    }

    @Test func lockedMemoryIsPresentAndZero() throws {
        let memory = try LockedMemory(count: 1 << 20)
        #expect((0..<1 << 20).allSatisfy { memory.bytes.load(fromByteOffset: $0, as: UInt8.self) == 0 })
        var resident = [UInt8](repeating: 0, count: 256)
        #expect(mincore(memory.bytes, 1 << 20, &resident) == 0)
        #expect(resident.allSatisfy { $0 & 1 == 1 })
    }

    @Test func prefaultingChangesNothing() {
        let buffer = Buffer(capacity: 1 << 20)
        memset(buffer.bytes, 7, buffer.capacity)
        LockedMemory.prefault(buffer.bytes + 100, count: buffer.capacity - 100)
        #expect((0..<buffer.capacity).allSatisfy { buffer.bytes.load(fromByteOffset: $0, as: UInt8.self) == 7 })
        munlock(buffer.bytes, buffer.capacity)
    }
}
