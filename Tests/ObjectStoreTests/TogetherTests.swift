// What the store does together, or ahead of time, to do less: blocks on their way to their files, and the sync of a flush
// that will come.
import Model
import TestSupport
import Testing

@testable import ObjectStore

@Suite struct TogetherTests {
    private let a = ObjectId(VolumeId(1), 0)
    private let b = ObjectId(VolumeId(1), 1)

    /// A bench that notes which operations its disk ran, from its opening on.
    private func bench(_ change: (inout StoreConfiguration) -> Void) -> (Bench, Seen) {
        var configuration = Bench.small()
        configuration.checkpointIntervalMilliseconds = 100_000
        change(&configuration)
        let bench = Bench(seed: 5, configuration: configuration)
        bench.opened()
        bench.settle()
        let seen = Seen()
        bench.disk.fault = { operation in
            switch operation {
            case .write(let writes):
                let objects = writes.filter { if case .object = $0.file { true } else { false } }
                if !objects.isEmpty { seen.rounds.append(objects.count) }
            case .sync(let files) where files.contains { if case .journal = $0 { true } else { false } }:
                seen.syncs += 1
            default: break
            }
            return nil
        }
        return (bench, seen)
    }
    private final class Seen {
        /// Blocks (or rows of them) of each hand-over to the object files.
        var rounds: [Int] = []
        var syncs = 0
    }

    @Test func durableBlocksWaitAMomentAndGoToTheirFilesTogether() {
        let (bench, seen) = bench {
            $0.applyDelayMilliseconds = 20
            $0.memoryLimitBytes = 1 << 20
        }
        for i in 0..<6 {
            bench.write(i % 2 == 0 ? a : b, 1, UInt64(i + 1), first: i, count: 1, tag: UInt64(100 * i + 1))
            bench.flush()
        }
        #expect(seen.rounds.isEmpty)
        // Meanwhile they are read from memory, and a power loss takes nothing.
        #expect(bench.read(a, first: 0, count: 3).tags == [1, nil, 201])
        let start = bench.machine.now
        bench.run("the blocks go") { !seen.rounds.isEmpty }
        #expect(bench.machine.now.milliseconds(since: start) <= 20)
        #expect(seen.rounds == [6])
        #expect(bench.read(b, first: 1, count: 3).tags == [101, nil, 301])
    }

    @Test func blocksThatWaitSurviveAPowerLoss() {
        let (bench, seen) = bench {
            $0.applyDelayMilliseconds = 20
            $0.memoryLimitBytes = 1 << 20
        }
        bench.write(a, 1, 1, first: 0, count: 1, tag: 7)
        bench.flush()
        #expect(seen.rounds.isEmpty)
        bench.disk.fault = { _ in nil }
        bench.machine.losePower()
        bench.opened()
        #expect(bench.read(a, first: 0, count: 1).tags == [7])
    }

    /// After two writes with a flush right behind each, the third one's sync is on its way when its flush comes.
    @Test func aFlushThatFollowsEachWriteIsBegunBeforeItComes() {
        let (bench, seen) = bench { $0.syncDelayBytes = 1 << 20 }
        var sequence: UInt64 = 0
        func write() {
            sequence += 1
            bench.write(a, 1, sequence, first: 0, count: 1, tag: sequence)
        }
        write()
        bench.settle()
        #expect(seen.syncs == 0, "nobody has flushed yet")
        bench.flush()
        for _ in 0..<3 {
            write()
            bench.flush()
        }
        let before = seen.syncs
        write()
        bench.settle()
        #expect(seen.syncs == before + 1, "the sync did not wait for the flush")
        bench.flush()
        #expect(seen.syncs == before + 1, "the flush found its sync done")
        // A flush that did not come ends it.
        write()
        write()
        bench.settle()
        let after = seen.syncs
        write()
        bench.settle()
        #expect(seen.syncs == after)
        bench.flush()
        #expect(bench.read(a, first: 0, count: 1).tags == [sequence])
    }
}
