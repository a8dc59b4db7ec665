// What a copy cannot give back as it is, it gives back when it has been mended; nobody has to use the volume for that.
// Nothing is left waiting for ever.
import Catalog
import Model
import ObjectStore
import TestSupport
import Testing

@testable import Replication

@Suite struct PruneTests {
    /// Of a removed volume only what its clones look through is read: nobody else makes its suspect copy equal.
    @Test func aSuspectCopyOfAVolumeThatOnlyClonesKeepIsPruned() {
        let world = World(seed: 5)
        let base = world.volume("base")
        world.write(base, 0, stamp: 1, 40_960)
        let kept = world.snapshot(base, "s")
        world.write(base, 0, stamp: 2, 32_768)
        let clone = world.clone(base, kept, "clone")
        world.flush(base)
        world.rest()
        world.kill()
        #expect(world.start() == nil)
        let bad = world.storeIds[1]
        let marked: Result<Void, StoreError>? = world.answer("suspect") {
            world.store(bad)!.setState(object: ObjectId(base, 0), .suspect, durable: true, completion: $0)
        }
        guard case .success? = marked else {
            Issue.record("it cannot be marked")
            return
        }
        #expect(world.propose(.removeVolume(base, recursive: true)) == .done)
        world.rest()
        world.expect(clone, 0, 40_960, stamp: 1)
        world.expectAllWell()
        for store in world.storeIds {
            #expect(world.store(store)?.entry(ObjectId(base, 0))?.generations.count == 1)
            #expect(world.store(store)?.entry(ObjectId(base, 0))?.state == .complete)
        }
    }

    /// A generation cannot be merged into one whose header cannot be read now: what was moved would be in no header, and the
    /// copy complete again as soon as all can be read.
    @Test func nothingIsMergedIntoAGenerationWhoseHeaderCannotBeRead() {
        let world = World(seed: 6)
        let volume = world.volume("v")
        world.write(volume, 0, stamp: 1, 40_960)
        _ = world.snapshot(volume, "s")
        world.write(volume, 0, stamp: 2, 32_768)
        _ = world.snapshot(volume, "t")
        world.write(volume, 0, stamp: 3, 16_384)
        world.flush(volume)
        world.rest()
        // Without what the memory and the journal have of its headers.
        world.shutDown()
        #expect(world.start() == nil)
        let bad = world.storeIds[1]
        let disk = world.shelves[world.shelf(bad)].disk
        let name = StoreFile.object(ObjectId(volume, 0), Generation(2))
        var failed = 0
        disk.fault = { operation in
            guard case .read(name, let offset, _, _, _) = operation, offset < 16_384, failed < 8 else { return nil }
            failed += 1
            return .inputOutput
        }
        world.removeSnapshot(volume, "s")
        world.pass(milliseconds: 2_000)
        #expect(failed > 0)
        // It can be read again.
        disk.fault = { _ in nil }
        world.rest()
        let view = VolumeView.snapshot(volume, Generation(2))
        for away in world.storeIds where away != bad {
            world.kill()
            #expect(world.start(without: [away]) == nil)
            world.expect(volume, 0, 16_384, stamp: 3)
            world.expect(view, 0, 32_768, stamp: 2)
            world.expect(view, 32_768, 8_192, stamp: 1)
            world.rest()
            world.kill()
            #expect(world.start() == nil)
            world.rest()
        }
        world.expectAllWell()
    }
}
