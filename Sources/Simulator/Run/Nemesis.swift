// The faults, and what administrators do meanwhile. Within the bounds, one disk at most is a victim at a time: it fails,
// rots or loses writes, and no other one does before nothing depends on it any more; after damage that only a scrub or a
// read would find it stays the only one. Processes and power go whenever they like.
import Catalog
import Model
import Replication

package final class Nemesis {
    private unowned let simulation: Simulation
    package private(set) var struck: [StepKind: Int] = [:]
    /// The disk that is or was damaged: host and number.
    private var victim: (host: NodeId, disk: Int)?
    /// What was done to it is not known to its owner.
    private(set) var isVictimForLife = false
    private var addedDisks = 0

    init(_ simulation: Simulation) { self.simulation = simulation }

    private func note(_ kind: StepKind, _ text: String) {
        struck[kind, default: 0] += 1
        simulation.trace.note("FAULT \(kind.rawValue) \(text)")
    }

    // MARK: faults

    func strike(_ step: Step, _ random: inout Random) {
        let hosts = simulation.hosts
        let host = hosts[random.below(hosts.count)]
        switch step.kind {
        case .kill: kill(host, &random)
        case .powerLoss: losePower(&random)
        case .stop: stop(host, &random)
        case .slowDisk:
            let disk = random.pick(host.disks)
            disk.slowness = random.pick([3, 10, 100])
            note(.slowDisk, "\(disk.number) of host \(host.id), \(disk.slowness) times")
            simulation.queue.after(nanoseconds: UInt64(random.below(3_000)) * 1_000_000) { disk.slowness = 1 }
        case .failStore, .rot, .strayWrites, .readErrors: damage(step.kind, host, &random)
        case .cut, .breakConnections, .slowNetwork, .groupPartition, .stopCorosync:
            if let cluster = simulation.cluster { disturb(step.kind, cluster, host, &random) }
        default: break
        }
    }

    /// The network and the group, which heal by themselves after a while.
    private func disturb(_ kind: StepKind, _ cluster: Cluster, _ host: any SimulatedHost, _ random: inout Random) {
        let milliseconds = random.pick([50, 500, 2_500, 8_000, 20_000])
        let others = cluster.hosts.filter { $0 !== host }
        var undo: () -> Void = { cluster.network.heal() }
        switch kind {
        case .cut:
            // One way, both ways, or from some only.
            let isOneWay = random.chance(percent: 50)
            let some = others.filter { _ in random.chance(percent: 70) }
            for other in some {
                cluster.network.cut(host.id, other.id)
                if !isOneWay { cluster.network.cut(other.id, host.id) }
            }
            note(.cut, "host \(host.id) \(isOneWay ? "to" : "and") \(some.map(\.id)) for \(milliseconds) ms")
        case .groupPartition:
            let parts = cluster.hosts.map { _ in random.below(random.chance(percent: 80) ? 2 : 3) }
            cluster.group.split(parts)
            // The data's network goes with it, or not.
            let isWhole = random.chance(percent: 60)
            if isWhole {
                for (i, a) in cluster.hosts.enumerated() {
                    for (j, b) in cluster.hosts.enumerated() where parts[i] != parts[j] {
                        cluster.network.cut(a.id, b.id)
                    }
                }
            }
            note(.groupPartition, "\(parts)\(isWhole ? "" : ", the group only") for \(milliseconds) ms")
            undo = {
                cluster.network.heal()
                cluster.group.split(parts.map { _ in 0 })
            }
        case .stopCorosync:
            let milliseconds = random.pick([500, 3_000, 6_000])
            note(.stopCorosync, "of host \(host.id) for \(milliseconds) ms")
            cluster.group.stopCorosync(host.id)
            simulation.queue.after(nanoseconds: UInt64(milliseconds) * 1_000_000) {
                cluster.group.resumeCorosync(cluster.group.node(host.id))
            }
            return
        case .slowNetwork:
            let usual = cluster.network.slownessMilliseconds
            cluster.network.slownessMilliseconds = random.pick([50, 300, 1_000])
            note(.slowNetwork, "\(cluster.network.slownessMilliseconds) ms, for \(milliseconds) ms")
            undo = { [simulation] in
                cluster.network.slownessMilliseconds = min(usual, simulation.knobs.networkMilliseconds)
            }
        default:
            note(.breakConnections, "")
            return cluster.network.breakConnections()
        }
        simulation.queue.after(nanoseconds: UInt64(milliseconds) * 1_000_000, undo)
    }

    private func kill(_ host: any SimulatedHost, _ random: inout Random) {
        guard host.isRunning else { return }
        note(.kill, "host \(host.id)")
        simulation.hostEnded(host, withGuests: false, &random)
        host.kill()
        bootLater(host, milliseconds: random.pick([0, 1, 20, 300, 3_000]))
    }
    /// Everybody's; or one host's, when nothing depends on it alone: what was not flushed is on others then.
    private func losePower(_ random: inout Random) {
        let hosts = simulation.hosts
        if hosts.count > 1, random.chance(percent: 60) {
            let host = hosts[random.below(hosts.count)]
            guard isWell, host.isRunning else { return }
            note(.powerLoss, "host \(host.id)")
            simulation.hostEnded(host, withGuests: true, &random)
            host.losePower()
            return bootLater(host, milliseconds: random.pick([300, 3_000, 20_000]))
        }
        note(.powerLoss, "all")
        for host in simulation.hosts {
            simulation.hostEnded(host, withGuests: true, &random)
            host.losePower()
            // A disk that does not answer may be fine when it has been off.
            for disk in host.disks { disk.breakage = .none }
            bootLater(host, milliseconds: random.pick([1, 20, 300, 3_000]))
        }
        simulation.history.powerWasLost()
    }
    private func bootLater(_ host: any SimulatedHost, milliseconds: Int) {
        let life = host.life
        simulation.queue.after(nanoseconds: UInt64(milliseconds) * 1_000_000) {
            if host.life == life, !host.isRunning { host.boot() }
        }
    }
    private func stop(_ host: any SimulatedHost, _ random: inout Random) {
        guard host.isRunning, !host.isStopped else { return }
        let milliseconds = random.pick([5, 100, 1_000, 8_000, 20_000])
        note(.stop, "host \(host.id) for \(milliseconds) ms")
        host.stop()
        let life = host.life
        simulation.queue.after(nanoseconds: UInt64(milliseconds) * 1_000_000) { [simulation] in
            guard host.life == life, host.isStopped else { return }
            simulation.trace.note("host \(host.id) goes on")
            host.resume()
            simulation.look()
        }
    }

    private func damage(_ kind: StepKind, _ host: any SimulatedHost, _ random: inout Random) {
        guard let disk = chooseVictim(host, &random) else { return }
        switch kind {
        case .failStore:
            disk.breakage = random.pick([.everything, .syncs, .appends])
            note(.failStore, "disk \(disk.number) of host \(host.id), \(disk.breakage.rawValue)")
        case .rot:
            isVictimForLife = true
            for _ in 0..<1 + random.below(4) {
                guard let file = disk.memory.rot(&random) else { return }
                note(.rot, "disk \(disk.number) of host \(host.id), \(file)")
            }
        case .strayWrites:
            isVictimForLife = true
            disk.strayWritesPerMille = random.pick([10, 100, 500])
            note(.strayWrites, "disk \(disk.number) of host \(host.id)")
            simulation.queue.after(nanoseconds: UInt64(random.below(2_000)) * 1_000_000) {
                disk.strayWritesPerMille = 0
            }
        default:
            disk.readErrorsPerMille = random.pick([5, 50, 500])
            note(.readErrors, "disk \(disk.number) of host \(host.id)")
            simulation.queue.after(nanoseconds: UInt64(random.below(5_000)) * 1_000_000) { disk.readErrorsPerMille = 0 }
        }
    }
    /// Nothing is damaged, lost or on its way. The map may know of a failure later than everybody else.
    private var isWell: Bool {
        simulation.hosts.allSatisfy { host in
            !host.isStopped && host.isAtRest && host.disks.allSatisfy { $0.isSound }
                && host.state?.map.stores.allSatisfy { $0.status == .up } ?? false
        }
    }

    /// The present victim again; another one only when nothing depends on that one any more.
    private func chooseVictim(_ host: any SimulatedHost, _ random: inout Random) -> SimulatedDisk? {
        if let victim, !simulation.knobs.isBeyondBounds, isVictimForLife || !isWell {
            return simulation.hosts.first { $0.id == victim.host }?.disks[victim.disk]
        }
        guard isWell || simulation.knobs.isBeyondBounds || victim == nil else { return nil }
        // Only one that has a store in the map.
        guard let state = host.state, isWell || simulation.knobs.isBeyondBounds else { return nil }
        let stores = state.map.stores.filter { $0.node == host.id }.compactMap { host.disk(of: $0.id) }
        guard !stores.isEmpty else { return nil }
        let disk = random.pick(stores)
        victim = (host.id, disk)
        return host.disks[disk]
    }

    /// Everything goes on and stays well. What was damaged stays damaged.
    func heal() {
        if let cluster = simulation.cluster {
            cluster.network.heal()
            cluster.network.slownessMilliseconds = simulation.knobs.networkMilliseconds
            cluster.network.corruptionPercent = 0
            cluster.group.isHealed = true
            cluster.group.mend()
        }
        for host in simulation.hosts {
            for disk in host.disks { disk.mend() }
            if host.isStopped { host.resume() }
            // A store that failed is not used again by the process that saw it fail.
            if host.isRunning, let victim, victim.host == host.id {
                restart(host)
            } else if !host.isRunning {
                host.boot()
            }
        }
        simulation.look()
    }

    func restart(_ host: any SimulatedHost) {
        var random = Random(simulation.seed)
        simulation.hostEnded(host, withGuests: false, &random)
        host.kill()
        host.boot()
    }

    // MARK: administrators

    func administer(_ step: Step, _ random: inout Random) {
        guard let host = simulation.servingHost(&random), let administration = host.administration,
            let map = host.state?.map
        else { return }
        let up = map.stores.filter { $0.status == .up }
        switch step.kind {
        case .scrub:
            let isDeep = random.chance(percent: 50)
            simulation.trace.note("scrub \(isDeep ? "deep" : "light")")
            host.enter { administration.startScrub(deep: isDeep, volume: nil) { _ in } }
        case .setWeight:
            let store = random.pick(map.stores).id
            let weight = UInt64(1 + random.below(4)) << 28
            simulation.trace.note("weight of \(store)")
            host.enter { administration.setWeight(store, weight: weight) { _ in } }
        case .addStore:
            guard map.stores.count < 6, addedDisks < 3 else { return }
            addedDisks += 1
            let path = "/added\(addedDisks)"
            host.addDisk(path: path)
            simulation.trace.note("add \(path)")
            host.enter { administration.addStore(path: path, zone: nil, weight: 1 << 30) { _ in } }
        case .removeStore:
            guard up.count == map.stores.count, up.count > max(3, simulation.knobs.settings.copies), host.isAtRest
            else {
                return
            }
            let store = random.pick(up).id
            simulation.trace.note("remove \(store)")
            host.enter { administration.removeStore(store, force: false) { _ in } }
        default: break
        }
    }
}
