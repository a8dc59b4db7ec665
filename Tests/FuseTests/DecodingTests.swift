// Every kind of request, decoded from bytes; and what comes of bytes that no kernel should send.
import Glibc
import Model
import Testing

@testable import Fuse

@Suite struct DecodingTests {
    private func decode(_ bytes: [UInt8]) -> FuseRequest? {
        let loopback = LoopbackSession()
        loopback.receive(bytes)
        return loopback.handler.requests.first
    }
    private func decode(_ opcode: FuseOpcode) -> FuseRequest.Body? {
        RequestBytes.all.first { $0.opcode == opcode }.flatMap { decode($0.bytes)?.body }
    }

    @Test func headerIsTakenApart() {
        let request = decode(RequestBytes.make(.statfs, unique: 6 | FuseHeader.resendBit, node: 9))
        #expect(request?.unique == 6 && request?.isResend == true)
        #expect(request?.node == 9 && request?.uid == 1000 && request?.gid == 100 && request?.pid == 4711)
    }

    @Test func everyOpcodeArrivesOnceAndIsAnsweredOnceWhereTheKernelWaits() {
        for (opcode, bytes) in RequestBytes.all where opcode != .initialize {
            let loopback = LoopbackSession()
            loopback.receive(bytes)
            #expect(loopback.handler.requests.count == 1, "\(opcode)")
            let known: Bool
            if case .unknown = loopback.handler.requests.first?.body { known = false } else { known = true }
            #expect(known == (opcode != .bmap && opcode != .syncfs), "\(opcode)")
            let answer = loopback.answer()
            #expect((answer != nil) == opcode.expectsAnswer, "\(opcode)")
            #expect(answer.map { $0.error == -38 && $0.unique == 42 && $0.length == 16 } ?? true, "\(opcode)")
            #expect(loopback.answer() == nil)
        }
    }

    @Test func namesAndNumbersComeOutAsTheyWentIn() {
        guard case .lookup("vol.img") = decode(.lookup), case .unlink("vol.img") = decode(.unlink),
            case .rmdir("dir") = decode(.rmdir), case .removexattr("user.x") = decode(.removexattr),
            case .getxattr("user.sheep.id", 64) = decode(.getxattr), case .listxattr(0) = decode(.listxattr),
            case .access(4) = decode(.access), case .interrupt(40) = decode(.interrupt)
        else {
            Issue.record("a plain request decoded wrongly")
            return
        }
        guard case .rename(let old) = decode(.rename), case .rename(let new) = decode(.rename2),
            case .link(let link) = decode(.link), case .symlink(let symbolic) = decode(.symlink),
            case .mkdir(let directory) = decode(.mkdir), case .mknod(let node) = decode(.mknod),
            case .create(let create) = decode(.create), case .tmpfile = decode(.tmpfile)
        else {
            Issue.record("a request with names decoded wrongly")
            return
        }
        #expect(old.name == "old" && old.newName == "new" && old.newDirectory == 9 && old.flags == 0)
        #expect(new.name == "old" && new.newName == "new" && new.flags == FuseRename.noReplace)
        #expect(link.node == 11 && link.name == "vol@monday.img")
        #expect(symbolic.name == "name" && symbolic.target == "../target")
        #expect(directory.name == "dir" && directory.mode == 0o755 && directory.umask == 0o22)
        #expect(node.name == "node" && node.mode == 0o100644)
        #expect(create.name == "new.img" && create.flags == 0x8042 && create.mode == 0o644)
    }

    @Test func attributesCarryOnlyWhatIsSet() {
        guard case .setattr(let set) = decode(.setattr), case .getattr(let get) = decode(.getattr),
            case .statx(let statx) = decode(.statx)
        else {
            Issue.record("attributes decoded wrongly")
            return
        }
        #expect(set.size == 1 << 30 && set.mode == 0o644 && set.uid == nil && set.gid == nil)
        #expect(set.modificationTime == .now && set.accessTime == nil && set.changeTime == nil)
        #expect(set.handle == nil && get.handle == 5 && statx.handle == 5 && statx.mask == 0x7ff)
    }

    @Test func fileOperationsCarryTheirRanges() {
        guard case .read(let read) = decode(.read), case .fallocate(let allocate) = decode(.fallocate),
            case .lseek(let seek) = decode(.lseek), case .copyFileRange(let narrow) = decode(.copyFileRange),
            case .copyFileRange(let wide) = decode(.copyFileRange64), case .fsync(let sync) = decode(.fsync),
            case .release(let release) = decode(.release), case .flush(let flush) = decode(.flush),
            case .setlkw(let lock) = decode(.setlkw), case .ioctl(let control) = decode(.ioctl),
            case .setxattr(let attribute) = decode(.setxattr), case .forget(let forgets) = decode(.batchForget)
        else {
            Issue.record("a file operation decoded wrongly")
            return
        }
        #expect(read.handle == 5 && read.offset == 8192 && read.size == 65536 && read.lockOwner == 99)
        #expect(allocate.offset == 4096 && allocate.length == 8192 && allocate.mode == 3)
        #expect(seek.offset == 4096 && seek.whence == FuseSeek.data)
        #expect(!narrow.isWide && wide.isWide && wide.length == 5 << 32 && wide.targetNode == 12)
        #expect(wide.targetOffset == 4096 && sync.dataOnly && release.unlocksFlock && flush.lockOwner == 99)
        #expect(lock.lock == FuseLock(start: 100, end: 201, kind: .write, pid: 4711) && lock.owner == 0xabc)
        #expect(control.command == 0x1268 && control.input == [1, 2] && control.outputSize == 4)
        #expect(attribute.name == "user.sheep.copies" && attribute.value == [1, 2, 3])
        #expect(forgets == [FuseForget(node: 3, lookups: 1), FuseForget(node: 4, lookups: 2)])
    }

    @Test(arguments: [1, 512, 4096, 5000, 65536, 65537, 200_000, 1 << 20])
    func payloadOfAWriteIsAlignedAndWhole(_ count: Int) {
        let data = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let loopback = LoopbackSession()
        loopback.receive(RequestBytes.write(data))
        // A second one must not disturb the first, which is still held.
        loopback.receive(RequestBytes.write([UInt8](repeating: 0xff, count: count)))
        guard case .write(let write) = loopback.handler.requests.first?.body else {
            Issue.record("no write came out")
            return
        }
        #expect(write.offset == 8192 && write.lockOwner == 99 && !write.fromCache && write.data.count == count)
        #expect(Int(bitPattern: write.data.bytes) % blockSize == 0)
        #expect(data.withUnsafeBytes { memcmp($0.baseAddress!, write.data.bytes, count) } == 0)
    }

    @Test func hostileLengthsAreRefused() {
        var bytes = RequestBytes.write([1, 2, 3, 4])
        func refused(_ bytes: [UInt8]) -> Bool {
            let loopback = LoopbackSession()
            loopback.receive(bytes)
            return loopback.handler.requests.isEmpty && loopback.answer()?.error == -22
        }
        bytes[40 + 16] = 5  // a size beyond what came
        #expect(refused(bytes))
        bytes[40 + 19] = 0xff  // and a huge one
        #expect(refused(bytes))
        var forgets = RequestBytes.make(.batchForget) { $0.add(UInt32.max, UInt32(0)) }
        let loopback = LoopbackSession()
        loopback.receive(forgets)
        #expect(loopback.handler.requests.isEmpty && loopback.answer() == nil)
        forgets[0] = 200  // a header that disagrees with what was read
        loopback.receive(forgets)
        #expect(loopback.handler.requests.isEmpty)
        #expect(
            refused(
                RequestBytes.make(.setxattr) {
                    $0.add(UInt32.max, UInt32(0)); $0.add("user.x")
                }))
        #expect(refused(RequestBytes.make(.lookup) { $0.body += Array("no end".utf8) }))
        #expect(refused(RequestBytes.make(.lookup) { $0.add("a/b") }))
        #expect(refused(RequestBytes.make(.lookup) { $0.add("") }))
        #expect(
            refused(
                RequestBytes.make(.ioctl) {
                    $0.add(UInt64(0), UInt64(0), UInt64(0)); $0.add(UInt64.max)
                }))
        var extended = RequestBytes.make(.lookup) { $0.add("name") }
        extended[36] = 0xff  // extensions longer than the request
        #expect(refused(extended))
    }

    @Test func nameThatIsNotTextIsRefusedAsSuch() {
        let loopback = LoopbackSession()
        loopback.receive(RequestBytes.make(.lookup) { $0.body += [0xff, 0xfe, 0] })
        #expect(loopback.answer()?.error == -84)
    }

    @Test func extensionsBehindARequestAreLeftOut() {
        var bytes = RequestBytes.make(.create) {
            $0.add(UInt32(0), UInt32(0), UInt32(0), UInt32(0))
            $0.add("name")
            $0.body += [0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9]
        }
        bytes[36] = 1
        guard case .create(let create) = decode(bytes)?.body else {
            Issue.record("a request with extensions was refused")
            return
        }
        #expect(create.name == "name")
    }

    /// Nothing that can be cut off or changed in a request makes the session trap, or answer twice.
    @Test func noTruncationAndNoMutationTraps() {
        let null = open("/dev/null", O_WRONLY)
        defer { close(null) }
        let recorder = Recorder()
        recorder.isForgetful = true
        let session = FuseSession(descriptor: null, handler: recorder, pool: BufferPool(limitBytes: 16 << 20))
        var random = Seeded(state: 7)
        var runs = 0
        func run(_ bytes: [UInt8]) {
            bytes.withUnsafeBytes { session.inject($0) }
            runs += 1
        }
        func withLength(_ bytes: [UInt8]) -> [UInt8] {
            guard bytes.count >= 4 else { return bytes }
            var bytes = bytes
            withUnsafeBytes(of: UInt32(bytes.count).littleEndian) { for i in 0..<4 { bytes[i] = $0[i] } }
            return bytes
        }
        for (_, whole) in RequestBytes.all {
            let bytes = Array(whole.prefix(256))
            for length in 0...bytes.count {
                run(Array(bytes[..<length]))
                run(withLength(Array(bytes[..<length])))
            }
            for _ in 0..<1000 {
                var mutant = bytes
                for _ in 0...random.next(4) {
                    let index = random.next(mutant.count)
                    switch random.next(3) {
                    case 0: mutant[index] = 0xff
                    case 1: mutant[index] = 0
                    default: mutant[index] = UInt8(random.next(256))
                    }
                }
                run(random.next(2) == 0 ? mutant : withLength(mutant))
            }
        }
        #expect(runs > 40_000 && session.pendingReplies == 0)
    }
}
