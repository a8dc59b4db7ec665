// Power losses and failures in the middle of what takes long: copies that are raised, copies that are made equal, a
// search for data, a flatten.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Placement
import TestSupport
import Testing

@testable import Replication

@Suite struct ScenarioTests {
    /// Between the wish for more copies and the record that they are there, everything loses power: what was flushed is
    /// there, no copy that is still to be made is believed, and the copies come.
    @Test func aPowerLossWhileAVolumeGetsMoreCopiesLosesNothing() {
        var between = 0
        for steps in stride(from: 0, to: 400, by: 40) {
            let world = World(seed: UInt64(steps + 1), stores: 4)
            let volume = world.volume("v", size: 64 * mebibyte, copies: 1)
            for i in 0..<8 { world.write(volume, i * 4 * mebibyte, stamp: 5, 140_000) }
            world.flush(volume)
            world.rest()
            #expect(world.propose(.setVolumeCopies(volume, copies: 3)) == .done)
            for _ in 0..<steps { _ = world.step() }
            world.write(volume, 0, stamp: 6, 8192)
            world.write(volume, 28 * mebibyte, stamp: 6, 8192)
            world.flush(volume)
            _ = world.askWrite(volume, 4 * mebibyte, world.pattern(7, 8192))
            for _ in 0..<steps / 20 { _ = world.step() }
            if world.catalog.state.volumes[volume]?.wantedCopies == 3 { between += 1 }
            world.losePower()
            #expect(world.start() == nil)
            func check() {
                for i in [0, 7] {
                    world.expect(volume, i * 4 * mebibyte, 8192, stamp: 6)
                    world.expect(volume, i * 4 * mebibyte + 8192, 131_000, stamp: 5)
                }
                for i in 2..<7 { world.expect(volume, i * 4 * mebibyte, 140_000, stamp: 5) }
                for block in 0..<2 {
                    let bytes = world.read(volume, 4 * mebibyte + block * blockSize, blockSize)
                    #expect(bytes == world.pattern(5, blockSize) || bytes == world.pattern(7, blockSize))
                }
            }
            check()
            world.run("three copies") { world.catalog.state.volumes[volume]?.wantedCopies == nil }
            world.expectAllWell()
            guard let state = world.node.gateway.volume(volume) else { continue }
            for index in state.indices() {
                let complete = world.node.stores.filter {
                    $0.copy.objects.entry(ObjectId(volume, index))?.state == .complete
                }
                #expect(complete.count == 3)
            }
            check()
            world.kill()
            #expect(world.start(without: [world.storeIds[steps / 40 % 4]]) == nil)
            check()
        }
        #expect(between > 2)
    }

    ///   read: asks a copy ... waits for its header                    ... the copy is not there: not zeros
    ///   move:                 complete, old ring dropped, surplus goes
    /// (Random life 30.)
    @Test(arguments: ["read", "seek"])
    func whatIsOnItsWayToACopyThatIsRemovedIsNotZeros(_ way: String) {
        var late = 0
        for seed in 1...4 {
            let world = World(seed: UInt64(seed), stores: 4)
            let count = way == "read" ? 48 : 128
            let volume = world.volume("v", size: count * 4 * mebibyte)
            for i in 0..<count { world.write(volume, i * 4 * mebibyte, stamp: 5, 8192) }
            world.flush(volume)
            world.rest()
            // The last store of an object goes when one is added; any may when one gets less.
            if way == "read" {
                world.addShelf("/new")
                var added: Result<StoreId, SheepError>?
                world.node.addStore(path: "/new", zone: nil, weight: 1 << 30) { added = $0 }
                world.run("added") { added != nil }
                if case .success(let id)? = added { world.shelves[4].id = id }
            } else {
                var done: SheepError??
                world.node.setWeight(world.storeIds[seed % 4], weight: 1 << 24) { done = .some($0) }
                world.run("weight") { done != nil }
            }
            guard let to = world.catalog.state.map.to else { return }
            // Everything is where it shall be, and the old ring is there still.
            let moving = (0..<count).map { ObjectId(volume, UInt32($0)) }
            world.run("filled") {
                moving.allSatisfy { object in
                    to.targets(of: object.range).allSatisfy { world.node.gateway.isComplete(object, on: $0) }
                }
            }
            #expect(world.catalog.state.map.to != nil)
            var held: [ObjectId: StoreId] = [:]
            for shelf in world.shelves {
                shelf.disk.hold = {
                    guard case .read(.object(let object, _), offset: 0, _, _, _) = $0 else { return false }
                    return held[object] == shelf.id
                }
            }
            var answers: [Bool] = []
            for object in moving {
                let offset = UInt64(object.index) << 22
                if way == "read" {
                    world.askRead(.current(volume), Int(offset), 8192) {
                        answers.append((try? $0.get()) == world.pattern(5, 8192))
                    }
                } else {
                    let first = world.node.gateway.targets(world.node.gateway.volumes[volume]!, object.range)[0]
                    if !to.targets(of: object.range).contains(first) { held[object] = first }
                    world.node.seek(.current(volume), offset: offset, data: true) {
                        answers.append((try? $0.get()) == offset)
                    }
                }
                let asked = world.shelves.first { shelf in
                    shelf.disk.waiting.contains {
                        if case .read(.object(object, _), offset: 0, _, _, _) = $0 { true } else { false }
                    }
                }
                if let asked, !to.targets(of: object.range).contains(asked.id) { held[object] = asked.id }
            }
            world.run("moved") { world.catalog.state.map.to == nil && world.isAtRest }
            late += moving.count - answers.count
            held = [:]
            world.run("the last ones") { answers.count == moving.count }
            #expect(answers.allSatisfy { $0 }, "seed \(seed)")
            world.expectAllWell()
        }
        #expect(late > 0)
    }

    /// The first copy that is asked where data is dies of it; the next one tells.
    @Test func aSearchForDataGoesOnWithAnotherCopyWhenTheFirstDies() throws {
        for victim in 0..<3 {
            let world = World(seed: UInt64(victim + 1))
            let volume = world.volume("v")
            world.write(volume, 65_536, stamp: 1, 100_000)
            world.write(volume, 8 * mebibyte, stamp: 1, 4096)
            world.flush(volume)
            world.pass(milliseconds: 2_000)
            // Stopped and started, so that no header is in memory.
            world.shutDown()
            #expect(world.start() == nil)
            let id = world.storeIds[victim]
            world.fail(id)
            func seek(_ offset: Int, data: Bool) -> UInt64? {
                let found: Result<UInt64, Errno>? = world.answer("seek") {
                    world.node.seek(.current(volume), offset: UInt64(offset), data: data, $0)
                }
                return try? found?.get()
            }
            #expect(seek(0, data: true) == 65_536)
            #expect(seek(70_000, data: true) == 70_000)
            let end = (65_536 + 100_000 + blockSize - 1) / blockSize * blockSize
            #expect(seek(65_536, data: false) == UInt64(end))
            #expect(seek(end, data: true) == UInt64(8 * mebibyte))
            world.write(volume, 0, stamp: 2, 4096)
            world.run("down") { world.status(id) == .down }
            #expect(seek(0, data: true) == 0)
        }
    }

    /// What comes from the parent cannot be read: the clone is not cut off from it, and can be flattened later.
    @Test(arguments: [false, true])
    func aFlattenThatCannotReadEndsInAnErrorAndKeepsTheLink(_ isHeader: Bool) throws {
        let world = World(seed: 7)
        let parent = world.volume("p")
        world.write(parent, 0, stamp: 1, 3 * mebibyte)
        world.write(parent, 4 * mebibyte, stamp: 2, 3 * mebibyte)
        let clone = world.clone(parent, world.snapshot(parent, "s"), "c")
        world.write(clone, 0, stamp: 3, 4096)
        world.flush(parent)
        world.flush(clone)
        world.pass(milliseconds: 2_000)
        world.shutDown()
        let name = StoreFile.object(ObjectId(parent, 1), Generation(1))
        let flip = {
            for shelf in world.shelves {
                for offset in isHeader ? [60, 8192 + 60] : [16_384 + 40 * 4096 + 9] { shelf.disk.flipBit(name, offset) }
            }
        }
        flip()
        #expect(world.start() == nil)
        func flatten() -> CommandAnswer? {
            world.answer("flatten") { world.node.flatten(clone, progress: { _, _ in }, $0) }
        }
        guard case .refused(let error)? = flatten() else {
            Issue.record("flattened")
            return
        }
        #expect(error.errno == .inputOutput)
        #expect(world.catalog.state.volumes[clone]?.parent != nil)
        world.expect(clone, 0, 4096, stamp: 3)
        world.expect(clone, 4096, mebibyte, stamp: 1)
        // Nothing was written where nothing could be read.
        let result: Result<[UInt8], Errno>? = world.answer("read") {
            world.askRead(.current(clone), 4 * mebibyte + 40 * 4096, 4096, $0)
        }
        #expect(throws: Errno.inputOutput) { try result?.get() }
        world.kill()
        flip()
        #expect(world.start() == nil)
        #expect(flatten() == .done)
        #expect(world.catalog.state.volumes[clone]?.parent == nil)
        #expect(world.propose(.removeVolume(parent, recursive: true)) == .done)
        world.rest()
        world.expect(clone, 0, 4096, stamp: 3)
        world.expect(clone, 4096, 3 * mebibyte - 4096, stamp: 1)
        world.expect(clone, 4 * mebibyte, 3 * mebibyte, stamp: 2)
        world.expectAllWell()
    }

    /// Nobody looks after stores that are down while none is.
    @Test func anIdleNodeIsNotWokenForStoresThatAreUp() {
        let world = World(seed: 8)
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, 8192)
        world.flush(volume)
        world.rest()
        world.pass(milliseconds: 20_000)
        func wakeUps() -> Int {
            let end = world.machine.nanoseconds + 200_000_000_000
            var count = 0
            while world.machine.nanoseconds < end, world.step() { count += 1 }
            return count
        }
        #expect(wakeUps() < 50)
        world.node.storeFailed(world.storeIds[0], "a test")
        world.run("down") { world.status(world.storeIds[0]) == .down }
        world.run("out", seconds: 700) { world.status(world.storeIds[0]) == .out }
    }
}
