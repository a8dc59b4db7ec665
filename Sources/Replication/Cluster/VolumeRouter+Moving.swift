// A lease moves when another node writes much: what is on its way ends, all is flushed, the lease goes back, and for a
// moment it is left to the one who asked. Also what a node that stops, or that nobody needs any more, does with its leases.
// It must never give a lease back with anything on its way.
import Catalog
import Model
import OrderedCollections

extension VolumeRouter {
    /// So many writes one after the other that the holder had to do are a reason to ask for the lease.
    private static let writesBeforeAsking = 16
    /// How long a lease stays at least, in milliseconds.
    private static let leastMilliseconds: UInt64 = 1_000
    private static let drainMilliseconds: UInt64 = 5_000
    private static let favourMilliseconds: UInt64 = 2_000

    func countSentWrite(_ route: VolumeRoute, _ lease: Lease) {
        route.sentWrites += 1
        guard route.sentWrites >= VolumeRouter.writesBeforeAsking, !route.isAsking, clock.now >= route.mayAskAt else {
            return
        }
        route.isAsking = true
        route.mayAskAt = clock.now.advanced(milliseconds: VolumeRouter.leastMilliseconds)
        messenger.request(.giveUp(route.id), under: lease.term, to: lease.node) { [weak self] end in
            route.isAsking = false
            route.sentWrites = 0
            guard let self, case .answer(.ended(nil), _) = end else { return }
            // It is taken as soon as it is free, also when nothing waits for it here at that moment.
            whenFree(route, lease, attempts: 100)
        }
    }
    private func whenFree(_ route: VolumeRoute, _ lease: Lease, attempts: Int) {
        guard let record = cluster.state.volumes[route.id], attempts > 0, !isStopping else { return }
        if record.lease == nil { return take(route) }
        guard record.lease == lease else { return }
        clock.after(milliseconds: 20) { [weak self] in self?.whenFree(route, lease, attempts: attempts - 1) }
    }

    /// Whether the lease goes to the node that asks for it: it writes more than this one, and the lease was here for long
    /// enough that two who write do not only hand it to and fro.
    func giveUp(_ route: VolumeRoute, _ term: Term, to node: NodeId) -> Bool {
        guard route.phase == .held(term), route.prepared == nil,
            clock.now.milliseconds(since: route.heldSince) >= VolumeRouter.leastMilliseconds,
            let volume = gateway.volumes[route.id], !volume.controlBusy, !volume.gateClosed
        else { return false }
        let own = route.ownWrites + route.formerOwnWrites
        let others = route.othersWrites.first { $0.node == node }?.count ?? 0
        guard own <= 2 * others + VolumeRouter.writesBeforeAsking / 2 else { return false }
        give(route, term, to: node)
        return true
    }

    private func give(_ route: VolumeRoute, _ term: Term, to node: NodeId) {
        route.phase = .giving(term, to: node)
        clock.after(milliseconds: VolumeRouter.drainMilliseconds) { [weak self] in
            // Something does not end: the lease stays.
            guard let self, route.phase == .giving(term, to: node) else { return }
            route.phase = .held(term)
            resolve(route)
        }
        clock.after(milliseconds: 0) { [weak self] in self?.drainedForGiving(route) }
    }

    /// To be asked whenever something has ended.
    func drainedForGiving(_ route: VolumeRoute) {
        guard case .giving(let term, let node) = route.phase, route.attempts.isEmpty, route.parked.isEmpty else {
            return
        }
        gateway.flush(route.id) { [weak self] errno in
            guard let self, route.phase == .giving(term, to: node), route.attempts.isEmpty, route.parked.isEmpty else {
                return
            }
            guard errno == nil else {
                route.phase = .held(term)
                return resolve(route)
            }
            route.phase = .idle
            route.favoured = (node, clock.now.advanced(milliseconds: VolumeRouter.favourMilliseconds))
            gateway.abandon(route.id)
            keeper.release(route.id, term: term) { _ in }
            resolve(route)
        }
    }

    /// The gateway gives back what nobody uses; also at the end of the process.
    package func release(_ volume: VolumeId, term: Term, _ completion: @escaping (CommandAnswer) -> Void) {
        if let route = routes[volume], route.phase == .held(term) {
            route.phase = .idle
            gateway.abandon(volume)
        }
        keeper.release(volume, term: term, completion)
    }

    /// Routes that nobody needs are forgotten.
    func forgetIdleRoutes() {
        routes.removeAll { _, route in route.phase == .idle && route.isAtRest && route.openCount == 0 }
    }
}
