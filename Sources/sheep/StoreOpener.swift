// From store directories to opened stores and an open catalog: which are empty, which belong together, which are
// missing. It never formats a directory that holds anything, nor one that a cluster knows.
import Admin
import Catalog
import Glibc
import Logging
import Model
import ObjectStore
import Placement
import Replication
import Runtime

/// What `StoreOpener` came to.
struct OpenedStores {
    let catalog: LocalCatalog
    let stores: [AttachedStore.Parts]
    /// Stores of the cluster that are there but do not work.
    let failed: [(StoreId, String)]
    let provider: DirectoryProvider
    let configuration: StoreConfiguration
    let incarnation: UInt64
    let route: FailureRoute
    let neighbours: Neighbours
}

/// Where a store's death is told: nobody before the node exists.
final class FailureRoute {
    var target: ((StoreId, String) -> Void)?
    var early: [(StoreId, String)] = []
    func failed(_ store: StoreId, _ reason: String) {
        if let target { target(store, reason) } else { early.append((store, reason)) }
    }
}

final class StoreOpener {
    /// The embedded single host.
    static let nodeId = NodeId(1)

    private let daemon: Daemon
    private let provider: DirectoryProvider
    private let route = FailureRoute()
    private let neighbours = Neighbours()
    private var configuration = StoreConfiguration()
    private let incarnation = Machine.random()
    private var fresh: [(path: String, disk: StoreDirectory)] = []
    private var known: [(path: String, disk: StoreDirectory)] = []
    private var opened: [AttachedStore.Parts] = []
    private var hooks: [String: BatchHook] = [:]
    private var clusters: [(ClusterId, String)] = []
    private var failed: [(StoreId, String)] = []
    private var failures: [SheepError] = []
    private var completion: (Result<OpenedStores, SheepError>) -> Void = { _ in }

    init(_ daemon: Daemon) {
        self.daemon = daemon
        provider = DirectoryProvider(loop: daemon.loop, faults: daemon.faults)
        configuration.bootId = provider.bootId
        // Small enough that a start after a kill replays it within a moment.
        configuration.journalSegmentBytes = 8 << 20
        configuration.journalMaximumSegments = 12
        // The background sync of what nobody has flushed: long enough that syncs, and the writes to object files that
        // follow each, cost little per write; a flush starts one at once.
        configuration.syncDelayMilliseconds = 10
        configuration.syncDelayBytes = 4 << 20
        // A header is about 5 KiB, and each changed one is read again when the journal is replayed.
        configuration.dirtyHeaderLimit = 1024
        if let faults = daemon.faults {
            configuration.skipJournalSync = faults.says("skip-journal-sync")
            configuration.applyBeforeDurable = faults.says("apply-early")
        }
    }

    func open(_ completion: @escaping (Result<OpenedStores, SheepError>) -> Void) {
        self.completion = completion
        var paths = daemon.options.stores
        do throws(SheepError) {
            // Stores that joined since the command line was written are known to their neighbours.
            for path in paths {
                for other in Neighbours.read(path) where !paths.contains(other) { paths.append(other) }
            }
            for path in paths { try claim(path, isGiven: daemon.options.stores.contains(path)) }
        } catch {
            return completion(.failure(error))
        }
        guard !known.isEmpty else { return makeCluster() }
        for (path, _) in fresh where daemon.options.stores.contains(path) {
            daemon.logger.warning(
                "\(path) is empty and does not belong to this cluster: it is not used. To add it: dog store add \(path); to replace a lost store: dog store replace ID \(path)"
            )
        }
        for (path, _) in fresh { provider.release(path: path) }
        openAll()
    }

    private func claim(_ path: String, isGiven: Bool) throws(SheepError) {
        let disk: StoreDirectory
        do throws(SheepError) { disk = try provider.claim(path, creating: isGiven) } catch {
            // A disk that is gone must not keep the others from serving; a store in use elsewhere must.
            if error.errno == .busy || error.errno == .accessDenied { throw error }
            daemon.logger.error("the store \(path) cannot be opened: \(error)")
            failures.append(error)
            return
        }
        provider.scaleReserve(&configuration, disk.space)
        switch provider.content(of: path) {
        case .store: known.append((path, disk))
        case .empty: fresh.append((path, disk))
        case .other(let name):
            provider.release(path: path)
            let error = SheepError(
                .exists, what: "\(path) cannot be a store",
                why: "it is not empty and holds no store: there is \(name) in it",
                remedy:
                    "give an empty directory; if it was a store, its superblock is lost: replace it with dog store replace"
            )
            guard !isGiven || !known.isEmpty else { throw error }
            daemon.logger.error("\(error)")
            failures.append(error)
        }
    }

    // MARK: a new cluster

    private func makeCluster() {
        guard failures.isEmpty, !fresh.isEmpty else {
            return completion(.failure(failures.first ?? noStore()))
        }
        let clusterId = ClusterId(high: Machine.random(), low: Machine.random())
        daemon.logger.notice("making a new cluster \(clusterId) of \(fresh.count) stores")
        formatNext(fresh[...], clusterId)
    }

    private func noStore() -> SheepError {
        SheepError(
            .noEntry, what: "sheep was not started", why: "none of the stores can be opened",
            remedy: "look at the messages above; check that the disks are mounted")
    }

    private func formatNext(_ rest: ArraySlice<(path: String, disk: StoreDirectory)>, _ clusterId: ClusterId) {
        guard let (path, disk) = rest.first else { return createCatalog(clusterId) }
        let id = provider.newStoreId()
        let identity = StoreIdentity(clusterId: clusterId, storeId: id, createdWallClock: daemon.loop.wallClock)
        ObjectStore.format(disk, identity: identity, configuration: configuration) { [self] result in
            if case .failure(let error) = result { return completion(.failure(named(path, error))) }
            openOne(path, disk) { [self] error in
                if let error { return completion(.failure(error)) }
                formatNext(rest.dropFirst(), clusterId)
            }
        }
    }

    private func named(_ path: String, _ error: StoreError) -> SheepError {
        let text = error.sheepError
        return SheepError(text.errno, what: "the store \(path): \(text.what)", why: text.why, remedy: text.remedy)
    }

    private func createCatalog(_ clusterId: ClusterId) {
        let catalog = makeCatalog()
        var settings = Settings()
        if let copies = daemon.options.copies { settings.copies = copies }
        if let minCopies = daemon.options.minCopies { settings.minCopies = minCopies }
        let time = daemon.loop.wallClock
        let root = FileAttributes(uid: geteuid(), gid: getegid(), mode: 0o755, time: time)
        let stores = opened.map { store in
            StoreDescription(
                id: store.id, node: StoreOpener.nodeId, path: store.path,
                weight: max(1, store.disk.space.capacityBytes),
                zone: daemon.options.zones[store.path] ?? store.id.rawValue, session: store.session, wallClock: time)
        }
        catalog.create(clusterId: clusterId, settings: settings, rootAttributes: root, stores: stores) { [self] error in
            if let error { return completion(.failure(error)) }
            finish(catalog)
        }
    }

    // MARK: a cluster that exists

    /// All at once: while one store's journal is decoded the others' are read.
    private func openAll() {
        var left = known.count
        for (path, disk) in known {
            openOne(path, disk) { [self] error in
                if let error {
                    daemon.logger.error("\(error)")
                    failures.append(error)
                    provider.release(path: path)
                }
                left -= 1
                if left == 0 { openCatalog() }
            }
        }
    }

    private func openOne(_ path: String, _ disk: StoreDirectory, _ completion: @escaping (SheepError?) -> Void) {
        var id = StoreId(0)
        let objects = ObjectStore(
            disk: disk, clock: daemon.loop, pool: daemon.pool, configuration: configuration
        ) { [route] error in route.failed(id, error.sheepError.why) }
        // Records written before the loop's hooks know this store must go out too.
        let hook = BatchHook(objects)
        hooks[path] = hook
        daemon.loop.onEndOfBatch { hook.run() }
        objects.open { [self] result in
            switch result {
            case .failure(let error): completion(named(path, error))
            case .success(let report):
                id = report.identity.storeId
                hook.objects = nil
                for line in report.damage { daemon.logger.error("store \(id) at \(path): \(line)") }
                if !report.lastStopWasClean {
                    daemon.logger.notice("store \(id) at \(path): replayed \(report.replayedRecords) journal records")
                }
                clusters.append((report.identity.clusterId, path))
                opened.append(
                    AttachedStore.Parts(
                        id: id, path: path, disk: disk, objects: objects, session: report.session,
                        isDistrusted: report.isDistrusted))
                completion(nil)
            }
        }
    }

    private func openCatalog() {
        opened.sort { $0.id < $1.id }
        guard let (clusterId, first) = clusters.first else {
            return completion(.failure(failures.count == 1 ? failures[0] : noStore()))
        }
        if let (other, path) = clusters.first(where: { $0.0 != clusterId }) {
            return completion(
                .failure(
                    SheepError(
                        .accessDenied, what: "the stores do not belong together",
                        why: "\(first) belongs to cluster \(clusterId), \(path) to cluster \(other)",
                        remedy: "start each cluster with its own stores")))
        }
        if let twice = opened.first(where: { a in opened.contains { $0.id == a.id && $0.path != a.path } }) {
            return completion(
                .failure(
                    SheepError(
                        .exists, what: "a store is there twice",
                        why: "\(twice.path) is a copy of another directory given",
                        remedy: "give only the original; a copied store directory must never be used")))
        }
        let catalog = makeCatalog()
        catalog.open(acceptMissing: daemon.options.acceptMissing) { [self] error in
            if let error { return completion(.failure(error)) }
            finish(catalog)
        }
    }

    private func makeCatalog() -> LocalCatalog {
        let catalog = LocalCatalog(
            disks: opened.map { ($0.id, $0.disk) }, clock: daemon.loop, node: StoreOpener.nodeId,
            incarnation: incarnation)
        catalog.onStoreFailure = { [route] store, errno in
            route.failed(store, "the catalog cannot be kept there: \(errno.message)")
        }
        return catalog
    }

    private func finish(_ catalog: LocalCatalog) {
        let map = catalog.state.map
        var stores: [AttachedStore.Parts] = []
        for store in opened {
            guard let record = map.store(store.id), record.status != .out else {
                daemon.logger.warning(
                    "the store \(store.id) at \(store.path) was taken out of the cluster: it is not used; empty the directory to use it again"
                )
                if !catalog.state.catalogStores.contains(store.id) { close(store) }
                continue
            }
            stores.append(store)
        }
        // Stores that are there but failed to open, by the path that the catalog knows.
        for record in map.stores where !stores.contains(where: { $0.id == record.id }) {
            failed.append((record.id, "it cannot be opened at \(record.path)"))
        }
        failed += route.early
        completion(
            .success(
                OpenedStores(
                    catalog: catalog, stores: stores, failed: failed, provider: provider, configuration: configuration,
                    incarnation: incarnation, route: route, neighbours: neighbours)))
    }

    private func close(_ store: AttachedStore.Parts) {
        let hook = hooks[store.path]
        hook?.objects = store.objects
        store.objects.close { [provider] _ in
            hook?.objects = nil
            provider.release(path: store.path)
        }
    }
}

/// Lets a store's records out at the end of a batch until the node does it.
final class BatchHook {
    var objects: ObjectStore?
    init(_ objects: ObjectStore) { self.objects = objects }
    func run() { objects?.endOfBatch() }
}
