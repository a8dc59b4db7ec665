// What befalls hosts, their disks, the network and the group in a scenario, and how it is undone.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

extension Script {
    // MARK: processes and power

    func boot(_ numbers: Int...) {
        guard isGoing else { return }
        for number in numbers where !host(number).isRunning { host(number).boot() }
    }
    func expectServes(_ numbers: Int..., within seconds: UInt64 = 60) {
        for number in numbers {
            waitSilently("host \(number) serves", seconds: seconds) { host(number).service != nil }
        }
    }
    func kill(_ numbers: Int...) {
        guard isGoing else { return }
        for number in numbers {
            tell("host \(number) is killed")
            host(number).kill()
        }
    }
    func losePower(_ numbers: Int...) {
        guard isGoing else { return }
        for number in numbers {
            tell("host \(number) loses its power")
            host(number).losePower()
        }
    }
    /// All at once: what was not flushed may be gone.
    func losePowerEverywhere() {
        guard isGoing else { return }
        tell("all hosts lose their power")
        for host in world.hosts { host.losePower() }
        world.history.powerWasLost()
    }
    func stop(_ number: Int) {
        guard isGoing else { return }
        tell("the process of host \(number) is stopped")
        host(number).stop()
    }
    func resume(_ number: Int) {
        guard isGoing else { return }
        tell("the process of host \(number) goes on")
        host(number).resume()
        world.look()
    }

    // MARK: network and group

    enum Nets { case data, corosync, both }
    /// Nothing passes between the parts.
    func partition(_ parts: [[Int]], of nets: Nets = .both) {
        guard isGoing, let cluster = world.cluster else { return }
        let text = parts.map { $0.map(String.init).joined(separator: "+") }.joined(separator: " | ")
        switch nets {
        case .both: tell("the network splits: \(text)")
        case .data: tell("the network of the data splits: \(text)")
        case .corosync: tell("corosync's network splits: \(text)")
        }
        var part: [Int] = Array(repeating: 0, count: world.hosts.count)
        for (i, numbers) in parts.enumerated() { for number in numbers { part[number - 1] = i } }
        for (i, a) in world.hosts.enumerated() {
            for (j, b) in world.hosts.enumerated() where part[i] != part[j] && nets != .corosync {
                cluster.network.cut(a.id, b.id)
            }
        }
        if nets != .data { cluster.group.split(part) }
    }
    /// Data from the one does not arrive at the others; from them it does.
    func cutOneWay(from number: Int, to others: Int...) {
        guard isGoing, let cluster = world.cluster else { return }
        tell("nothing from host \(number) arrives at \(others.map(String.init).joined(separator: " and "))")
        for other in others { cluster.network.cut(host(number).id, host(other).id) }
    }
    func stopCorosync(_ number: Int) {
        guard isGoing, let cluster = world.cluster else { return }
        tell("corosync of host \(number) is stopped")
        cluster.group.stopCorosync(host(number).id)
    }
    func resumeCorosync(_ number: Int) {
        guard isGoing, let cluster = world.cluster else { return }
        tell("corosync of host \(number) goes on")
        cluster.group.resumeCorosync(cluster.group.node(host(number).id))
    }
    func heal() {
        guard isGoing, let cluster = world.cluster else { return }
        tell("the network is whole again")
        cluster.network.heal()
        cluster.group.mend()
    }

    // MARK: disks

    func disk(_ number: Int, _ disk: Int = 0) -> SimulatedDisk { host(number).disks[disk] }
    /// Operations of this kind fail with EIO from now on.
    func breakDisk(_ number: Int, disk at: Int = 0, _ breakage: SimulatedDisk.Breakage) {
        guard isGoing else { return }
        let what =
            switch breakage {
            case .everything: "fails"
            case .syncs: "fails to sync"
            case .appends: "fails to write its journal"
            case .none: "is mended"
            }
        tell("a disk of host \(number) \(what)")
        disk(number, at).breakage = breakage
    }
}
