// Scenarios of disks: full, failing, damaged without a word. Each is the trouble of its store alone; what is damaged is
// found, never returned, and repaired from other copies.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

extension Scenario {
    static let disks: [Scenario] = [
        Scenario(
            "store-full",
            "A store fills up: new data gets ENOSPC before any copy has changed, what is there stays readable, and writing goes on when there is room again.",
            { $0.storeConfiguration.reserveBytes = 16 << 20 }
        ) { s in
            s.createVolume(mib: 512)
            let write = s.write(on: 1, kib: 64)
            var room: UInt64 = 24 << 20
            s.setSpace(3, available: room)
            var writes: [Asked] = []
            for i in 1..<100 where writes.last?.outcome != .failed(.noSpace) {
                room -= room > 1 << 20 ? 1 << 20 : 0
                s.disk(3).memory.space = DiskSpace(capacityBytes: 1 << 40, availableBytes: room)
                writes.append(s.ask(.write, on: 1, at: i * 4096, kib: 1024))
                s.wait(writes[writes.count - 1])
            }
            guard let refused = writes.last else { return }
            s.expectErrno(.noSpace, refused)
            for number in 1...3 { s.expectRead(on: number, kib: 64, shows: write) }
            s.expectRead(on: 2, at: writes.count * 4096, kib: 1024, shows: nil)
            s.expectStatus(3, .up)
            s.tellReport(1)
            s.tellReport(3)
            s.setSpace(3, available: 1 << 39)
            s.write(on: 1, at: writes.count * 4096, kib: 1024, seconds: 30)
        },
        Scenario(
            "read-error",
            "A disk cannot be read: the data comes from another copy, and nobody gets an error."
        ) { s in
            s.createVolume()
            let write = s.write(on: 1, kib: 64)
            s.pass(seconds: 6)
            s.tell("nothing can be read from the disk of host 1")
            s.disk(1).readErrorsPerMille = 1000
            s.expectRead(on: 1, kib: 64, shows: write)
            s.write(on: 1, at: 128)
            s.pass(seconds: 5)
            s.tellReport(1)
            s.tellReport(2)
            s.disk(1).readErrorsPerMille = 0
            s.kill(1)
            s.boot(1)
        },
        Scenario(
            "write-error",
            "A disk fails to write its journal: its store leaves the map, its host goes on as a gateway, and redundancy returns when it is mended and restarted."
        ) { s in
            s.createVolume()
            s.write(on: 1)
            s.breakDisk(1, .appends)
            let write = s.write(on: 1, seconds: 10)
            s.expectStatus(1, .down)
            s.tellReport(2)
            s.expectRead(on: 1, shows: write)
            s.breakDisk(1, .none)
            s.kill(1)
            s.boot(1)
            s.expectRedundancy()
            s.expectRead(on: 1, shows: write)
        },
        Scenario(
            "sync-error",
            "A sync fails: that store is dead at once and is not asked again; a flush is answered by the others."
        ) { s in
            s.createVolume()
            s.write(on: 1)
            s.breakDisk(2, .syncs)
            let write = s.write(on: 1)
            s.flush(on: 1)
            s.expectStatus(2, .down)
            s.tellReport(1)
            s.breakDisk(2, .none)
            s.pass(seconds: 20)
            s.expectStatus(2, .down)
            s.kill(2)
            s.boot(2)
            s.expectRedundancy()
            s.expectRead(on: 2, shows: write)
        },
        Scenario(
            "rot-in-data",
            "A bit of a block turns over: a read returns it from another copy and repairs it; a deep scrub finds what nobody reads."
        ) { s in
            s.createVolume()
            let write = s.write(on: 1, kib: 64)
            s.pass(seconds: 6)
            s.rot(1, .data(block: 3))
            s.rot(1, .data(block: 9))
            s.expectRead(on: 1, at: 8, kib: 16, shows: write)
            s.tellReport(1)
            s.expectIntact(write, on: 1, blocks: 0..<8)
            s.scrub(on: 1, deep: true)
            s.expectIntact(write, on: 1, blocks: 0..<16)
        },
        Scenario(
            "rot-in-a-checksum-table",
            "Checksums in the header of an object's file are damaged: found when it is read, and made anew from another copy."
        ) { s in
            s.createVolume()
            let write = s.write(on: 1, kib: 64)
            s.pass(seconds: 6)
            s.kill(1)
            s.rot(1, .checksums)
            s.boot(1)
            s.expectServes(1)
            s.expectRedundancy()
            s.expectRead(on: 1, kib: 64, shows: write)
            s.scrub(on: 1, deep: true)
            s.expectIntact(write, on: 1, blocks: 0..<16)
        },
        Scenario(
            "header-damaged",
            "Both headers of an object's file are destroyed: an error of that store only, repaired from the others."
        ) { s in
            s.createVolume()
            let write = s.write(on: 1, kib: 64)
            s.pass(seconds: 6)
            s.kill(1)
            s.rot(1, .header)
            s.boot(1)
            s.expectServes(1)
            s.expectRedundancy()
            s.expectRead(on: 1, kib: 64, shows: write)
            s.scrub(on: 1, deep: true)
            s.expectIntact(write, on: 1, blocks: 0..<16)
        },
        Scenario(
            "rot-in-the-index",
            "The image of a store's index is damaged while it is off: it is rebuilt from the objects' files."
        ) { s in
            s.createVolume()
            let write = s.write(on: 1, kib: 64)
            s.pass(seconds: 6)
            s.kill(1)
            s.rot(1, .index)
            s.boot(1)
            s.expectServes(1)
            s.expectRedundancy()
            s.expectRead(on: 1, kib: 64, shows: write)
        },
        Scenario(
            "journal-torn",
            "A store's journal is damaged in the middle while it is off: that store alone is affected, and gets its data from the others."
        ) { s in
            s.createVolume()
            s.write(on: 1, kib: 64)
            s.flush(on: 1)
            let write = s.write(on: 1, at: 16, kib: 16)
            let last = s.write(on: 1, at: 32, kib: 16)
            s.losePower(1)
            s.rot(1, .journal)
            s.boot(1)
            s.expectServes(1)
            s.expectRedundancy()
            s.expectRead(on: 1, at: 16, kib: 16, shows: write)
            s.expectRead(on: 1, at: 32, kib: 16, shows: last)
            s.expectEqualCopies()
        },
    ]
}
