// One remote copy and its server over a link that a test holds in its hands: order, windows, time-outs, breaks, sessions.
import Catalog
import Model
import ObjectStore
import TestSupport
import Testing
import Wire

@testable import Replication

/// A pair of links; frames wait until the test lets them through.
final class HeldLink: PeerLink {
    var onEvent: (PeerLinkEvent) -> Void = { _ in }
    var frames: [Frame] = []
    var resets: [String] = []
    func send(_ frame: Frame) { frames.append(frame) }
    func reset(_ reason: String) { resets.append(reason) }
}

/// A host's copy behind a server, and a gateway's side of the link to it.
final class RemoteBench {
    let world: World
    let server: CopyServer
    let peer: RemotePeer
    let link = HeldLink()
    /// The server's end of the present connection.
    private(set) var end = HeldLink()
    private(set) var copy: RemoteCopy!
    var isOpen = false
    var silences: [String] = []
    let session = StoreSession(bootId: ClusterId(high: 5, low: 5), incarnation: 1)
    let store: StoreId
    var local: Copy { world.node.stores[0].copy }
    let volume: VolumeId

    init(_ limits: RemoteLimits = RemoteLimits(), session asked: StoreSession? = nil) {
        world = World(seed: 1, stores: 1)
        store = world.storeIds[0]
        volume = world.volume("disk")
        server = CopyServer(clock: world.machine, pool: world.pool, windowBytes: 1 << 20)
        peer = RemotePeer(node: NodeId(2), link: link, clock: world.machine, limits: limits)
        server.attach(local, session: session)
        peer.mapChanged(world.catalog.state.map.epoch)
        copy = RemoteCopy(store: store, session: asked ?? session, peer: peer) { [unowned self] _ in
            isOpen = true
        } onSilent: { [unowned self] _, reason in
            silences.append(reason)
        }
    }

    var epoch: Epoch { world.catalog.state.map.epoch }
    func connect(incarnation: UInt64 = 1, windowBytes: UInt32 = 1 << 20) {
        end = HeldLink()
        server.accept(end)
        end.onEvent(.connected(PeerIdentity(node: NodeId(1), incarnation: 1, protocolVersion: 1, windowBytes: 0)))
        link.onEvent(
            .connected(
                PeerIdentity(
                    node: NodeId(2), incarnation: incarnation, protocolVersion: 1, windowBytes: windowBytes)))
    }
    func lose() {
        link.frames = []
        link.onEvent(.lost)
    }
    /// Lets everything that waits to the server through.
    func toServer() {
        let frames = link.frames
        link.frames = []
        for frame in frames { end.onEvent(.received(frame)) }
    }
    func toGateway() {
        let frames = end.frames
        end.frames = []
        for frame in frames { link.onEvent(.received(frame)) }
    }
    /// All of it, until nothing moves for `milliseconds`.
    func settle(milliseconds: UInt64 = 20) {
        for _ in 0..<5 {
            toServer()
            world.pass(milliseconds: milliseconds / 4)
            toGateway()
        }
    }
    /// `isHeard`: what the server says by itself comes through.
    func pass(milliseconds: UInt64, isHeard: Bool = false) {
        let end = world.machine.nanoseconds + milliseconds * 1_000_000
        while world.machine.nanoseconds < end, world.step() { if isHeard { toGateway() } }
    }
    func write(_ index: UInt32, _ sequence: UInt64, term: UInt32 = 1, stamp: UInt8 = 1, blocks: Int = 1) -> CopyWrite {
        let buffer = world.pool.buffer(blocks * blockSize)
        for i in 0..<blocks * blockSize { buffer.bytes.storeBytes(of: stamp, toByteOffset: i, as: UInt8.self) }
        buffer.computeChecksums(0..<blocks)
        return CopyWrite(
            authority: Authority(epoch: epoch, term: Term(term)), object: ObjectId(volume, index),
            generation: .first, previous: sequence == 1 ? .zero : Version(term: Term(term), sequence: sequence - 1),
            version: Version(term: Term(term), sequence: sequence), blocks: BlockRange(first: 0, count: blocks),
            payload: Payload(buffer: buffer, firstBlock: 0, blockCount: blocks), keepAsZero: false)
    }
    func version(_ index: UInt32) -> Version { local.objects.standing(ObjectId(volume, index)).version }
}

@Suite struct RemoteCopyTests {
    @Test func whatIsWrittenIsRead() {
        let bench = RemoteBench()
        bench.connect()
        bench.settle()
        #expect(bench.isOpen)
        var results: [String] = []
        bench.copy.fence(bench.volume, Authority(epoch: bench.epoch, term: Term(1))) { _ in results.append("fenced") }
        bench.copy.write(bench.write(0, 1, stamp: 9, blocks: 2)) { results.append("\($0)") }
        bench.copy.flush { results.append($0 == nil ? "flushed" : "failed") }
        let buffer = bench.world.pool.buffer(4 * blockSize)
        bench.copy.read(
            ObjectId(bench.volume, 0), GenerationPath(top: .first), BlockRange(first: 1, count: 3), into: buffer,
            bufferOffset: blockSize
        ) { result in
            guard case .success(let read) = result else { return results.append("\(result)") }
            results.append("read \(read.isWhole) \(read.absent[1]) \(read.absent[2]) \(read.absent[3])")
        }
        #expect(results.isEmpty)
        bench.settle(milliseconds: 400)
        #expect(results.contains("fenced") && results.contains("flushed"))
        #expect(results.contains("read false false true true"))
        #expect(buffer.bytes.load(fromByteOffset: blockSize + 5, as: UInt8.self) == 9)
        #expect(buffer.bytes.load(fromByteOffset: 2 * blockSize + 5, as: UInt8.self) == 0)
        #expect(buffer.checksums[1] == crc32c([UInt8](repeating: 9, count: blockSize)))
        #expect(bench.version(0) == Version(term: Term(1), sequence: 1))
    }

    /// Answers of what was done are lost with their connection: it is not done again, and answered as it was.
    @Test func whatWasDoneIsNotDoneAgain() {
        let bench = RemoteBench()
        bench.connect()
        bench.settle()
        var answers: [Result<CopyWritten, CopyFailure>] = []
        for sequence in UInt64(1)...5 { bench.copy.write(bench.write(0, sequence)) { answers.append($0) } }
        bench.toServer()
        bench.world.pass(milliseconds: 50)
        #expect(bench.version(0).sequence == 5 && answers.isEmpty)
        let writes = bench.local.objects.statistics.writes
        bench.lose()
        bench.connect()
        bench.settle()
        #expect(answers == Array(repeating: .success(CopyWritten(isComplete: true)), count: 5))
        #expect(bench.local.objects.statistics.writes == writes)
        #expect(bench.peer.statistics.resent == 5)
    }

    /// The completion of a synchronisation, done twice, would be refused the second time: its copy is not syncing any more.
    @Test func aCompletionIsAnsweredOnce() {
        let bench = RemoteBench()
        bench.connect()
        bench.settle()
        let (object, authority) = (ObjectId(bench.volume, 0), Authority(epoch: bench.epoch, term: Term(1)))
        var answers: [CopyFailure?] = []
        bench.copy.beginSync(object, top: .first, base: .zero, pending: .empty, authority) { answers.append($0) }
        bench.settle(milliseconds: 200)
        bench.copy.completeSync(object, authority) { answers.append($0) }
        bench.toServer()
        bench.world.pass(milliseconds: 300)
        #expect(bench.local.objects.standing(object).state == .complete)
        bench.lose()
        bench.connect()
        bench.settle()
        #expect(answers == [nil, nil])
        var again: CopyFailure??
        bench.local.completeSync(object, authority) { again = .some($0) }
        bench.world.pass(milliseconds: 300)
        #expect(again == .some(.behind))
    }

    /// Even without the server's memory a write that comes twice changes nothing: its version says so.
    @Test func aWriteThatComesTwiceChangesNothing() {
        let bench = RemoteBench()
        var answers: [Result<CopyWritten, CopyFailure>] = []
        let (first, second) = (bench.write(0, 1, stamp: 1), bench.write(0, 2, stamp: 2))
        for write in [first, first, second, first, second] { bench.local.write(write) { answers.append($0) } }
        bench.world.pass(milliseconds: 100)
        #expect(answers == Array(repeating: .success(CopyWritten(isComplete: true)), count: 5))
        #expect(bench.version(0).sequence == 2)
        let buffer = bench.world.pool.buffer(blockSize)
        bench.local.read(
            ObjectId(bench.volume, 0), GenerationPath(top: .first), BlockRange(first: 0, count: 1), into: buffer,
            bufferOffset: 0
        ) { _ in }
        bench.world.pass(milliseconds: 100)
        #expect(buffer.bytes.load(as: UInt8.self) == 2)
    }

    /// Frames of an old connection come after a newer one is there: nobody looks at them.
    @Test func anOldConnectionIsNotHeardAnyMore() {
        let bench = RemoteBench()
        bench.connect()
        bench.settle()
        bench.copy.write(bench.write(0, 1)) { _ in }
        let late = bench.link.frames
        let old = bench.end
        bench.lose()
        bench.connect()
        for frame in late { old.onEvent(.received(frame)) }
        bench.world.pass(milliseconds: 20)
        #expect(bench.version(0) == .zero && !old.resets.isEmpty)
        bench.settle()
        #expect(bench.version(0).sequence == 1)
    }

    @Test func aStoreThatDoesNotAnswerIsSilentAfterTwoSeconds() {
        let bench = RemoteBench()
        bench.connect()
        bench.settle()
        var failures: [CopyFailure] = []
        for sequence in UInt64(1)...3 {
            bench.copy.write(bench.write(0, sequence)) {
                if case .failure(let failure) = $0 { failures.append(failure) }
            }
        }
        bench.pass(milliseconds: 1_700, isHeard: true)
        #expect(failures.isEmpty && bench.silences.isEmpty)
        bench.pass(milliseconds: 600, isHeard: true)
        #expect(failures == Array(repeating: .silent("it does not answer"), count: 3) && bench.silences.count == 1)
        // And stays so: what is asked now fails, but not from inside the call.
        var later: CopyFailure?
        bench.copy.flush { later = $0 }
        #expect(later == nil)
        bench.pass(milliseconds: 10)
        #expect(later == .silent("it does not answer"))
        #expect(bench.peer.bytesOnTheWay == 0)
    }

    @Test func aNodeThatCannotBeReachedMakesItsStoresSilent() {
        let bench = RemoteBench()
        var failure: CopyFailure?
        bench.copy.flush { failure = $0 }
        bench.pass(milliseconds: 1_700)
        #expect(failure == nil)
        bench.pass(milliseconds: 600)
        #expect(failure != nil && bench.silences.count == 1)
    }

    /// A connection on which nothing is heard is given up, so that another one is tried.
    @Test func aDeadConnectionIsGivenUp() {
        let bench = RemoteBench()
        bench.connect()
        bench.settle()
        bench.pass(milliseconds: 2_300)
        #expect(bench.link.resets.count == 1)
    }

    @Test func anotherLifeOfThePeerFailsWhatWasOnItsWay() {
        let bench = RemoteBench()
        bench.connect()
        bench.settle()
        var result: Result<CopyWritten, CopyFailure>?
        bench.copy.write(bench.write(0, 1)) { result = $0 }
        bench.lose()
        bench.connect(incarnation: 2)
        #expect(result == .failure(.silent("node 2 was started again")) && bench.silences.count == 1)
    }
    @Test func aStoreOfWhichNothingWasOnItsWayOutlivesAnotherLifeOfItsNode() {
        let bench = RemoteBench()
        bench.connect()
        bench.settle()
        bench.lose()
        bench.connect(incarnation: 2)
        bench.settle()
        var result: Result<CopyWritten, CopyFailure>?
        bench.copy.write(bench.write(0, 1)) { result = $0 }
        bench.settle()
        #expect(result == .success(CopyWritten(isComplete: true)) && bench.silences.isEmpty)
    }

    @Test func anotherSessionOfTheStoreIsRefused() {
        let bench = RemoteBench(session: StoreSession(bootId: ClusterId(high: 5, low: 6), incarnation: 1))
        var result: Result<CopyWritten, CopyFailure>?
        bench.copy.write(bench.write(0, 1)) { result = $0 }
        bench.connect()
        bench.settle()
        guard case .failure(.silent) = result else {
            Issue.record("\(String(describing: result))")
            return
        }
        #expect(!bench.isOpen && bench.silences.count == 1 && bench.version(0) == .zero)
    }

    /// A fill says no term; one that comes after another gateway's fence is refused all the same.
    @Test func whatComesLateAfterAnotherFenceIsRefused() {
        let bench = RemoteBench()
        bench.connect()
        bench.settle()
        bench.copy.fence(bench.volume, Authority(epoch: bench.epoch, term: Term(4))) { _ in }
        bench.settle(milliseconds: 200)
        var answers: [CopyFailure?] = []
        bench.copy.stamp(ObjectId(bench.volume, 0), Version(term: Term(4), sequence: 1)) { answers.append($0) }
        bench.settle(milliseconds: 200)
        bench.local.fence(bench.volume, Authority(epoch: bench.epoch, term: Term(5))) { _ in }
        bench.world.pass(milliseconds: 100)
        let object = ObjectId(bench.volume, 0)
        bench.copy.stamp(object, Version(term: Term(4), sequence: 2)) { answers.append($0) }
        bench.copy.markSuspect(object) { answers.append($0) }
        bench.copy.fill(
            CopyFill(
                object: object, generation: .first, blocks: .chunk(0), held: .empty, zero: .empty, payload: nil,
                chunkVersion: .zero, onlyPending: false)
        ) { answers.append($0) }
        bench.settle(milliseconds: 200)
        #expect(answers == [nil, .staleTerm(Term(5)), .staleTerm(Term(5)), .staleTerm(Term(5))])
        #expect(bench.version(0) == Version(term: Term(4), sequence: 1))
    }

    @Test func bytesOnTheWayAreBoundedAndTheRestWaitsInOrder() {
        var limits = RemoteLimits()
        limits.windowBytes = 64 << 10
        let bench = RemoteBench(limits)
        bench.connect()
        bench.settle()
        var order: [UInt64] = []
        for sequence in UInt64(1)...60 { bench.copy.write(bench.write(0, sequence)) { _ in order.append(sequence) } }
        #expect(bench.link.frames.count < 17)
        for _ in 0..<30 { bench.settle() }
        #expect(order == Array(1...60) && bench.version(0).sequence == 60)
        #expect(bench.peer.statistics.largestBytesOnTheWay <= 64 << 10)
        // What the other side allows counts as well.
        bench.lose()
        bench.connect(windowBytes: 16 << 10)
        bench.settle()
        for sequence in UInt64(61)...80 { bench.copy.write(bench.write(0, sequence)) { _ in order.append(sequence) } }
        #expect(bench.link.frames.count { $0.header.kind == .write } <= 3)
    }

    @Test func roomIsWhatTheStoreLastSaidLessWhatItHadNotReceived() {
        let bench = RemoteBench()
        let object = ObjectId(bench.volume, 0)
        let disk = bench.world.shelves[0].disk
        disk.space = DiskSpace(capacityBytes: 1 << 30, availableBytes: 40 << 10)
        #expect(!bench.copy.admits(object, .first, BlockRange(first: 0, count: 1)))
        bench.connect()
        bench.settle()
        #expect(bench.copy.admits(object, .first, BlockRange(first: 0, count: 10)))
        #expect(!bench.copy.admits(object, .first, BlockRange(first: 0, count: 11)))
        bench.copy.write(bench.write(0, 1, blocks: 8)) { _ in }
        #expect(!bench.copy.admits(object, .first, BlockRange(first: 0, count: 3)))
        #expect(bench.copy.admits(object, .first, BlockRange(first: 0, count: 2)))
        disk.space = DiskSpace(capacityBytes: 1 << 30, availableBytes: 4 << 10)
        bench.settle(milliseconds: 800)
        #expect(bench.copy.admits(object, .first, BlockRange(first: 0, count: 1)))
        #expect(!bench.copy.admits(object, .first, BlockRange(first: 0, count: 2)))
    }

    /// The copy's map is newer when the write comes: it goes again under the new one, in order, and the gateway never hears
    /// of it.
    @Test func aWriteOfAnOldEpochGoesAgainInOrder() {
        let bench = RemoteBench()
        bench.connect()
        bench.settle()
        var answers: [Result<CopyWritten, CopyFailure>] = []
        for sequence in UInt64(1)...3 { bench.copy.write(bench.write(0, sequence)) { answers.append($0) } }
        _ = bench.world.propose(.setWeight(bench.store, 1 << 29))
        bench.local.mapChanged()
        bench.toServer()
        bench.world.pass(milliseconds: 20)
        bench.toGateway()
        #expect(answers.isEmpty && bench.peer.statistics.refusedEpochs == 3 && bench.version(0) == .zero)
        bench.copy.write(bench.write(0, 4)) { answers.append($0) }
        bench.settle()
        #expect(answers.isEmpty)
        bench.peer.mapChanged(bench.epoch)
        bench.settle()
        #expect(answers == Array(repeating: .success(CopyWritten(isComplete: true)), count: 4))
        #expect(bench.version(0).sequence == 4)
    }

    @Test func garbageFromAPeerEndsTheConnectionAndNothingElse() {
        let bench = RemoteBench()
        bench.connect()
        bench.settle()
        for kind in FrameKind.allCases where !kind.isHandshake && kind != .heartbeat {
            var header = FrameHeader(kind, version: 1)
            header.request = 9_999_999
            header.lane = 7
            bench.end.onEvent(.received(Frame(header, body: [1, 2, 3, 4])))
            bench.link.onEvent(.received(Frame(header, body: [1, 2, 3, 4])))
            if !bench.end.resets.isEmpty {
                bench.lose()
                bench.connect()
            }
        }
        var result: Result<CopyWritten, CopyFailure>?
        bench.copy.write(bench.write(0, 1)) { result = $0 }
        bench.settle()
        #expect(result == .success(CopyWritten(isComplete: true)))
    }
}
