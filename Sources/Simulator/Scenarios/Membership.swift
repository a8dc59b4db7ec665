// Scenarios of nodes that come and go, and of what comes back that should not.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

extension Scenario {
    static let membership: [Scenario] = [
        Scenario(
            "joins-leaves-joins-again",
            "A node joins, is told to leave while data moves to it, another one joins meanwhile, and it joins again: nothing is missing at any time.",
            { $0.joiners = 2 }
        ) { s in
            s.createVolume()
            let writes = (0..<12).map { s.write(on: 1 + $0 % 3, at: $0 * 4096, kib: 1024) }
            s.expectRedundancy()
            s.join(4)
            s.wait("data is moving", seconds: 5) { s.state?.map.to != nil }
            s.leave(4) {
                s.expectRead(on: 2, at: 5 * 4096, shows: writes[5])
                s.join(5)
            }
            for (i, write) in writes.enumerated() { s.expectRead(on: 1 + i % 3, at: i * 4096, shows: write) }
            s.kill(4)
            s.disk(4).memory.wipe()
            s.join(4)
            let late = s.write(on: 4, at: 4096)
            s.expectRead(on: 1, at: 4096, shows: late)
            s.expectRedundancy(within: 300)
            s.expectRead(on: 4, at: 3 * 4096, kib: 1024, shows: writes[3])
        },
        Scenario(
            "deleted-while-a-node-is-away",
            "A volume and a snapshot are deleted while a node is away: they do not come back with it."
        ) { s in
            s.createVolume()
            s.createVolume("gone")
            s.write(on: 1, of: "gone")
            s.write(on: 1)
            s.snapshot("old", of: "vm", on: 1)
            let write = s.write(on: 1)
            s.expectRedundancy()
            s.kill(3)
            s.expectStatus(3, .down)
            s.expectDone(s.removal(of: "gone", on: 2))
            s.expectDone(s.removal(of: "vm", snapshot: "old", on: 2))
            s.createVolume("new", on: 1)
            s.boot(3)
            s.expectServes(3)
            s.expectRedundancy()
            s.pass(seconds: 5)
            s.expect(
                s.host(3).copies.allSatisfy { s.objectsOf($0).allSatisfy { $0.volume == s.volume("vm").id } },
                "the store of host 3 has nothing of the deleted volume")
            s.expect(
                s.copies().allSatisfy { $0.entry.generations.count == 1 }, "no copy keeps the deleted snapshot")
            s.expectRead(on: 3, of: "new", shows: nil)
            s.expectRead(on: 3, shows: write)
        },
        Scenario(
            "a-disk-of-another-cluster",
            "A disk with a store of another cluster is put into a host: it is refused, with the reason, and the host goes on without.",
            { $0.storesPerHost = 3 }
        ) { s in
            s.createVolume()
            let writes = (0..<4).map { s.write(on: 1, at: $0 * 4096, kib: 64) }
            s.expectRedundancy()
            s.kill(3)
            s.formatAnew(3, 0, cluster: ClusterId(high: 0xdead, low: 1))
            s.boot(3)
            s.expectServes(3)
            s.wait("one store of host 3 is down") { s.stores(3).filter { $0.status == .down }.count == 1 }
            s.pass(seconds: 1)
            s.tellReport(3)
            for (i, write) in writes.enumerated() { s.expectRead(on: 3, at: i * 4096, kib: 64, shows: write) }
            s.replaceStore(3, 0)
            s.expectRedundancy(within: 300)
        },
        Scenario(
            "a-wiped-store-with-its-old-id",
            "A disk is replaced by an empty one that carries the id of the old: it is refused, and says what to do.",
            { $0.storesPerHost = 3 }
        ) { s in
            s.createVolume()
            let writes = (0..<4).map { s.write(on: 1, at: $0 * 4096, kib: 64) }
            s.expectRedundancy()
            s.kill(3)
            s.formatAnew(3, 0)
            s.boot(3)
            s.expectServes(3)
            s.wait("one store of host 3 is down") { s.stores(3).filter { $0.status == .down }.count == 1 }
            s.pass(seconds: 1)
            s.tellReport(3)
            for (i, write) in writes.enumerated() { s.expectRead(on: 3, at: i * 4096, kib: 64, shows: write) }
            s.replaceStore(3, 0)
            s.expectRedundancy(within: 300)
        },
        Scenario(
            "vm-restarted-elsewhere",
            "A VM is started again on another host while its old one is cut off: what the old one still had in its hands ends in EIO when the network heals."
        ) { s in
            s.createVolume()
            s.write(on: 3, kib: 64)
            s.flush(on: 3)
            s.partition([[1, 2], [3]])
            let inFlight = (0..<4).map { s.begin(.write, on: 3, at: $0 * 16) }
            let flush = s.begin(.flush, on: 3)
            s.pass(seconds: 10)
            let boot = s.write(on: 2, kib: 64)
            s.expectRead(on: 2, kib: 64, shows: boot)
            s.heal()
            for write in inFlight { s.expectErrno(.inputOutput, write) }
            s.wait(flush)
            s.expect(flush.outcome != nil, "the old flush is answered")
            s.expectRead(on: 2, kib: 64, shows: boot)
            s.expectRead(on: 3, kib: 64, shows: boot)
        },
    ]
}
