// A host that is a cluster by itself: a node over a catalog that is on its own stores, as the embedded product runs it.
// It starts and ends as the daemon does (StoreOpener): opens what it finds, then the catalog, then the node.
import Catalog
import Model
import ObjectStore
import Replication

package final class SingleHost: SimulatedHost {
    private struct Drive {
        let path: String
        let disk: SimulatedDisk
        var store: StoreId?
    }
    package let id = NodeId(1)
    private var surroundings: HostSurroundings
    private var drives: [Drive] = []
    private var bootNumber: UInt64 = 1
    private var nextStore: UInt64 = 100
    private var isFounded = false
    package private(set) var life: UInt64 = 0
    package var onServing: () -> Void = {}

    // The process.
    private var process: SimulatedProcess?
    private var cores: [ObjectStore] = []
    private var opened: [AttachedStore.Parts] = []
    private var failed: [(StoreId, String)] = []
    private var claims: [String] = []
    private var catalog: LocalCatalog?
    private var node: Node?
    private var isServing = false
    private var isBatchArmed = false

    package init(_ surroundings: HostSurroundings) {
        self.surroundings = surroundings
        for i in 0..<surroundings.knobs.storesPerHost { addDisk(path: "/disk\(i)") }
    }

    package var disks: [SimulatedDisk] { drives.map(\.disk) }
    package var isRunning: Bool { process != nil }
    package var isStopped: Bool { process?.isStopped ?? false }
    package var service: (any VolumeService)? { isServing ? node : nil }
    package var administration: (any NodeAdministration)? { isServing ? node : nil }
    package var copies: [Copy] { node?.stores.map(\.copy) ?? [] }
    package var state: CatalogState? { isServing ? catalog?.state : nil }
    package var isAtRest: Bool { isServing && node!.isAtRest }
    package var diagnosis: String {
        guard let node, isServing else { return "not serving" }
        return "\(node.recovery.status.phase) \(node.recovery.status.waitingFor) at rest \(node.isAtRest), "
            + SingleHost.stores(node.catalog.state)
    }
    static func stores(_ state: CatalogState) -> String {
        let stores = state.map.stores.map {
            "\($0.id.rawValue) \($0.status) lacks \(state.map.missingRanges(of: $0.id).count)"
        }
        return "entry \(state.index) epoch \(state.map.epoch)\(state.map.to == nil ? "" : " moving") \(stores)"
    }
    package func disk(of store: StoreId) -> Int? { drives.firstIndex { $0.store == store } }

    package func addDisk(path: String) {
        let disk = SimulatedDisk(
            number: drives.count, seed: surroundings.random.next(), latency: surroundings.knobs.latency,
            queue: surroundings.queue, trace: surroundings.trace)
        disk.memory.tearsSyncedAppends = surroundings.knobs.tearsSyncedAppends
        drives.append(Drive(path: path, disk: disk, store: nil))
    }

    // MARK: processes

    package func enter(_ action: @escaping () -> Void) { process?.run(action) }
    package func stop() { process?.stop() }
    package func resume() { process?.resume() }
    package func kill() {
        end()
        for drive in drives { drive.disk.memory.killProcess() }
    }
    package func losePower() {
        end()
        for drive in drives { drive.disk.memory.losePower() }
        bootNumber += 1
    }
    private func end() {
        process?.kill()
        process = nil
        (cores, opened, failed, claims) = ([], [], [], [])
        (catalog, node) = (nil, nil)
        isServing = false
        isBatchArmed = false
    }

    private var configuration: StoreConfiguration {
        var configuration = surroundings.knobs.storeConfiguration
        configuration.bootId = bootId
        return configuration
    }

    package func boot() {
        precondition(process == nil)
        life += 1
        let process = SimulatedProcess(queue: surroundings.queue, node: id, incarnation: life)
        self.process = process
        process.afterEach = { [unowned self] in armBatch() }
        note("starts, life \(life)")
        process.run { [self] in
            let present = drives.indices.filter { !isFounded || drives[$0].disk.memory.exists(.superblock) }
            var left = present.count
            let oneLess = { [self] in
                left -= 1
                if left == 0 { openCatalog() }
            }
            for i in present { if isFounded { open(i, oneLess) } else { format(i, oneLess) } }
        }
    }
    /// What was journalled goes out at the end of a wake-up, in which several things may have happened.
    private func armBatch() {
        guard !isBatchArmed, let process else { return }
        isBatchArmed = true
        surroundings.queue.after(nanoseconds: surroundings.knobs.batchNanoseconds) { [self] in
            guard self.process === process else { return }
            isBatchArmed = false
            if process.isStopped { return process.run { [self] in endOfBatch() } }
            // Not through the process, whose every action arms another one. What one store's end of the batch asks of
            // another one goes out too.
            for _ in 0..<2 { endOfBatch() }
        }
    }
    private func endOfBatch() {
        for core in cores { core.endOfBatch() }
        node?.endOfBatch()
    }
    private func note(_ text: String) { surroundings.trace.note("host \(id) \(text)") }

    private func format(_ i: Int, _ completion: @escaping () -> Void) {
        let store = newStoreId()
        let identity = StoreIdentity(
            clusterId: surroundings.clusterId, storeId: store, createdWallClock: process!.wallClock)
        let disk = drives[i].disk.open(by: process!)
        ObjectStore.format(disk, identity: identity, configuration: configuration) { [self] result in
            guard case .success = result else { preconditionFailure("a new disk cannot be formatted: \(result)") }
            open(i, completion)
        }
    }
    private func open(_ i: Int, _ completion: @escaping () -> Void) {
        let process = process!
        let disk = drives[i].disk.open(by: process)
        var store = drives[i].store
        let core = ObjectStore(disk: disk, clock: process, pool: surroundings.pool, configuration: configuration) {
            [unowned self] error in
            guard let store else { return }
            if let node { node.storeFailed(store, error.sheepError.why) } else { failed.append((store, "died")) }
        }
        cores.append(core)
        core.open { [self] result in
            cores.removeAll { $0 === core }
            switch result {
            case .failure(let error):
                note("disk \(i) does not open: \(error)")
                if let store { failed.append((store, "cannot be opened")) }
            case .success(let report):
                store = report.identity.storeId
                drives[i].store = report.identity.storeId
                claims.append(drives[i].path)
                opened.append(
                    AttachedStore.Parts(
                        id: report.identity.storeId, path: drives[i].path, disk: disk, objects: core,
                        session: report.session))
                // Until the node does it.
                cores.append(core)
            }
            completion()
        }
    }

    private func openCatalog() {
        let process = process!
        opened.sort { $0.id < $1.id }
        let catalog = LocalCatalog(
            disks: opened.map { ($0.id, $0.disk) }, clock: process, node: id, incarnation: life,
            imageInterval: surroundings.knobs.catalogImageBytes)
        self.catalog = catalog
        catalog.onStoreFailure = { [unowned self] store, errno in
            if let node { node.storeFailed(store, "catalog: \(errno)") } else { failed.append((store, "catalog")) }
        }
        let done: (SheepError?) -> Void = { [self] error in
            guard let error else { return startNode(catalog) }
            note("does not start: \(error.what) \(error.why)")
            surroundings.queue.after(nanoseconds: 2_000_000_000) { [self] in
                guard self.process === process else { return }
                kill()
                boot()
            }
        }
        if isFounded { return catalog.open(acceptMissing: [], done) }
        isFounded = true
        let stores = opened.map {
            StoreDescription(
                id: $0.id, node: id, path: $0.path, weight: 1 << 30, zone: $0.id.rawValue, session: $0.session,
                wallClock: process.wallClock)
        }
        catalog.create(
            clusterId: surroundings.clusterId, settings: surroundings.knobs.settings,
            rootAttributes: FileAttributes(uid: 0, gid: 0, mode: 0o755, time: 0), stores: stores, done)
    }

    private func startNode(_ catalog: LocalCatalog) {
        let node = Node(
            id: id, incarnation: life, catalog: catalog, storage: catalog, clock: process!, pool: surroundings.pool,
            provider: self, storeConfiguration: configuration, options: surroundings.knobs.gatewayOptions)
        node.log = { [unowned self] in note("says: \($0)") }
        let map = catalog.state.map
        for store in opened where map.store(store.id).map({ $0.status != .out }) ?? false {
            node.attach(store)
            cores.removeAll { $0 === store.objects }
        }
        // As the daemon does: of the cluster, and not open.
        for record in map.stores where !opened.contains(where: { $0.id == record.id }) {
            node.noteFailed(record.id, "it cannot be opened")
        }
        for (store, reason) in failed { node.noteFailed(store, reason) }
        self.node = node
        node.start { [self] in
            isServing = true
            note("serves at \(catalog.state.index)")
            onServing()
        }
    }
}

extension SingleHost: StoreProvider {
    package func claimEmpty(path: String, _ completion: @escaping (Result<any Disk, SheepError>) -> Void) {
        guard let process, let drive = drives.first(where: { $0.path == path }) else { return }
        process.after(milliseconds: 0) { [self] in
            if claims.contains(path) || drive.disk.memory.exists(.superblock) {
                let error = SheepError(.exists, what: path, why: "it is in use, or a store", remedy: "another one")
                return completion(.failure(error))
            }
            claims.append(path)
            completion(.success(drive.disk.open(by: process)))
        }
    }
    package func release(path: String) { claims.removeAll { $0 == path } }
    package func newStoreId() -> StoreId {
        nextStore += 1
        return StoreId(nextStore)
    }
    package var bootId: ClusterId { ClusterId(high: 1, low: bootNumber) }
}
