// Scenarios of a process that dies in the middle of something: the committed entry of the catalog decides, and what was
// begun is done again or undone as a whole.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

extension Scenario {
    /// Kills the host that was asked, at several moments, and sends the request again to the same host.
    private static func interrupted(
        _ name: String, _ summary: String, _ ask: @escaping @Sendable (Script, Int) -> Change,
        _ then: @escaping @Sendable (Script, Int) -> Void = { _, _ in }
    ) -> Scenario {
        Scenario(name, summary) { s in
            s.createVolume()
            s.write(on: 1, kib: 64)
            s.snapshot("base", of: "vm", on: 1)
            for (round, events) in [4, 16, 40, 80].enumerated() {
                let write = s.write(on: 1, at: 8, kib: 16)
                let change = ask(s, round)
                s.tell("host 1: \(change.text) is asked")
                s.pass(events: events)
                s.kill(1)
                s.boot(1)
                s.expectServes(1)
                s.again(change, on: 1)
                s.expectDone(change)
                if name == "crash-during-rollback" {
                    s.expectRead(on: 2, at: 8, kib: 16, shows: s.asked[0])
                } else {
                    s.expectRead(on: 2, at: 8, kib: 16, shows: write)
                }
                then(s, round)
            }
        }
    }
    static let interruptions: [Scenario] = [
        interrupted(
            "crash-during-snapshot",
            "The host that takes a snapshot is killed at several moments: there is one snapshot of that name, with all that was acknowledged before."
        ) {
            s, round in
            s.snapshotting(["vm"], "t\(round)", on: 1)
        } _: { s, round in
            s.expectRead(on: 3, at: 8, kib: 16, snapshot: "t\(round)", shows: s.asked.last { $0.kind == .write })
        },
        interrupted(
            "crash-during-clone",
            "The host that makes a clone is killed at several moments: there is one clone, with what the snapshot has."
        ) {
            s, round in
            s.cloning("vm", "base", as: "clone\(round)", on: 1)
        } _: { s, round in
            s.expectRead(on: 3, kib: 64, of: "clone\(round)", shows: s.asked[0])
        },
        interrupted(
            "crash-during-delete",
            "The host that deletes is killed at several moments: what was deleted is gone as a whole, and its space comes back."
        ) {
            s, round in
            s.createVolume("gone\(round)")
            s.write(on: 1, of: "gone\(round)")
            return s.removal(of: "gone\(round)", on: 1)
        },
        interrupted(
            "crash-during-rollback",
            "The host that rolls back is killed at several moments: the volume then has what the snapshot has, all of it."
        ) {
            s, _ in
            s.rollingBack("vm", to: "base", on: 1)
        } _: { s, _ in
            s.expectRead(on: 3, kib: 64, shows: s.asked[0])
        },
        Scenario(
            "crash-during-take-over",
            "The host that makes copies equal for a dead one dies in the middle of it: the next one does it again.",
            { $0.hosts = 5 }
        ) { s in
            s.createVolume()
            let old = s.write(on: 1, kib: 64)
            let write = s.begin(.write, on: 1, kib: 64)
            s.waitUntilCopiesDiffer()
            s.kill(1)
            let read = s.begin(.read, on: 2, kib: 64)
            s.wait("host 2 has the lease", seconds: 30) {
                s.state?.volumes[s.volume("vm").id]?.lease?.node == s.host(2).id || read.outcome != nil
            }
            s.kill(2)
            s.expectRead(on: 3, kib: 64, shows: old, write)
            s.expectRead(on: 4, kib: 64, shows: old, write)
            s.boot(1, 2)
            s.expectRedundancy()
            s.expectEqualCopies()
            s.expectRead(on: 2, kib: 64, shows: old, write)
        },
        Scenario(
            "crash-during-resync",
            "A store that gets what it missed is killed in the middle of that, twice, and so is the one that gives it: it ends with all of it."
        ) { s in
            s.createVolume()
            for i in 0..<4 { s.write(on: 1, at: i * 4096, kib: 1024) }
            s.expectRedundancy()
            s.kill(3)
            s.expectStatus(3, .down)
            let writes = (0..<4).map { s.write(on: 1, at: $0 * 4096, kib: 1024) }
            for victim in [3, 3, 1] {
                if victim == 1 { s.kill(3) }
                s.boot(3)
                let before = s.bytesMoved
                s.wait("host 3 gets what it missed", seconds: 120) { s.bytesMoved > before + 300_000 }
                s.kill(victim)
            }
            s.boot(1, 3)
            s.expectRedundancy()
            for (i, write) in writes.enumerated() { s.expectRead(on: 3, at: i * 4096, kib: 1024, shows: write) }
            s.expectEqualCopies()
        },
        Scenario(
            "crash-during-epoch-change",
            "A replica dies; when some hosts have the new epoch and others not, the one that writes dies, too: the committed entry decides.",
            { $0.hosts = 5 }
        ) { s in
            s.createVolume()
            let homes = s.homes()
            let old = s.write(on: 1, kib: 64)
            guard let victim = homes.first(where: { $0 != 1 }) else { return s.fail("another host has a copy") }
            s.kill(victim)
            let write = s.begin(.write, on: 1, kib: 64)
            s.wait("some have the new epoch, others not", seconds: 30) {
                let epochs = s.running.compactMap { $0.state?.map.epoch }
                return Set(epochs).count > 1
            }
            s.kill(1)
            s.expectRead(on: s.another(than: 1, victim), kib: 64, shows: old, write)
            s.boot(1, victim)
            s.expectServes(1, victim)
            s.expectRead(on: 1, kib: 64, shows: old, write)
            s.expectRedundancy()
            s.expectEqualCopies()
        },
    ]
}
