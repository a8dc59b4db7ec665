// Whatever is in a store's files, an opening ends in a refusal or in a store that works and says what it doubts: no
// trap, no huge allocation, and never a block that is older than what was flushed without a word about it.
import Model
import TestSupport
import Testing

@testable import ObjectStore

private let a = ObjectId(VolumeId(1), 0)

@Suite struct FuzzTests {
    /// A store after a power loss, with some of its state in headers and the newest in the journal.
    private func crashed(_ seed: UInt64) -> Bench {
        let bench = Bench(seed: seed)
        bench.opened()
        for i in 0..<20 { bench.write(a, 1, UInt64(i + 1), first: i, count: 1, tag: UInt64(100 + i)) }
        bench.call { bench.store.close(completion: $0) }
        bench.opened()
        for i in 0..<10 { bench.write(a, 1, UInt64(i + 21), first: i, count: 2, tag: UInt64(200 + i)) }
        bench.flush()
        bench.store.stop()
        bench.machine.losePower()
        return bench
    }
    /// What a store that was flushed like `crashed` must show: the newest blocks, or a doubt.
    private func check(_ bench: Bench, _ what: String) {
        switch bench.open() {
        case .failure: return
        case .success(let report):
            let (tags, outcome) = bench.read(a, first: 0, count: 20)
            let entry = bench.store.entry(a)
            let isDoubted = !report.damage.isEmpty || entry == nil || entry!.state != .complete || !entry!.isVerified
            if !isDoubted {
                // Lost at the journal's very end it may be (that looks like a stop in the middle of a write), but then
                // all of it from there on, and the version says so: peers see that this copy is behind.
                let version = entry!.version.sequence
                #expect(version >= 20, "\(what): older than the checkpoint")
                for block in 0..<20 where !outcome.corrupt[block] {
                    let isNew = block <= 10 && version >= 20 + UInt64(max(block, 1))
                    let expected = UInt64((isNew ? 200 : 100) + block)
                    #expect(tags[block] == expected, "\(what): an old block without a word")
                }
            }
            // It still works.
            bench.write(a, 1, 1000, first: 30, count: 1, tag: 7)
            bench.flush()
            #expect(bench.read(a, first: 30, count: 1).tags == [7] || !outcome.corrupt.isEmpty, "\(what)")
        }
    }

    /// One bit of the journal: in a segment's header, a record's header, its table, its payload, the torn tail.
    @Test func aFlippedBitInTheJournalIsNeverAnOldBlock() {
        for offset in Array(0..<64) + Array(4096..<4096 + 120) + [
            4200, 4300, 6000, 8192, 8300, 8400, 12300, 16400, 40000, 90000,
        ] {
            for slot in [UInt64(0), 1] {
                let bench = crashed(70)
                guard bench.disk.exists(.journal(slot)) else { continue }
                bench.disk.flipBit(.journal(slot), offset, UInt8(offset % 8))
                check(bench, "bit \(offset) of segment \(slot)")
            }
        }
    }

    /// Every file in turn: truncated, filled with noise, or with noise in one page.
    @Test func noiseAndTruncationEndInARefusalOrARepair() {
        var random = Random(71)
        let names: [StoreFile] = [
            .superblock, .index(0), .index(1), .journal(0), .journal(1), .object(a, Generation(1)),
        ]
        for round in 0..<90 {
            let bench = crashed(UInt64(700 + round))
            let name = names[round % names.count]
            guard var bytes = bench.disk.contents(name) else { continue }
            switch round / names.count % 3 {
            case 0: bytes.removeLast(bytes.count - random.below(bytes.count))
            case 1: for i in bytes.indices { bytes[i] = UInt8(truncatingIfNeeded: random.next()) }
            default:
                let start = random.below(bytes.count)
                for i in start..<min(bytes.count, start + 4096) { bytes[i] = UInt8(truncatingIfNeeded: random.next()) }
            }
            bench.disk.replace(name, bytes)
            check(bench, "round \(round): \(name)")
        }
    }

    /// Counts and lengths that lie, under a checksum that is right.
    @Test func hugeCountsInAnImageAreRefused() {
        for offset in [24, 28, 32, 36, 44, 48, 56, 84, 88] {
            let bench = crashed(72)
            for slot in [UInt8(0), 1] {
                var bytes = bench.disk.contents(.index(slot))!
                for i in 0..<4 where offset + i < bytes.count - 4 { bytes[offset + i] = 0xff }
                bytes.removeLast(4)
                let checksum = crc32c(bytes)
                for shift in [0, 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: checksum >> UInt32(shift))) }
                bench.disk.replace(.index(slot), bytes)
            }
            check(bench, "image offset \(offset)")
        }
    }
}
