// What once went wrong, each with its timeline. A test here fails on the code as it was.
import Model
import TestSupport
import Testing

@testable import ObjectStore

private let a = ObjectId(VolumeId(1), 0)
private let b = ObjectId(VolumeId(1), 1)

@Suite struct RegressionTests {
    /// Found by seeds 2264, 3437, 3764, 4560, 4826, 5689, 5962 and 7113 of the random lives.
    ///
    ///     checkpoint 5    writes a's header into slot 0, syncs it: the index says stamp 5
    ///     header cache    forgets a's header
    ///     read            loads it again: the newest image is still 4, so stamp 5 passed for "perhaps not durable",
    ///                     and slot 0 for the one to be written next
    ///     checkpoint 5    writes its image: the header in slot 0 is the only one
    ///     checkpoint 6    writes slot 0
    ///     power loss      tears it: both headers are damaged
    @Test func aHeaderLoadedBeforeItsImageIsWrittenKeepsItsSlot() {
        var configuration = Bench.small()
        configuration.headerCacheCount = 0
        let bench = Bench(seed: 2264, configuration: configuration)
        bench.opened()
        bench.write(a, 1, 1, first: 0, count: 1, tag: 1)
        func isImage(_ operation: DiskOperation) -> Bool {
            if case .replace(.index, _) = operation { true } else { false }
        }
        bench.disk.hold = isImage
        bench.store.startCheckpoint()
        bench.run("image") { bench.disk.waiting.contains(where: isImage) }
        #expect(bench.read(a, first: 0, count: 1).tags == [1])
        bench.disk.hold = { _ in false }
        bench.run("checkpoint") { bench.store.checkpoint == nil }
        bench.write(a, 1, 2, first: 1, count: 1, tag: 2)
        bench.store.startCheckpoint()
        var slots: [UInt64] = []
        bench.run("header") {
            for case .write(let writes) in bench.disk.waiting {
                slots = writes.map(\.offset).filter { $0 < UInt64(Sheet.dataOffset) }
            }
            return !slots.isEmpty
        }
        #expect(slots == [UInt64(Sheet.slotBytes)])
    }

    /// Found by seed 1579 of the random lives.
    ///
    ///     fill     waits for the header, and will find that there is nothing to do
    ///     flush    waits for the fill; everything else is durable
    ///     fill     ends without a record: no sync follows, and the flush waited for the next one
    @Test func aFlushBehindAnOperationThatChangesNothingCompletes() {
        var configuration = Bench.small()
        configuration.headerCacheCount = 0
        let bench = Bench(seed: 1579, configuration: configuration)
        bench.opened()
        bench.write(a, 1, 1, first: 0, count: 1, tag: 1)
        bench.call { bench.store.close(completion: $0) }
        bench.opened()
        bench.store.fill(
            object: a, generation: Generation(1), firstBlock: 0, blockCount: 1, payload: nil, held: .empty,
            zero: .empty, chunkVersion: .zero, onlyPending: true
        ) { _ in }
        #expect(throws: Never.self) { try bench.flush().get() }
    }

    /// A refused image leaves headers of its checkpoint behind.
    ///
    ///     checkpoint 2    writes a's header, stamp 2, into slot 0; the disk is full: no image
    ///     discard         in a
    ///     checkpoint 2    (the second of that number) writes a's header, stamp 2, into slot 1, and its image
    ///     header cache    forgets a's header
    ///     read            finds two headers of stamp 2, takes the first: the discard was undone
    @Test func aHeaderOfARefusedCheckpointNeverPassesForANewerOne() {
        var configuration = Bench.small()
        configuration.headerCacheCount = 0
        let bench = Bench(seed: 2, configuration: configuration)
        bench.opened()
        bench.disk.fault = { if case .replace(.index, _) = $0 { .noSpace } else { nil } }
        bench.write(a, 1, 1, first: 0, count: 1, tag: 1)
        bench.run("refused") { bench.store.shortages.contains(.checkpoint) }
        bench.call {
            bench.store.discard(
                object: a, generation: Generation(1), version: Version(term: Term(1), sequence: 2),
                blocks: BlockRange(first: 5, count: 1), keepAsZero: true, completion: $0)
        }
        bench.disk.fault = { _ in nil }
        bench.run("space") { !bench.store.isFull && bench.store.checkpoint == nil && bench.store.sheets.isEmpty }
        #expect(bench.read(a, first: 5, count: 1).tags == [0])
        bench.machine.losePower()
        bench.opened()
        #expect(bench.read(a, first: 5, count: 1).tags == [0])
    }

    /// Found by seed 752 of the random lives.
    ///
    ///     write        begins a segment: its header, then the record
    ///     power loss   the record has reached the disk, the header has not: the segment counts as never used
    ///     write        begins the segment again, with the same sequence and the same first record
    ///     power loss   the header has reached the disk, the record has not: the old one was there, and counted
    @Test func aSegmentBegunTwiceNeverShowsTheRecordsOfTheFirstTime() {
        let bench = Bench(seed: 752)
        bench.opened()
        bench.write(a, 1, 1, first: 0, count: 1, tag: 1)
        bench.flush()
        /// Begins the next segment; of its header and its record only one reaches the disk.
        func begin(onlyHeader: Bool, tag: UInt64) {
            bench.machine.killProcess()
            bench.opened()
            bench.disk.hold = { operation in
                guard case .append(let write) = operation else { return true }
                return (write.offset == 0) != onlyHeader
            }
            bench.write(a, 1, tag, first: 0, count: 1, tag: tag) { _ in }
            bench.settle()
            #expect(bench.disk.waiting.count == 1)
            bench.disk.forget()
            bench.disk.hold = { _ in false }
            for slot in UInt64(0)..<4 { bench.disk.sync(.journal(slot)) }
            bench.store.stop()
            bench.machine.losePower()
        }
        begin(onlyHeader: false, tag: 2)
        begin(onlyHeader: true, tag: 3)
        bench.opened()
        #expect(bench.read(a, first: 0, count: 1).tags == [1])
    }

    /// Found by seed 808 of the random lives.
    ///
    ///     checkpoint 2    writes a's first header, into slot 0; the disk is full: no image
    ///     checkpoint 4    (or later) writes a's header into slot 1; again no image
    ///     process killed  the image knows a's file not: the replay makes its header anew, and never sees the two
    ///     discard         in a
    ///     checkpoint 2    (the second of that number) writes a's header into slot 0, and its image
    ///     header cache    forgets a's header
    ///     read            finds the higher number in slot 1: the discard was undone
    @Test func aHeaderOfALifeBeforeNeverPassesForANewerOne() {
        let bench = Bench(seed: 808)
        bench.opened()
        bench.disk.fault = { if case .replace(.index, _) = $0 { .noSpace } else { nil } }
        func discard(_ sequence: UInt64, _ block: Int) {
            bench.call {
                bench.store.discard(
                    object: a, generation: Generation(1), version: Version(term: Term(1), sequence: sequence),
                    blocks: BlockRange(first: block, count: 1), keepAsZero: true, completion: $0)
            }
        }
        let key = FileKey(object: a, file: 1)
        bench.write(a, 1, 1, first: 0, count: 1, tag: 1)
        bench.run("refused") { bench.store.shortages.contains(.checkpoint) }
        #expect(bench.store.sheets[key]?.durableSlot == 0)
        discard(2, 5)
        bench.run("the other slot") { bench.store.sheets[key]?.durableSlot == 1 }
        let stale = bench.store.highestStamp
        bench.store.stop()
        bench.disk.forget()
        bench.machine.killProcess()
        bench.disk.fault = { _ in nil }
        bench.configuration.headerCacheCount = 0
        bench.opened()
        discard(3, 6)
        bench.run("checkpoint") { bench.store.counters.checkpoints > 0 && bench.store.sheets.isEmpty }
        #expect(bench.store.lastCheckpoint < stale)
        #expect(bench.read(a, first: 5, count: 2).tags == [0, 0])
    }
}
