// One node: the gateway, the copies of its stores, recovery, pruning and scrubbing, over the catalog. Pure: directories
// are opened, made and claimed by what runs it (`StoreProvider`), time comes from a clock.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Placement

/// Makes and opens the disks behind store directories.
package protocol StoreProvider: AnyObject {
    /// Claims an empty (or missing) directory for a new store. Refused when it is not empty, or in use.
    func claimEmpty(path: String, _ completion: @escaping (Result<any Disk, SheepError>) -> Void)
    /// Closes the files of a directory that was claimed, and lets it go. Nothing is asked of its disk any more.
    func release(path: String)
    /// A random id that no store has.
    func newStoreId() -> StoreId
    var bootId: ClusterId { get }
}

/// A store that is open on this node.
package struct AttachedStore {
    package let id: StoreId
    package let path: String
    package let disk: any Disk
    package let copy: Copy
    package let session: StoreSession
    let isDistrusted: Bool

    /// What a store consists of before it belongs to a node.
    package struct Parts {
        package let id: StoreId
        package let path: String
        package let disk: any Disk
        package let objects: ObjectStore
        package let session: StoreSession
        /// It was opened without knowing what it should have (see `StoreReport`).
        package let isDistrusted: Bool
        package init(
            id: StoreId, path: String, disk: any Disk, objects: ObjectStore, session: StoreSession,
            isDistrusted: Bool = false
        ) {
            self.id = id
            self.path = path
            self.disk = disk
            self.objects = objects
            self.session = session
            self.isDistrusted = isDistrusted
        }
    }
}

/// What holds the catalog's log on this node's stores.
package protocol CatalogStorage: AnyObject {
    /// The store takes part from now on; it gets the newest state first.
    func attach(store: StoreId, disk: any Disk, _ completion: @escaping (SheepError?) -> Void)
    /// The store does not hold it any more. EBUSY when too few others do.
    func detach(store: StoreId, _ completion: @escaping (SheepError?) -> Void)
    /// Stores that were found wiped at the start, or are others with an old id.
    var strangers: [StoreId] { get }
}

extension CatalogStorage {
    package var strangers: [StoreId] { [] }
}

package final class Node {
    package let id: NodeId
    package let catalog: any CatalogProposer
    let storage: any CatalogStorage
    let clock: any Clock
    let pool: BufferPool
    let provider: any StoreProvider
    let storeConfiguration: StoreConfiguration
    package let gateway: Gateway
    package let recovery: Recovery
    package let pruner: Pruner
    package let scrubber: Scrubber
    /// Ascending by id.
    package private(set) var stores: [AttachedStore] = []
    /// Stores that failed in this process, with the reason: excluded once, never attached again.
    package private(set) var failed: OrderedDictionary<StoreId, String> = [:]
    /// Stores that are attached and shall become part of the cluster: the map does not have them yet.
    var joining: [StoreId] = []
    /// Stores that the map had at some time in this life.
    private var seen: [StoreId] = []
    /// Stores that are no part of the cluster any more, until their files are closed.
    private var leaving: [Leaver] = []
    /// Lines for the log.
    package var log: (String) -> Void = { _ in }
    private var isStarted = false
    /// One of several nodes: which stores are up is judged by all of them (ClusterNode), not here.
    package let isClustered: Bool
    /// Stores come and go: whoever serves them to other nodes.
    var onAttach: (AttachedStore) -> Void = { _ in }
    var onDetach: (StoreId) -> Void = { _ in }
    /// No new work is begun.
    var isStopping = false
    /// The stores are being closed: what they report now has no meaning any more.
    var isClosing = false
    /// A store that failed could not be excluded: the catalog has stopped, and so nothing that waits for that ever ends.
    var isHopeless = false
    var onHopeless: () -> Void = {}

    package init(
        id: NodeId, incarnation: UInt64, catalog: any CatalogProposer, storage: any CatalogStorage, clock: any Clock,
        pool: BufferPool, provider: any StoreProvider, storeConfiguration: StoreConfiguration, options: GatewayOptions,
        isClustered: Bool = false
    ) {
        self.id = id
        self.isClustered = isClustered
        self.catalog = catalog
        self.storage = storage
        self.clock = clock
        self.pool = pool
        self.provider = provider
        self.storeConfiguration = storeConfiguration
        gateway = Gateway(
            catalog: catalog, clock: clock, pool: pool, node: id, incarnation: incarnation, options: options)
        recovery = Recovery(gateway: gateway, catalog: catalog, clock: clock)
        pruner = Pruner(catalog: catalog, clock: clock)
        scrubber = Scrubber(gateway: gateway, catalog: catalog, clock: clock)
        pruner.isBusy = { [unowned gateway] in gateway.isSynchronising($0) }
        let copies = { [unowned self] in stores.map(\.copy) }
        pruner.onUnfit = { [unowned self] copy, object in copyUnfit(copy, object) }
        gateway.localCopies = copies
        recovery.copies = copies
        pruner.copies = copies
        gateway.onStoreFailure = { [unowned self] store, reason in storeFailed(store, reason) }
        gateway.onCopyBehind = { [unowned self] object, store in recovery.copyBehind(object, store) }
        gateway.onCorruptCopy = { [unowned self] object, store in
            log(
                "store \(store): a block of object \(object) does not match its checksum; repairing it from another copy"
            )
            scrubber.repairCopy(object, store)
        }
        scrubber.onCopyLost = { [unowned self] object, store in copyLost(object, store) }
        catalog.observe { [unowned self] changes in changed(changes) }
    }

    // MARK: stores

    /// An opened store takes part. `start` tells the catalog who is there.
    package func attach(_ parts: AttachedStore.Parts) {
        let copy = Copy(store: parts.id, objects: parts.objects, catalog: catalog)
        stores.append(
            AttachedStore(
                id: parts.id, path: parts.path, disk: parts.disk, copy: copy, session: parts.session,
                isDistrusted: parts.isDistrusted))
        stores.sort { $0.id < $1.id }
        if isClustered { attachKnownStores() } else { gateway.attach(copy) }
        if let store = stores.first(where: { $0.id == parts.id }) { onAttach(store) }
    }

    /// In a cluster the gateway uses a store of its own node like any other: only in the session that the map has of it.
    private func attachKnownStores() {
        guard isClustered else { return }
        for store in stores {
            let record = catalog.state.map.store(store.id)
            let isKnown = record?.status == .up && record?.session == store.session
            if !isKnown {
                gateway.letGo(store.id)
            } else if gateway.channel(store.id) == nil {
                gateway.attach(GuardedCopy(store.copy, clock: clock))
            }
        }
    }

    /// A store of this node that could not be opened: it is not up, for this reason.
    package func noteFailed(_ store: StoreId, _ reason: String) { failed[store] = reason }

    /// Tells the catalog which stores are up and which are not, then looks for work.
    package func start(_ completion: @escaping () -> Void) {
        for store in storage.strangers where stores.contains(where: { $0.id == store }) {
            let reason = "it has its id and nothing else: it was wiped, or another one was put in its place"
            log("store \(store) is refused: \(reason); replace it: dog store replace \(store) DIR")
            failed[store] = reason
            detach(store)
        }
        let records = catalog.state.map.stores
        // Who is here first, as only then can those that are missing leave S; last those that do not know what they should
        // have: they are down until then, and leave S where another member is there.
        var (here, missing, distrusted): ([CatalogCommand], [CatalogCommand], [CatalogCommand]) = ([], [], [])
        for record in records where record.node == id && !isClustered {
            if let store = stores.first(where: { $0.id == record.id }) {
                guard record.status != .out, record.status != .up || record.session != store.session else { continue }
                let up = CatalogCommand.storeUp(record.id, session: store.session, wallClock: clock.wallClock)
                // A session that ended without a reboot ended for this reason, perhaps in a life that did not get to say so.
                let hasLost = record.session.bootId == store.session.bootId && record.session != store.session
                guard store.isDistrusted || hasLost else {
                    here.append(up)
                    continue
                }
                if record.status == .up {
                    let reason = "it has lost its index or a part of its journal"
                    distrusted.append(.storeDown(record.id, reason: reason, wallClock: clock.wallClock))
                }
                distrusted.append(up)
            } else if record.status == .up {
                let reason = failed[record.id] ?? "not there at start"
                missing.append(.storeDown(record.id, reason: reason, wallClock: clock.wallClock))
            }
        }
        let commands = here + missing + distrusted
        let finish = { [self] in
            isStarted = true
            for id in catalog.state.volumes.keys {
                shapes[id] = shape(id)
                pruner.prune(id)
            }
            recovery.wake()
            watchDownStores()
            watchIdleVolumes()
            completion()
        }
        gateway.adoptWhatIsDue()
        guard !commands.isEmpty else { return finish() }
        let join = Join(commands.count) { _ in finish() }
        for command in commands {
            catalog.propose(command, request: nil) { [self] answer in
                if case .refused(let error) = answer { log(error.description) }
                join.arrive(nil)
            }
        }
    }

    /// A store does not work any more: it leaves the map, once, and the guests go on without it.
    package func storeFailed(_ store: StoreId, _ reason: String) {
        guard failed[store] == nil, !isClosing else { return }
        failed[store] = reason
        // One that was removed may be unplugged.
        guard catalog.state.map.store(store) != nil else { return drop(store) }
        log("store \(store) failed and leaves the cluster map: \(reason)")
        if isClustered { return drop(store) }
        catalog.propose(.storeDown(store, reason: reason, wallClock: clock.wallClock), request: nil) { [self] answer in
            guard case .refused(let error) = answer else { return }
            log("store \(store) could not be excluded: \(error)")
            isHopeless = true
            onHopeless()
        }
        drop(store)
    }

    private func drop(_ store: StoreId) {
        let dropped = stores.first { $0.id == store }
        detach(store)
        storage.detach(store: store) { _ in }
        guard let dropped else { return }
        // The catalog may have failed there first: what this store was asked for would never be answered.
        dropped.copy.objects.stop()
        leaving.append(Leaver(dropped))
        letRemovedStoresGo()
    }

    func detach(_ store: StoreId) {
        gateway.detach(store)
        stores.removeAll { $0.id == store }
        onDetach(store)
    }

    // MARK: stores that leave

    /// The catalog must not count on stores that are no part of the cluster any more, or were given up, and their files are
    /// closed: their disks may be taken away.
    private func letRemovedStoresGo() {
        let map = catalog.state.map
        let isGone = { [joining] (id: StoreId) in
            map.store(id).map { $0.status == .out } ?? !joining.contains(id)
        }
        for id in catalog.state.catalogStores where isGone(id) && !leaving.contains(where: { $0.store.id == id }) {
            storage.detach(store: id) { _ in }
        }
        for store in stores where map.store(store.id) != nil && !seen.contains(store.id) { seen.append(store.id) }
        for store in stores where map.store(store.id) == nil && !joining.contains(store.id) {
            // In a cluster the map may be older than the store.
            if isClustered, !seen.contains(store.id) { continue }
            detach(store.id)
            leaving.append(Leaver(store))
        }
        for leaver in leaving where isGone(leaver.store.id) && !leaver.isClosing { close(leaver) }
    }

    /// A store that did not become part of the cluster leaves nothing behind; `completion` follows.
    func giveUp(_ store: AttachedStore, _ completion: @escaping () -> Void) {
        joining.removeAll { $0 == store.id }
        detach(store.id)
        let leaver = leaving.first { $0.store.id == store.id } ?? Leaver(store)
        leaver.isStillborn = true
        leaver.whenClosed = completion
        if !leaving.contains(where: { $0 === leaver }) { leaving.append(leaver) }
        letRemovedStoresGo()
    }

    /// The catalog lets go of the store first. What is on its way to it is answered, and a batch still ends there until
    /// it is closed, or nothing that was journalled would ever go out.
    private func close(_ leaver: Leaver) {
        leaver.isClosing = true
        let store = leaver.store
        storage.detach(store: store.id) { [self] error in
            guard error == nil else {
                // Too few others hold the catalog: at the next change of the map.
                leaver.isClosing = false
                return leaver.tell()
            }
            let finish = { [self] in
                leaving.removeAll { $0 === leaver }
                provider.release(path: store.path)
                if leaver.isStillborn { return leaver.tell() }
                log("store \(store.id) at \(store.path) is closed: its disk can be taken away")
            }
            store.copy.objects.flush { _ in
                store.copy.objects.close { _ in
                    if leaver.isStillborn { wipe(store.disk, finish) } else { finish() }
                }
            }
        }
    }

    private func copyLost(_ object: ObjectId, _ store: StoreId) {
        guard let channel = gateway.channel(store), let volume = gateway.volumes[object.volume] else { return }
        let state = gateway.object(volume, object.index)
        // Whoever reads from it to make another copy comes to an end first: what is emptied looks as if it had never been.
        guard state.isPrepared, state.users == 0 else {
            return clock.after(milliseconds: 100) { [weak self] in self?.scrubber.repairCopy(object, store) }
        }
        let others = state.slots
        guard others.contains(where: { $0.status == .complete && $0.channel.store != store }) else {
            // What is left of the only copy must not be removed.
            return log(
                "store \(store): the copy of object \(object) is damaged, and no other is complete: it is left as it is"
            )
        }
        log("store \(store): the copy of object \(object) is damaged; making it anew from another copy")
        gateway.setStatus(volume, object.index, store, .unverified)
        channel.empty(object) { [self] failure in
            if case .dead(let reason)? = failure { return storeFailed(store, reason) }
            recovery.copyBehind(object, store)
        }
    }

    /// The store alone found that the copy is not what it should be; its gateway has not read it.
    private func copyUnfit(_ copy: Copy, _ object: ObjectId) {
        guard copy.objects.standing(object).state == .suspect else { return scrubber.repairCopy(object, copy.store) }
        // One that is only being taken has no slots yet, and finds it for itself.
        if let volume = gateway.volumes[object.volume], volume.phase == .ready,
            gateway.object(volume, object.index).slots.contains(where: {
                $0.status == .complete && $0.channel.store != copy.store
            })
        {
            gateway.setStatus(volume, object.index, copy.store, .unverified)
        }
        recovery.copyBehind(object, copy.store)
    }

    // MARK: what the catalog tells

    /// What of each volume decides which copies and generations are needed, as it was last looked at.
    private var shapes: [VolumeId: Shape] = [:]
    private struct Shape {
        let hidden: [ClosedRange<Generation>]
        let copies: Int
    }
    private func shape(_ id: VolumeId) -> Shape? {
        catalog.state.volumes[id].map { Shape(hidden: $0.currentPath.hidden, copies: $0.targetCopies) }
    }

    private func changed(_ changes: [CatalogChange]) {
        var mapHasChanged = false
        for change in changes {
            switch change {
            case .map, .settings: mapHasChanged = true
            case .volumeCreated(let id): shapes[id] = shape(id)
            case .volumeChanged(let id):
                gateway.volumeChanged(id)
                // A rollback hides generations; fewer copies leave some over. Whether or not this gateway uses the volume.
                let (past, now) = (shapes[id], shape(id))
                shapes[id] = now
                if past?.hidden != now?.hidden { pruner.prune(id) }
                if past?.copies != now?.copies { recovery.wake() }
            case .snapshotCreated(let id, _): gateway.volumeChanged(id)
            case .snapshotRemoved(let id, _):
                gateway.volumeChanged(id)
                pruner.prune(id)
            case .volumeRemoved(let id):
                gateway.volumeChanged(id)
                // Kept for its clones: what only its current view reached goes.
                if catalog.state.volumes[id] != nil { pruner.prune(id) }
                shapes[id] = shape(id)
                mustRemoveObjects = true
            case .directoryCreated, .directoryChanged, .directoryRemoved, .name: break
            }
        }
        if mapHasChanged {
            letRemovedStoresGo()
            for store in stores { store.copy.mapChanged() }
            attachKnownStores()
            gateway.mapChanged()
            watchDownStores()
            // Volumes are taken when all stores are there.
            if isStarted { recovery.wake() }
        } else if mustRemoveObjects {
            recovery.wake()
        }
        mustRemoveObjects = false
    }
    private var mustRemoveObjects = false

    private var isWatchingDownStores = false
    private var downSince: [StoreId: Instant] = [:]
    /// For how long a store has been down as this process knows it. Never by the wall clock, which may be set: a start
    /// begins to count anew.
    func downMilliseconds(_ store: StoreId) -> UInt64 {
        guard let since = downSince[store] else { return 0 }
        return clock.now.milliseconds(since: since)
    }
    private func noteDownStores() {
        for record in catalog.state.map.stores {
            downSince[record.id] = record.status == .down ? downSince[record.id] ?? clock.now : nil
        }
    }
    /// Gives up stores that have been down for the down-out-interval; looks again for as long as one is down.
    private func watchDownStores() {
        noteDownStores()
        guard !isWatchingDownStores, isStarted, !isClustered, !isStopping,
            catalog.state.map.stores.contains(where: { $0.status == .down })
        else { return }
        isWatchingDownStores = true
        let interval = catalog.state.settings.downOutIntervalMilliseconds
        for record in catalog.state.map.stores where record.status == .down {
            let elapsed = downMilliseconds(record.id)
            guard elapsed >= interval else { continue }
            log("store \(record.id) has been down for \(elapsed / 1000) s: it is out, its data is made anew elsewhere")
            catalog.propose(
                .storeOut(record.id, reason: record.reason, wallClock: clock.wallClock), request: nil
            ) { [self] answer in
                if case .refused(let error) = answer { log(error.description) }
            }
        }
        clock.after(milliseconds: min(1_000, max(100, interval / 10))) { [weak self] in
            self?.isWatchingDownStores = false
            self?.watchDownStores()
        }
    }

    /// A volume that nobody has open for a while forgets what it knows of its objects, and gives up its lease.
    private func watchIdleVolumes() {
        guard !isStopping else { return }
        gateway.forgetIdleVolumes(olderThanMilliseconds: 300_000)
        clock.after(milliseconds: 30_000) { [weak self] in self?.watchIdleVolumes() }
    }

    /// The driver calls it at the end of every wake-up: gathered journal records go out.
    package func endOfBatch() {
        for store in stores { store.copy.objects.endOfBatch() }
        for leaver in leaving { leaver.store.copy.objects.endOfBatch() }
    }
}

/// A store on its way out of this process.
private final class Leaver {
    let store: AttachedStore
    var isClosing = false
    /// It never was part of the cluster; whoever wanted it to be waits.
    var isStillborn = false
    var whenClosed: (() -> Void)?
    init(_ store: AttachedStore) { self.store = store }

    func tell() {
        let whenClosed = whenClosed
        self.whenClosed = nil
        whenClosed?()
    }
}
