// Scenarios in which nobody may answer: what is there is old, or alone, or not there at all.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

extension Scenario {
    static let frozen: [Scenario] = [
        Scenario(
            "an-old-copy-comes-back-alone",
            "Written on A and B while C is away; A and B go, C comes back: the data is not served from C but waited for.",
            {
                $0.hosts = 5; $0.settings.downOutIntervalMilliseconds = 600_000
            }
        ) { s in
            s.createVolume()
            let homes = s.homes()
            guard let user = (1...5).first(where: { !homes.contains($0) }), homes.count == 3 else {
                return s.fail("three hosts have copies")
            }
            s.write(on: user)
            s.kill(homes[2])
            s.expectStatus(homes[2], .down)
            let write = s.write(on: user)
            s.kill(homes[0], homes[1])
            s.boot(homes[2])
            s.expectServes(homes[2])
            let read = s.begin(.read, on: user)
            let own = s.begin(.read, on: homes[2])
            let late = s.begin(.write, on: user, at: 64)
            s.pass(seconds: 40)
            for asked in [read, own, late] { s.expectUnanswered(asked) }
            s.tellReport(user)
            s.boot(homes[0])
            s.expectShows(read, write)
            s.expectShows(own, write)
            s.expectDone(late)
        },
        Scenario(
            "all-current-copies-are-lost",
            "Every current copy of a range is gone for good: it fails with EIO until an administrator accepts the loss.",
            {
                $0.hosts = 5; $0.settings.copies = 2; $0.settings.downOutIntervalMilliseconds = 15_000
            }
        ) { s in
            s.createVolume()
            let homes = s.homes()
            guard let user = (1...5).first(where: { !homes.contains($0) }), homes.count == 2 else {
                return s.fail("two hosts have copies")
            }
            s.write(on: user)
            let stores = homes.flatMap { s.stores($0).map(\.id) }
            s.kill(homes[0], homes[1])
            let read = s.begin(.read, on: user)
            s.expectErrno(.inputOutput, read, seconds: 120)
            s.tellReport(user)
            s.acceptLoss(of: stores, on: user)
            // From here on the history knows better than the cluster.
            let zeros = s.ask(.read, on: user, isChecked: false)
            s.expectShows(zeros, nil)
            s.endsHere = true
        },
        Scenario(
            "an-old-node-boots-alone",
            "A node that missed writes is started alone after everybody was off: no quorum, no service, and it says whom it waits for."
        ) { s in
            s.createVolume()
            s.write(on: 1)
            s.kill(3)
            s.expectStatus(3, .down)
            let write = s.write(on: 1)
            s.kill(1, 2)
            s.boot(3)
            s.pass(seconds: 30)
            s.expectNoService(3)
            s.boot(2)
            s.expectServes(2, 3)
            s.expectRead(on: 3, shows: write)
            s.boot(1)
        },
        Scenario(
            "all-stores-of-a-range-are-down",
            "Both stores of a range are down while others are up: reads of it wait, and are never zeros.",
            {
                $0.hosts = 5; $0.settings.copies = 2; $0.settings.downOutIntervalMilliseconds = 600_000
            }
        ) { s in
            s.createVolume()
            let homes = s.homes()
            guard let user = (1...5).first(where: { !homes.contains($0) }), homes.count == 2 else {
                return s.fail("two hosts have copies")
            }
            let write = s.write(on: user)
            s.kill(homes[0], homes[1])
            let read = s.begin(.read, on: user)
            let never = s.begin(.read, on: user, at: 2048)
            s.pass(seconds: 30)
            s.expectUnanswered(read)
            s.expectUnanswered(never)
            s.boot(homes[1])
            s.expectShows(read, write)
            s.expectShows(never, nil)
        },
    ]
}
