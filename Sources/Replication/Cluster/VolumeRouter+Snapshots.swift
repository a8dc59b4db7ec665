// A snapshot of several volumes, wherever they are held: each holder drains its volume and closes its gate; then one command,
// conditional on all terms, decides. A holder opens its gate again when it has that decision in its own catalog. One that
// hears of none for five seconds takes its volume's next term, by which a decision that comes later is void.
import Catalog
import Model
import OrderedCollections

extension VolumeRouter {
    private static let prepareMilliseconds: UInt64 = 5_000

    // MARK: whoever was asked

    func snapshotTogether(
        _ ids: [VolumeId], tag: String, group: DirectoryId?, replaceExisting: Bool, request: RequestId,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        snapshotNumber += 1
        let number = snapshotNumber
        var members: [SnapshotRequest] = []
        var refusal: Errno?
        var sent: [(volume: VolumeId, node: NodeId, term: Term)] = []
        let finish: (CommandAnswer) -> Void = { [self] answer in
            let index = cluster.state.index
            for item in sent {
                if item.node == me {
                    if let route = routes[item.volume] {
                        resume(route, number: number, from: me, index: index)
                    }
                } else {
                    messenger.request(
                        .resume(item.volume, number: number, index: index), under: item.term, to: item.node
                    ) { _ in }
                }
            }
            completion(answer)
        }
        let join = Join(max(1, ids.count)) { [self] _ in
            if let refusal {
                return finish(
                    .refused(
                        SheepError(
                            refusal == .stale ? .stale : .tryAgain, what: "No snapshot was made.",
                            why: "Not all volumes could be brought to rest at one time.", remedy: "Try again.")))
            }
            members.sort { $0.volume < $1.volume }
            cluster.propose(
                .snapshot(members: members, tag: tag, group: group, wallClock: clock.wallClock), request: request,
                finish)
        }
        guard !ids.isEmpty else { return clock.after(milliseconds: 0) { join.arrive(nil) } }
        for id in ids {
            prepareSomewhere(
                id, number: number, until: clock.now.advanced(milliseconds: VolumeRouter.prepareMilliseconds)
            ) {
                answer, holder in
                switch answer {
                case .prepared(let term):
                    members.append(SnapshotRequest(volume: id, term: term, replaceExisting: replaceExisting))
                    sent.append((id, holder, term))
                default: refusal = refusal ?? answer.errno
                }
                join.arrive(nil)
            }
        }
    }

    /// At the holder, or here when nobody is.
    private func prepareSomewhere(
        _ id: VolumeId, number: UInt64, until end: Instant, _ completion: @escaping (VolumeAnswer, NodeId) -> Void
    ) {
        let again = { [weak self] in
            guard let self else { return }
            guard clock.now < end else { return completion(.ended(.tryAgain), me) }
            clock.after(milliseconds: 50) { [weak self] in
                self?.prepareSomewhere(id, number: number, until: end, completion)
            }
        }
        guard let record = cluster.state.volumes[id] else { return completion(.ended(.stale), me) }
        let route = route(id)
        if case .held(let term) = route.phase {
            return prepare(route, term, number: number, coordinator: me) { [me] in completion($0, me) }
        }
        if let lease = record.lease, lease.node != me {
            messenger.request(.prepare(id, number: number), under: lease.term, to: lease.node) { end in
                switch end {
                case .answer(.notHere, _), .unknown: again()
                case .answer(let answer, _): completion(answer, lease.node)
                }
            }
            return
        }
        if route.phase == .idle, record.lease == nil, !isStopping { take(route) }
        again()
    }

    // MARK: the holder

    func prepare(
        _ route: VolumeRoute, _ term: Term, number: UInt64, coordinator: NodeId,
        _ completion: @escaping (VolumeAnswer) -> Void
    ) {
        guard route.phase == .held(term), route.prepared == nil, let volume = gateway.volumes[route.id],
            volume.phase == .ready
        else { return clock.after(milliseconds: 0) { completion(.ended(.tryAgain)) } }
        let prepared = PreparedVolume(number: number, coordinator: coordinator, term: term)
        prepared.answer = completion
        route.prepared = prepared
        gateway.prepareAll(volume) { [weak self] in
            guard let self, route.prepared === prepared, !volume.isRemoved else { return }
            prepared.hasGate = true
            gateway.closeGate(volume) { [weak self] in
                guard let self, route.prepared === prepared, !prepared.isDrained else { return }
                prepared.isDrained = true
                guard keeper.isHeld else { return cancel(route, prepared) }
                let answer = prepared.answer
                prepared.answer = nil
                answer?(.prepared(term))
            }
        }
        clock.after(milliseconds: VolumeRouter.prepareMilliseconds) { [weak self] in
            guard let self, route.prepared === prepared else { return }
            cancel(route, prepared)
        }
    }

    /// No decision: the volume's next term makes one void that is on its way. What waited, or was not drained, is issued again
    /// under it.
    private func cancel(_ route: VolumeRoute, _ prepared: PreparedVolume) {
        let wasAnswered = prepared.answer == nil
        prepared.answer?(.ended(.tryAgain))
        prepared.answer = nil
        route.prepared = nil
        guard case .held(prepared.term) = route.phase else { return }
        if wasAnswered { return leave(route) }
        // Nobody can propose anything by it.
        if prepared.hasGate, let volume = gateway.volumes[route.id] { gateway.openGate(volume) }
    }

    /// The lease is over, and with it the preparation.
    func endPreparation(_ route: VolumeRoute) {
        guard let prepared = route.prepared else { return }
        route.prepared = nil
        prepared.answer?(.ended(.tryAgain))
    }

    /// It is decided; the gate opens as soon as the decision is in this node's catalog.
    func resume(_ route: VolumeRoute, number: UInt64, from node: NodeId, index: UInt64) {
        guard let prepared = route.prepared, prepared.number == number, prepared.coordinator == node else { return }
        decided[route.id] = index
        resumePrepared(route)
    }
    func resumePrepared(_ route: VolumeRoute) {
        guard let prepared = route.prepared, let index = decided[route.id], cluster.state.index >= index else { return }
        decided[route.id] = nil
        route.prepared = nil
        prepared.answer?(.ended(.tryAgain))
        guard case .held(prepared.term) = route.phase, prepared.hasGate, let volume = gateway.volumes[route.id] else {
            return
        }
        gateway.openGate(volume)
    }
    /// With each tick: an index is reached by entries that change nothing here, too.
    func resumeAllPrepared() {
        for route in routes.values where route.prepared != nil { resumePrepared(route) }
    }
}
