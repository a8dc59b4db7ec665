// Whole hosts in named scenarios: what one of them does when others write, stop, come back.
import Catalog
import Model
import TestSupport
import Testing

@testable import Replication

@Suite struct HostTests {
    @Test func aVolumeWrittenOnOneHostIsReadOnAnother() {
        let world = HostsWorld()
        let volume = world.makeVolume()
        #expect(world.write(volume, 7, on: 1) == nil)
        #expect(world.holder(volume) == NodeId(1))
        #expect(world.read(.current(volume), on: 2) == 7)
        #expect(world.read(.current(volume), on: 3) == 7)
        // Reading elsewhere does not move the lease, and one write elsewhere does not.
        #expect(world.write(volume, 9, at: 1000, count: 3000, on: 2) == nil)
        #expect(world.read(.current(volume), at: 1000, count: 3000, on: 3) == 9)
        #expect(world.holder(volume) == NodeId(1))
        #expect(world.flush(volume, on: 3) == nil)
        #expect(world.copies(of: ObjectId(volume, 0)).count == 3)
    }

    @Test func theHolderDiesAndAnotherTakesOver() {
        let world = HostsWorld()
        let volume = world.makeVolume()
        #expect(world.write(volume, 7, on: 1) == nil)
        world.kill(world.host(1))
        #expect(world.read(.current(volume), on: 2) == 7)
        #expect(world.holder(volume) == NodeId(2) || world.holder(volume) == NodeId(3))
        #expect(world.write(volume, 8, on: 3) == nil)
        #expect(world.read(.current(volume), on: 2) == 8)
        #expect(world.status(world.host(1), seenBy: 2) == .down)
        world.start(world.host(1))
        world.runUntilWell()
        #expect(world.read(.current(volume), on: 1) == 8)
    }
}
