// Which stores are up, down and out, from what the nodes say they reach. Every node tells the others what it reaches; one
// of them, the lowest that is up and active, decides, and every decision is conditional on the epoch that it was made in,
// so that two who decide at once cannot add up.
//
// Down: of stores whose nodes do not reach each other the one goes that the fewest up nodes reach (tie: the higher id);
// then it is looked again, without its node's word if that has no store up any more. Up: when every up node has reached
// it, and its node every store that is up, for a while that doubles with each time it went down. Out: when it has been
// down for the down-out-interval by the decider's own clock. It must never count an old report, or one of a node that
// is down, and never take a store down that no up node misses.
//
// Members of S whose sessions broke leave it once a store with what they lack is there, by its node's own report, in the
// session that the map names (ClusterMap+Sessions).
import Model

/// What a node says of the stores, in its own durations; nobody's clock is compared with another's.
package struct ReachReport: Hashable, Sendable {
    package enum Sight: Hashable, Sendable {
        /// It has answered all the time for so long.
        case reached(milliseconds: UInt64)
        /// It has not answered for longer than the data time-out.
        case missing
    }
    package let node: NodeId
    /// The catalog commits there, and it hears most voters: it may decide.
    package let isActive: Bool
    /// The node's own stores that work, with their sessions, and those that failed, with the reason.
    package let own: [StoreId: StoreSession]
    package let failed: [StoreId: String]
    /// Stores of other nodes. One that is not named is not known yet.
    package let sights: [StoreId: Sight]

    package init(
        node: NodeId, isActive: Bool, own: [StoreId: StoreSession], failed: [StoreId: String] = [:],
        sights: [StoreId: Sight]
    ) {
        self.node = node
        self.isActive = isActive
        self.own = own
        self.failed = failed
        self.sights = sights
    }
}

package final class StoreJudge {
    private let me: NodeId
    private let clock: any Clock
    /// Ascending by node.
    private var reports: [(report: ReachReport, at: Instant)] = []
    /// What was seen of each store's status, ascending by id.
    private var histories: [History] = []
    private struct History {
        let store: StoreId
        var status: StoreStatus
        var since: Instant
        /// How long it must be reached before it is up again; 0: it was never seen to go down.
        var waitMilliseconds: UInt64 = 0
    }

    package static let freshMilliseconds: UInt64 = 3_000
    package static let firstWaitMilliseconds: UInt64 = 5_000
    package static let longestWaitMilliseconds: UInt64 = 640_000

    package init(me: NodeId, clock: any Clock) {
        self.me = me
        self.clock = clock
    }

    /// Another node's report came, or this one's own was made; at least every second.
    package func take(_ report: ReachReport) {
        reports.removeAll { $0.report.node == report.node }
        reports.append((report, clock.now))
        reports.sort { $0.report.node < $1.report.node }
    }

    /// The committed map, after each change and with each tick; answers what is to be proposed, in this order: each
    /// conditional on its epoch. Nothing where another node decides.
    package func decide(_ map: ClusterMap, _ settings: Settings) -> [ClusterCommand] {
        remember(map)
        let fresh = reports.filter { clock.now.milliseconds(since: $0.at) <= StoreJudge.freshMilliseconds }.map(
            \.report)
        guard mayDecide(map, fresh) else { return [] }
        var up = map.stores.filter { $0.status == .up }
        var commands: [CatalogCommand] = []
        for store in up {
            guard let report = fresh.first(where: { $0.node == store.node }) else { continue }
            if let reason = report.failed[store.id] {
                up.removeAll { $0.id == store.id }
                commands.append(.storeDown(store.id, reason: reason, wallClock: clock.wallClock))
            } else if let session = report.own[store.id], session != store.session {
                commands.append(.storeUp(store.id, session: session, wallClock: clock.wallClock))
            }
        }
        while let gone = worst(up, fresh) {
            up.removeAll { $0.id == gone }
            commands.append(.storeDown(gone, reason: "not reached by other nodes", wallClock: clock.wallClock))
        }
        // Whoever comes back is measured by those who stay.
        if commands.isEmpty, let back = map.stores.first(where: { mayComeBack($0, up, fresh) }),
            let session = fresh.first(where: { $0.node == back.node })?.own[back.id]
        {
            commands.append(.storeUp(back.id, session: session, wallClock: clock.wallClock))
        }
        if commands.isEmpty {
            let confirmed = up.filter { store in fresh.contains { $0.own[store.id] == store.session } }.map(\.id)
            var next = map
            if next.leaveToUnbroken(confirmed) { commands.append(.sessionsConfirmed(confirmed)) }
        }
        if commands.isEmpty, let out = map.stores.first(where: { isDue($0, settings) }) {
            commands.append(.storeOut(out.id, reason: out.reason, wallClock: clock.wallClock))
        }
        var epoch = map.epoch
        return commands.map { command in
            defer { epoch = epoch.next }
            return .inEpoch(epoch, command)
        }
    }

    /// The lowest node decides that is up and says that the catalog commits there; where no store is up, the lowest of all.
    private func mayDecide(_ map: ClusterMap, _ fresh: [ReachReport]) -> Bool {
        let active = fresh.filter(\.isActive).map(\.node)
        let up = active.filter { node in map.stores.contains { $0.node == node && $0.status == .up } }
        return (up.first ?? active.first) == me
    }

    // MARK: down

    /// The store that has to go first, if some up node misses one that is up.
    private func worst(_ up: [StoreRecord], _ fresh: [ReachReport]) -> StoreId? {
        let witnesses = fresh.filter { report in up.contains { $0.node == report.node } }
        // Both ends of each pair that do not reach each other.
        var candidates: [StoreRecord] = []
        for witness in witnesses {
            let missed = up.filter { $0.node != witness.node && witness.sights[$0.id] == .missing }
            guard !missed.isEmpty else { continue }
            candidates += missed
            for store in up where store.node == witness.node {
                let isMissed = missed.contains { other in
                    witnesses.contains { $0.node == other.node && $0.sights[store.id] == .missing }
                }
                if isMissed { candidates.append(store) }
            }
        }
        return candidates.min { a, b in
            let (reachedA, reachedB) = (reach(a, witnesses), reach(b, witnesses))
            return reachedA != reachedB ? reachedA < reachedB : a.id > b.id
        }?.id
    }
    /// How many up nodes reach it, its own included.
    private func reach(_ store: StoreRecord, _ witnesses: [ReachReport]) -> Int {
        witnesses.count { report in
            if report.node == store.node { return report.own[store.id] != nil }
            if case .reached? = report.sights[store.id] { return true }
            return false
        }
    }

    // MARK: up again

    private func mayComeBack(_ store: StoreRecord, _ up: [StoreRecord], _ fresh: [ReachReport]) -> Bool {
        guard store.status == .down || store.status == .out, !store.isLeaving,
            let own = fresh.first(where: { $0.node == store.node }), own.own[store.id] != nil,
            let history = histories.first(where: { $0.store == store.id })
        else { return false }
        let wait = history.waitMilliseconds
        func isSteady(_ sight: ReachReport.Sight?) -> Bool {
            if case .reached(let milliseconds)? = sight { return milliseconds >= wait }
            return false
        }
        // Nobody's word is missing, and both directions hold.
        for other in up where other.node != store.node {
            guard let report = fresh.first(where: { $0.node == other.node }), isSteady(report.sights[store.id]),
                isSteady(own.sights[other.id])
            else { return false }
        }
        return clock.now.milliseconds(since: history.since) >= wait
    }

    // MARK: what was seen

    private func remember(_ map: ClusterMap) {
        let now = clock.now
        histories.removeAll { map.store($0.store) == nil }
        for store in map.stores {
            guard let index = histories.firstIndex(where: { $0.store == store.id }) else {
                histories.append(
                    History(
                        store: store.id, status: store.status, since: now,
                        waitMilliseconds: store.status == .up ? 0 : StoreJudge.firstWaitMilliseconds))
                continue
            }
            let old = histories[index]
            guard old.status != store.status else { continue }
            if old.status == .up {
                // One that stayed up for long begins anew.
                let isFlapping = now.milliseconds(since: old.since) < 10 * old.waitMilliseconds
                histories[index].waitMilliseconds =
                    isFlapping
                    ? min(StoreJudge.longestWaitMilliseconds, 2 * old.waitMilliseconds)
                    : StoreJudge.firstWaitMilliseconds
            }
            histories[index].status = store.status
            histories[index].since = now
        }
        histories.sort { $0.store < $1.store }
    }
    private func isDue(_ store: StoreRecord, _ settings: Settings) -> Bool {
        guard store.status == .down, let history = histories.first(where: { $0.store == store.id }) else {
            return false
        }
        return clock.now.milliseconds(since: history.since) >= settings.downOutIntervalMilliseconds
    }
}
