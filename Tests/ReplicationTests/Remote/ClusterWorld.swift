// A world of several nodes: one has guests, a gateway and a store or two; each of the others has one store, behind a
// server. The catalog is one object that all see, on disks that do not fail: the replicated one is proved elsewhere.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import TestSupport
import Testing

@testable import Replication

/// The catalog as one process sees it: its answers end with it.
final class CatalogView: CatalogProposer, CatalogStorage {
    private let catalog: LocalCatalog
    private let process: SimulatedProcess
    init(_ catalog: LocalCatalog, _ process: SimulatedProcess) {
        self.catalog = catalog
        self.process = process
    }
    var state: CatalogState { catalog.state }
    func propose(_ command: CatalogCommand, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void) {
        guard process.isAlive else { return }
        catalog.propose(command, request: request) { [process] answer in process.run { completion(answer) } }
    }
    func observe(_ observer: @escaping ([CatalogChange]) -> Void) {
        catalog.observe { [process] changes in if process.isAlive { observer(changes) } }
    }
    func attach(store: StoreId, disk: any Disk, _ completion: @escaping (SheepError?) -> Void) {
        process.after(milliseconds: 0) { completion(nil) }
    }
    func detach(store: StoreId, _ completion: @escaping (SheepError?) -> Void) {
        process.after(milliseconds: 0) { completion(nil) }
    }
}

final class ClusterWorld: World {
    private(set) var network: SimulatedNetwork!
    private(set) var hosts: [StoreHost] = []
    private let localStores: Int
    private(set) var process: SimulatedProcess!
    private(set) var remote: RemoteStores!
    private(set) var peers: [RemotePeer] = []
    private var nodeLives: UInt64 = 0
    var limits = RemoteLimits()

    /// `hosts` nodes with a store each, besides the one with guests and `local` stores.
    init(seed: UInt64, local: Int = 1, hosts: Int = 2, _ change: @escaping (ClusterWorld) -> Void = { _ in }) {
        localStores = local
        limits.windowBytes = 1 << 20
        super.init(seed: seed, stores: local + hosts) { world in
            let world = world as! ClusterWorld
            world.network = SimulatedNetwork(machine: world.machine, seed: seed)
            // A store that has failed stays so until its node is started again, however long that is.
            world.settings.downOutIntervalMilliseconds = 1_000_000_000
            change(world)
        }
    }

    override var clock: any Clock { process ?? SimulatedProcess(machine: machine, node: NodeId(1), incarnation: 0) }
    override var copies: [Copy] {
        ((node?.stores.map(\.copy) ?? []) + hosts.filter(\.isServing).compactMap(\.copy)).sorted { $0.store < $1.store }
    }
    override var othersAreAtRest: Bool {
        remote.isSettled && network.isWhole
            && hosts.allSatisfy { $0.isServing && $0.isAtRest && status($0.store) == .up }
    }
    override func endOfBatch() {
        super.endOfBatch()
        for host in hosts where host.isAlive { host.core?.endOfBatch() }
    }

    override func create() {
        for i in shelves.indices {
            shelves[i].id = newStoreId()
            reformat(i)
        }
        process = SimulatedProcess(machine: machine, node: NodeId(1), incarnation: 1)
        let catalogDisks = (0..<3).map { (StoreId(UInt64(900 + $0)), machine.makeDisk() as any Disk) }
        catalog = LocalCatalog(disks: catalogDisks, clock: machine, node: NodeId(1), incarnation: 1)
        catalog.observe { [unowned self] changes in for host in hosts { host.changed(changes) } }
        let parts = (0..<localStores).map { open($0)! }
        var descriptions = parts.map { describe($0.id, NodeId(1), $0.session, $0.path) }
        for i in localStores..<shelves.count {
            let host = StoreHost(self, node: NodeId(UInt32(2 + i - localStores)), shelf: i)
            hosts.append(host)
            descriptions.append(describe(host.store, host.node, session(i), shelves[i].path))
        }
        var error: SheepError??
        catalog.create(
            clusterId: clusterId, settings: settings,
            rootAttributes: FileAttributes(uid: 0, gid: 0, mode: 0o755, time: 0), stores: descriptions
        ) { error = .some($0) }
        run("create") { error != nil }
        if case .some(.some(let error)) = error { fatalError("\(error)") }
        startHosts()
        startNode(parts, failed: [])
    }
    private func describe(_ id: StoreId, _ node: NodeId, _ session: StoreSession, _ path: String) -> StoreDescription {
        StoreDescription(
            id: id, node: node, path: path, weight: 1 << 30, zone: id.rawValue, session: session,
            wallClock: machine.wallClock)
    }
    private func startHosts() {
        for host in hosts where !host.isAlive { host.start() }
        run("hosts") { hosts.allSatisfy(\.isServing) }
    }

    override func startNode(_ parts: [AttachedStore.Parts], failed: [StoreId]) {
        let view = CatalogView(catalog, process)
        let node = Node(
            id: NodeId(1), incarnation: process.incarnation, catalog: view, storage: view, clock: process, pool: pool,
            provider: self, storeConfiguration: storeConfiguration, options: options)
        node.log = { [unowned self] in log.append($0) }
        for store in parts { node.attach(store) }
        for id in failed { node.noteFailed(id, "cannot be opened") }
        self.node = node
        remote = RemoteStores(node: node, limits: limits)
        peers = hosts.map { host in
            RemotePeer(
                node: host.node, link: SimulatedLink(network, process, pool: pool, to: host.node), clock: process,
                limits: limits)
        }
        for peer in peers { remote.add(peer) }
        var isStarted = false
        node.start { isStarted = true }
        run("start") { isStarted }
        if waitsForStores { run("the other nodes' stores") { remote.isSettled } }
    }
    /// Whether guests are let in only when it is known which stores are there.
    var waitsForStores = true

    @discardableResult
    override func start(without missing: [StoreId] = [], acceptMissing: [StoreId] = []) -> SheepError? {
        precondition(node == nil)
        life += 1
        cores = []
        failed = []
        for host in hosts where host.isAlive && host.hasFailed { host.kill() }
        for host in hosts where !host.isAlive { host.start() }
        process = SimulatedProcess(machine: machine, node: NodeId(1), incarnation: 1 + life)
        var parts: [AttachedStore.Parts] = []
        var failed: [StoreId] = []
        for i in 0..<localStores {
            if let store = open(i) { parts.append(store) } else { failed.append(shelves[i].id) }
        }
        startNode(parts, failed: failed)
        return nil
    }

    override func forget() {
        remote?.stop()
        remote = nil
        peers = []
        super.endOfBatch()
        node = nil
        cores = []
    }
    /// The node with the guests; in some lives others die with it.
    override func kill() {
        killNode()
        for host in hosts where machine.random.chance(percent: 30) { host.kill() }
    }
    private func killNode() {
        process.kill()
        for i in 0..<localStores { shelves[i].disk.killProcess() }
        for connection in network.connections where connection.ends[0].process === process { connection.close(0) }
        node = nil
        remote = nil
        peers = []
        cores = []
    }
    /// All of them, and all come back.
    override func losePower() {
        process.kill()
        for i in 0..<localStores { shelves[i].disk.losePower() }
        for connection in network.connections { connection.close(0) }
        for host in hosts { host.losePower() }
        for shelf in shelves.indices { sessionBreaks(shelf) }
        bootId = ClusterId(high: 1, low: bootId.low + 1)
        node = nil
        remote = nil
        peers = []
        cores = []
    }
    /// Whether a power loss breaks the sessions of stores, as it does; else the map hears nothing of it.
    var breaksSessions = false
    /// Boots of the machines that stores are in, by shelf.
    private var boots: [Int: UInt64] = [:]
    func session(_ shelf: Int) -> StoreSession {
        StoreSession(bootId: ClusterId(high: UInt64(shelf), low: boots[shelf] ?? 1), incarnation: 1)
    }
    private func sessionBreaks(_ shelf: Int) {
        if breaksSessions { boots[shelf] = (boots[shelf] ?? 1) + 1 }
    }
    /// What a judge of the stores does: says which are there in the sessions that the map names.
    func confirmSessions() {
        let map = catalog.state.map
        guard node != nil, map.stores.contains(where: { $0.broken != nil }) else { return }
        let own = node.stores.map { ($0.id, $0.session) }
        let others = hosts.filter { $0.isServing && !$0.process.isStopped }.map { ($0.store, session($0.shelf)) }
        let seen = (own + others).filter { id, session in
            map.store(id).map { $0.status == .up && $0.session == session } ?? false
        }
        catalog.propose(.sessionsConfirmed(seen.map(\.0)), request: nil) { _ in }
    }
    override func open(_ i: Int) -> AttachedStore.Parts? {
        super.open(i).map {
            AttachedStore.Parts(id: $0.id, path: $0.path, disk: $0.disk, objects: $0.objects, session: session(i))
        }
    }

    // MARK: disturbances

    /// How faults are bounded, so that a correct cluster always recovers: between two moments at which all is well and all
    /// copies are complete, faults touch so few stores that every object keeps a target that none has touched. That one has
    /// every write that was acknowledged, and is here for good. All other faults heal by themselves, but for disks that
    /// fail: those work again when the node with guests is started again. Whoever has touched a store may touch it again.
    var boundsFaults = true
    /// Stores that a fault has touched since all was well.
    private var touched: Set<StoreId> = []

    /// Those of them whose disks fail until the next start.
    private var failed: Set<StoreId> = []

    override func mayFail(_ store: StoreId) -> Bool {
        guard mayTouch([store]) else { return false }
        failed.insert(store)
        return true
    }
    private func mayTouch(_ stores: [StoreId]) -> Bool {
        guard boundsFaults else { return true }
        if isWhole { touched = [] }
        guard touched.union(stores).count < settings.copies else { return false }
        touched.formUnion(stores)
        return true
    }
    /// Nothing that any fault did has any effect any more.
    private var isWhole: Bool {
        isWell && peers.allSatisfy { $0.isUp && $0.bytesOnTheWay == 0 } && network.allBreaksAreHeard
            && failed.isEmpty
            && node.gateway.volumes.values.allSatisfy { volume in
                volume.exceptions.values.allSatisfy { $0.values.allSatisfy { $0 == .complete } }
            }
    }
    private var isWell: Bool {
        network.isWhole && isAtRest && hosts.allSatisfy { !$0.process.isStopped }
            && catalog.state.map.stores.allSatisfy { $0.status == .up }
    }
    override func endOfStep() {
        if !touched.isEmpty, node != nil, peers.allSatisfy({ $0.bytesOnTheWay == 0 }), isWhole { touched = [] }
    }

    /// Something happens to the network or to another node; it heals by itself. Answers with what it was.
    func disturb(_ random: inout Random) -> String {
        let kind = boundsFaults && !isWell ? 0 : random.below(10)
        if kind < 4, mayTouch(hosts.map(\.store)) {
            network.breakConnections()
            return "connections break"
        }
        let host = random.pick(hosts)
        guard mayTouch([host.store]) else { return "no fault: too few stores are untouched" }
        switch kind {
        case 0..<4:
            network.breakConnections(of: host.node)
            return "connections to node \(host.node) break"
        case 4..<6:
            let isOutward = random.chance(percent: 50)
            if isOutward { network.cut(NodeId(1), host.node) } else { network.cut(host.node, NodeId(1)) }
            heal(milliseconds: random.pick([50, 500, 1_500, 2_500, 6_000]))
            return "cut \(isOutward ? "to" : "from") node \(host.node)"
        case 6:
            network.cut(NodeId(1), host.node)
            network.cut(host.node, NodeId(1))
            heal(milliseconds: random.pick([500, 2_500, 6_000]))
            return "node \(host.node) is cut off"
        case 7:
            guard host.isAlive, !host.hasFailed else { return "" }
            let process = host.process!
            process.stop()
            machine.after(milliseconds: UInt64(random.pick([100, 1_000, 3_000, 5_000]))) { process.resume() }
            return "node \(host.node) stands still"
        default:
            guard host.isAlive, !host.hasFailed else { return "" }
            let losesPower = breaksSessions && random.chance(percent: 50)
            if losesPower {
                host.losePower()
                sessionBreaks(host.shelf)
            } else {
                host.kill()
            }
            machine.after(milliseconds: UInt64(random.pick([10, 300, 3_000]))) { [weak host] in
                if let host, !host.isAlive { host.start() }
            }
            return "node \(host.node) \(losesPower ? "loses power" : "is killed")"
        }
    }
    private func heal(milliseconds: UInt64) {
        machine.after(milliseconds: milliseconds) { [network] in network?.heal() }
    }
}
