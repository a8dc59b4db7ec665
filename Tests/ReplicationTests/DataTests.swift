// Reading and writing: alignment, concurrency, discards, sizes.
import Catalog
import Model
import ObjectStore
import TestSupport
import Testing

@testable import Replication

@Suite struct DataTests {
    @Test func writesOfAnyAlignmentReadBack() {
        let world = World(seed: 3)
        let volume = world.volume("v")
        var model = [UInt8](repeating: 0, count: 16 * mebibyte)
        var random = Random(5)
        for stamp in 1...60 {
            let count = 1 + random.below(random.chance(percent: 20) ? 600_000 : 9_000)
            let base = random.pick([0, 4 * mebibyte - 5000, 8 * mebibyte - 300_000])
            let offset = base + random.below(10_000)
            let bytes = world.pattern(UInt8(stamp), count)
            #expect(world.write(volume, offset, bytes) == nil)
            model.replaceSubrange(offset..<offset + count, with: bytes)
        }
        for base in [0, 4 * mebibyte - 20_000, 8 * mebibyte - 310_000] {
            let count = 333_333
            #expect(world.read(volume, base + 7, count) == Array(model[base + 7..<base + 7 + count]))
        }
        world.expectAllWell()
    }

    @Test func overlappingConcurrentWritesLeaveIdenticalCopies() {
        for seed in 1...8 {
            let world = World(seed: UInt64(seed))
            let volume = world.volume("v")
            var random = Random(UInt64(seed))
            var asked: [Asked] = []
            for stamp in 1...100 {
                asked.append(
                    world.askWrite(
                        volume, random.below(16) * 512, world.pattern(UInt8(stamp), 512 * (1 + random.below(24)))))
            }
            world.run("writes") { asked.allSatisfy(\.isAnswered) }
            #expect(asked.allSatisfy { $0.errno == nil })
            world.expectAllWell()
        }
    }

    @Test func flushedDataSurvivesPowerLossOfAll() {
        for seed in 1...10 {
            let world = World(seed: UInt64(seed))
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 100_000)
            world.flush(volume)
            let late = world.askWrite(volume, 0, world.pattern(2, 8192))
            for _ in 0..<seed * 3 { _ = world.step() }
            _ = late
            world.losePower()
            #expect(world.start() == nil)
            world.expect(volume, 8192, 100_000 - 8192, stamp: 1)
            guard let first = world.read(volume, 0, 8192) else { continue }
            for block in 0..<2 {
                let bytes = Set(first[block * 4096..<block * 4096 + 4096])
                #expect(bytes == [1] || bytes == [2])
            }
            #expect(world.read(volume, 0, 8192) == first)
            world.expectAllWell()
        }
    }
}
