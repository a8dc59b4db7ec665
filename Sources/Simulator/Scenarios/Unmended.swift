// Scenarios that show a defect that is not mended yet. They can be played, and belong to no list: when one of them passes it
// moves to its subject and gets its trace.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

extension Scenario {
    static let unmended: [Scenario] = [
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
            s.write(on: 1, kib: 64)
            s.flush(on: 1)
            s.partition([[1], [2, 3]])
            let inFlight = (0..<4).map { s.begin(.write, on: 1, at: $0 * 16) }
            let flush = s.begin(.flush, on: 1)
            s.pass(seconds: 10)
            let boot = s.write(on: 2, kib: 64)
            s.expectRead(on: 2, kib: 64, shows: boot)
            s.heal()
            for write in inFlight { s.expectErrno(.inputOutput, write) }
            s.wait(flush)
            s.expect(flush.outcome != nil, "the old flush is answered")
            s.expectRead(on: 2, kib: 64, shows: boot)
            s.expectRead(on: 1, kib: 64, shows: boot)
        },
    ]
}
