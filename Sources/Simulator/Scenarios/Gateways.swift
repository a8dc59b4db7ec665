// Scenarios of the one that writes: its process or its host ends, or stands still, with writes in its hands.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

extension Scenario {
    static let gateways: [Scenario] = [
        Scenario(
            "gateway-killed-mid-write",
            "The process that writes is killed and starts again: what it had not answered comes again, and is done once."
        ) { s in
            s.createVolume()
            let old = s.write(on: 1, kib: 256)
            let write = s.begin(.write, on: 1, kib: 256)
            s.waitUntilCopiesDiffer()
            let flush = s.begin(.flush, on: 1)
            s.kill(1)
            s.boot(1)
            s.expectServes(1)
            s.again(write)
            s.again(flush)
            s.expectDone(write)
            s.expectDone(flush)
            s.expectRead(on: 1, kib: 256, shows: write)
            s.expectRead(on: 2, kib: 256, shows: write)
            s.expect(old.value < write.value, "the newer one won")
        },
        Scenario(
            "gateway-host-dies-mid-write",
            "The host that writes dies for good: the next one makes the copies equal, and what it then shows stays."
        ) { s in
            s.createVolume()
            let old = s.write(on: 1, kib: 256)
            let write = s.begin(.write, on: 1, kib: 256)
            s.waitUntilCopiesDiffer()
            s.losePower(1)
            let seen = s.expectRead(on: 2, kib: 256, shows: old, write)
            s.expectRead(on: 3, kib: 256, shows: old, write)
            s.expectStatus(1, .down)
            let next = s.write(on: 3, at: 64)
            s.expectRead(on: 2, at: 64, shows: next)
            s.boot(1)
            s.expectRedundancy()
            let again = s.expectRead(on: 1, at: 128, kib: 64, shows: old, write)
            s.expect(again.values == Array(seen.values[256..<384]), "what was seen first is what is there")
        },
        Scenario(
            "stopped-longer-than-its-lease",
            "The process that writes stands still for longer than its lease: nothing it then sends counts."
        ) { s in
            s.createVolume()
            s.write(on: 1)
            let late = s.begin(.write, on: 1)
            let stale = s.begin(.read, on: 1)
            s.stop(1)
            s.pass(seconds: 8)
            let write = s.write(on: 2)
            s.expectRead(on: 3, shows: write)
            s.resume(1)
            s.expectErrno(.inputOutput, late)
            s.expectShows(stale, write)
            s.expectRead(on: 1, shows: write)
        },
        Scenario(
            "corosync-stopped-under-load",
            "Corosync stands still for four seconds on the host that writes: what it delivers to itself then does not count."
        ) { s in
            s.createVolume()
            s.createVolume("other")
            s.write(on: 1)
            var writes: [Asked] = []
            s.stopCorosync(1)
            let creation = s.creation("alone", on: 1)
            for i in 0..<40 {
                writes.append(s.ask(.write, on: 1 + i % 3, at: i * 8, of: i % 2 == 0 ? "vm" : "other"))
                s.pass(milliseconds: 100)
            }
            s.expect(creation.answer == nil, "a volume created without corosync is not answered")
            s.resumeCorosync(1)
            for write in writes { s.expectDone(write) }
            s.expectDone(creation)
            let last = s.write(on: 2, of: "alone")
            s.expectRead(on: 1, of: "alone", shows: last)
        },
    ]
}
