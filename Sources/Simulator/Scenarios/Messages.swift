// Scenarios of messages: late, twice, in another order on another connection, cut off, changed on the way, or from somebody
// who does not belong here. Each is refused, or does no harm. And of clocks that are set.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

extension Scenario {
    static let messages: [Scenario] = [
        Scenario(
            "connections-break-under-load",
            "Connections break all the time, so that requests come twice, late, and on an old and a new connection in any order: each write is done once."
        ) { s in
            s.createVolume()
            for round in 0..<12 {
                let writes = (1...3).map { s.ask(.write, on: $0, at: $0 * 32, kib: 32) }
                s.pass(milliseconds: UInt64(round % 4))
                s.breakConnections()
                for write in writes { s.expectDone(write) }
                for (i, write) in writes.enumerated() {
                    s.expectRead(on: 1 + (i + round) % 3, at: (i + 1) * 32, kib: 32, shows: write)
                }
            }
            s.expectRedundancy()
        },
        Scenario(
            "a-slow-network",
            "Messages take up to a second: everything comes, late, and nothing is wrong."
        ) { s in
            s.createVolume()
            s.world.cluster?.network.slownessMilliseconds = 1_000
            s.tell("messages take up to a second")
            for i in 0..<6 {
                let write = s.write(on: 1 + i % 3, at: i * 16)
                s.expectRead(on: 1 + (i + 1) % 3, at: i * 16, shows: write)
            }
            s.world.cluster?.network.slownessMilliseconds = 1
            s.expectRedundancy()
        },
        Scenario(
            "garbage-on-the-wire",
            "Bits turn over on the way: the connection ends at the first bad frame, and what was in it is sent again."
        ) { s in
            s.createVolume()
            s.world.cluster?.network.corruptionPercent = 60
            s.tell("bits turn over on the way")
            s.breakConnections()
            var writes: [Asked] = []
            for i in 0..<24 { writes.append(s.write(on: 1 + i % 3, at: i * 64, kib: 64)) }
            for (i, write) in writes.enumerated() { s.expectRead(on: 1 + i % 2, at: i * 64, kib: 64, shows: write) }
            s.world.cluster?.network.corruptionPercent = 0
            s.expect(s.refusals > 0, "some connection ended for what came over it")
            s.tell("connections ended for what came over them")
            s.expectRedundancy()
        },
        Scenario(
            "strangers-knock",
            "Nodes of another cluster, without the key, under a wrong number, with garbage and with half a message knock: all are refused, and nobody else notices."
        ) { s in
            s.createVolume()
            let write = s.write(on: 1)
            let strangers: [Stranger] = [.otherCluster, .withoutKey, .wrongNode, .garbage, .truncated]
            for stranger in strangers { s.knock(stranger) }
            s.expectRead(on: 1, shows: write)
            s.write(on: 2, seconds: 1)
        },
        Scenario(
            "clock-steps",
            "Wall clocks are set years forward and back while a store is down: nothing happens earlier or later than it would have.",
            { $0.settings.downOutIntervalMilliseconds = 30_000 }
        ) { s in
            s.createVolume()
            s.write(on: 1)
            s.setClock(2, days: 400)
            s.setClock(1, days: -400)
            let write = s.write(on: 2, seconds: 1)
            s.kill(3)
            s.expectStatus(3, .down)
            s.setClock(1, days: 400)
            s.setClock(2, days: -400)
            s.pass(seconds: 20)
            s.expectStatus(3, .down, within: 1)
            s.expectStatus(3, .out)
            s.expectRead(on: 1, shows: write)
            s.boot(3)
            s.expectStatus(3, .up)
            s.expectRedundancy(within: 300)
        },
        Scenario(
            "clock-steps-on-a-single-host",
            "The wall clock of a single host is set forward by a day while a store is down: it is not given up earlier.",
            {
                $0.hosts = 1; $0.storesPerHost = 3; $0.settings.copies = 2;
                $0.settings.downOutIntervalMilliseconds = 30_000
            }
        ) { s in
            s.createVolume()
            let write = s.write(on: 1)
            s.breakDisk(1, disk: 2, .everything)
            s.write(on: 1, at: 4096)
            s.flush(on: 1)
            s.wait("a store is down") { s.stores(1).contains { $0.status == .down } }
            s.setClock(1, days: 1)
            s.pass(seconds: 20)
            s.expect(s.stores(1).contains { $0.status == .down }, "it is still waited for")
            s.tell("it is still waited for")
            s.wait("it is given up") { s.stores(1).contains { $0.status == .out } }
            s.expectRead(on: 1, shows: write)
            s.expectRead(on: 1, at: 4096, shows: s.asked[1])
            s.endsHere = true
        },
    ]
}
