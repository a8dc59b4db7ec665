// Damage on disk is found, named and never taken for truth.
import Model
import TestSupport
import Testing

@testable import ObjectStore

private let a = ObjectId(VolumeId(1), 0)

@Suite struct DamageTests {
    /// A closed store with one object of 20 blocks.
    private func closed(_ seed: UInt64) -> Bench {
        let bench = Bench(seed: seed)
        bench.opened()
        bench.write(a, 1, 1, first: 0, count: 20, tag: 100)
        bench.write(a, 1, 2, first: 3, count: 1, tag: 7)
        bench.call { bench.store.close(completion: $0) }
        return bench
    }
    private func failure(_ bench: Bench) -> StoreError? {
        if case .failure(let error) = bench.open() { return error }
        return nil
    }

    /// Noise over the whole journal leaves no record that could tell what is missing; the index image can, as far as it
    /// knows.
    @Test func aLostJournalIsNoticedByWhatTheImageKnowsToBeDurable() {
        let bench = Bench(seed: 14)
        bench.opened()
        bench.write(a, 1, 1, first: 0, count: 1, tag: 1)
        // The checkpoint has begun when more is written and flushed.
        bench.disk.hold = { if case .write = $0 { true } else { false } }
        bench.store.startCheckpoint()
        bench.run("begun") { bench.store.checkpoint?.phase == .apply }
        bench.write(a, 1, 2, first: 0, count: 1, tag: 2)
        bench.flush()
        bench.disk.hold = { _ in false }
        bench.run("checkpoint") { bench.store.checkpoint == nil }
        bench.store.stop()
        bench.machine.losePower()
        for name in bench.disk.list(.journal) {
            bench.disk.replace(name, [UInt8](repeating: 0x5a, count: bench.disk.contents(name)!.count))
        }
        let report = bench.opened()
        #expect(report.damage.count == 1)
        #expect(!report.sessionContinued)
        #expect(bench.store.entry(a)?.isVerified == false)
    }

    @Test func oneDamagedIndexImageIsReplacedByTheOther() {
        for slot in [UInt8(0), 1] {
            let bench = closed(10)
            bench.disk.flipBit(.index(slot), 20)
            let report = bench.opened()
            #expect(!report.indexRebuilt)
            #expect(report.damage.count == 1)
            #expect(bench.read(a, first: 3, count: 2).tags == [7, 104])
        }
    }

    @Test func bothImagesDamagedMeansAScanAndNoTrust() {
        let bench = closed(11)
        bench.disk.flipBit(.index(0), 20)
        bench.disk.flipBit(.index(1), 20)
        let report = bench.opened()
        #expect(report.indexRebuilt)
        #expect(!report.sessionContinued)
        #expect(bench.store.entry(a)?.isVerified == false)
        #expect(bench.store.entry(a)?.version == Version(term: Term(1), sequence: 2))
        #expect(bench.read(a, first: 3, count: 2).tags == [7, 104])
    }

    @Test func aDamagedHeaderMakesTheCopyDamagedAndUnreadable() {
        let bench = closed(12)
        bench.disk.flipBit(.object(a, Generation(1)), 100)
        bench.disk.flipBit(.object(a, Generation(1)), 8192 + 100)
        bench.opened()
        let (_, outcome) = bench.read(a, first: 0, count: 4)
        #expect(outcome.corrupt.count == 4)
        #expect(bench.store.entry(a)?.state == .damaged)
    }

    @Test func aFlippedBitInDataIsCorruptNotServed() {
        let bench = closed(13)
        bench.disk.flipBit(.object(a, Generation(1)), 16384 + 2 * 4096 + 9)
        bench.opened()
        let (tags, outcome) = bench.read(a, first: 0, count: 4)
        #expect(tags == [100, 101, nil, 7])
        #expect(outcome.corrupt[2] && outcome.corrupt.count == 1)
        var found: VerifyOutcome?
        bench.store.verify(object: a, deep: true) { found = try? $0.get() }
        bench.run("verify") { found != nil }
        #expect(found?.generations.first?.corrupt.count == 1)
    }

    @Test func strangersAndNewerFormatsAreRefused() {
        let newer = closed(14)
        var bytes = newer.disk.contents(.superblock)!
        bytes[8] = 2
        newer.disk.replace(.superblock, bytes)
        #expect(failure(newer) == .newerFormat(2))
        let damaged = closed(14)
        damaged.disk.flipBit(.superblock, 30)
        guard case .damaged = failure(damaged) else {
            Issue.record("not damaged")
            return
        }
        let absent = closed(14)
        absent.disk.delete(.superblock)
        guard case .foreign = failure(absent) else {
            Issue.record("not foreign")
            return
        }
    }

    @Test func aFailedSyncIsTheEnd() {
        let bench = Bench(seed: 15)
        bench.opened()
        bench.write(a, 1, 1, first: 0, count: 1, tag: 1)
        bench.disk.fault = { if case .sync = $0 { .inputOutput } else { nil } }
        #expect(throws: StoreError.dead) { try bench.flush().get() }
        #expect(bench.failures == [.io(.inputOutput)])
        #expect(throws: StoreError.dead) { try bench.write(a, 1, 2, first: 0, count: 1, tag: 1).get() }
    }
}
