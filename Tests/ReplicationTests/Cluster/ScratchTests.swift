import Catalog
import Model
import ObjectStore
import OrderedCollections
import TestSupport
import Testing

@testable import Replication

@Suite struct ScratchTests {
    func show(_ world: HostsWorld) {
        for host in world.hosts {
            guard let n = host.node else { print(host.id, "-"); continue }
            let map = n.catalog.state.map
            print(host.id, "active", n.catalog.isActive, "held", n.keeper.isHeld, "session", n.keeper.session, "index", n.catalog.state.index, "epoch", map.epoch, map.stores.map { "\($0.id)\($0.status) \($0.inSync.any.count) miss \(map.missingRanges(of: $0.id).count) \($0.session.bootId.low)" }, "voters", n.catalog.record.voters, "settled", n.catalog.settledVoters as Any, "waiting", n.catalog.waitingCount, "chg", n.isChangingVoters)
            print("   heard", n.heard.values.map { "\($0.report.node) act \($0.report.isActive) own \($0.report.own.count) failed \($0.report.failed) sights \($0.report.sights.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }) at \($0.at.nanoseconds/1000000)" })
            print("   routes", n.volumes.routes.values.map { "\($0.id) \($0.phase) w\($0.waiting.count) a\($0.attempts.count) p\($0.parked.count) f\($0.forwarded.count) l\($0.lost.count)" }, "rec", n.node.recovery.status.phase, n.node.recovery.status.waitingFor, "behind", n.node.recovery.behindCount, "pruner", n.node.pruner.pendingVolumes, "settled", n.remote.isSettled)
            for v in n.node.gateway.volumeOrder { let s = n.node.gateway.volumes[v]!; print("   vol", v, s.phase, s.term, "fenced", s.fenced, "exc", s.exceptions, "unprepared", s.summaries.filter { !$0.value.isUniform }.keys.sorted(), "mapWaiters", n.node.gateway.mapWaiters.count, "objs", s.objects.map { "\($0.key) prep \($0.value.isPrepared) lacks \($0.value.lacksMember) slots \($0.value.slots.map { "\($0.channel.store) \($0.status) \($0.isMember)" }) inflight \($0.value.inFlight.count)" }) }
        }
        print(world.machine.nanoseconds / 1_000_000, world.log.suffix(10))
    }
    @Test func power() {
        let world = HostsWorld(seed: 1)
        let volume = world.makeVolume()
        _ = world.write(volume, 7, on: 1)
        _ = world.flush(volume, on: 2)
        for host in world.hosts { world.losePower(host) }
        for host in world.hosts { world.start(host) }
        let buffer = world.pool.buffer(8192)
        world.node(3).volumes.read(.current(volume), offset: 0, count: 4096, into: buffer, bufferOffset: 0) { print("read", $0 as Any) }
        world.pass(milliseconds: 20_000)
        show(world)
    }
    @Test func late() {
        let world = HostsWorld()
        let volume = world.makeVolume()
        _ = world.write(volume, 7, on: 1)
        world.run("all is well") { world.isWell }
        world.pass(milliseconds: 10000)
        show(world)
    }
    @Test func join() {
        let world = HostsWorld(hosts: 3, joining: 1)
        _ = world.prepareToJoin(world.host(4))
        world.start(world.host(4))
        world.pass(milliseconds: 20_000)
        show(world)
    }
}
