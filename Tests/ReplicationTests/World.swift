// A whole host in a test: virtual disks, real stores, the real catalog and a real node, on one thread, from one seed.
// It is stepped; calls that look synchronous step it until they are answered.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import TestSupport
import Testing

@testable import Replication

/// What is left on a disk when nothing runs: where it is mounted, and whose it is.
struct Shelf {
    let path: String
    let disk: MemoryDisk
    var id: StoreId
}

class World: StoreProvider {
    let machine: VirtualMachine
    let pool = BufferPool(limitBytes: 8 << 20)
    var shelves: [Shelf] = []
    /// Cores that open.
    var cores: [(StoreId, ObjectStore)] = []
    var catalog: LocalCatalog!
    var node: Node!
    private var nextStore: UInt64 = 100
    var life: UInt64 = 0
    var bootId = ClusterId(high: 1, low: 1)
    var configuration = World.smallStores()
    var options = GatewayOptions()
    var settings = Settings()
    var log: [String] = []
    var isRunning: Bool { node != nil }
    /// Of the node's process.
    var clock: any Clock { machine }
    /// Everybody's, ascending by store.
    var copies: [Copy] { node.stores.map(\.copy) }
    /// What does not belong to the node has nothing left to do.
    var othersAreAtRest: Bool { true }
    let clusterId = ClusterId(high: 0xc1, low: 0x05)

    static func smallStores() -> StoreConfiguration {
        var configuration = StoreConfiguration()
        configuration.journalSegmentBytes = 1280 << 10
        configuration.journalMaximumSegments = 6
        configuration.memoryLimitBytes = 1 << 20
        configuration.headerCacheCount = 16
        configuration.viewCacheCount = 4
        configuration.dirtyHeaderLimit = 64
        configuration.syncDelayBytes = 64 << 10
        configuration.checkpointIntervalMilliseconds = 400
        configuration.reserveBytes = 0
        configuration.skipJournalSync = Environment.value("SABOTAGE") == "sync"
        configuration.applyBeforeDurable = Environment.value("SABOTAGE") == "apply"
        return configuration
    }

    /// A new cluster of `stores` empty disks, running.
    init(seed: UInt64 = 1, stores: Int = 3, _ change: (World) -> Void = { _ in }) {
        machine = VirtualMachine(seed: seed)
        for i in 0..<stores { addShelf("/disk\(i)") }
        change(self)
        create()
    }

    @discardableResult func addShelf(_ path: String) -> Int {
        shelves.append(Shelf(path: path, disk: machine.makeDisk(), id: StoreId(0)))
        return shelves.count - 1
    }
    func shelf(_ id: StoreId) -> Int { shelves.firstIndex { $0.id == id }! }
    func store(_ id: StoreId) -> ObjectStore? { copies.first { $0.store == id }?.objects }

    // MARK: StoreProvider
    func claimEmpty(path: String, _ completion: @escaping (Result<any Disk, SheepError>) -> Void) {
        let shelf = shelves.first { $0.path == path }!
        machine.after(milliseconds: 0) { [self] in
            if isClaimed(path) || shelf.disk.exists(.superblock) {
                return completion(
                    .failure(SheepError(.exists, what: path, why: "it is in use, or a store", remedy: "another one")))
            }
            claims.append(path)
            completion(.success(shelf.disk))
        }
    }
    /// Directories that this process has; the disk of one that was let go must not be used any more.
    private var claims: [String] = []
    func isClaimed(_ path: String) -> Bool { claims.contains(path) }
    func release(path: String) { claims.removeAll { $0 == path } }
    func newStoreId() -> StoreId {
        nextStore += 1
        return StoreId(nextStore)
    }

    // MARK: running

    /// Runs one thing; then what was journalled goes out, as at the end of a wake-up.
    func step() -> Bool {
        let ran = machine.step()
        endOfBatch()
        endOfStep()
        return ran
    }
    func endOfStep() {}
    /// Asked when a store's disk is about to fail until the next start. False: data might be left without a copy that is
    /// current and stays.
    func mayFail(_ store: StoreId) -> Bool { true }
    func endOfBatch() {
        for (_, core) in cores { core.endOfBatch() }
        node?.endOfBatch()
    }
    /// Steps until `done`. Records an issue when it takes more than `seconds` of virtual time, or nothing is left.
    @discardableResult
    func run(
        _ what: String, seconds: UInt64 = 120, _ location: SourceLocation = #_sourceLocation, until done: () -> Bool
    ) -> Bool {
        let end = machine.nanoseconds + seconds * 1_000_000_000
        endOfBatch()
        var steps = 0
        while !done() {
            steps += 1
            guard machine.nanoseconds < end, steps < 5_000_000, step() else {
                Issue.record("not done: \(what) after \(steps) steps", sourceLocation: location)
                return false
            }
        }
        return true
    }
    func pass(milliseconds: UInt64) {
        let end = machine.nanoseconds + milliseconds * 1_000_000
        endOfBatch()
        while machine.nanoseconds < end, step() {}
    }
    func answer<T>(
        _ what: String, seconds: UInt64 = 120, _ location: SourceLocation = #_sourceLocation,
        _ call: (@escaping (T) -> Void) -> Void
    ) -> T? {
        var result: T?
        call { result = $0 }
        run(what, seconds: seconds, location) { result != nil }
        return result
    }

    // MARK: lives

    func create() {
        var parts: [AttachedStore.Parts] = []
        for i in shelves.indices {
            shelves[i].id = newStoreId()
            let identity = StoreIdentity(
                clusterId: clusterId, storeId: shelves[i].id, createdWallClock: machine.wallClock)
            let disk = shelves[i].disk
            let result: Result<Void, StoreError>? = answer("format") {
                ObjectStore.format(disk, identity: identity, configuration: storeConfiguration, completion: $0)
            }
            guard case .success? = result else { fatalError("format: \(String(describing: result))") }
            parts.append(open(i)!)
        }
        life += 1
        catalog = makeCatalog(parts)
        let descriptions = parts.map {
            StoreDescription(
                id: $0.id, node: NodeId(1), path: $0.path, weight: 1 << 30, zone: $0.id.rawValue, session: $0.session,
                wallClock: machine.wallClock)
        }
        var error: SheepError??
        catalog.create(
            clusterId: clusterId, settings: settings,
            rootAttributes: FileAttributes(uid: 0, gid: 0, mode: 0o755, time: 0), stores: descriptions
        ) { error = .some($0) }
        run("create") { error != nil }
        if case .some(.some(let error)) = error { fatalError("\(error)") }
        startNode(parts, failed: [])
    }
    /// Makes a store with its old id on a wiped disk.
    func reformat(_ i: Int) {
        let identity = StoreIdentity(clusterId: clusterId, storeId: shelves[i].id, createdWallClock: machine.wallClock)
        let disk = shelves[i].disk
        let result: Result<Void, StoreError>? = answer("format") {
            ObjectStore.format(disk, identity: identity, configuration: storeConfiguration, completion: $0)
        }
        guard case .success? = result else { fatalError("format: \(String(describing: result))") }
    }
    var storeConfiguration: StoreConfiguration {
        var configuration = configuration
        configuration.bootId = bootId
        return configuration
    }
    private func makeCatalog(_ parts: [AttachedStore.Parts]) -> LocalCatalog {
        LocalCatalog(disks: parts.map { ($0.id, $0.disk) }, clock: machine, node: NodeId(1), incarnation: life)
    }

    func open(_ i: Int) -> AttachedStore.Parts? {
        let disk = shelves[i].disk
        let id = shelves[i].id
        let core = ObjectStore(disk: disk, clock: clock, pool: pool, configuration: storeConfiguration) {
            [unowned self] error in node?.storeFailed(id, error.sheepError.why)
        }
        cores.append((id, core))
        let result: Result<StoreReport, StoreError>? = answer("open") { core.open(completion: $0) }
        guard case .success(let report)? = result, report.identity.clusterId == clusterId else {
            log.append("store \(id) does not open: \(String(describing: result))")
            return nil
        }
        // From here on it is the node that lets its records out.
        cores.removeAll { $0.1 === core }
        claims.append(shelves[i].path)
        return AttachedStore.Parts(
            id: report.identity.storeId, path: shelves[i].path, disk: disk, objects: core, session: report.session)
    }

    func startNode(_ parts: [AttachedStore.Parts], failed: [StoreId]) {
        let node = Node(
            id: NodeId(1), incarnation: life, catalog: catalog, storage: catalog, clock: machine, pool: pool,
            provider: self, storeConfiguration: storeConfiguration, options: options)
        node.log = { [unowned self] in log.append($0) }
        catalog.onStoreFailure = { [unowned node] id, errno in node.storeFailed(id, "catalog: \(errno)") }
        for store in parts { node.attach(store) }
        for id in failed { node.noteFailed(id, "cannot be opened") }
        self.node = node
        var isStarted = false
        node.start { isStarted = true }
        run("start") { isStarted }
    }

    /// Starts again with what is on the disks. Answers why it does not start.
    @discardableResult
    func start(without missing: [StoreId] = [], acceptMissing: [StoreId] = []) -> SheepError? {
        precondition(node == nil)
        life += 1
        cores = []
        claims = []
        var parts: [AttachedStore.Parts] = []
        var failed: [StoreId] = []
        for i in shelves.indices where shelves[i].id.rawValue != 0 && !missing.contains(shelves[i].id) {
            if let store = open(i) { parts.append(store) } else { failed.append(shelves[i].id) }
        }
        catalog = makeCatalog(parts)
        var error: SheepError??
        catalog.open(acceptMissing: acceptMissing) { error = .some($0) }
        run("open the catalog") { error != nil }
        if case .some(.some(let error)) = error {
            forget()
            return error
        }
        let known = parts.filter { part in
            catalog.state.map.store(part.id).map { $0.status != .out } ?? false
        }
        startNode(known, failed: failed)
        return nil
    }

    func forget() {
        node = nil
        catalog = nil
        cores = []
        claims = []
    }
    func kill() {
        machine.killProcess()
        forget()
    }
    func losePower() {
        machine.losePower()
        bootId = ClusterId(high: 1, low: bootId.low + 1)
        forget()
    }
    func shutDown() {
        var isDone = false
        node.shutDown { isDone = true }
        run("shut down") { isDone }
        kill()
    }
}
