// Kills, power losses, full disks and rot: what the contract says of each.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import TestSupport
import Testing

@testable import Replication

@Suite struct FaultTests {
    @Test func writesInFlightAtAKillAreWhollyThereOrNotAndDecidedOnce() {
        for seed in 1...20 {
            let world = World(seed: UInt64(seed))
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 20 * blockSize)
            for i in 0..<20 { _ = world.askWrite(volume, i * blockSize, world.pattern(2, blockSize)) }
            for _ in 0..<seed { _ = world.step() }
            world.kill()
            #expect(world.start() == nil)
            guard let first = world.read(volume, 0, 20 * blockSize) else { continue }
            for block in 0..<20 {
                let seen = Set(first[block * blockSize..<(block + 1) * blockSize])
                #expect(seen == [1] || seen == [2])
            }
            world.expectAllWell()
            // Each store alone is gone in turn: the answer stays.
            for away in world.storeIds {
                world.kill()
                #expect(world.start(without: [away]) == nil)
                #expect(world.read(volume, 0, 20 * blockSize) == first)
                world.kill()
                #expect(world.start() == nil)
                world.rest()
            }
        }
    }

    @Test func alwaysDurableMeansThatEveryAckSurvivesAPowerLoss() {
        for seed in 1...10 {
            let world = World(seed: UInt64(seed)) { $0.options.alwaysDurable = true }
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 50_000)
            world.discard(volume, 4096, 8192)
            world.losePower()
            #expect(world.start() == nil)
            world.expect(volume, 0, 4096, stamp: 1)
            world.expect(volume, 4096, 8192, stamp: 0)
            world.expect(volume, 12_288, 50_000 - 12_288, stamp: 1)
        }
    }

    @Test func aFullStoreStopsNobodyAndCatchesUpWhenThereIsRoom() {
        for seed in 1...4 {
            let world = World(seed: UInt64(seed))
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 200_000)
            world.rest()
            let disk = world.shelves[0].disk
            let space = disk.space
            disk.space = DiskSpace(capacityBytes: space.capacityBytes, availableBytes: 0)
            for i in 0..<10 { world.write(volume, i * 70_000, stamp: UInt8(i + 2), 70_000) }
            world.flush(volume)
            #expect(world.status(world.storeIds[0]) == .up)
            for i in 0..<10 { world.expect(volume, i * 70_000, 70_000, stamp: UInt8(i + 2)) }
            // Too few are left: refused before anything has changed.
            world.shelves[1].disk.space = disk.space
            #expect(world.write(volume, 12 * mebibyte, world.pattern(99, 4096)) == .noSpace)
            world.expect(volume, 0, 70_000, stamp: 2)
            for shelf in world.shelves { shelf.disk.space = space }
            world.pass(milliseconds: 3_000)
            world.write(volume, 0, stamp: 77, 4096)
            world.expectAllWell()
            #expect(world.storeIds.allSatisfy { world.status($0) == .up })
        }
    }

    @Test func aRottenBlockIsNeverReturnedAndIsRepaired() {
        for way in ["read", "scrub", "check"] {
            let world = World(seed: 3)
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 200_000)
            world.snapshot(volume, "s")
            world.write(volume, 0, stamp: 2, 50_000)
            world.flush(volume)
            world.rest()
            world.kill()
            // One bit of every block of the older generation, on one store.
            let disk = world.shelves[1].disk
            let name = StoreFile.object(ObjectId(volume, 0), Generation(1))
            #expect(disk.exists(name))
            let size = disk.contents(name)!.count
            for offset in stride(from: size - 40 * 4096, to: size, by: 4096) { disk.flipBit(name, offset + 77) }
            #expect(world.start() == nil)
            if way == "read" {
                for _ in 0..<3 {
                    world.expect(volume, 0, 50_000, stamp: 2)
                    world.expect(volume, 50_000, 150_000, stamp: 1)
                    world.kill()
                    #expect(world.start() == nil)
                }
                world.expect(.snapshot(volume, Generation(1)), 0, 200_000, stamp: 1)
            }
            var report: CheckReport?
            if way == "scrub" {
                #expect(world.node.scrubber.start(deep: true, volume: nil))
                world.run("scrub") { !world.node.scrubber.status.isRunning }
                #expect(world.node.scrubber.status.blocksRepaired >= 30)
            } else {
                world.node.scrubber.check(volume, deep: true, repair: true, progress: { _, _ in }) { report = $0 }
                world.run("check") { report != nil }
            }
            report = nil
            world.node.scrubber.check(volume, deep: true, repair: false, progress: { _, _ in }) { report = $0 }
            world.run("check again") { report != nil }
            #expect(report?.blocksBad == 0 && report?.copiesDifferent == 0, "\(way) \(String(describing: report))")
            world.expect(.snapshot(volume, Generation(1)), 0, 200_000, stamp: 1)
            world.expectAllWell()
        }
    }

    @Test func aWriteOnOneStoreOnlyIsDecidedBeforeTheFirstReadAlsoWhenAnotherStoreIsAway() {
        for seed in 1...12 {
            let world = World(seed: UInt64(seed))
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 8192)
            world.flush(volume)
            // Two stores hang: only the first gets the write, and one more to an object that nobody has.
            for shelf in world.shelves.dropFirst() { shelf.disk.window = 0 }
            _ = world.askWrite(volume, 0, world.pattern(2, 8192))
            _ = world.askWrite(volume, 5 * mebibyte, world.pattern(2, 8192))
            for _ in 0..<10 + seed { _ = world.step() }
            world.kill()
            for shelf in world.shelves { shelf.disk.window = 8 }
            let ahead = world.storeIds[0]
            #expect(world.start(without: [ahead]) == nil)
            let old = world.read(volume, 0, 8192)
            let new = world.read(volume, 5 * mebibyte, 8192)
            world.kill()
            #expect(world.start() == nil)
            #expect(world.read(volume, 0, 8192) == old)
            #expect(world.read(volume, 5 * mebibyte, 8192) == new)
            world.expectAllWell()
            #expect(world.read(volume, 5 * mebibyte, 8192) == new)
        }
    }

    @Test func aVolumeThatIsRemovedAnswersAllThatWaited() {
        let world = World(seed: 3)
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, 8192)
        var asked = (0..<20).map { world.askWrite(volume, $0 * 4096, world.pattern(2, 4096)) }
        var removed: CommandAnswer?
        world.catalog.propose(.removeVolume(volume, recursive: true), request: nil) { removed = $0 }
        for _ in 0..<30 {
            _ = world.step()
            asked.append(world.askWrite(volume, 0, world.pattern(3, 4096)))
        }
        world.run("all") { removed != nil && asked.allSatisfy(\.isAnswered) }
        world.rest()
        for store in world.node.stores { #expect(store.copy.objects.objects(of: volume).isEmpty) }
    }

    /// The catalog fails on a store before anything else does: whoever waits for that store hears of it.
    @Test func whatAStoreWasAskedForIsAnsweredWhenTheCatalogFailsThere() throws {
        let world = World(seed: 9)
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, 100_000)
        let state = try #require(world.node.gateway.volumes[volume])
        let store = world.node.gateway.targets(state, ObjectId(volume, 0).range)[0]
        let channel = try #require(world.node.gateway.channel(store))
        var answers: [CopyFailure?] = []
        channel.markSuspect(ObjectId(volume, 0)) { answers.append($0) }
        channel.flush { answers.append($0) }
        channel.view(ObjectId(volume, 0), state.path) { result in
            if case .failure(let failure) = result { answers.append(failure) } else { answers.append(nil) }
        }
        world.node.storeFailed(store, "the catalog cannot be kept there")
        world.run("the answers") { answers.count == 3 }
        world.expect(volume, 0, 100_000, stamp: 1)
    }

    /// Both headers of the object's file are damaged, and the other copy is away: what is left is left alone.
    @Test func theOnlyCompleteCopyIsNotRemovedWhenItsHeaderIsDamaged() {
        let world = World(seed: 5) { $0.settings.copies = 2 }
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, 100_000)
        world.flush(volume)
        world.pass(milliseconds: 2_000)
        guard let state = world.node.gateway.volumes[volume] else { return }
        let pair = world.node.gateway.targets(state, ObjectId(volume, 0).range)
        world.shutDown()
        let disk = world.shelves[world.shelf(pair[0])].disk
        let name = StoreFile.object(ObjectId(volume, 0), Generation(1))
        let flip = { for offset in [60, 8192 + 60] { disk.flipBit(name, offset) } }
        flip()
        let damaged = disk.contents(name)
        #expect(world.start(without: [pair[1]]) == nil)
        #expect(world.node.scrubber.start(deep: true, volume: nil))
        world.run("scrub") { !world.node.scrubber.status.isRunning }
        #expect(world.log.contains { $0.contains("it is left as it is") })
        #expect(world.store(pair[0])?.entry(ObjectId(volume, 0))?.generations.count == 1)
        #expect(disk.exists(name))
        var result: Result<[UInt8], Errno>?
        world.askRead(.current(volume), 0, 4096) { result = $0 }
        world.run("read") { result != nil }
        #expect(throws: Errno.inputOutput) { try result?.get() }
        // Whoever can mend the disk finds everything that was there.
        #expect(disk.contents(name) == damaged)
    }

    /// The only copy in S had a header that could not be read, and can be read again: as long as nobody was told of
    /// anything that it does not have, it is the source again, in this life or the next.
    @Test(arguments: ["read", "write", "restart", "kill"])
    func theOnlyCompleteCopyIsServedWhenItsHeaderCanBeReadAgain(_ way: String) {
        let world = World(seed: 5) { $0.settings.copies = 2 }
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, 100_000)
        world.flush(volume)
        world.pass(milliseconds: 2_000)
        guard let state = world.node.gateway.volumes[volume] else { return }
        let pair = world.node.gateway.targets(state, ObjectId(volume, 0).range)
        world.shutDown()
        let disk = world.shelves[world.shelf(pair[0])].disk
        let name = StoreFile.object(ObjectId(volume, 0), Generation(1))
        let flip = { for offset in [60, 8192 + 60] { disk.flipBit(name, offset) } }
        func read() -> Result<[UInt8], Errno>? {
            world.answer("read") { world.askRead(.current(volume), 0, 100_000, $0) }
        }
        flip()
        #expect(world.start(without: [pair[1]]) == nil)
        #expect(throws: Errno.inputOutput) { try read()?.get() }
        #expect(throws: Errno.inputOutput) { try read()?.get() }
        if way == "restart" || way == "kill" {
            if way == "kill" { world.kill() } else { world.shutDown() }
            #expect(world.start(without: [pair[1]]) == nil)
            #expect(throws: Errno.inputOutput) { try read()?.get() }
        }
        var waiting: Asked?
        if way == "write" {
            waiting = world.askWrite(volume, 0, world.pattern(2, 4096))
            world.pass(milliseconds: 3_000)
            #expect(waiting?.isAnswered == false)
        }
        flip()
        if let waiting {
            world.run("the write that waited") { waiting.isAnswered }
            #expect(waiting.errno == nil)
        }
        #expect((try? read()?.get()) == world.pattern(waiting == nil ? 1 : 2, 4096) + world.pattern(1, 95_904))
        world.write(volume, 8192, stamp: 3, 4096)
        world.kill()
        // The other one is made from it.
        #expect(world.start() == nil)
        world.expect(volume, 8192, 4096, stamp: 3)
        world.expect(volume, 12_288, 80_000, stamp: 1)
        world.expectAllWell()
        world.kill()
        #expect(world.start(without: [pair[0]]) == nil)
        world.expect(volume, 8192, 4096, stamp: 3)
        world.expect(volume, 12_288, 80_000, stamp: 1)
    }

    /// The same, but another copy has taken writes meanwhile: the damaged one has missed them, and is never believed again.
    @Test func aDamagedCopyThatMissedAWriteIsNotBelievedWhenItsHeaderCanBeReadAgain() {
        let world = World(seed: 6) { $0.settings.copies = 2 }
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, 100_000)
        world.flush(volume)
        world.pass(milliseconds: 2_000)
        guard let state = world.node.gateway.volumes[volume] else { return }
        let pair = world.node.gateway.targets(state, ObjectId(volume, 0).range)
        world.shutDown()
        let disk = world.shelves[world.shelf(pair[0])].disk
        let name = StoreFile.object(ObjectId(volume, 0), Generation(1))
        let flip = { for offset in [60, 8192 + 60] { disk.flipBit(name, offset) } }
        flip()
        #expect(world.start() == nil)
        // Neither repairs nor anything else come to it before the other one is gone.
        disk.hold = { if case .write = $0 { true } else { false } }
        world.write(volume, 0, stamp: 2, 8192)
        disk.forgetPending()
        disk.hold = { _ in false }
        world.kill()
        flip()
        #expect(world.start(without: [pair[1]]) == nil)
        var result: Result<[UInt8], Errno>?
        world.askRead(.current(volume), 0, 8192) { result = $0 }
        world.pass(milliseconds: 3_000)
        if case .success(let bytes)? = result { #expect(bytes == world.pattern(2, 8192)) }
    }

    ///   generation 1   block A  (rots)         snapshot s1
    ///   generation 2   block B                 snapshot s2: hides A
    ///   rollback to s1, generation 3 hides 2   the current view shows A
    @Test func aRottenBlockThatOnlyARollbackShowsIsRepaired() {
        for isHidden in [false, true] {
            let world = World(seed: 6)
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 200_000)
            world.snapshot(volume, "s1")
            world.write(volume, 0, stamp: 2, 50_000)
            let second = world.snapshot(volume, "s2")
            world.rollback(volume, "s1")
            world.write(volume, 120_000, stamp: 3, 4096)
            // With the first snapshot gone, and the current view overwritten, nothing shows it; else the current view does.
            world.removeSnapshot(volume, "s1")
            if isHidden { world.write(volume, 0, stamp: 4, 50_000) }
            world.flush(volume)
            world.rest()
            world.pass(milliseconds: 2_000)
            world.shutDown()
            let disk = world.shelves[1].disk
            let name = StoreFile.object(ObjectId(volume, 0), Generation(1))
            guard let size = disk.contents(name)?.count else {
                Issue.record("no file")
                return
            }
            let data = size - 49 * 4096
            for block in 0..<5 { disk.flipBit(name, data + block * 4096 + 99) }
            #expect(world.start() == nil)
            var report: CheckReport?
            world.node.scrubber.check(volume, deep: true, repair: true, progress: { _, _ in }) { report = $0 }
            world.run("check") { report != nil }
            #expect(report?.blocksBad == 5 && report?.blocksRepaired == 5, "\(isHidden) \(String(describing: report))")
            report = nil
            world.node.scrubber.check(volume, deep: true, repair: false, progress: { _, _ in }) { report = $0 }
            world.run("check again") { report != nil }
            #expect(report?.blocksBad == 0 && report?.copiesDifferent == 0, "\(isHidden) \(String(describing: report))")
            world.expect(volume, 0, 50_000, stamp: isHidden ? 4 : 1)
            world.expect(volume, 50_000, 60_000, stamp: 1)
            world.expect(.snapshot(volume, second), 0, 50_000, stamp: 2)
            world.expect(.snapshot(volume, second), 50_000, 150_000, stamp: 1)
            world.expectAllWell()
        }
    }

    /// The flush at the end meets a disk that fails: the store is excluded, durably, and then the flush is true.
    @Test func aStoreThatFailsWhileTheNodeStopsIsExcludedAndTheStopEnds() {
        for seed in 1...4 {
            let world = World(seed: UInt64(seed))
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 100_000)
            let bad = world.storeIds[seed % 3]
            world.shelves[seed % 3].disk.fault = { if case .sync = $0 { .inputOutput } else { nil } }
            world.shutDown()
            for shelf in world.shelves { shelf.disk.fault = { _ in nil } }
            #expect(world.start(without: [bad]) == nil)
            #expect(world.status(bad) == .down)
            world.expect(volume, 0, 100_000, stamp: 1)
        }
    }

    /// Every disk fails: no flush can be true. The stop ends all the same.
    @Test func aFlushThatNoStoreHasIsNotAnsweredAndTheStopEnds() {
        let world = World(seed: 3)
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, 100_000)
        for shelf in world.shelves { shelf.disk.fault = { if case .sync = $0 { .inputOutput } else { nil } } }
        let flush = Asked()
        world.node.flush(volume) { flush.answer($0) }
        world.pass(milliseconds: 1_000)
        #expect(!flush.isAnswered)
        world.shutDown()
        #expect(!flush.isAnswered || flush.errno == .inputOutput)
    }

    ///   read: finds the path ... tries two copies              ... reads the third
    ///   removal:                     commits, prunes
    /// The answer is what the snapshot showed, or ESTALE; never the zeros of what has been removed.
    @Test func aReadOfASnapshotThatIsRemovedMeanwhileIsRightOrStale() {
        var stale = 0
        for steps in 0..<40 {
            let world = World(seed: UInt64(steps + 1))
            let volume = world.volume("v")
            world.write(volume, 0, stamp: 1, 70_000)
            world.write(volume, 4 * mebibyte, stamp: 1, 4096)
            let snapshot = world.snapshot(volume, "s")
            world.write(volume, 0, stamp: 2, 70_000)
            world.flush(volume)
            world.pass(milliseconds: 1_500)
            // Stopped and started, so that no header is in memory.
            world.shutDown()
            #expect(world.start() == nil)
            world.expect(volume, 4 * mebibyte, 4096, stamp: 1)
            var removed: CommandAnswer?
            world.catalog.propose(.removeSnapshot(volume: volume, tag: "s"), request: nil) { removed = $0 }
            for _ in 0..<steps { _ = world.step() }
            // Two copies cannot be read: the third is asked late.
            var failures = 2
            for shelf in world.shelves {
                shelf.disk.fault = {
                    guard failures > 0, case .read(.object, let offset, _, _, _) = $0, offset > 20_000 else {
                        return nil
                    }
                    failures -= 1
                    return .inputOutput
                }
            }
            var answers: [Result<[UInt8], Errno>] = []
            world.askRead(.snapshot(volume, snapshot), 36_864, 32_768) { answers.append($0) }
            world.run("all") { removed != nil && answers.count == 1 }
            for answer in answers {
                switch answer {
                case .success(let bytes): #expect(bytes.allSatisfy { $0 == 1 }, "\(steps) steps")
                case .failure(let errno):
                    #expect(errno == .stale, "\(steps) steps")
                    stale += 1
                }
            }
        }
        #expect(stale > 0)
    }
}
