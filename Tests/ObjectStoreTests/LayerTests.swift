// Long chains of generations, merges and removals that power losses interrupt anywhere, trust, quarantine.
import Model
import TestSupport
import Testing

@testable import ObjectStore

private let a = ObjectId(VolumeId(1), 0)

@Suite struct LayerTests {
    /// A store with block b written in generation b + 1, and block 40 in all of them.
    private func layered(_ seed: UInt64, _ generations: Int, _ configuration: StoreConfiguration = Bench.small())
        -> Bench
    {
        let bench = Bench(seed: seed, configuration: configuration)
        bench.opened()
        var sequence: UInt64 = 0
        for generation in 1...generations {
            for block in [(generation - 1) % 40, 40] {
                sequence += 1
                bench.write(
                    a, UInt32(generation), sequence, first: block, count: 1, tag: UInt64(generation * 1000 + block))
            }
        }
        bench.flush()
        return bench
    }

    @Test func aChainOfTwoHundredGenerationsNeedsNoHeadersOnceItIsWarm() {
        let bench = layered(80, 200)
        func check() {
            let tags = bench.read(a, top: 200, first: 0, count: 41).tags
            var expected: [UInt64?] = []
            for block in 0..<40 { expected.append(UInt64(161 + block) * 1000 + UInt64(block)) }
            expected.append(200_040)
            #expect(tags == expected)
        }
        check()
        let loads = bench.store.counters.headerLoads
        for _ in 0..<10 { check() }
        #expect(bench.store.counters.headerLoads == loads)
        #expect(bench.read(a, top: 3, first: 0, count: 4).tags == [1000, 2001, 3002, nil])
    }

    /// Stops after every number of steps of `body`, loses power or the process, and looks at the views.
    private func everyCrashPoint(
        _ seed: UInt64, _ body: (ObjectStore, @escaping StoreCompletion) -> Void, _ check: (Bench, Bool, String) -> Void
    ) {
        var steps = 0
        while true {
            let bench = layered(seed, 4)
            var isDone = false
            body(bench.store) { _ in isDone = true }
            bench.store.endOfBatch()
            var left = steps
            var isIdle = false
            while left > 0, !isIdle {
                isIdle = !bench.disk.hasOperations
                _ = bench.step()
                left -= 1
            }
            let wasDone = isDone
            if wasDone { bench.flush() }
            bench.store.stop()
            if steps % 2 == 0 { bench.machine.losePower() } else { bench.machine.killProcess() }
            let report = bench.opened()
            #expect(report.damage == [])
            check(bench, wasDone, "after \(steps) steps")
            if isIdle { return }
            steps += 1
        }
    }

    @Test func aMergeShowsTheSameViewsAtEveryCrashPoint() {
        everyCrashPoint(81, { $0.merge(object: a, from: Generation(2), into: Generation(3), completion: $1) }) {
            bench, isDone, what in
            #expect(bench.read(a, top: 4, first: 0, count: 4).tags == [1000, 2001, 3002, 4003], "\(what)")
            #expect(bench.read(a, top: 3, first: 0, count: 4).tags == [1000, 2001, 3002, nil], "\(what)")
            #expect(bench.read(a, top: 1, first: 0, count: 4).tags == [1000, nil, nil, nil], "\(what)")
            let count = bench.store.entry(a)!.generations.count
            #expect(isDone ? count == 3 : count >= 3, "\(what)")
            // It can be asked for again.
            bench.call { bench.store.merge(object: a, from: Generation(2), into: Generation(3), completion: $0) }
            #expect(bench.read(a, top: 3, first: 0, count: 4).tags == [1000, 2001, 3002, nil], "\(what)")
        }
    }

    @Test func aRemovalIsWholeOrNotAtAllAtEveryCrashPoint() {
        everyCrashPoint(82, { $0.remove(object: a, generations: nil, completion: $1) }) { bench, isDone, what in
            let entry = bench.store.entry(a)
            #expect(!isDone || entry == nil, "\(what)")
            if entry == nil {
                bench.settle()
                #expect(bench.disk.list(.object) == [], "\(what): files are left")
                #expect(bench.read(a, first: 0, count: 4).tags == [nil, nil, nil, nil], "\(what)")
            } else {
                #expect(bench.read(a, first: 0, count: 4).tags == [1000, 2001, 3002, 4003], "\(what)")
            }
        }
    }

    @Test func distrustLastsUntilEachCopyIsVerified() {
        let bench = layered(83, 1)
        let b = ObjectId(VolumeId(1), 1)
        bench.write(b, 1, 10, first: 0, count: 1, tag: 1)
        bench.call { bench.store.distrustAll(completion: $0) }
        bench.machine.losePower()
        bench.opened()
        #expect(bench.store.entry(a)!.isVerified == false && bench.store.incompleteCount == 2)
        bench.call { bench.store.setState(object: a, .complete, durable: true, completion: $0) }
        let c = ObjectId(VolumeId(1), 2)
        bench.write(c, 1, 11, first: 0, count: 1, tag: 1)
        bench.flush()
        bench.machine.losePower()
        bench.opened()
        #expect(bench.store.entry(a)!.isVerified && bench.store.entry(c)!.isVerified)
        #expect(!bench.store.entry(b)!.isVerified && bench.store.incompleteCount == 1)
    }

    @Test func aQuarantinedCopyIsGoneAndItsFilesAreKept() {
        let bench = layered(84, 2)
        bench.call { bench.store.quarantine(object: a, completion: $0) }
        #expect(bench.store.entry(a) == nil)
        bench.machine.losePower()
        bench.opened()
        bench.settle()
        #expect(bench.store.entry(a) == nil && bench.disk.list(.object) == [])
        #expect(bench.disk.list(.quarantine).count == 2)
    }

    @Test func recycledSegmentsGiveNothingOldBack() {
        let bench = Bench(seed: 85)
        bench.opened()
        for i in 0..<1500 {
            bench.write(a, 1, UInt64(i + 1), first: i % 50, count: 1, tag: UInt64(i))
            guard i % 300 == 299 else { continue }
            bench.flush()
            bench.store.stop()
            bench.machine.losePower()
            #expect(bench.opened().damage == [])
            #expect(bench.read(a, first: 0, count: 50).tags == (0..<50).map { UInt64(i - 49 + $0) })
        }
        #expect(bench.disk.list(.journal).count <= bench.configuration.journalMaximumSegments)
    }

    /// The data of a large write is in its file, the record that names the file is not in the journal.
    @Test func aFileThatACrashLeftWithoutARecordIsRemoved() {
        let bench = layered(86, 1)
        let b = ObjectId(VolumeId(1), 1)
        bench.write(b, 1, 9, first: 0, count: 8, tag: 1) { _ in }
        bench.run("the data") { bench.disk.exists(.object(b, Generation(1))) }
        bench.disk.sync(.object(b, Generation(1)))
        bench.store.stop()
        bench.disk.forget()
        bench.machine.losePower()
        bench.opened()
        #expect(bench.store.entry(b) == nil && bench.disk.exists(.object(b, Generation(1))))
        bench.run("the sweep") { !bench.disk.exists(.object(b, Generation(1))) }
        #expect(bench.store.counters.orphans == 1)
        #expect(bench.read(a, first: 0, count: 1).tags == [1000])
    }
}
