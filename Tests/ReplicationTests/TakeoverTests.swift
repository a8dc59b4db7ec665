// Takeovers of volumes whose copies differ: what one copy alone has is rolled forward, and no copy that has every
// acknowledged write is ever given up for it.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import TestSupport
import Testing

@testable import Replication

@Suite struct TakeoverTests {
    private static let blocks = 64
    /// Every step in which something may die, or (usually) some of them.
    private static let every = Environment.value("SHEEP_SEEDS") == nil ? 5 : 1

    private func twoCopies(_ world: World) { world.settings.copies = 2 }
    private func targets(_ world: World, _ volume: VolumeId, _ index: UInt32 = 0) -> [StoreId] {
        guard let state = world.node.gateway.volume(volume) else { return [] }
        return world.node.gateway.targets(state, ObjectId(volume, index).range)
    }
    /// What each block shows, when each shows one thing.
    private func stamps(_ bytes: [UInt8]?, _ location: SourceLocation = #_sourceLocation) -> [UInt8]? {
        guard let bytes else { return nil }
        var stamps: [UInt8] = []
        for block in 0..<bytes.count / blockSize {
            let part = bytes[block * blockSize..<(block + 1) * blockSize]
            if Set(part).count != 1 {
                Issue.record("block \(block) is torn", sourceLocation: location)
                return nil
            }
            stamps.append(part.first!)
        }
        return stamps
    }

    /// The process dies; what was asked of disks that hang has not happened.
    private func killHanging(_ world: World) {
        for shelf in world.shelves where shelf.disk.window == 0 {
            shelf.disk.forgetPending()
            shelf.disk.window = 8
        }
        world.kill()
    }

    /// A volume whose first store has writes that the second never got, and that nobody was told of.
    private func differing(_ seed: UInt64, snapshot: Bool) -> (World, VolumeId, ahead: StoreId, behind: StoreId) {
        let world = World(seed: seed, stores: 3, twoCopies)
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, TakeoverTests.blocks * blockSize)
        world.flush(volume)
        if snapshot { world.snapshot(volume, "s") }
        let pair = targets(world, volume)
        let (ahead, behind) = seed % 2 == 0 ? (pair[0], pair[1]) : (pair[1], pair[0])
        world.shelves[world.shelf(behind)].disk.window = 0
        for i in 0..<4 { _ = world.askWrite(volume, (i * 16 + 3) * blockSize, world.pattern(2, 9 * blockSize)) }
        world.pass(milliseconds: 50)
        killHanging(world)
        return (world, volume, ahead, behind)
    }

    ///   first store    1 1 1 2 2 2 ...  ->  source  ->  dies
    ///   second store   1 1 1 1 1 1 ...  ->  half made equal: still has all that was acknowledged, and is served
    @Test func aSourceThatDiesWhileTheOtherCopyIsMadeEqualLosesNothing() {
        for seed in stride(from: 1, to: 48, by: TakeoverTests.every) {
            let (world, volume, ahead, _) = differing(UInt64(seed), snapshot: seed % 3 == 0)
            #expect(world.start() == nil)
            var result: Result<[UInt8], Errno>?
            world.askRead(.current(volume), 0, TakeoverTests.blocks * blockSize) { result = $0 }
            for _ in 0..<seed { _ = world.step() }
            world.fail(ahead)
            world.run("read") { result != nil }
            guard case .success(let bytes)? = result, let seen = stamps(bytes) else {
                Issue.record("seed \(seed): \(String(describing: result))")
                return
            }
            #expect(seen.allSatisfy { $0 == 1 || $0 == 2 })
            world.write(volume, 0, stamp: 3, blockSize)
            world.run("down") { world.status(ahead) == .down }
            let expected = [3] + seen.dropFirst()
            // The dead one comes back with what it had: it is not believed.
            world.shelves[world.shelf(ahead)].disk.isBroken = false
            for missing in [[ahead], []] {
                world.kill()
                #expect(world.start(without: missing) == nil)
                #expect(
                    stamps(world.read(volume, 0, TakeoverTests.blocks * blockSize)) == expected, "seed \(seed)")
            }
            world.expectAllWell()
            #expect(stamps(world.read(volume, 0, TakeoverTests.blocks * blockSize)) == expected)
        }
    }

    /// The same, and the process dies with the source.
    @Test func aSourceThatIsLostAfterAKillInTheMiddleLosesNothing() {
        for seed in stride(from: 1, to: 48, by: TakeoverTests.every) {
            let (world, volume, ahead, _) = differing(UInt64(seed), snapshot: seed % 3 == 0)
            #expect(world.start() == nil)
            world.askRead(.current(volume), 0, TakeoverTests.blocks * blockSize) { _ in }
            for _ in 0..<seed { _ = world.step() }
            if seed % 4 == 0 { world.losePower() } else { world.kill() }
            #expect(world.start(without: [ahead]) == nil)
            guard let seen = stamps(world.read(volume, 0, TakeoverTests.blocks * blockSize)) else { return }
            #expect(seen.allSatisfy { $0 == 1 || $0 == 2 })
            world.kill()
            #expect(world.start() == nil)
            #expect(stamps(world.read(volume, 0, TakeoverTests.blocks * blockSize)) == seen)
            world.expectAllWell()
        }
    }

    /// Power goes in the middle of making them equal, twice; then one of them is missing, or none.
    @Test func aPowerLossWhileCopiesAreMadeEqualLosesNothing() {
        for seed in stride(from: 1, to: 60, by: TakeoverTests.every) {
            let (world, volume, ahead, behind) = differing(UInt64(seed), snapshot: seed % 3 == 0)
            for steps in [seed * 2, seed] {
                #expect(world.start() == nil)
                world.askRead(.current(volume), 0, TakeoverTests.blocks * blockSize) { _ in }
                for _ in 0..<steps { _ = world.step() }
                world.losePower()
            }
            #expect(world.start(without: [[], [ahead], [behind]][seed / TakeoverTests.every % 3]) == nil)
            guard let seen = stamps(world.read(volume, 0, TakeoverTests.blocks * blockSize)) else { return }
            #expect(seen.allSatisfy { $0 == 1 || $0 == 2 })
            world.losePower()
            #expect(world.start() == nil)
            #expect(stamps(world.read(volume, 0, TakeoverTests.blocks * blockSize)) == seen, "seed \(seed)")
            if seed % 3 == 0 {
                world.expect(.snapshot(volume, Generation(1)), 0, TakeoverTests.blocks * blockSize, stamp: 1)
            }
            world.expectAllWell()
            #expect(stamps(world.read(volume, 0, TakeoverTests.blocks * blockSize)) == seen)
        }
    }

    /// Three copies, the second half made equal when the first dies: the second and the third differ, at versions that
    /// must show it.
    @Test func copiesLeftHalfEqualAreNotTakenForEqual() {
        for seed in stride(from: 1, to: 48, by: TakeoverTests.every) {
            let world = World(seed: UInt64(seed))
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, TakeoverTests.blocks * blockSize)
            world.flush(volume)
            for shelf in world.shelves.dropFirst() { shelf.disk.window = 0 }
            for i in 0..<4 { _ = world.askWrite(volume, (i * 16 + 3) * blockSize, world.pattern(2, 9 * blockSize)) }
            world.pass(milliseconds: 50)
            killHanging(world)
            let ahead = world.storeIds[0]
            #expect(world.start() == nil)
            world.askRead(.current(volume), 0, TakeoverTests.blocks * blockSize) { _ in }
            for _ in 0..<seed * 2 { _ = world.step() }
            world.kill()
            #expect(world.start(without: [ahead]) == nil)
            let seen = stamps(world.read(volume, 0, TakeoverTests.blocks * blockSize))
            #expect(seen?.allSatisfy { $0 == 1 || $0 == 2 } == true)
            world.expectCopiesAreIdentical()
            world.kill()
            #expect(world.start() == nil)
            #expect(stamps(world.read(volume, 0, TakeoverTests.blocks * blockSize)) == seen)
            world.expectAllWell()
        }
    }

    ///   store 0    1 2 (nobody was told)   stamped V as the source   dies          ...   back, at V
    ///   others     1 1                     -                         3 3 3 ... at versions up to V and beyond
    ///
    /// No write gets a version that the source was stamped with: a copy at that version would be taken for equal.
    @Test func writesNeverGetTheVersionsOfAStampWhoseStoreHasGone() {
        for writes in 1...6 {
            let world = World(seed: UInt64(writes))
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, TakeoverTests.blocks * blockSize)
            world.flush(volume)
            for shelf in world.shelves.dropFirst() { shelf.disk.window = 0 }
            _ = world.askWrite(volume, 3 * blockSize, world.pattern(2, blockSize))
            world.pass(milliseconds: 50)
            killHanging(world)
            let ahead = world.storeIds[0]
            #expect(world.start() == nil)
            let object = ObjectId(volume, 0)
            guard let before = world.store(ahead)?.standing(object).version else { return }
            world.askRead(.current(volume), 0, blockSize) { _ in }
            world.run("stamped") { (world.store(ahead)?.standing(object).version ?? before) > before }
            // What it is stamped with survives the process, and it dies before it can say so.
            let disk = world.shelves[world.shelf(ahead)].disk
            disk.fault = { if case .sync = $0 { .inputOutput } else { nil } }
            world.run("down") { world.status(ahead) == .down }
            for i in 0..<writes { world.write(volume, (8 + i) * blockSize, stamp: 3, blockSize) }
            disk.fault = { _ in nil }
            world.kill()
            #expect(world.start() == nil)
            world.expectAllWell()
            for i in 0..<writes { world.expect(volume, (8 + i) * blockSize, blockSize, stamp: 3) }
        }
    }

    ///   store 0    X (never acknowledged)   away        back: X is older than what was decided
    ///   others     nothing                  read: 0 0   0 0
    @Test func whatOnlyAnAbsentMemberHasIsNotRolledForwardOnceItWasReadAsZeros() {
        for seed in 1...6 {
            // Three copies are needed, so that the one that is away stays in S.
            let world = World(seed: UInt64(seed)) { $0.settings.minCopies = 3 }
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 8192)
            for shelf in world.shelves.dropFirst() { shelf.disk.window = 0 }
            for i in 1...3 { _ = world.askWrite(volume, i * 4 * mebibyte, world.pattern(2, 8192)) }
            world.pass(milliseconds: 20)
            killHanging(world)
            let ahead = world.storeIds[0]
            #expect(world.start(without: [ahead]) == nil)
            #expect(world.catalog.state.map.isMember(ahead, ObjectId(volume, 1).range, copies: 3))
            world.expect(volume, 4 * mebibyte, 8192, stamp: 0)
            // A hole is as good as a read.
            let hole: Result<UInt64, Errno>? = world.answer("seek") {
                world.node.seek(.current(volume), offset: UInt64(8 * mebibyte), data: false, $0)
            }
            #expect((try? hole?.get()) == UInt64(8 * mebibyte))
            // What is waiting below min-copies is not acknowledged, a discard of what nobody here has neither.
            var isDiscarded = false
            world.node.discard(volume, offset: UInt64(12 * mebibyte), count: 8192) { _ in isDiscarded = true }
            world.pass(milliseconds: 2_000)
            #expect(!isDiscarded)
            world.kill()
            #expect(world.start() == nil)
            world.expect(volume, 4 * mebibyte, 8192, stamp: 0)
            world.expect(volume, 8 * mebibyte, 8192, stamp: 0)
            world.expectAllWell()
            world.expect(volume, 4 * mebibyte, 8192, stamp: 0)
            world.expect(volume, 0, 8192, stamp: 1)
        }
    }

    ///   store 0    X (never acknowledged)   away                                back: X is older than what was decided
    ///   others     nothing                  cut off X, by a shrink or rollback  grown again: 0 0
    @Test(arguments: [false, true])
    func whatOnlyAnAbsentMemberHasDoesNotComeBackBehindAShrink(_ isRollback: Bool) {
        for seed in 1...4 {
            let world = World(seed: UInt64(seed)) { $0.settings.minCopies = 3 }
            let volume = world.volume("v", size: 2 * mebibyte)
            world.write(volume, 0, stamp: 1, 8192)
            world.snapshot(volume, "small")
            world.resize(volume, 16 * mebibyte)
            world.flush(volume)
            world.pass(milliseconds: 500)
            for shelf in world.shelves.dropFirst() { shelf.disk.window = 0 }
            for i in 1...3 { _ = world.askWrite(volume, i * 4 * mebibyte, world.pattern(2, 8192)) }
            world.pass(milliseconds: 20)
            killHanging(world)
            let ahead = world.storeIds[0]
            #expect(world.start(without: [ahead]) == nil)
            #expect(world.catalog.state.map.isMember(ahead, ObjectId(volume, 1).range, copies: 3))
            // The whole of it may have to wait for the copies that a write needs; that the size has changed does not.
            if isRollback {
                world.node.rollback(volume, tag: "small", request: nil) { _ in }
            } else {
                world.node.resize(volume, size: UInt64(2 * mebibyte), request: nil) { _ in }
            }
            world.run("cut off") { world.catalog.state.volumes[volume]?.size == UInt64(2 * mebibyte) }
            world.pass(milliseconds: 1_000)
            world.kill()
            #expect(world.start() == nil)
            world.resize(volume, 16 * mebibyte)
            world.expect(volume, 0, 8192, stamp: 1)
            for i in 1...3 { world.expect(volume, i * 4 * mebibyte, 8192, stamp: 0) }
            world.expectAllWell()
            for i in 1...3 { world.expect(volume, i * 4 * mebibyte, 8192, stamp: 0) }
        }
    }

    ///   store 0    term 1    away                  alone, with its old catalog    term 1 or so
    ///   others     term 1    terms 2, 3, ... 12    away                           back: what they have outranks it
    @Test func anOlderCatalogGoesOnAboveTheTermsThatTheStoresHave() {
        for seed in 1...3 {
            let world = World(seed: UInt64(seed))
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 8192)
            world.flush(volume)
            let ids = world.storeIds
            world.shutDown()
            #expect(world.start(without: [ids[0]]) == nil)
            for stamp in 2...11 {
                world.write(volume, 0, stamp: UInt8(stamp), 8192)
                world.flush(volume)
                world.node.gateway.forgetIdleVolumes(olderThanMilliseconds: 0)
                world.pass(milliseconds: 100)
            }
            let term = world.catalog.state.volumes[volume]!.term
            #expect(term > Term(9))
            world.shutDown()
            for _ in 0..<4 {
                #expect(world.start(without: Array(ids[1...]), acceptMissing: Array(ids[1...])) == nil)
                world.shutDown()
            }
            #expect(world.start() == nil)
            world.write(volume, 4096, stamp: 20, 4096)
            #expect(world.catalog.state.volumes[volume]!.term > term)
            // Who is believed is what the older catalog says; it stays so.
            let seen = world.read(volume, 0, 4096)
            #expect(seen == world.pattern(1, 4096) || seen == world.pattern(11, 4096))
            world.expectAllWell()
            world.kill()
            #expect(world.start() == nil)
            #expect(world.read(volume, 0, 4096) == seen)
            world.expect(volume, 4096, 4096, stamp: 20)
            world.expectAllWell()
        }
    }

    /// Where it is too late to raise the term, because the volume is in use without the store, the store goes.
    @Test func aStoreWithNewerTermsThatJoinsAVolumeInUseIsExcluded() throws {
        let world = World(seed: 4)
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, 8192)
        world.rest()
        let state = try #require(world.node.gateway.volumes[volume])
        let ahead = world.storeIds[1]
        let isFenced: Result<Void, StoreError>? = world.answer("fence") {
            world.store(ahead)?.fence(volume: volume, term: Term(40), completion: $0)
        }
        #expect((try? isFenced?.get()) != nil)
        state.fenced.removeAll { $0 == ahead }
        world.node.gateway.fenceMissing(state)
        world.run("excluded") { world.status(ahead) == .down }
        world.write(volume, 0, stamp: 2, 8192)
        world.kill()
        #expect(world.start() == nil)
        world.expect(volume, 0, 8192, stamp: 2)
        #expect(world.catalog.state.volumes[volume]!.term > Term(40))
        world.expectAllWell()
    }
}
