// A disk without space: nothing locks up, what is there stays readable, records that carry no data still go in, and
// all goes on when space returns.
import Model
import TestSupport
import Testing

@testable import ObjectStore

private let a = ObjectId(VolumeId(1), 0)
private let b = ObjectId(VolumeId(1), 1)
private func version(_ sequence: UInt64) -> Version { Version(term: Term(1), sequence: sequence) }

@Suite struct FullDiskTests {
    /// Where there is no space.
    enum Place: CaseIterable { case objectWrite, directWrite, segment, image, everywhere }
    /// Writes that need new space fail; overwrites of blocks that the file has do not.
    static func fault(_ place: Place, _ disk: MemoryDisk) -> (DiskOperation) -> Errno? {
        { [unowned disk] operation in
            switch operation {
            case .write(let writes) where place == .objectWrite || place == .everywhere:
                return writes.contains { !disk.isAllocated($0) } ? .noSpace : nil
            case .writeDirect where place == .directWrite || place == .everywhere: return .noSpace
            case .createWritten where place == .segment || place == .everywhere: return .noSpace
            case .replace(.index, _) where place == .image || place == .everywhere: return .noSpace
            default: return nil
            }
        }
    }

    @Test(arguments: Place.allCases)
    func aFullDiskStopsWritesAndNothingElse(_ place: Place) {
        let bench = Bench(seed: 30)
        bench.opened()
        var sequence: UInt64 = 0
        func write(_ object: ObjectId, first: Int, count: Int) -> Result<Void, StoreError> {
            sequence += 1
            return bench.write(object, 1, sequence, first: first, count: count, tag: sequence * 100)
        }
        for first in stride(from: 0, to: 40, by: 2) { _ = write(a, first: first, count: 2) }
        bench.flush()
        bench.disk.fault = FullDiskTests.fault(place, bench.disk)
        // Far more than the journal holds.
        var refused = 0
        for i in 0..<400 {
            let isLarge = i % 3 == 0
            if case .failure(let error) = write(b, first: i % 60 * 16, count: isLarge ? 12 : 3) {
                #expect(error == .full)
                refused += 1
            }
            if i % 50 == 0 { bench.flush() }
        }
        #expect(bench.failures == [])
        #expect((refused > 0) == (place != .segment), "\(place): \(refused) refused")
        #expect(bench.disk.list(.journal).count <= bench.configuration.journalMaximumSegments)
        #expect(bench.read(a, first: 0, count: 40).outcome.isWhole)
        // Overwrites need no space.
        #expect(throws: Never.self) { try write(a, first: 0, count: 2).get() }
        // What carries no data goes in, durably.
        let c = ObjectId(VolumeId(2), 0)
        #expect(throws: Never.self) {
            for _ in 0..<100 {
                try bench.call { bench.store.setState(object: b, .suspect, durable: true, completion: $0) }.get()
            }
            try bench.call { bench.store.fence(volume: VolumeId(2), term: Term(9), completion: $0) }.get()
            try bench.call { bench.store.setVersion(object: c, version(5), completion: $0) }.get()
            try bench.call {
                bench.store.discard(
                    object: a, generation: Generation(1), version: version(sequence + 1),
                    blocks: BlockRange(first: 4, count: 2), keepAsZero: false, completion: $0)
            }.get()
            try bench.call { bench.store.remove(object: c, generations: nil, completion: $0) }.get()
        }
        #expect(bench.read(a, first: 4, count: 2).tags == [nil, nil])
        #expect(throws: Never.self) { try bench.flush().get() }
        // Also after a restart, as long as nothing has come back.
        bench.store.stop()
        bench.machine.losePower()
        bench.opened()
        #expect(bench.store.entry(b)?.state == .suspect && bench.store.fencedTerm(of: VolumeId(2)) == Term(9))
        #expect(bench.read(a, first: 0, count: 4).outcome.isWhole && bench.store.entry(c) == nil)
        // Space returns.
        bench.disk.fault = { _ in nil }
        for _ in 0..<4000 where bench.store.isFull { _ = bench.step() }
        #expect(!bench.store.isFull)
        #expect(throws: Never.self) {
            for i in 0..<400 { try write(a, first: i % 60 * 16, count: i % 3 == 0 ? 12 : 3).get() }
            try bench.flush().get()
            try bench.call { bench.store.close(completion: $0) }.get()
        }
        #expect(bench.opened().damage == [])
    }

    /// A journal segment is given up for the image that frees the journal.
    @Test func aCheckpointMakesRoomForItsImage() {
        let bench = Bench(seed: 31)
        bench.opened()
        bench.write(a, 1, 1, first: 0, count: 2, tag: 1)
        let before = bench.disk.list(.journal).count
        bench.disk.fault = { [unowned disk = bench.disk] operation in
            if case .replace(.index, _) = operation, disk.list(.journal).count == before { .noSpace } else { nil }
        }
        bench.store.startCheckpoint()
        bench.run("checkpoint") { bench.store.counters.checkpoints == 1 }
        #expect(bench.disk.list(.journal).count == before - 1)
        #expect(!bench.store.isFull)
    }

    /// A store that has no block left for its superblock still opens.
    @Test func anOpeningMakesRoomForItsSuperblock() {
        let bench = Bench(seed: 32)
        bench.opened()
        bench.write(a, 1, 1, first: 0, count: 2, tag: 1)
        bench.flush()
        bench.store.stop()
        bench.machine.losePower()
        let before = bench.disk.list(.journal).count
        bench.disk.fault = { [unowned disk = bench.disk] operation in
            if case .replace(.superblock, _) = operation, disk.list(.journal).count == before { .noSpace } else { nil }
        }
        bench.opened()
        #expect(bench.read(a, first: 0, count: 2).tags == [1, 2])
    }

    @Test func theJournalNeverGrowsBeyondItsBound() {
        let bench = Bench(seed: 33)
        bench.opened()
        for i in 0..<2000 {
            bench.write(a, 1, UInt64(i + 1), first: i % 300 * 3, count: 3, tag: UInt64(i)) { _ in }
            if i % 7 == 0 { _ = bench.step() }
            #expect(bench.disk.list(.journal).count <= bench.configuration.journalMaximumSegments)
        }
        bench.flush()
        #expect(bench.read(a, first: 0, count: 900).outcome.isWhole)
    }
}
