// Leases in a whole cluster with skewed clocks, stopped processes and cut connections: operations under a lease that take
// their time and are checked when they complete. It checks, at the true time, that no two nodes ever believe that they
// hold the same volume, stopped ones included; that terms never go back; and that, when all is healed, everybody holds
// its session and volumes are served.
import Model
import OrderedCollections
import TestSupport
import Testing

@testable import Catalog

final class LeaseNode: LeaseTransport {
    let world: LeaseWorld
    let node: ClusterNode
    var keeper: LeaseKeeper!
    init(_ world: LeaseWorld, _ node: ClusterNode) {
        self.world = world
        self.node = node
    }
    func send(_ message: LeaseMessage, to peer: NodeId) { world.send(message, node, peer) }
}

/// A clock outside the contract.
final class FastClock: Clock {
    let clock: HostClock
    init(_ clock: HostClock) { self.clock = clock }
    var now: Instant { Instant(nanoseconds: clock.now.nanoseconds * 4) }
    var wallClock: UInt64 { clock.wallClock }
    func after(milliseconds: UInt64, _ action: @escaping () -> Void) {
        clock.after(milliseconds: milliseconds, action)
    }
}

final class LeaseWorld {
    enum Sabotage: CaseIterable {
        /// The session is ended when its proposer has heard nothing for a lease; nobody promises.
        case leaseByProposersClock
        /// The clocks of all but one node are faster than drift allows for.
        case fastVoters
        /// An operation is checked when it begins only.
        case uncheckedCompletion
        /// A holder that gives its lease back goes on until it hears that it is done.
        case lateRelease
    }
    let world: ClusterWorld
    let sabotage: Sabotage?
    private var nodes: [NodeId: LeaseNode] = [:]
    private var heard: [NodeId: UInt64] = [:]
    private var lastTerms: [VolumeId: Term] = [:]
    private var lastHolders: [VolumeId: NodeId] = [:]
    private(set) var operations = 0
    private(set) var refused = 0
    private(set) var takeovers = 0
    private(set) var lateOperations = 0
    private static let volumes = [VolumeId(1), VolumeId(2)]

    init(seed: UInt64, _ options: ClusterWorld.Options, sabotage: Sabotage? = nil) {
        world = ClusterWorld(seed: seed, options)
        self.sabotage = sabotage
        world.onStart = { [unowned self] in start($0) }
        world.onCrash = { [unowned self] in nodes[$0.id] = nil }
        world.onTick = { [unowned self] in tick($0) }
    }

    private func start(_ node: ClusterNode) {
        guard let catalog = node.catalog else { return }
        let mine = LeaseNode(self, node)
        let clock: any Clock = sabotage == .fastVoters && node.id != NodeId(2) ? FastClock(node.clock) : node.clock
        mine.keeper = LeaseKeeper(catalog: catalog, clock: clock, transport: mine)
        nodes[node.id] = mine
        work(mine, node.incarnation)
    }
    private func tick(_ node: ClusterNode) {
        guard let mine = nodes[node.id] else { return }
        mine.keeper.tick()
        if sabotage == .leaseByProposersClock, let catalog = node.catalog {
            for record in catalog.record.sessions where record.isOpen && record.session.node != node.id {
                guard world.now - heard[record.session.node, default: 0] > 3_300_000_000 else { continue }
                catalog.propose(.endSession(record.session, voters: nil)) { _ in }
            }
        }
        checkHolders()
    }
    func send(_ message: LeaseMessage, _ from: ClusterNode, _ to: NodeId) {
        world.connect(from, world.node(to), 100) { [self] peer in
            let incarnation = peer.incarnation
            if case .heartbeat = message { heard[from.id] = world.now }
            try? world.enter(peer, incarnation) { [self] in
                guard let receiver = nodes[to] else { return }
                receiver.keeper.receive(message, from: from.id)
            }
        }
    }

    // MARK: what is done under leases

    private func work(_ mine: LeaseNode, _ incarnation: UInt64) {
        let node = mine.node
        world.later(world.milliseconds(20, 400)) { [self] in
            guard node.incarnation == incarnation, node.isAlive else { return }
            if !node.isPaused, let catalog = node.catalog { use(mine, catalog) }
            work(mine, incarnation)
        }
    }
    private func use(_ mine: LeaseNode, _ catalog: ClusterCatalog) {
        let id = world.random.pick(LeaseWorld.volumes)
        guard let volume = catalog.state.volumes[id], !volume.isHidden else {
            let next = catalog.state.nextVolumeId
            guard next <= 2, mine.node.id == NodeId(1), world.now < world.quietAt else { return }
            return catalog.propose(
                .createVolume(directory: .root, name: "l\(next)", size: 1, copies: nil, attributes: someAttributes),
                request: RequestId(client: 99, number: UInt64(next))
            ) { _ in }
        }
        guard mine.keeper.holds(id), let term = volume.lease?.term else {
            // Nothing is on its way at the end.
            if world.now > world.quietAt { return }
            guard volume.lease == nil || volume.lease?.node == mine.node.id, world.random.chance(percent: 30) else {
                return
            }
            return catalog.propose(
                .acquireLease(id, node: mine.node.id, incarnation: mine.node.incarnation), request: nil
            ) { _ in }
        }
        if !world.isHealed, world.random.chance(percent: 3) {
            if sabotage == .lateRelease {
                catalog.propose(.releaseLease(id, term: term), request: nil) { _ in }
            } else {
                mine.keeper.release(id, term: term) { _ in }
            }
            return
        }
        let incarnation = mine.node.incarnation
        // Some take longer than a lease lasts.
        let time = world.random.chance(percent: 10) ? world.milliseconds(300, 10_000) : world.milliseconds(1, 300)
        world.later(time) { [self] in
            try world.enter(mine.node, incarnation) { [self] in complete(mine, id, term) }
        }
    }
    private func complete(_ mine: LeaseNode, _ id: VolumeId, _ term: Term) {
        let isMine = mine.keeper.holds(id) && mine.node.catalog?.state.volumes[id]?.lease?.term == term
        guard isMine || sabotage == .uncheckedCompletion else {
            refused += 1
            return
        }
        if let last = lastTerms[id], last > term {
            return world.fail("\(mine.node.id) answers as holder under term \(term) of \(id) behind \(last)")
        }
        if lastTerms[id] != term {
            if let holder = lastHolders[id], holder != mine.node.id { takeovers += 1 }
            lastHolders[id] = mine.node.id
        }
        lastTerms[id] = term
        operations += 1
        if world.isHealed { lateOperations += 1 }
        checkHolders()
    }

    /// At this very moment, by each node's own clock and state, stopped or not.
    private func checkHolders() {
        for id in LeaseWorld.volumes {
            let holders = world.nodes.filter { $0.isAlive && nodes[$0.id]?.keeper.holds(id) ?? false }
            if holders.count > 1 { world.fail("\(holders.map(\.id)) believe to be holders of \(id)") }
        }
    }
    func checkEnd() throws {
        for node in world.nodes {
            guard let mine = nodes[node.id], mine.keeper.isHeld else {
                throw AgreementFailure(
                    description:
                        "\(node.id) has no session at the end: \(nodes[node.id].map { "\($0.keeper.session)" } ?? "-") "
                        + "of \(node.catalog?.record.sessions ?? [])")
            }
        }
        guard lateOperations > 20 else {
            throw AgreementFailure(description: "only \(lateOperations) operations after all was healed")
        }
    }
}

extension AgreementFailure {
    fileprivate var isOfHolders: Bool { description.contains("holder") }
}

@Suite struct LeaseLives {
    private func run(
        _ seed: UInt64, _ options: ClusterWorld.Options, _ sabotage: LeaseWorld.Sabotage? = nil
    ) -> (any Error)? {
        let lease = LeaseWorld(seed: seed, options, sabotage: sabotage)
        if Environment.value("SHEEP_TRACE") != nil { lease.world.trace = [] }
        do {
            try lease.world.live()
            try lease.checkEnd()
            LeaseLives.count(lease)
            return nil
        } catch {
            for line in lease.world.trace ?? [] { print(line) }
            return error
        }
    }
    nonisolated(unsafe) private static var totals = (operations: 0, refused: 0, takeovers: 0)
    private static func count(_ world: LeaseWorld) {
        totals.operations += world.operations
        totals.refused += world.refused
        totals.takeovers += world.takeovers
    }
    private func options(_ seed: UInt64) -> ClusterWorld.Options {
        var random = Random(seed ^ 0x1ea5e)
        var options = ClusterWorld.Options()
        options.nodes = 2 + random.below(4)
        options.voters = min(options.nodes, 1 + random.below(5))
        options.isQuorumBlind = random.chance(percent: 30)
        options.changesVoters = random.chance(percent: 60)
        options.imageInterval = [500, 4000, 1_000_000][random.below(3)]
        options.skew = random.below(41)
        options.requests = false
        return options
    }

    @Test func neverTwoHoldersAndEverybodyHoldsInTheEnd() {
        for seed in seeds(30) {
            if let error = run(seed, options(seed)) { Issue.record("seed \(seed): \(error)") }
        }
        let (operations, refused, takeovers) = LeaseLives.totals
        print("\(operations) operations, \(refused) refused at their end, \(takeovers) takeovers")
        #expect(refused > 0 && takeovers > 0)
    }

    @Test(arguments: LeaseWorld.Sabotage.allCases) func aBrokenRuleIsCaught(_ sabotage: LeaseWorld.Sabotage) {
        for seed in UInt64(1)...200 {
            var options = ClusterWorld.Options()
            options.changesVoters = false
            options.requests = false
            if let error = run(seed, options, sabotage) as? AgreementFailure, error.isOfHolders {
                print("\(sabotage): seed \(seed): \(error)")
                return
            }
        }
        Issue.record("\(sabotage) was not noticed in 200 lives")
    }
}
