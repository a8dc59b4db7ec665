// The store's simple promises, one at a time.
import Model
import TestSupport
import Testing

@testable import ObjectStore

private let a = ObjectId(VolumeId(1), 0)
private let b = ObjectId(VolumeId(1), 1)

@Suite struct BasicTests {
    @Test func whatIsWrittenIsRead() {
        let bench = Bench(seed: 1)
        bench.opened()
        bench.write(a, 1, 1, first: 3, count: 2, tag: 100)
        let (tags, outcome) = bench.read(a, first: 2, count: 4)
        #expect(tags == [nil, 100, 101, nil])
        #expect(!outcome.isWhole)
        #expect(bench.read(a, first: 3, count: 2).outcome.isWhole)
        #expect(bench.store.entry(a)!.version == Version(term: Term(1), sequence: 1))
    }

    @Test func largeWritesGoPastTheJournal() {
        let bench = Bench(seed: 2)
        bench.opened()
        bench.write(a, 1, 1, first: 0, count: 16, tag: 500)
        #expect(bench.store.statistics.directWrites == 1)
        bench.flush()
        bench.machine.losePower()
        bench.opened()
        #expect(bench.read(a, first: 0, count: 16).tags == (0..<16).map { UInt64(500 + $0) })
    }

    @Test func flushedSurvivesPowerLossAndUnflushedSurvivesKill() {
        let bench = Bench(seed: 3)
        bench.opened()
        bench.write(a, 1, 1, first: 0, count: 1, tag: 1)
        bench.flush()
        bench.write(b, 1, 1, first: 0, count: 1, tag: 2)
        bench.machine.killProcess()
        bench.opened()
        #expect(bench.read(b, first: 0, count: 1).tags == [2])
        bench.machine.losePower()
        bench.opened()
        #expect(bench.read(a, first: 0, count: 1).tags == [1])
    }

    @Test func aCleanStopReplaysNothing() {
        let bench = Bench(seed: 4)
        #expect(bench.opened().lastStopWasClean)
        bench.write(a, 1, 1, first: 0, count: 1, tag: 1)
        bench.call { bench.store.close(completion: $0) }
        let report = bench.opened()
        #expect(report.lastStopWasClean)
        #expect(report.replayedRecords == 0)
        #expect(report.objectCount == 1)
        #expect(bench.read(a, first: 0, count: 1).tags == [1])
    }

    @Test func generationsLayOverEachOther() {
        let bench = Bench(seed: 5)
        bench.opened()
        bench.write(a, 1, 1, first: 0, count: 4, tag: 10)
        bench.write(a, 2, 2, first: 1, count: 1, tag: 20)
        bench.call {
            bench.store.discard(
                object: a, generation: Generation(2), version: Version(term: Term(1), sequence: 3),
                blocks: BlockRange(first: 2, count: 1), keepAsZero: true, completion: $0)
        }
        #expect(bench.read(a, first: 0, count: 5).tags == [10, 20, 0, 13, nil])
        #expect(bench.read(a, top: 1, first: 0, count: 5).tags == [10, 11, 12, 13, nil])
        bench.call { bench.store.merge(object: a, from: Generation(1), into: Generation(2), completion: $0) }
        #expect(bench.store.entry(a)!.generations.map(\.generation) == [Generation(2)])
        #expect(bench.read(a, first: 0, count: 5).tags == [10, 20, 0, 13, nil])
        bench.call { bench.store.merge(object: a, from: Generation(2), into: Generation(7), completion: $0) }
        #expect(bench.store.entry(a)!.generations.map(\.generation) == [Generation(7)])
        #expect(bench.read(a, first: 0, count: 5).tags == [10, 20, 0, 13, nil])
        bench.flush()
        bench.machine.losePower()
        bench.opened()
        #expect(bench.read(a, first: 0, count: 5).tags == [10, 20, 0, 13, nil])
    }
}
