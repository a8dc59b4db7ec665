// Random lives of whole hosts: guests on all of them write and read blocks, each its own, through whichever host is there;
// hosts are killed, stopped, cut off and lose power; connections break. Checked: a read shows the last acknowledged write,
// or one of which it is not known whether it was done, and once it has been read, that one stays; in the end everybody
// reads the same and all copies are alike.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import TestSupport
import Testing

@testable import Replication

private final class Guest {
    let volume: VolumeId
    let offset: UInt64
    /// What a read may show.
    var possible: [UInt8] = [0]
    /// Of hosts that died with them: they may yet be done.
    var ghosts: [UInt8] = []
    var next: UInt8 = 1
    var isBusy = false
    var busyOn: TestHost?
    var busyLife: UInt64 = 0
    var pending: UInt8?
    var done = 0
    init(_ volume: VolumeId, _ offset: UInt64) {
        self.volume = volume
        self.offset = offset
    }
}

private final class HostsLife {
    let world: HostsWorld
    var random: Random
    var guests: [Guest] = []
    var failures: [String] = []
    var trace: [String] = []
    var isOver = false
    let volumes: [VolumeId]

    init(seed: UInt64, hosts: Int) {
        world = HostsWorld(seed: seed, hosts: hosts)
        random = Random(seed &* 77)
        let a = world.makeVolume(size: 16 << 20)
        let b = world.makeVolume(size: 16 << 20)
        volumes = [a, b]
        for i in 0..<12 {
            // Some share an object, and some a block's neighbours.
            guests.append(
                Guest(i % 3 == 0 ? b : a, UInt64(i % 2) << 22 | UInt64(i) * 8192))
        }
    }
    func note(_ text: @autoclosure () -> String) {
        trace.append("\(world.machine.nanoseconds / 1_000_000) ms: \(text())")
    }
    func fail(_ text: String) {
        note(text)
        failures.append(text)
    }

    func work(_ guest: Guest) {
        guard !isOver, !guest.isBusy else { return }
        let alive = world.hosts.filter { $0.node != nil }
        guard !alive.isEmpty else { return }
        let host = random.pick(alive)
        let number = Int(host.id.rawValue)
        guest.isBusy = true
        guest.busyOn = host
        guest.busyLife = host.lives
        let life = host.lives
        func ended() -> Bool {
            guard guest.isBusy, guest.busyOn === host, guest.busyLife == life else { return false }
            guest.isBusy = false
            guest.done += 1
            return true
        }
        switch random.below(10) {
        case 0..<5:
            let byte = guest.next
            guest.next = guest.next == 200 ? 1 : guest.next + 1
            guest.pending = byte
            guest.possible.append(byte)
            note("guest \(guest.offset) writes \(byte) on \(number)")
            world.node(number).volumes.write(
                guest.volume, offset: guest.offset, count: 4096, from: world.fill(byte, 4096), bufferOffset: 0,
                durable: random.chance(percent: 30)
            ) { [self] errno in
                guard ended() else { return }
                guest.pending = nil
                note("guest \(guest.offset) wrote \(byte): \(errno.map(\.description) ?? "done")")
                if errno == nil { guest.possible = [byte] }
                if let errno, errno != .inputOutput { fail("guest \(guest.offset): write gets \(errno)") }
            }
        case 5..<9:
            let buffer = world.pool.buffer(4096)
            world.node(number).volumes.read(
                .current(guest.volume), offset: guest.offset, count: 4096, into: buffer, bufferOffset: 0
            ) { [self] errno in
                guard ended() else { return }
                guard errno == nil else { return fail("guest \(guest.offset): read gets \(errno!)") }
                let seen = world.content(buffer, 4096)
                note("guest \(guest.offset) reads \(seen.map { "\($0)" } ?? "a mixture") on \(number)")
                check(guest, seen)
            }
        default:
            world.node(number).volumes.flush(guest.volume) { [self] errno in
                guard ended() else { return }
                if errno != nil { fail("flush gets \(errno!)") }
            }
        }
    }
    func check(_ guest: Guest, _ seen: UInt8?) {
        guard let seen else { return fail("guest \(guest.offset) reads a mixture") }
        guard guest.possible.contains(seen) || guest.ghosts.contains(seen) else {
            return fail("guest \(guest.offset) reads \(seen), not one of \(guest.possible) or \(guest.ghosts)")
        }
        guest.possible = [seen]
    }
    /// Its guests go elsewhere; nobody knows what became of what they asked.
    func abandon(_ host: TestHost) {
        for guest in guests where guest.isBusy && guest.busyOn === host {
            guest.isBusy = false
            if let byte = guest.pending { guest.ghosts.append(byte) }
            guest.pending = nil
        }
    }

    func disturb() {
        let alive = world.hosts.filter { $0.node != nil && !$0.process.isStopped }
        let dead = world.hosts.filter { $0.node == nil }
        switch random.below(12) {
        case 0..<3:
            note("connections break")
            world.network.breakConnections()
        case 3..<5 where dead.isEmpty && alive.count == world.hosts.count:
            let host = random.pick(alive)
            note("\(host.id) is killed")
            abandon(host)
            world.kill(host)
        case 5:
            for host in dead {
                note("\(host.id) starts")
                world.start(host)
            }
        case 6 where dead.isEmpty && alive.count == world.hosts.count:
            let host = random.pick(alive)
            note("\(host.id) loses power")
            abandon(host)
            world.losePower(host)
        case 7 where dead.isEmpty && alive.count == world.hosts.count && random.chance(percent: 40):
            note("all lose power")
            for host in world.hosts {
                abandon(host)
                world.losePower(host)
            }
            // What was not flushed may be gone.
            for guest in guests { guest.possible = Array(0...200) }
            for host in world.hosts { world.start(host) }
        case 8 where dead.isEmpty:
            let host = random.pick(world.hosts)
            note("\(host.id) is cut off")
            world.isolate([host])
        case 9:
            note("healed")
            world.heal()
            for host in world.hosts where host.isAlive { host.process.resume() }
        case 10 where dead.isEmpty && alive.count == world.hosts.count:
            let host = random.pick(alive)
            note("\(host.id) stands still")
            host.process.stop()
        default: break
        }
    }

    private var lastMap = ""
    func watch() {
        guard let node = world.nodes.max(by: { $0.catalog.state.index < $1.catalog.state.index }) else { return }
        let map = node.catalog.state.map
        let text =
            "epoch \(map.epoch): "
            + map.stores.map {
                "\($0.id.rawValue) \($0.status) boot \($0.session.bootId.low) S \($0.inSync.levels.map(\.count))"
            }.joined(separator: ", ")
            + " leases "
            + node.catalog.state.volumes.values.map { "\($0.lease?.node.description ?? "-")/\($0.term)" }.joined(
                separator: " ")
        if text != lastMap { note(text) }
        lastMap = text
    }

    func run(seconds: Int) {
        for host in world.hosts { host.onStep = { [unowned self] in watch() } }
        for _ in 0..<seconds * 10 {
            for guest in guests where random.chance(percent: 50) { work(guest) }
            if random.chance(percent: 8) { disturb() }
            world.pass(milliseconds: 100)
            if !failures.isEmpty { return }
        }
        isOver = true
        note("all is mended")
        world.heal()
        for host in world.hosts where host.isAlive { host.process.resume() }
        for host in world.hosts where !host.isAlive { world.start(host) }
        if !world.run("all is answered", seconds: 200, until: { guests.allSatisfy { !$0.isBusy } }) {
            return fail("not answered: \(guests.filter(\.isBusy).map { "\($0.offset) on \($0.busyOn!.id)" })")
        }
        if !world.runUntilWell(seconds: 400) { return fail("not well") }
        for guest in guests {
            for number in 1...world.hosts.count {
                let seen = world.read(.current(guest.volume), at: guest.offset, count: 4096, on: number)
                note("guest \(guest.offset) has \(String(describing: seen)) on \(number)")
                check(guest, seen)
                guest.ghosts = []
            }
        }
        for volume in volumes {
            for index in 0..<2 as Range<UInt32> {
                let copies = world.copies(of: ObjectId(volume, index))
                if Set(copies.map(\.version)).count > 1 || copies.contains(where: { $0.state != .complete }) {
                    fail("copies of \(volume).\(index) differ: \(copies)")
                }
            }
        }
    }
}

@Suite struct HostLifeTests {
    static var seeds: [UInt64] {
        guard let text = Environment.value("SHEEP_SEEDS") else { return [1, 2, 3, 4] }
        let ends = text.split(separator: "-").compactMap { UInt64($0) }
        return ends.count == 2 ? Array(ends[0]...ends[1]) : ends
    }
    @Test(arguments: seeds) func threeHosts(seed: UInt64) {
        let life = HostsLife(seed: seed, hosts: seed % 3 == 0 ? 5 : 3)
        let begin = ContinuousClock.now
        life.run(seconds: 90)
        if Environment.value("SHEEP_TRACE") != nil { print("seed \(seed): \(ContinuousClock.now - begin)") }
        if !life.failures.isEmpty {
            Issue.record("seed \(seed): \(life.failures)")
            if Environment.value("SHEEP_TRACE") != nil {
                print(life.trace.joined(separator: "\n"))
                print(life.world.log.suffix(40).joined(separator: "\n"))
                show(life.world)
            }
        }
        // A host that stands still keeps its guests waiting until it goes on, which may be for half of the time.
        #expect(life.guests.reduce(0) { $0 + $1.done } > 500)
    }
}

/// All that is known of the hosts, for whoever looks for a mistake.
func show(_ world: HostsWorld) {
    for host in world.hosts {
        guard let n = host.node else {
            print(host.id, "-")
            continue
        }
        let map = n.catalog.state.map
        print(
            host.id, "active", n.catalog.isActive, "held", n.keeper.isHeld, n.keeper.session, "index",
            n.catalog.state.index, "epoch", map.epoch,
            map.stores.map {
                "\($0.id.rawValue)\($0.status) S\($0.inSync.any.count) miss\(map.missingRanges(of: $0.id).count) b\($0.session.bootId.low)"
            }, "waiting", n.catalog.waitingCount, "expired", n.catalog.record.expiredVolumes)
        print(
            "   heard",
            n.heard.values.map {
                "\($0.report.node) act \($0.report.isActive) own \($0.report.own.count) failed \($0.report.failed) \($0.report.sights.sorted { $0.key < $1.key }.map { "\($0.key.rawValue) \($0.value)" }) at \($0.at.nanoseconds / 1_000_000)"
            })
        print(
            "   routes",
            n.volumes.routes.values.map {
                "\($0.id) \($0.phase) w\($0.waiting.count) a\($0.attempts.count) p\($0.parked.count) f\($0.forwarded.count) l\($0.lost.count) prep \($0.prepared != nil)"
            }, n.node.recovery.status.phase, n.node.recovery.status.waitingFor, "behind", n.node.recovery.behindCount,
            "pruner", n.node.pruner.pendingVolumes, "settled", n.remote.isSettled, "unsettled", n.unsettled,
            n.isSettling, "links", n.peers.map { "\($0.node) \($0.isUp)" })
        for v in n.node.gateway.volumeOrder {
            let s = n.node.gateway.volumes[v]!
            print(
                "   vol", v, s.phase, s.term, "fenced", s.fenced.map(\.rawValue), "exc", s.exceptions, "unprepared",
                s.summaries.filter { !$0.value.isUniform }.keys.sorted(), "mapWaiters",
                n.node.gateway.mapWaiters.count,
                s.objects.sorted { $0.key < $1.key }.map {
                    "\($0.key) prep \($0.value.isPrepared) lacks \($0.value.lacksMember) \($0.value.slots.map { "\($0.channel.store.rawValue) \($0.status) \($0.isMember)" }) inflight \($0.value.inFlight.count) users \($0.value.users)"
                })
        }
    }
    for (id, _) in world.nodes[0].catalog.state.volumes {
        for index in 0..<2 as Range<UInt32> {
            print(
                "copies", id, index,
                world.nodes.flatMap { $0.node.stores }.compactMap { store in
                    store.copy.objects.entry(ObjectId(id, index)).map {
                        "\(store.id.rawValue) \($0.version) \($0.state) verified \($0.isVerified)"
                    }
                })
        }
    }
    print(world.machine.nanoseconds / 1_000_000)
}
