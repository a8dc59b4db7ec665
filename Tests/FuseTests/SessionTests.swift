// Negotiation, taking over, and the answers' bytes.
import CSheep
import Glibc
import Model
import Testing

@testable import Fuse

@Suite struct SessionTests {
    private let resendFlag: UInt64 = 1 << 39

    @Test func initIsAnsweredWithWhatTheKernelOffersAndWeWant() throws {
        let loopback = LoopbackSession()
        var kept: FuseNegotiated?
        loopback.session.onNegotiated = { agreed in
            #expect(loopback.answer() == nil, "kept before it is answered")
            kept = agreed
        }
        loopback.receive(RequestBytes.initialize())
        let answer = try #require(loopback.answer())
        #expect(answer.length == 80 && answer.error == 0 && answer.unique == 2 && answer.body.count == 64)
        #expect(answer.u32(0) == 7 && answer.u32(4) == 45 && answer.u32(20) == 1 << 20 && answer.u32(24) == 1)
        let flags = FuseInitFlags(rawValue: UInt64(answer.u32(12)) | UInt64(answer.u32(32)) << 32)
        #expect(flags == FuseSettings().wanted)
        #expect(flags.isSuperset(of: [.asyncDirectIO, .parallelDirectoryOperations, .directIOAllowMmap, .resend]))
        #expect(!flags.contains(.writebackCache) && !flags.contains(.overIOUring))
        #expect(answer.u32(16) == 384 << 16 | 512 && answer.u32(28) & 0xffff == 256)
        #expect(kept == loopback.session.negotiated && kept != nil)
        #expect(loopback.handler.requests.isEmpty)
    }

    @Test func negotiatedValueSurvivesItsKeeping() throws {
        let loopback = LoopbackSession()
        loopback.receive(RequestBytes.initialize())
        let agreed = try #require(loopback.session.negotiated)
        #expect(try FuseNegotiated(serialized: agreed.serialized) == agreed)
        for length in 0..<agreed.serialized.count {
            #expect(throws: DecodeError.self) { try FuseNegotiated(serialized: Array(agreed.serialized[..<length])) }
        }
    }

    @Test func initThatComesAgainGetsTheSameAnswer() throws {
        let first = LoopbackSession()
        first.receive(RequestBytes.initialize())
        let before = try #require(first.answer())
        var settings = FuseSettings()
        settings.maximumBackground = 3
        let second = LoopbackSession(resumed: first.session.negotiated, settings: settings)
        second.receive(RequestBytes.initialize(unique: 2 | FuseHeader.resendBit))
        let again = try #require(second.answer())
        #expect(again.body == before.body && again.unique == 2 | FuseHeader.resendBit)
    }

    @Test func oldKernelsGetWhatTheyHaveOrAReason() throws {
        let old = LoopbackSession()
        // 7.31 sends a short INIT without the second word of flags.
        old.receive(
            RequestBytes.make(.initialize) { $0.add(UInt32(7), UInt32(31), UInt32(4096), UInt32(0x3fff_ffff)) })
        let agreed = try #require(old.session.negotiated)
        #expect(agreed.minor == 31 && agreed.capabilities == [] && agreed.flags.contains(.asyncDirectIO))
        let newer = LoopbackSession()
        newer.receive(RequestBytes.initialize(minor: 60))
        #expect(newer.session.negotiated?.minor == 45)
        #expect(
            newer.session.negotiated?.capabilities == [
                .resend, .mmapWithDirectIO, .parallelDirectWrites, .wideCopyFileRange, .expireOnly,
            ])
        let without = LoopbackSession()
        without.receive(RequestBytes.initialize(minor: 39, flags: .max & ~resendFlag))
        #expect(without.session.negotiated?.capabilities.contains(.resend) == false)

        let ancient = LoopbackSession()
        var reason: SheepError?
        ancient.session.onUnmount = { reason = $0 }
        ancient.receive(RequestBytes.initialize(minor: 26))
        #expect(ancient.answer()?.error == -EPROTO && reason != nil && !ancient.session.isOpen)
    }

    @Test func resendIsWrittenBeforeTheFirstRead() throws {
        let loopback = LoopbackSession()
        loopback.queue(RequestBytes.make(.statfs))
        loopback.session.start()
        let notification = try #require(loopback.answer())
        #expect(notification.length == 16 && notification.error == 7 && notification.unique == 0)
        #expect(loopback.handler.requests.isEmpty)
        #expect(loopback.session.processReadable())
        #expect(loopback.handler.requests.count == 1)
    }

    @Test func aBatchIsBounded() {
        let loopback = LoopbackSession()
        for unique in 1...5 { loopback.queue(RequestBytes.make(.statfs, unique: UInt64(unique))) }
        loopback.session.start()
        #expect(!loopback.session.processReadable(maximumRequests: 3))
        #expect(loopback.handler.requests.count == 3)
        #expect(loopback.session.processReadable(maximumRequests: 3))
        #expect(loopback.handler.requests.map(\.unique) == [1, 2, 3, 4, 5])
    }

    @Test func resentRequestIsAnsweredWithItsBit() throws {
        let loopback = LoopbackSession()
        loopback.receive(RequestBytes.make(.fsync, unique: 8 | FuseHeader.resendBit) { $0.add(UInt64(1), UInt64(0)) })
        #expect(loopback.handler.requests.first?.unique == 8)
        #expect(loopback.answer()?.unique == 8 | FuseHeader.resendBit)
    }

    @Test func repliesMayComeLaterAndInAnyOrder() {
        let loopback = LoopbackSession()
        loopback.handler.holds = true
        for unique in 1...3 { loopback.receive(RequestBytes.make(.statfs, unique: UInt64(unique))) }
        #expect(loopback.session.pendingReplies == 3 && loopback.answer() == nil)
        for reply in loopback.handler.replies.reversed() { reply.success() }
        #expect((1...3).map { _ in loopback.answer()?.unique } == [3, 2, 1])
        #expect(loopback.session.pendingReplies == 0)
    }

    @Test func repliesAfterTheEndAreDroppedInSilence() {
        let loopback = LoopbackSession()
        loopback.handler.holds = true
        loopback.receive(RequestBytes.make(.statfs, unique: 1))
        loopback.receive(RequestBytes.make(.statfs, unique: 2))
        loopback.session.close()
        loopback.handler.replies[0].success()
        loopback.handler.replies.removeAll()
        #expect(loopback.answer() == nil && loopback.session.pendingReplies == 0)
    }

    private func reply(_ opcode: FuseOpcode, _ act: (FuseReply) -> Void) -> LoopbackSession.Answer? {
        let loopback = LoopbackSession()
        loopback.handler.holds = true
        loopback.receive(RequestBytes.all.first { $0.opcode == opcode }!.bytes)
        act(loopback.handler.replies[0])
        return loopback.answer()
    }
    private let attributes = FuseAttributes(
        inode: 3, size: 1 << 40, blocks: 8, mode: 0o100644, uid: 5, gid: 6,
        modificationTime: FuseTime(wallClock: 1_700_000_000_000_000_001))

    @Test func answersHaveTheKernelsLayout() throws {
        let entry = FuseEntry(
            node: 9, generation: 1, entryValidMilliseconds: 1500, attributesValidMilliseconds: 2000,
            attributes: attributes)
        let lookup = try #require(reply(.lookup) { $0.entry(entry) })
        #expect(lookup.length == 16 + 128 && lookup.u64(0) == 9 && lookup.u64(16) == 1 && lookup.u32(32) == 500_000_000)
        #expect(lookup.u64(40) == 3 && lookup.u64(48) == 1 << 40 && lookup.u32(40 + 60) == 0o100644)
        let got = try #require(reply(.getattr) { $0.attributes(attributes, validMilliseconds: 1000) })
        #expect(got.length == 16 + 104 && got.u64(0) == 1 && got.u64(16 + 32) == 1_700_000_000 && got.u32(16 + 52) == 1)
        #expect(got.u32(16 + 68) == 5 && got.u32(16 + 72) == 6)
        let created = try #require(
            reply(.create) { $0.created(entry, handle: 77, flags: [.directIO, .parallelDirectWrites]) })
        #expect(created.length == 16 + 144 && created.u64(128) == 77 && created.u32(136) == 0x41)
        let opened = try #require(reply(.open) { $0.opened(handle: 4) })
        #expect(opened.length == 32 && opened.u64(0) == 4)
        let statistics = FuseStatistics(blocks: 1, freeBlocks: 2, availableBlocks: 3, files: 4, freeFiles: 5)
        let statfs = try #require(reply(.statfs) { $0.statistics(statistics) })
        #expect(statfs.length == 96 && statfs.u64(16) == 3 && statfs.u32(40) == 4096 && statfs.u32(44) == 255)
        let lock = try #require(
            reply(.getlk) { $0.lock(FuseLock(start: 1, end: 2, kind: .unlock, pid: 3)) })
        #expect(lock.length == 40 && lock.u64(8) == 2 && lock.u32(16) == 2)
    }

    @Test func countsAreWideOnlyWhereTheKernelExpectsIt() throws {
        #expect(reply(.write) { $0.written(5000) }?.u32(0) == 5000)
        #expect(reply(.copyFileRange64) { $0.written(5 << 32) }?.u64(0) == 5 << 32)
        #expect(reply(.copyFileRange) { $0.written(5 << 32) }?.u64(0) == 0xffff_f000)
        #expect(reply(.lseek) { $0.position(1 << 50) }?.u64(0) == 1 << 50)
    }

    @Test func dataGoesOutFromWhereItLies() throws {
        let buffer = Buffer(capacity: 8192)
        for i in 0..<8192 { buffer.bytes.storeBytes(of: UInt8(truncatingIfNeeded: i), toByteOffset: i, as: UInt8.self) }
        let whole = try #require(reply(.read) { $0.data(buffer, offset: 100, count: 5000) })
        #expect(whole.length == 5016 && whole.body == (100..<5100).map { UInt8(truncatingIfNeeded: $0) })
        let pieces = [0..<10, 10..<10, 4096..<4100].map {
            UnsafeRawBufferPointer(start: buffer.bytes + $0.lowerBound, count: $0.count)
        }
        let gathered = try #require(reply(.read) { $0.data(pieces: pieces) })
        #expect(gathered.body == (0..<10).map { UInt8($0) } + [0, 1, 2, 3])
        #expect(reply(.read) { $0.data(buffer, offset: 0, count: 0) }?.length == 16)
    }

    @Test func extendedAttributesAnswerLengthValueOrRange() throws {
        #expect(reply(.listxattr) { $0.extendedAttribute([1, 2, 3]) }?.u32(0) == 3)
        #expect(reply(.getxattr) { $0.extendedAttribute([1, 2, 3]) }?.body == [1, 2, 3])
        #expect(reply(.getxattr) { $0.extendedAttribute([UInt8](repeating: 0, count: 65)) }?.error == -34)
    }

    @Test func listingsNeverOutgrowWhatWasAsked() throws {
        let pool = BufferPool(limitBytes: 0)
        var listing = FuseListing(limit: 100, pool: pool)
        let names = ["a", "exactly8", "too long for the rest", "fits", "b"]
        let types = [FuseListing.file, FuseListing.directory, 8, 8, 8]
        var fitted: [Bool] = []
        for (index, name) in names.enumerated() {
            fitted.append(listing.add(name: name, inode: UInt64(index + 1), type: types[index], nextOffset: 1))
        }
        #expect(fitted == [true, true, false, true, false] && listing.byteCount == 96)
        let answer = try #require(reply(.readdir) { $0.listing(listing) })
        #expect(answer.u64(0) == 1 && answer.u64(8) == 1 && answer.u32(16) == 1 && answer.u32(20) == 8)
        #expect(answer.u64(32) == 2 && answer.u32(48) == 8 && answer.body.count == 96)
        var plus = FuseListing(limit: 4096, pool: pool)
        let entry = FuseEntry(
            node: 9, entryValidMilliseconds: 0, attributesValidMilliseconds: 0, attributes: attributes)
        var count = 0
        while plus.add(name: "name", entry: entry, nextOffset: UInt64(count + 1)) { count += 1 }
        #expect(count == 4096 / 160 && plus.byteCount == count * 160)
        var none = FuseListing(limit: 0, pool: pool)
        let fitsNothing = none.add(name: "a", inode: 1, type: 8, nextOffset: 1)
        #expect(!fitsNothing)
    }

    @Test func notificationsHaveTheKernelsLayout() throws {
        let loopback = LoopbackSession()
        let node = FuseNotification.invalidateNode(7, offset: -1, length: 0).message
        #expect(node.count == 40 && node[4] == 2 && node[16] == 7 && node[24] == 0xff)
        let entry = FuseNotification.invalidateEntry(parent: 1, name: "vol", expireOnly: true).message
        #expect(entry.count == 16 + 16 + 4 && entry[0] == 36 && entry[4] == 3 && entry[24] == 3 && entry[28] == 1)
        let delete = FuseNotification.delete(parent: 1, child: 2, name: "vol").message
        #expect(delete.count == 16 + 24 + 4 && delete[4] == 6 && delete[24] == 2 && delete[32] == 3)
        loopback.session.notifier.send(.invalidateNode(7, offset: 0, length: 0))
        var answer = loopback.answer()
        for _ in 0..<5000 where answer == nil {
            usleep(1000)
            answer = loopback.answer()
        }
        #expect(answer?.error == 2 && answer?.unique == 0 && answer?.u64(0) == 7)
    }
}
