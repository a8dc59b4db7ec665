// Scenarios of copies that miss something: their process ends or stands still, comes back, comes back ahead of the others,
// or with what only some of them have.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

extension Scenario {
    static let replicas: [Scenario] = [
        Scenario(
            "replica-killed",
            "A replica is killed: writing goes on in time. When it is back only the chunks that it missed move."
        ) { s in
            s.createVolume()
            for i in 0..<4 { s.write(on: 1, at: i * 4096, kib: 1024) }
            s.expectRedundancy()
            s.kill(3)
            let write = s.write(on: 1, at: 8, seconds: 8)
            s.expectStatus(3, .down)
            let other = s.write(on: 2, at: 4096 + 200, seconds: 1)
            s.countMoved()
            s.boot(3)
            s.expectServes(3)
            s.expectRedundancy()
            s.expectMoved(atMostChunks: 2)
            s.kill(1)
            s.expectRead(on: 3, at: 8, shows: write)
            s.expectRead(on: 3, at: 4096 + 200, shows: other)
        },
        Scenario(
            "replica-hung",
            "A replica stands still: writing goes on in time. When it goes on only the chunks that it missed move."
        ) { s in
            s.createVolume()
            for i in 0..<4 { s.write(on: 1, at: i * 4096, kib: 1024) }
            s.expectRedundancy()
            s.stop(3)
            let write = s.write(on: 1, at: 8, seconds: 8)
            s.expectStatus(3, .down)
            s.write(on: 1, at: 72, seconds: 1)
            s.pass(seconds: 5)
            s.countMoved()
            s.resume(3)
            s.expectRedundancy()
            s.expectMoved(atMostChunks: 2)
            s.expectRead(on: 3, at: 8, shows: write)
        },
        Scenario(
            "some-copies-written-then-all-killed",
            "A write is on some copies when every process is killed: they are equal again before the first read."
        ) { s in
            s.createVolume()
            let old = s.write(on: 1, kib: 64)
            let write = s.begin(.write, on: 1, kib: 64)
            s.waitUntilCopiesDiffer()
            s.kill(1, 2, 3)
            s.boot(1, 2, 3)
            s.expectServes(1, 2, 3)
            s.expectRead(on: 3, kib: 64, shows: old, write)
            s.expectEqualCopies()
            s.expectRead(on: 1, kib: 64, shows: old, write)
            s.expectRead(on: 2, kib: 64, shows: old, write)
        },
        Scenario(
            "overlapping-writes",
            "Writes to the same blocks at the same time, from one host and from all: every copy ends with the same bytes."
        ) { s in
            s.createVolume()
            for round in 0..<3 {
                let hosts = round == 0 ? [1, 1, 1, 1, 1, 1] : [1, 2, 3, 1, 2, 3]
                let writes = hosts.enumerated().map { i, host in s.ask(.write, on: host, at: i * 3, kib: 10) }
                for write in writes { s.expectDone(write) }
                s.expectEqualCopies()
                let read = s.expectRead(
                    on: 2, kib: 25, shows: writes[0], writes[1], writes[2], writes[3], writes[4], writes[5])
                let other = s.ask(.read, on: 3, kib: 25)
                s.expectDone(other)
                s.expect(read.values == other.values, "all hosts read the same")
            }
        },
        Scenario(
            "copy-returns-ahead",
            "One copy alone has a write that nobody acknowledged, and goes; it comes back when the others have gone on without: it is made equal to them.",
            { $0.hosts = 5 }
        ) { s in
            s.createVolume()
            let homes = s.homes()
            guard let gateway = (1...5).first(where: { !homes.contains($0) }), homes.count == 3 else {
                return s.fail("three hosts have copies")
            }
            let old = s.write(on: gateway, kib: 64)
            s.cutOneWay(from: gateway, to: homes[0], homes[1])
            let ahead = s.begin(.write, on: gateway, kib: 64)
            s.waitUntilCopiesDiffer()
            s.kill(gateway, homes[2])
            s.heal()
            s.expectRead(on: homes[0], kib: 64, shows: old)
            let next = s.write(on: homes[1], kib: 8)
            s.boot(homes[2], gateway)
            s.expectRedundancy()
            s.expectEqualCopies()
            s.expectRead(on: homes[2], kib: 8, shows: next)
            s.expectRead(on: homes[2], at: 8, kib: 56, shows: old)
            s.expect(ahead.outcome == nil, "the write was never acknowledged")
        },
        Scenario(
            "rebooted-within-an-epoch",
            "A host loses its power and is back before anybody missed it: its store has a new session and is verified, not read from."
        ) { s in
            s.createVolume()
            let flushed = s.write(on: 1, kib: 64)
            s.flush(on: 1)
            s.expectRedundancy()
            let session = s.stores(3).first?.session
            let late = s.write(on: 1, at: 16, kib: 16)
            s.losePower(3)
            s.boot(3)
            s.expectServes(3)
            s.expectRead(on: 3, at: 16, kib: 16, shows: late)
            s.expectRead(on: 3, at: 32, kib: 32, shows: flushed)
            s.expectRedundancy()
            s.expect(s.stores(3).first?.session != session, "its store has a new session")
            s.expectEqualCopies()
        },
    ]
}
