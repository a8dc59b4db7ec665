// Scenarios of power that goes: of one host, of all, and what disks may then have of what was not flushed.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

extension Scenario {
    static let powerLosses: [Scenario] = [
        Scenario(
            "power-loss-of-one",
            "One host loses its power under load: nothing that was acknowledged is lost, and it gets what it lacks."
        ) { s in
            s.createVolume()
            var last = s.write(on: 1, kib: 64)
            s.flush(on: 1)
            for i in 1..<8 { last = s.write(on: 1, at: i * 8) }
            let late = s.begin(.write, on: 1, at: 64)
            s.losePower(3)
            s.expectDone(late)
            s.boot(3)
            s.expectRedundancy()
            s.expectRead(on: 3, at: 56, shows: last)
            s.expectRead(on: 3, at: 64, shows: late)
            s.expectEqualCopies()
        },
        Scenario(
            "power-loss-of-all",
            "All hosts lose their power at once: what was flushed is there, what was not is there or not, and stays so."
        ) { s in
            s.createVolume()
            let flushed = s.write(on: 1, kib: 64)
            s.write(on: 2, at: 4096)
            s.flush(on: 2)
            let later = s.write(on: 1, kib: 16)
            let durable = s.write(on: 1, at: 32, kib: 8, durable: true)
            let late = s.begin(.write, on: 1, at: 48)
            s.pass(events: 20)
            s.losePowerEverywhere()
            s.boot(1, 2, 3)
            s.expectServes(1, 2, 3)
            s.expectRead(on: 3, kib: 16, shows: flushed, later)
            s.kill(3)
            s.expectRead(on: 1, kib: 16, shows: flushed, later)
            s.boot(3)
            s.expectRedundancy()
            s.expectEqualCopies()
            s.expectRead(on: 1, at: 32, kib: 8, shows: durable)
            s.expectRead(on: 2, at: 48, shows: flushed, late)
        },
        Scenario(
            "power-lost-again",
            "All hosts lose their power, and again as soon as they serve: what was read is what is there."
        ) { s in
            s.createVolume()
            let flushed = s.write(on: 1, kib: 64)
            s.flush(on: 1)
            let later = s.write(on: 1, kib: 16)
            s.losePowerEverywhere()
            s.boot(1, 2, 3)
            s.expectServes(1, 2, 3)
            s.expectRead(on: 3, kib: 64, shows: flushed, later)
            s.losePowerEverywhere()
            s.boot(1, 2, 3)
            s.expectServes(1, 2, 3)
            s.expectRead(on: 2, kib: 64, shows: flushed, later)
            s.expectRedundancy()
            s.expectEqualCopies()
        },
        Scenario(
            "power-lost-twice",
            "All hosts lose their power, serve and are whole; a host is killed and comes back; then all lose their power again: redundancy comes back again."
        ) { s in
            s.createVolume()
            let flushed = s.write(on: 1, kib: 64)
            s.write(on: 2, at: 4096)
            s.flush(on: 2)
            let later = s.write(on: 1, kib: 16)
            s.write(on: 1, at: 32, kib: 8, durable: true)
            let late = s.begin(.write, on: 1, at: 48)
            s.pass(events: 20)
            s.losePowerEverywhere()
            s.boot(1, 2, 3)
            s.expectServes(1, 2, 3)
            s.expectRead(on: 3, kib: 16, shows: flushed, later)
            s.kill(3)
            s.expectRead(on: 1, kib: 16, shows: flushed, later)
            s.boot(3)
            s.expectRedundancy()
            s.expectEqualCopies()
            s.losePowerEverywhere()
            s.boot(1, 2, 3)
            s.expectServes(2)
            s.expectRead(on: 2, kib: 16, shows: flushed, later)
            s.expectRedundancy()
            s.expectEqualCopies()
            s.expectRead(on: 1, at: 48, shows: flushed, late)
        },
        Scenario(
            "write-ahead",
            "The disks sync no journal for a while: no block of an unflushed overwrite reaches an object's file before its record, so that the flushed block survives the power loss."
        ) { s in
            s.createVolume()
            let flushed = s.write(on: 1, kib: 64)
            s.flush(on: 1)
            s.pass(seconds: 1)
            for number in 1...3 {
                s.disk(number).memory.hold = { if case .sync = $0 { true } else { false } }
            }
            s.tell("the disks sync nothing")
            let overwrite = s.write(on: 1, kib: 64)
            s.pass(seconds: 1)
            for number in 1...3 {
                s.expect(
                    !s.isInObjectFile(overwrite, on: number), "host \(number) has not written ahead of its journal")
                s.expect(s.isInObjectFile(flushed, on: number), "the flushed blocks of host \(number) are intact")
            }
            s.tell("no object file has anything of #\(overwrite.value)")
            s.losePowerEverywhere()
            for number in 1...3 { s.disk(number).memory.hold = { _ in false } }
            s.boot(1, 2, 3)
            s.expectServes(1, 2, 3)
            s.expectRead(on: 2, kib: 64, shows: flushed, overwrite)
            s.kill(2)
            s.expectRead(on: 3, kib: 64, shows: flushed, overwrite)
            s.boot(2)
            s.expectRedundancy()
            s.expectEqualCopies()
        },
    ]
}
