// Snapshots, clones, rollbacks, flattening, sizes, and what is given back when they go.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import TestSupport
import Testing

@testable import Replication

@Suite struct FamilyTests {
    @Test func aSnapshotHasEveryWriteAckedBeforeAndNoneIssuedAfter() {
        for seed in 1...12 {
            let world = World(seed: UInt64(seed))
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 40 * blockSize)
            var asked: [Asked] = []
            for i in 0..<10 { asked.append(world.askWrite(volume, i * blockSize, world.pattern(2, blockSize))) }
            for _ in 0..<seed * 4 { _ = world.step() }
            let acked = asked.map(\.isAnswered)
            var result: CommandAnswer?
            world.node.snapshot([volume], tag: "s", group: nil, replaceExisting: false, request: nil) { result = $0 }
            for i in 10..<20 { asked.append(world.askWrite(volume, i * blockSize, world.pattern(3, blockSize))) }
            world.run("snapshot") { result != nil }
            for i in 20..<30 { asked.append(world.askWrite(volume, i * blockSize, world.pattern(4, blockSize))) }
            world.run("writes") { asked.allSatisfy(\.isAnswered) }
            guard case .snapshot(_, let generation)? = result else {
                Issue.record("\(String(describing: result))")
                return
            }
            let view = VolumeView.snapshot(volume, generation)
            for i in 0..<10 where acked[i] { world.expect(view, i * blockSize, blockSize, stamp: 2) }
            world.expect(view, 20 * blockSize, 20 * blockSize, stamp: 1)
            for i in 10..<20 { world.expect(volume, i * blockSize, blockSize, stamp: 3) }
            world.expectAllWell()
        }
    }

    @Test func clonesReadThroughAndNeverTouchTheirParents() {
        let world = World(seed: 2)
        let volume = world.volume("v")
        world.write(volume, 1000, stamp: 1, 100_000)
        let first = world.snapshot(volume, "s")
        let clone = world.clone(volume, first, "c")
        world.expect(clone, 1000, 100_000, stamp: 1)
        world.write(clone, 5000, stamp: 2, 3000)
        world.write(volume, 50_000, stamp: 3, 3000)
        let second = world.snapshot(clone, "t")
        let deep = world.clone(clone, second, "d")
        world.write(deep, 60_000, stamp: 4, 100)
        for view in [VolumeView.current(clone), .current(deep)] {
            world.expect(view, 1000, 4000, stamp: 1)
            world.expect(view, 5000, 3000, stamp: 2)
            world.expect(view, 8000, 52_000, stamp: 1)
        }
        world.expect(deep, 60_000, 100, stamp: 4)
        world.expect(clone, 60_000, 100, stamp: 1)
        world.expect(.snapshot(volume, first), 1000, 100_000, stamp: 1)
        world.expect(volume, 50_000, 3000, stamp: 3)
        world.discard(deep, 0, 16 * mebibyte)
        world.expect(deep, 0, 200_000, stamp: 0)
        world.expect(clone, 1000, 4000, stamp: 1)
        world.expectAllWell()
    }

    @Test func aCloneOutlivesItsParent() {
        let world = World(seed: 2)
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, 100_000)
        let clone = world.clone(volume, world.snapshot(volume, "s"), "c")
        #expect(world.propose(.removeVolume(volume, recursive: true)) == .done)
        world.expect(clone, 0, 100_000, stamp: 1)
        world.kill()
        #expect(world.start() == nil)
        world.expect(clone, 0, 100_000, stamp: 1)
        world.write(clone, 0, stamp: 2, 5000)
        world.expect(clone, 5000, 95_000, stamp: 1)
        world.expectAllWell()
        var answer: CommandAnswer?
        world.node.flatten(clone, progress: { _, _ in }) { answer = $0 }
        world.run("flatten") { answer != nil }
        #expect(answer == .done)
        world.expect(clone, 0, 5000, stamp: 2)
        world.expect(clone, 5000, 95_000, stamp: 1)
        world.expectAllWell()
        #expect(world.catalog.state.volumes[volume] == nil)
        for store in world.node.stores { #expect(store.copy.objects.objects(of: volume).isEmpty) }
    }

    @Test func twoHundredSnapshotsStayRightWhileTheyAreRemovedInAnyOrder() {
        let world = World(seed: 4)
        let volume = world.volume("v")
        var random = Random(4)
        var contents: [(tag: String, generation: Generation, blocks: [UInt8])] = []
        var now = [UInt8](repeating: 0, count: 24)
        for i in 0..<200 {
            for _ in 0..<2 {
                let block = random.below(24)
                now[block] = UInt8(1 + random.below(250))
                world.write(volume, block * blockSize, stamp: now[block], blockSize)
            }
            contents.append(("t\(i)", world.snapshot(volume, "t\(i)"), now))
        }
        func check(_ content: (tag: String, generation: Generation, blocks: [UInt8])) {
            guard let bytes = world.read(.snapshot(volume, content.generation), 0, 24 * blockSize) else { return }
            for block in 0..<24 where bytes[block * blockSize] != content.blocks[block] {
                Issue.record("\(content.tag) block \(block)")
            }
        }
        while contents.count > 3 {
            for _ in 0..<20 where contents.count > 3 {
                world.removeSnapshot(volume, contents.remove(at: random.below(contents.count)).tag)
            }
            for _ in 0..<4 { check(random.pick(contents)) }
            world.write(volume, 0, stamp: 9, blockSize)
            now[0] = 9
        }
        world.rest()
        contents.forEach(check)
        world.expectAllWell()
        for store in world.node.stores {
            #expect(store.copy.objects.objects(of: volume).allSatisfy { $0.generations.count <= 4 })
        }
        for block in 0..<24 { world.expect(volume, block * blockSize, blockSize, stamp: now[block]) }
    }

    @Test func aRollbackShowsTheSnapshotAgainAndKeepsTheOthers() {
        let world = World(seed: 5)
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, 100_000)
        let one = world.snapshot(volume, "one")
        world.write(volume, 0, stamp: 2, 50_000)
        let two = world.snapshot(volume, "two")
        world.write(volume, 0, stamp: 3, 20_000)
        world.rollback(volume, "one")
        world.expect(volume, 0, 100_000, stamp: 1)
        world.write(volume, 0, stamp: 4, 10_000)
        world.expect(.snapshot(volume, two), 0, 50_000, stamp: 2)
        world.removeSnapshot(volume, "one")
        world.rest()
        world.expect(volume, 0, 10_000, stamp: 4)
        world.expect(volume, 10_000, 90_000, stamp: 1)
        world.expect(.snapshot(volume, two), 50_000, 50_000, stamp: 1)
        world.rollback(volume, "two")
        world.expect(volume, 0, 50_000, stamp: 2)
        world.expectAllWell()
        _ = one
    }

    @Test func whatAShrinkCutsOffIsZerosWhenItGrowsAgain() {
        let world = World(seed: 6)
        let parent = world.volume("p")
        world.write(parent, 0, stamp: 1, 10 * mebibyte)
        let clone = world.clone(parent, world.snapshot(parent, "s"), "c")
        world.write(clone, 5 * mebibyte, stamp: 2, 5000)
        let before = world.snapshot(clone, "before")
        for volume in [parent, clone] {
            world.resize(volume, 3 * mebibyte + 700)
            world.resize(volume, 16 * mebibyte)
            world.expect(volume, 3 * mebibyte, 700, stamp: 1)
            world.expect(volume, 3 * mebibyte + 700, 8 * mebibyte, stamp: 0)
        }
        world.expect(.snapshot(clone, before), 5 * mebibyte, 5000, stamp: 2)
        world.expect(.snapshot(clone, before), 5 * mebibyte + 5000, 4 * mebibyte, stamp: 1)
        world.expectAllWell()
    }

    @Test func aCrashBetweenAShrinkAndItsTrimLeavesNothingToBeSeen() {
        for steps in stride(from: 2, to: 120, by: 9) {
            let world = World(seed: UInt64(steps))
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 6 * mebibyte)
            world.snapshot(volume, "s")
            world.write(volume, 4 * mebibyte, stamp: 2, mebibyte)
            world.flush(volume)
            var isDone = false
            world.node.resize(volume, size: UInt64(mebibyte + 5000), request: nil) { _ in isDone = true }
            for _ in 0..<steps where !isDone { _ = world.step() }
            if steps % 2 == 0 { world.kill() } else { world.losePower() }
            #expect(world.start() == nil)
            let isCut = world.catalog.state.volumes[volume]?.size != UInt64(16 * mebibyte)
            world.resize(volume, 16 * mebibyte)
            world.expect(volume, 0, mebibyte, stamp: 1)
            if isCut { world.expect(volume, mebibyte + 5000, 5 * mebibyte, stamp: 0) }
            world.expectAllWell()
        }
    }

    @Test func discardsGiveSpaceBackOrHideWhatLiesBelow() {
        let world = World(seed: 7)
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, 5 * mebibyte)
        world.discard(volume, 1000, 4 * mebibyte)
        world.expect(volume, 0, 1000, stamp: 1)
        world.expect(volume, 1000, 4 * mebibyte, stamp: 0)
        world.expect(volume, 4 * mebibyte + 1000, mebibyte - 1000, stamp: 1)
        let blocks = world.node.stores[0].copy.objects.objects(of: volume).reduce(0) { $0 + $1.allocatedBlocks }
        #expect(blocks <= mebibyte / blockSize + 2)
        let kept = world.snapshot(volume, "s")
        world.discard(volume, 0, 16 * mebibyte)
        world.expect(volume, 0, 5 * mebibyte, stamp: 0)
        world.expect(.snapshot(volume, kept), 4 * mebibyte + 1000, mebibyte - 1000, stamp: 1)
        world.expectAllWell()
    }

    @Test func aSnapshotsHolesAreThoseOfItsOwnSize() {
        let world = World(seed: 8)
        let parent = world.volume("p")
        world.write(parent, 6 * mebibyte, stamp: 1, mebibyte)
        let clone = world.clone(parent, world.snapshot(parent, "s"), "c")
        let kept = world.snapshot(clone, "before")
        world.resize(clone, mebibyte)
        var found: Result<UInt64, Errno>?
        world.node.seek(.snapshot(clone, kept), offset: 0, data: true) { found = $0 }
        world.run("seek") { found != nil }
        #expect(found == .success(UInt64(6 * mebibyte)))
        // And a discard through a clone of that snapshot reaches what it shows.
        let deep = world.clone(clone, kept, "d")
        world.expect(deep, 6 * mebibyte, mebibyte, stamp: 1)
        world.discard(deep, 0, 16 * mebibyte)
        world.expect(deep, 6 * mebibyte, mebibyte, stamp: 0)
        world.expectAllWell()
    }

    /// One guest writes to two volumes in turn: the second volume never shows more than the first in a group.
    @Test func aGroupSnapshotShowsItsVolumesAtOneInstant() {
        for seed in 1...10 {
            let world = World(seed: UInt64(seed))
            let volumes = [world.volume("a"), world.volume("b"), world.volume("c")]
            for volume in volumes { world.write(volume, 0, stamp: 1, 8192) }
            var stamp: UInt8 = 1
            var written: [UInt8] = [1, 1, 1]
            func writeOn(_ i: Int) {
                if i == 0 {
                    guard stamp < 60 else { return }
                    stamp += 1
                }
                let (now, asked) = (stamp, world.askWrite(volumes[i], 0, world.pattern(stamp, 8192)))
                asked.whenAnswered = {
                    written[i] = now
                    writeOn((i + 1) % 3)
                }
            }
            writeOn(0)
            for _ in 0..<seed * 9 { _ = world.step() }
            let before = written
            var result: CommandAnswer?
            world.node.snapshot(volumes, tag: "g", group: .root, replaceExisting: false, request: nil) { result = $0 }
            world.run("group snapshot") { result != nil }
            let after = written
            world.run("writes") { stamp == 60 && written.allSatisfy { $0 == 60 } }
            guard let group = world.catalog.state.directories[.root]?.groupSnapshots["g"] else {
                Issue.record("\(String(describing: result))")
                return
            }
            let seen = volumes.map { volume -> UInt8 in
                let generation = group.members.first { $0.volume == volume }!.generation
                let bytes = world.read(.snapshot(volume, generation), 0, 8192) ?? [0]
                #expect(Set(bytes).count == 1)
                return bytes[0]
            }
            for i in 0..<3 { #expect(seen[i] >= before[i] && seen[i] <= max(after[i], before[i]) + 1) }
            #expect(seen[0] >= seen[1] && seen[1] >= seen[2] && seen[0] - seen[2] <= 1, "\(seen)")
            world.kill()
            #expect(world.start() == nil)
            #expect(world.propose(.removeGroupSnapshot(directory: .root, tag: "g")) == .done)
            world.expectAllWell()
            for volume in volumes { world.expect(volume, 0, 8192, stamp: 60) }
            #expect(world.catalog.state.volumes[volumes[0]]?.snapshots.isEmpty == true)
        }
    }

    /// One of its volumes cannot be drained: nothing of the group is there, and writes go on.
    @Test func aGroupSnapshotIsThereWholeOrNotAtAll() {
        let world = World(seed: 2)
        let volumes = [world.volume("a"), world.volume("b")]
        for volume in volumes { world.write(volume, 0, stamp: 1, 8192) }
        for shelf in world.shelves.dropFirst() { shelf.disk.window = 0 }
        let asked = world.askWrite(volumes[1], 0, world.pattern(2, 8192))
        var result: CommandAnswer?
        world.node.snapshot(volumes, tag: "g", group: .root, replaceExisting: false, request: nil) { result = $0 }
        world.run("refused", seconds: 10) { result != nil }
        guard case .refused(let error)? = result else {
            Issue.record("\(String(describing: result))")
            return
        }
        #expect(error.errno == .tryAgain)
        for shelf in world.shelves { shelf.disk.window = 8 }
        world.run("write") { asked.isAnswered }
        #expect(asked.errno == nil)
        #expect(world.catalog.state.directories[.root]?.groupSnapshots.isEmpty == true)
        #expect(volumes.allSatisfy { world.catalog.state.volumes[$0]?.snapshots.isEmpty == true })
        for volume in volumes { world.write(volume, 0, stamp: 3, 8192) }
        world.expectAllWell()
    }
}
