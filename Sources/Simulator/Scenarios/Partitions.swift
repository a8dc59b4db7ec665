// Scenarios of networks that split: the minority freezes, the majority goes on, and what was split heals without a restart.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

extension Scenario {
    static let partitions: [Scenario] = [
        Scenario(
            "partition-two-against-one",
            "The host that writes is cut off from two others: it freezes, they go on, and all heals without a restart."
        ) { s in
            s.createVolume()
            s.write(on: 1)
            s.partition([[1], [2, 3]])
            s.pass(seconds: 4)
            let read = s.begin(.read, on: 1)
            let late = s.begin(.write, on: 1)
            let write = s.write(on: 2)
            s.expectRead(on: 3, shows: write)
            s.pass(seconds: 10)
            s.expectUnanswered(read)
            s.expectUnanswered(late)
            s.heal()
            s.expectShows(read, write)
            s.expectErrno(.inputOutput, late)
            s.expectRedundancy()
            s.expectRead(on: 1, shows: write)
        },
        Scenario(
            "partition-two-against-two",
            "Two hosts against two: both sides freeze, and both go on when they see each other again.",
            { $0.hosts = 4 }
        ) { s in
            s.createVolume()
            let write = s.write(on: 1)
            s.partition([[1, 2], [3, 4]])
            s.pass(seconds: 5)
            let reads = (1...4).map { s.begin(.read, on: $0) }
            let writes = [s.begin(.write, on: 2, at: 64), s.begin(.write, on: 4, at: 64)]
            s.pass(seconds: 15)
            for asked in reads + writes { s.expectUnanswered(asked) }
            s.heal()
            for read in reads { s.expectShows(read, write) }
            for write in writes { s.expectDone(write) }
            s.expectRedundancy()
        },
        Scenario(
            "partition-one-against-one",
            "Of two hosts each is alone, for there is no third voter: both freeze.",
            {
                $0.hosts = 2; $0.settings.copies = 2
            }
        ) { s in
            s.createVolume()
            let write = s.write(on: 1)
            s.partition([[1], [2]])
            s.pass(seconds: 5)
            let reads = (1...2).map { s.begin(.read, on: $0) }
            let late = s.begin(.write, on: 1, at: 64)
            s.pass(seconds: 15)
            for asked in reads + [late] { s.expectUnanswered(asked) }
            s.heal()
            for read in reads { s.expectShows(read, write) }
            s.expectDone(late)
            s.expectRedundancy()
        },
        Scenario(
            "one-way-loss",
            "What a replica is sent does not arrive, what it sends does: it leaves the map in time, and comes back when the way is free."
        ) { s in
            s.createVolume()
            s.write(on: 1)
            s.cutOneWay(from: 1, to: 3)
            let write = s.write(on: 1, seconds: 10)
            s.expectRead(on: 2, shows: write)
            s.wait("one store is down") { s.state?.map.stores.contains { $0.status == .down } ?? false }
            s.pass(seconds: 5)
            s.tellReport(2)
            s.write(on: 1, at: 64, seconds: 1)
            s.heal()
            s.expectRedundancy()
            s.expectRead(on: 3, shows: write)
        },
        Scenario(
            "partition-of-the-data-network",
            "The network of the data splits and corosync's does not: the larger side goes on, the other one says nothing."
        ) { s in
            s.createVolume()
            s.write(on: 1)
            s.partition([[1], [2, 3]], of: .data)
            s.pass(seconds: 6)
            let read = s.begin(.read, on: 1)
            let write = s.write(on: 2, seconds: 30)
            s.expectRead(on: 3, shows: write)
            s.pass(seconds: 10)
            s.expectUnanswered(read)
            s.heal()
            s.expectShows(read, write)
            s.expectRedundancy()
        },
        Scenario(
            "partition-of-corosyncs-network",
            "Corosync's network splits and that of the data does not: guests go on, whichever side they are on, and changes wait for the majority."
        ) { s in
            s.createVolume()
            s.write(on: 1)
            s.partition([[1], [2, 3]], of: .corosync)
            s.pass(seconds: 6)
            let write = s.write(on: 2, seconds: 30)
            s.expectRead(on: 3, shows: write)
            s.createVolume("new", on: 2)
            s.pass(seconds: 5)
            s.heal()
            s.expectRead(on: 1, shows: write)
            s.expectRedundancy()
        },
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
        },
    ]
}
