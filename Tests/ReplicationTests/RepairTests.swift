// A bad block gets back what its own generation held: never what a newer one holds, never zeros while somebody sees it;
// also when a disk answers some reads and fails others.
import Catalog
import Model
import ObjectStore
import TestSupport
import Testing

@testable import Replication

@Suite struct RepairTests {
    private func check(_ world: World, _ volume: VolumeId, repair: Bool) -> CheckReport? {
        world.answer("check") {
            world.node.scrubber.check(volume, deep: true, repair: repair, progress: { _, _ in }, $0)
        }
    }

    /// The block is rotten in an old generation and in the newer one that hides it from the current view.
    @Test func aBlockThatIsBadInTwoGenerationsGetsBackWhatEachOfThemHeld() {
        let world = World(seed: 3)
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, 40_960)
        let first = world.snapshot(volume, "s")
        world.write(volume, 0, stamp: 2, 32_768)
        let second = world.snapshot(volume, "t")
        world.write(volume, 0, stamp: 3, 16_384)
        world.flush(volume)
        world.rest()
        let bad = world.storeIds[1]
        world.kill()
        let disk = world.shelves[world.shelf(bad)].disk
        for (generation, blocks) in [(1, 10), (2, 8), (3, 4)] {
            let name = StoreFile.object(ObjectId(volume, 0), Generation(UInt32(generation)))
            for block in 0..<blocks { disk.flipBit(name, 16_384 + block * 4096 + 77) }
        }
        #expect(world.start() == nil)
        #expect((check(world, volume, repair: true)?.blocksRepaired ?? 0) >= 10)
        let report = check(world, volume, repair: false)
        #expect(report?.blocksBad == 0 && report?.copiesDifferent == 0, "\(String(describing: report))")
        world.expectAllWell()
        // What the mended copy alone says.
        guard let store = world.store(bad) else { return }
        for (generation, blocks, stamp) in [(first, 10, 1), (second, 8, 2)] {
            let buffer = world.pool.buffer(blocks * blockSize)
            let outcome: Result<ReadOutcome, StoreError>? = world.answer("read") {
                store.read(
                    object: ObjectId(volume, 0), path: GenerationPath(top: generation),
                    blocks: BlockRange(first: 0, count: blocks), into: buffer, bufferOffset: 0, completion: $0)
            }
            guard case .success(let read)? = outcome else {
                Issue.record("the copy cannot be read")
                return
            }
            #expect(read.isWhole)
            let bytes = UnsafeRawBufferPointer(start: buffer.bytes, count: blocks * blockSize)
            #expect(bytes.allSatisfy { $0 == UInt8(stamp) }, "generation \(generation)")
        }
    }

    /// Reads of one disk fail now and then: a block that was bad in one look and fine in the next is not one that nobody
    /// sees.
    @Test func readsThatFailNowAndThenTurnNoBlockIntoZeros() {
        var failed = 0
        for seed in 1...40 {
            let world = World(seed: UInt64(seed))
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 40_960)
            world.flush(volume)
            world.rest()
            let disk = world.shelves[1].disk
            var random = Random(UInt64(seed))
            var failures = 0
            disk.fault = { operation in
                // Of an object's data, never of its header; fewer than end the store.
                guard case .read(.object, let offset, _, _, _) = operation, offset >= 16_384, failures < 10,
                    random.below(2) == 0
                else { return nil }
                failures += 1
                return .inputOutput
            }
            _ = check(world, volume, repair: true)
            disk.fault = { _ in nil }
            failed += failures
            for away in world.storeIds where world.shelf(away) != 1 {
                world.rest()
                world.kill()
                #expect(world.start(without: [away]) == nil)
                world.expect(volume, 0, 40_960, stamp: 1)
                world.kill()
                #expect(world.start() == nil)
            }
            world.expectAllWell()
        }
        #expect(failed > 10)
    }

    /// A copy whose header is found damaged is emptied to be made anew. Another copy that is made from it at that moment must
    /// not take for absent what was emptied.
    @Test func aCopyThatIsEmptiedWhileAnotherIsMadeFromItMakesNoHoles() {
        var found = 0
        for steps in 0..<40 {
            let world = World(seed: UInt64(steps + 1))
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 2_000_000)
            _ = world.snapshot(volume, "s")
            world.write(volume, 0, stamp: 2, 1_000_000)
            world.flush(volume)
            world.rest()
            // All of the headers is on the disk.
            world.shutDown()
            #expect(world.start() == nil)
            world.expect(volume, 1_500_000, 4096, stamp: 1)
            let (gateway, object) = (world.node.gateway, ObjectId(volume, 0))
            let slots = gateway.volumes[volume]!.objects[0]!.slots.map(\.channel.store)
            // Recovery takes the first that is complete.
            let (source, target, third) = (slots[0], slots[1], slots[2])
            let emptied: CopyFailure?? = world.answer("empty") { gateway.channel(target)!.empty(object, $0) }
            #expect(emptied == .some(nil))
            gateway.setStatus(gateway.volumes[volume]!, 0, target, .unverified)
            let state = gateway.volumes[volume]!
            gateway.synchronise(state, state.objects[0]!, gateway.channel(target)!, gateway.channel(source)!) {
                outcome in
                guard case .complete = outcome else { return world.node.recovery.copyBehind(object, target) }
            }
            for _ in 0..<steps { _ = world.step() }
            let disk = world.shelves[world.shelf(source)].disk
            for generation in 1...2 as ClosedRange<UInt32> {
                for offset in stride(from: 0, to: 16_384, by: 512) {
                    disk.flipBit(.object(object, Generation(generation)), offset + 40)
                }
            }
            let past = world.log.count
            world.node.scrubber.onCopyLost(object, source)
            world.rest()
            found += world.log[past...].count { $0.contains("is damaged; making it anew") }
            for away in [source, third] {
                world.kill()
                #expect(world.start(without: [away]) == nil)
                world.expect(volume, 0, 1_000_000, stamp: 2)
                world.expect(volume, 1_000_000, 1_000_000, stamp: 1)
                world.rest()
                world.kill()
                #expect(world.start() == nil)
                world.rest()
            }
            world.expectAllWell()
        }
        #expect(found > 10)
    }
}
