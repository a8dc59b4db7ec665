// What a node does every second beside its own work: it says what it reaches, and, if it is the one to decide, which stores
// are up, down and out, who votes, and what one of all has to do. Volumes whose holder has gone are taken by somebody soon.
import Catalog
import Model
import OrderedCollections

extension ClusterNode {
    // MARK: reports

    func ownReport() -> ReachReport {
        var own: [StoreId: StoreSession] = [:]
        var failed: [StoreId: String] = [:]
        for store in node.stores where node.failed[store.id] == nil {
            if isShut { failed[store.id] = "its node was stopped" } else { own[store.id] = store.session }
        }
        for (store, reason) in node.failed { failed[store] = reason }
        for record in catalog.state.map.stores
        where record.node == id && record.status == .up && own[record.id] == nil && failed[record.id] == nil {
            failed[record.id] = "it is not there"
        }
        var sights: [StoreId: ReachReport.Sight] = [:]
        for record in catalog.state.map.stores where record.node != id {
            sights[record.id] = reach.look(
                record.id, link: peer(record.node), isSilent: remote.isSilent(record.id))
        }
        return ReachReport(node: id, isActive: mayLead, own: own, failed: failed, sights: sights)
    }

    func sayWhatIsReached() {
        let report = ownReport()
        judge.take(report)
        heard[id] = Heard(
            report: report, voterKey: catalog.log.key, isLeaving: isLeaving, index: catalog.state.index, at: clock.now)
        for peer in peers {
            messenger.send(
                .report(report, voterKey: catalog.log.key, isLeaving: isLeaving, index: catalog.state.index),
                to: peer.node)
        }
    }

    /// Whether every node that may answer anything has the catalog up to here: what was removed then is read by nobody.
    func allHaveSeen(_ index: UInt64) -> Bool {
        catalog.record.sessions.allSatisfy { record in
            !record.isOpen || record.session.node == id || heard[record.session.node]?.index ?? 0 >= index
        }
    }

    // MARK: the map

    func decideSoon() { clock.after(milliseconds: 0) { [weak self] in self?.decide() } }

    /// Whether most voters were heard within the time in which stores are missed. Who hears fewer may be the one that is cut
    /// off, while corosync does not know it yet, and must not take the others for gone. It says so, and the next one decides
    /// (`ReachReport.isActive`); whom nobody hears is passed over when its last word is old.
    private var hearsMost: Bool {
        let limit = options.limits.dataTimeoutMilliseconds * 9 / 10
        let voters = catalog.record.voters
        let near = voters.count { voter in
            if voter.node == id { return true }
            let last = [heard[voter.node]?.at, peer(voter.node)?.heardAt].compactMap { $0 }.max()
            return last.map { clock.now.milliseconds(since: $0) <= limit } ?? false
        }
        return 2 * near > voters.count
    }
    /// Whether this node may decide for all: the catalog commits here, and most are near.
    private var mayLead: Bool { catalog.isActive && !isShut && hearsMost }

    func decide() {
        guard mayLead else { return }
        let map = catalog.state.map
        let commands = judge.decide(map, catalog.state.settings)
        guard !commands.isEmpty else { return }
        // What was proposed is on its way.
        if let decided = decidedEpoch, decided.epoch == map.epoch, clock.now.milliseconds(since: decided.at) < 2_000 {
            return
        }
        decidedEpoch = (map.epoch, clock.now)
        for command in commands { catalog.propose(command) { _ in } }
    }

    /// Nodes that were heard of a moment ago and for which the catalog commits, ascending.
    var activeNodes: [NodeId] {
        heard.values.filter {
            $0.report.isActive && clock.now.milliseconds(since: $0.at) <= StoreJudge.freshMilliseconds
        }.map(\.report.node).sorted()
    }
    /// Those of them that have a store that is up.
    var servingNodes: [NodeId] {
        let map = catalog.state.map
        return activeNodes.filter { node in map.stores.contains { $0.node == node && $0.status == .up } }
    }

    // MARK: voters

    package static let mostVoters = 7

    /// One change at a time: who has left or has lost its log does not vote, and others do, up to seven.
    func changeVoters() {
        guard catalog.isActive, activeNodes.first == id, !isChangingVoters, catalog.settledVoters != nil else { return }
        let voters = catalog.record.voters
        let fresh = heard.values.filter { clock.now.milliseconds(since: $0.at) <= StoreJudge.freshMilliseconds }
        let gone = voters.first { voter in
            fresh.contains { $0.report.node == voter.node && ($0.isLeaving || $0.voterKey != voter.key) }
        }
        var wanted: [Voter]?
        if let gone, voters.count > 1 {
            wanted = voters.filter { $0 != gone }
        } else if voters.count < ClusterNode.mostVoters {
            let next = fresh.filter { !$0.isLeaving && $0.report.isActive }.sorted { $0.report.node < $1.report.node }
                .first { item in
                    !voters.contains { $0.node == item.report.node }
                        && members.contains { $0.node == item.report.node }
                }
            wanted = next.map { voters + [Voter($0.report.node, key: $0.voterKey)] }
        }
        guard let wanted else { return }
        isChangingVoters = true
        catalog.propose(voters: wanted) { [weak self] _ in self?.isChangingVoters = false }
    }

    // MARK: volumes that nobody holds

    /// The lease of a volume ended with its holder's session: somebody makes its copies equal, soon, whoever needs it or not.
    /// The first of the serving nodes does; the next one a second later.
    func takeExpired() {
        let expired = catalog.record.expiredVolumes
        expiredSince = expiredSince.filter { expired.contains($0.key) }
        guard catalog.isActive, keeper.isHeld, let rank = servingNodes.firstIndex(of: id), !volumes.isStopping else {
            return
        }
        for volume in expired {
            guard catalog.state.volumes[volume]?.lease == nil else { continue }
            let since = expiredSince[volume] ?? clock.now
            expiredSince[volume] = since
            guard clock.now.milliseconds(since: since) >= UInt64(rank) * 1_000 else { continue }
            volumes.take(volumes.route(volume))
        }
    }

    func settleSoon(_ volume: VolumeId) {
        if !unsettled.contains(volume) { unsettled.append(volume) }
        clock.after(milliseconds: 0) { [weak self] in self?.settleNext() }
    }

    /// Volume by volume, what copies differ in is made equal before anybody asks for it; and flushed.
    func settleNext() {
        guard !isSettling, !unsettled.isEmpty else { return }
        let id = unsettled.removeFirst()
        guard isHeldHere(id), let volume = node.gateway.volumes[id] else { return settleNext() }
        isSettling = true
        node.gateway.prepareAll(volume) { [weak self] in
            guard let self else { return }
            isSettling = false
            for (index, object) in volume.objects.sorted(by: { $0.key < $1.key })
            where object.isPrepared && volume.exceptions[index] == nil { volume.summaries[index]?.isUniform = true }
            let isOpen = volume.summaries.contains {
                !$0.value.isUniform && !(volume.objects[$0.key]?.isPrepared ?? false)
            }
            if isOpen, node.gateway.volumes[id] === volume {
                // A store that is missing may come back.
                clock.after(milliseconds: 2_000) { [weak self] in self?.settleSoon(id) }
            } else {
                node.gateway.flush(id) { _ in }
            }
            clock.after(milliseconds: 0) { [weak self] in self?.settleNext() }
        }
    }

    // MARK: leaving

    /// Drains this node's stores and takes it out of the cluster: what it has moves elsewhere, its stores leave the map, and
    /// it votes no more. `completion`: refused, or everything is gone and the process can end.
    package func leave(_ completion: @escaping (SheepError?) -> Void) {
        isLeaving = true
        let stores = catalog.state.map.stores.filter { $0.node == id && !$0.isLeaving }.map(\.id)
        func next(_ rest: ArraySlice<StoreId>) {
            guard let store = rest.first else { return whenGone(completion) }
            node.removeStore(store, force: false) { [self] error in
                if let error, error.errno != .busy {
                    isLeaving = false
                    return completion(error)
                }
                guard error == nil else {
                    // A move runs; it has an end.
                    return clock.after(milliseconds: 1_000) { next(rest) }
                }
                next(rest.dropFirst())
            }
        }
        next(stores[...])
    }
    private func whenGone(_ completion: @escaping (SheepError?) -> Void) {
        let isThere =
            catalog.state.map.stores.contains { $0.node == id } || catalog.record.voters.contains { $0.node == id }
        guard isThere else { return completion(nil) }
        clock.after(milliseconds: 500) { [weak self] in self?.whenGone(completion) }
    }
}

extension ClusterNode: RecoveryPeers {
    func isHeldHere(_ volume: VolumeId) -> Bool {
        if case .held? = volumes.routes[volume]?.phase { true } else { false }
    }
    func mayRaise(_ volume: VolumeId) -> Bool {
        if isHeldHere(volume) { return true }
        if leads, catalog.state.volumes[volume]?.lease == nil { volumes.take(volumes.route(volume)) }
        return false
    }
    var leads: Bool { catalog.isActive && (servingNodes.first ?? activeNodes.first) == id }

    func bringUpToDate(
        _ volume: VolumeId, _ store: StoreId, _ ranges: RangeSet, _ epoch: Epoch,
        _ completion: @escaping (Bool, UInt64) -> Void
    ) {
        volumes.submit(.bringUpToDate(volume, store, ranges, epoch)) { answer in
            if case .upToDate(let isDone, let bytes) = answer {
                completion(isDone, bytes)
            } else {
                completion(false, 0)
            }
        }
    }
    func removable(
        _ volume: VolumeId, _ store: StoreId, _ epoch: Epoch, _ indices: [UInt32],
        _ completion: @escaping ([Bool]) -> Void
    ) {
        volumes.submit(.surplus(volume, store, epoch, indices)) { answer in
            if case .removable(let list) = answer { completion(list) } else { completion(indices.map { _ in false }) }
        }
    }
    func propose(_ command: CatalogCommand, digest: UInt64, _ completion: @escaping (CommandAnswer) -> Void) {
        catalog.propose(.underTerms(digest, command), completion)
    }
}
