// All of one host of a cluster that decides: the replicated catalog, the session under which it holds leases, the judgement
// of stores, the gateway with its copies here and elsewhere, and where each operation goes. Pure: it gets the world through
// `HostWorld`, is called on one thread, and calls nothing back from inside a call.
//
//   group, links --> ClusterNode --> ClusterCatalog <--> MemberLog (this node's stores)
//                        |---------> LeaseKeeper      sessions, by the clocks of voters
//                        |---------> StoreJudge       up, down, out
//                        |---------> Node             gateway, recovery, pruning, scrub;  CopyServer for other gateways
//                        |---------> RemoteStores     copies on other nodes
//                        '---------> VolumeRouter     here, at the holder, or the lease is taken
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Wire

package final class ClusterNode {
    package let id: NodeId
    package let catalog: ClusterCatalog
    package let keeper: LeaseKeeper
    package let node: Node
    package let server: CopyServer
    package let remote: RemoteStores
    /// The volumes of the cluster.
    package let volumes: VolumeRouter
    let world: any HostWorld
    let clock: any Clock
    let options: HostOptions
    let messenger: NodeMessenger
    let judge: StoreJudge
    let reach: ReachTracker
    private let wires: Wires
    private let storage: MemberStorage
    private(set) var peers: [RemotePeer] = []
    /// What other nodes, and this one, have said last of themselves.
    var heard: OrderedDictionary<NodeId, Heard> = [:]
    struct Heard {
        let report: ReachReport
        let voterKey: UInt64
        let isLeaving: Bool
        /// Up to where it has the catalog.
        let index: UInt64
        let at: Instant
    }
    /// In the group now.
    private(set) var members: [Member] = []
    /// This node is on its way out of the cluster.
    package internal(set) var isLeaving = false
    var decidedEpoch: (epoch: Epoch, at: Instant)?
    var isChangingVoters = false
    /// Since when volumes whose holder's session has ended wait for somebody.
    var expiredSince: [VolumeId: Instant] = [:]
    /// Volumes some of whose copies are to be made equal before anybody asks for them.
    var unsettled: [VolumeId] = []
    var isSettling = false
    /// Its stores are closed: the others need not find out.
    private(set) var isShut = false
    private(set) var isStopped = false
    /// This process must end, for this reason; it may start again.
    package var onStop: (SheepError) -> Void = { _ in }
    /// Lines for the log.
    package var log: (String) -> Void = { _ in } { didSet { node.log = log } }

    /// Opens the stores and the log of this host; `witness` are disks for the log of a node without stores.
    /// `acceptMissing`: see `MemberLog`. The node does nothing before `start`.
    package static func open(
        world: any HostWorld, options: HostOptions, disks: [HostDisk], witness: [(StoreId, any Disk)] = [],
        acceptMissing: [StoreId] = [], _ completion: @escaping (Result<ClusterNode, SheepError>) -> Void
    ) {
        HostOpening(world, options, completion).open(disks, witness: witness, acceptMissing: acceptMissing)
    }

    init(
        world: any HostWorld, options: HostOptions, log memberLog: MemberLog, parts: [AttachedStore.Parts]
    ) throws(SheepError) {
        self.world = world
        self.options = options
        id = options.node
        clock = world.clock
        wires = Wires(world.group)
        catalog = try ClusterCatalog(
            log: memberLog, incarnation: options.incarnation, clock: world.clock, transport: wires,
            imageInterval: options.imageInterval)
        keeper = LeaseKeeper(catalog: catalog, clock: world.clock, transport: wires)
        storage = MemberStorage(memberLog)
        node = Node(
            id: options.node, incarnation: options.incarnation, catalog: catalog, storage: storage, clock: world.clock,
            pool: world.pool, provider: world, storeConfiguration: options.storeConfiguration, options: options.gateway,
            isClustered: true)
        server = CopyServer(
            clock: world.clock, pool: world.pool, windowBytes: options.windowBytes,
            heartbeatMilliseconds: options.limits.heartbeatMilliseconds)
        messenger = NodeMessenger(cluster: memberLog.clusterId, clock: world.clock)
        judge = StoreJudge(me: options.node, clock: world.clock)
        reach = ReachTracker(clock: world.clock, patienceMilliseconds: options.limits.dataTimeoutMilliseconds)
        volumes = VolumeRouter(
            node: node, keeper: keeper, cluster: catalog, clock: world.clock, messenger: messenger,
            patienceMilliseconds: options.limits.dataTimeoutMilliseconds)
        remote = RemoteStores(node: node, limits: options.limits, isClustered: true)
        wires.host = self
        wire(memberLog)
        for store in parts { node.attach(store) }
    }

    private func wire(_ memberLog: MemberLog) {
        node.onAttach = { [unowned self] in server.attach($0.copy, session: $0.session) }
        node.onDetach = { [unowned self] in server.detach($0) }
        node.pruner.isBusy = { [unowned self] in
            node.gateway.isSynchronising($0) || server.isCompared($0)
        }
        node.pruner.mayPrune = { [unowned self] in allHaveSeen($0) }
        node.recovery.peers = self
        node.scrubber.checkElsewhere = { [unowned self] id, deep, repair, completion in
            volumes.submit(.check(id, deep: deep, repair: repair)) { answer in
                if case .checked(let report) = answer { completion(report) } else { completion(CheckReport()) }
            }
        }
        server.onMessage = { [unowned self] in messenger.take($0, from: $1) }
        server.onConnected = { [unowned self] in
            messenger.accepted($0.node, life: $0.incarnation)
            connect($0.node)
        }
        messenger.onMessage = { [unowned self] in received($0, from: $1) }
        remote.report = { [unowned self] _, _ in sayWhatIsReached() }
        memberLog.onStoreFailure = { [unowned self] store, errno in node.storeFailed(store, "catalog: \(errno)") }
        catalog.onStop = { [unowned self] error in
            world.group.leave()
            onStop(error)
        }
        volumes.onUnequal = { [unowned self] in settleSoon($0) }
        catalog.observe { [unowned self] in changed($0) }
    }

    /// Takes part in the group. The stores are up when the others have seen them.
    package func start(_ completion: @escaping () -> Void = {}) {
        world.group.onEvent = { [weak self] event in self?.happened(event) }
        for node in knownNodes() { connect(node) }
        tick()
        everySecond()
        node.start(completion)
    }

    /// A link on which another node connects.
    package func accept(_ link: any PeerLink) { server.accept(link) }
    /// At the end of every wake-up: gathered journal records go out.
    package func endOfBatch() { node.endOfBatch() }

    /// The process ends in order: what is flushed is flushed, the leases go back, the stores are closed.
    package func shutDown(_ completion: @escaping () -> Void) {
        volumes.isStopping = true
        node.shutDown { [self] in
            isShut = true
            for store in node.stores { server.detach(store.id) }
            sayWhatIsReached()
            keeper.endSession { [self] in
                stop()
                world.group.leave()
                completion()
            }
        }
    }
    /// Nothing is sent or done any more; as by the end of the process.
    package func stop() {
        isStopped = true
        remote.stop()
        server.stop()
    }

    // MARK: the group and the links

    private func happened(_ event: AgreementEvent) {
        guard !isStopped else { return }
        if case .members(let members) = event {
            self.members = members
            for member in members { connect(member.node) }
        }
        catalog.handle(event)
    }
    private func knownNodes() -> [NodeId] {
        let nodes = catalog.state.map.stores.map(\.node) + catalog.record.voters.map(\.node) + members.map(\.node)
        return Set(nodes).sorted()
    }
    private func connect(_ other: NodeId) {
        guard other != id, !messenger.has(other), !isStopped else { return }
        let peer = RemotePeer(node: other, link: world.link(to: other), clock: clock, limits: options.limits)
        peers.append(peer)
        peers.sort { $0.node < $1.node }
        messenger.add(peer)
        remote.add(peer)
    }
    func peer(_ node: NodeId) -> RemotePeer? { peers.first { $0.node == node } }

    private func received(_ message: NodeMessage, from other: NodeId) {
        guard !isStopped else { return }
        switch message {
        case .lease(let message):
            keeper.receive(message, from: other)
            volumes.answerParked()
        case .transfer(let message): catalog.handle(.received(message, from: other))
        case .report(let report, let voterKey, let isLeaving, let index):
            guard report.node == other else { return }
            heard[other] = Heard(report: report, voterKey: voterKey, isLeaving: isLeaving, index: index, at: clock.now)
            judge.take(report)
        case .request, .answer, .ask: break
        }
    }

    private func changed(_ changes: [CatalogChange]) {
        guard changes.contains(where: { if case .map = $0 { true } else { false } }) else { return }
        for node in knownNodes() { connect(node) }
        decideSoon()
    }

    // MARK: time

    /// Twice in a heartbeat, and for the agreement at least every 250 ms.
    private func tick() {
        guard !isStopped else { return }
        catalog.tick()
        keeper.tick()
        messenger.tick()
        volumes.answerParked()
        volumes.resumeAllPrepared()
        let heartbeat = LeaseTimes(leaseMilliseconds: catalog.state.settings.leaseMilliseconds).heartbeatMilliseconds
        clock.after(milliseconds: min(250, max(5, heartbeat / 2))) { [weak self] in self?.tick() }
    }
    private func everySecond() {
        guard !isStopped else { return }
        sayWhatIsReached()
        decide()
        changeVoters()
        takeExpired()
        settleNext()
        volumes.forgetIdleRoutes()
        clock.after(milliseconds: 1_000) { [weak self] in self?.everySecond() }
    }
}

/// What the catalog and the leases send goes through the group and over the links.
private final class Wires: ClusterTransport, LeaseTransport {
    weak var host: ClusterNode?
    private let group: any GroupDriver
    init(_ group: any GroupDriver) { self.group = group }
    func multicast(_ message: AgreementMessage) { group.multicast(message) }
    func send(_ message: TransferMessage, to node: NodeId) { host?.messenger.send(.transfer(message), to: node) }
    func send(_ message: LeaseMessage, to node: NodeId) {
        guard let host else { return }
        guard node == host.id else { return host.messenger.send(.lease(message), to: node) }
        host.clock.after(milliseconds: 0) { [weak host] in
            guard let host, !host.isStopped else { return }
            host.keeper.receive(message, from: node)
            host.volumes.answerParked()
        }
    }
}

/// The node's log is on its stores.
private final class MemberStorage: CatalogStorage {
    private let log: MemberLog
    init(_ log: MemberLog) { self.log = log }
    var strangers: [StoreId] { log.strangers }
    func attach(store: StoreId, disk: any Disk, _ completion: @escaping (SheepError?) -> Void) {
        log.attach(store: store, disk: disk, completion)
    }
    func detach(store: StoreId, _ completion: @escaping (SheepError?) -> Void) {
        log.detach(store: store, completion)
    }
}
