// A node that has one store and no guests: the store's core, its copy, and the server that lets gateways of other nodes
// use it. What a whole node does besides for its own stores (removing what cannot be reached, telling the catalog that a
// store is up) is done here, in short.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import TestSupport

@testable import Replication

final class StoreHost {
    let node: NodeId
    let shelf: Int
    unowned let world: ClusterWorld
    private(set) var process: SimulatedProcess!
    private(set) var copy: Copy?
    private(set) var server: CopyServer?
    private(set) var core: ObjectStore?
    private var pruner: Pruner?
    private var session: StoreSession?
    private(set) var hasFailed = false
    private var lives: UInt64 = 0
    private var isRemoving = false
    var isAlive: Bool { process?.isAlive ?? false }
    var isServing: Bool { isAlive && server != nil && !hasFailed }

    init(_ world: ClusterWorld, node: NodeId, shelf: Int) {
        self.world = world
        self.node = node
        self.shelf = shelf
    }
    var store: StoreId { world.shelves[shelf].id }
    private var disk: MemoryDisk { world.shelves[shelf].disk }

    /// A new life: opens the store, then serves it.
    func start() {
        precondition(!isAlive)
        lives += 1
        hasFailed = false
        let process = SimulatedProcess(
            machine: world.machine, node: node, incarnation: UInt64(node.rawValue) << 32 | lives)
        self.process = process
        let core = ObjectStore(
            disk: disk, clock: process, pool: world.pool, configuration: world.storeConfiguration
        ) { [weak self] error in self?.failed(error.sheepError.why) }
        self.core = core
        core.open { [weak self] result in
            guard let self, self.core === core else { return }
            guard case .success = result else {
                world.log.append("store \(store) of node \(node) does not open: \(result)")
                return kill()
            }
            serve(core, world.session(shelf))
        }
    }

    private func serve(_ core: ObjectStore, _ session: StoreSession) {
        self.session = session
        let copy = Copy(store: store, objects: core, catalog: world.catalog)
        self.copy = copy
        let server = CopyServer(clock: process, pool: world.pool, windowBytes: 1 << 20)
        server.log = { [unowned self] in world.log.append("node \(node): \($0)") }
        server.attach(copy, session: session)
        self.server = server
        let pruner = Pruner(catalog: world.catalog, clock: process)
        pruner.copies = { [copy] }
        // A node would know it by the copy's state, and by the lease's holder.
        pruner.isBusy = { [unowned world] in world.node?.gateway.isSynchronising($0) ?? false }
        self.pruner = pruner
        world.network.listen(process) { [weak server] link in server?.accept(link) }
        for id in world.catalog.state.volumes.keys { pruner.prune(id) }
        look()
    }

    func kill() {
        guard isAlive else { return }
        process.kill()
        disk.killProcess()
        forget()
    }
    func losePower() {
        process?.kill()
        disk.losePower()
        forget()
    }
    private func forget() {
        server?.stop()
        for connection in world.network.connections {
            if let number = connection.ends.firstIndex(where: { $0.process === process }) { connection.close(number) }
        }
        (copy, server, core, pruner) = (nil, nil, nil, nil)
        isRemoving = false
    }

    private func failed(_ reason: String) {
        hasFailed = true
        guard session != nil else { return }
        process.after(milliseconds: 0) { [self] in
            world.catalog.propose(
                .storeDown(store, reason: reason, wallClock: world.machine.wallClock), request: nil
            ) { _ in }
        }
    }

    /// What the catalog has changed: the copy hears of the map, and what is gone from the catalog goes here.
    func changed(_ changes: [CatalogChange]) {
        let life = lives
        // Usually at once, sometimes late: requests of a newer map wait here, those of an older one are refused.
        process?.after(milliseconds: UInt64(world.network.random.pick([0, 0, 0, 1, 5, 100]))) { [weak self] in
            if let self, life == lives { heard(changes) }
        }
    }
    private func heard(_ changes: [CatalogChange]) {
        guard let copy, let pruner else { return }
        for change in changes {
            switch change {
            case .map, .settings: copy.mapChanged()
            case .volumeChanged(let id), .snapshotRemoved(let id, _): pruner.prune(id)
            default: break
            }
        }
    }

    /// Every while: says that it is up if it is not in the map, and removes what belongs to volumes that are gone.
    private func look() {
        let life = lives
        process.after(milliseconds: 300) { [weak self] in
            guard let self, life == lives else { return }
            world.confirmSessions()
            look()
        }
        guard let copy, let session, !hasFailed, let record = world.catalog.state.map.store(store) else { return }
        let isReachable = !world.network.isCut(NodeId(1), node) && !world.network.isCut(node, NodeId(1))
        if record.status == .down || record.status == .up && record.session != session, isReachable {
            let command = CatalogCommand.storeUp(store, session: session, wallClock: world.machine.wallClock)
            world.catalog.propose(command, request: nil) { _ in }
        }
        guard !isRemoving else { return }
        let state = world.catalog.state
        let gone = copy.objects.volumes().filter { state.volumes[$0] == nil }
        let objects = gone.flatMap { copy.objects.objects(of: $0).map(\.object) }
        guard !objects.isEmpty else { return }
        isRemoving = true
        let join = Join(objects.count) { [weak self] _ in
            guard let self, life == lives else { return }
            isRemoving = false
        }
        for object in objects { copy.remove(object) { _ in join.arrive(nil) } }
    }

    var isAtRest: Bool {
        guard isAlive, let copy, let pruner else { return !isAlive }
        let state = world.catalog.state
        return pruner.pendingVolumes == 0 && copy.objects.volumes().allSatisfy { state.volumes[$0] != nil }
    }
}
