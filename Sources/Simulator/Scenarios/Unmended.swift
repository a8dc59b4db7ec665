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
            "cut-off-before-corosync-knows",
            "The lowest host is cut off, and corosync learns of it after the data network does: the majority goes on."
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
        }
    ]
}
