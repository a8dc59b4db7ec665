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
            "One store is full: writing goes on with the others. A second one fills up: new data gets ENOSPC before any copy has changed, what is there stays readable, and all is well when there is room again.",
            { $0.storeConfiguration.reserveBytes = 16 << 20 }
        ) { s in
            s.createVolume(mib: 512)
            let write = s.write(on: 1, kib: 64)
            s.setSpace(3, mib: 0)
            s.write(on: 1, at: 4096, kib: 1024)
            s.expectStatus(3, .up)
            s.tellReport(3)
            s.setSpace(2, mib: 24)
            var writes: [Asked] = []
            for i in 2..<100 where writes.last?.outcome != .failed(.noSpace) {
                writes.append(s.ask(.write, on: 1, at: i * 4096, kib: 1024))
                s.wait(writes[writes.count - 1])
                s.setSpace(2, mib: max(0, 24 - writes.count))
            }
            guard let refused = writes.last else { return }
            s.expectErrno(.noSpace, refused)
            for number in 1...3 { s.expectRead(on: number, kib: 64, shows: write) }
            s.expectRead(on: 2, at: refused.sectors.lowerBound / 2, kib: 1024, shows: nil)
            s.tellReport(1)
            s.setSpace(2, mib: 1 << 18)
            s.setSpace(3, mib: 1 << 18)
            s.pass(seconds: 5)
            s.write(on: 1, at: refused.sectors.lowerBound / 2, kib: 1024, seconds: 30)
            s.expectRedundancy()
        },
        Scenario(
            "read-error",
            "A disk cannot be read, one host after the other: the data comes from another copy, and nobody gets an error."
        ) { s in
            s.createVolume()
            let write = s.write(on: 1, kib: 64)
            s.pass(seconds: 6)
            for number in 1...3 {
                s.tell("nothing can be read from the disk of host \(number)")
                s.disk(number).readErrorsPerMille = 1000
                s.expectRead(on: 1, kib: 64, shows: write)
                s.pass(seconds: 5)
                s.tellReport(1)
                s.disk(number).readErrorsPerMille = 0
                s.tell("it can be read again")
                s.kill(number)
                s.boot(number)
                s.expectServes(number)
                s.expectRedundancy()
            }
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
            "A bit turns over in another block of each copy: a read returns it from another copy and repairs it; a deep scrub finds what nobody reads."
        ) { s in
            s.createVolume()
            let write = s.write(on: 1, kib: 64)
            s.pass(seconds: 6)
            for number in 1...3 { s.rot(number, .data(block: 2 * number + 1)) }
            s.expectRead(on: 1, at: 8, kib: 32, shows: write)
            s.tellReport(1)
            s.scrub(on: 1, deep: true)
            for number in 1...3 { s.expectIntact(write, on: number, blocks: 0..<16) }
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
