// What an administrator asks of a node: stores in and out, scrubs, checks, the end.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Placement

extension Node: NodeAdministration {
    // MARK: stores

    package func addStore(
        path: String, zone: UInt64?, weight: UInt64?, _ completion: @escaping (Result<StoreId, SheepError>) -> Void
    ) {
        makeStore(path: path) { [self] result in
            switch result {
            case .failure(let error): completion(.failure(error))
            case .success(let store):
                let description = StoreDescription(
                    id: store.id, node: id, path: path, weight: weight ?? store.disk.space.capacityBytes,
                    zone: zone ?? (isClustered ? UInt64(id.rawValue) : store.id.rawValue), session: store.session,
                    wallClock: clock.wallClock)
                join(store, .addStore(description), completion)
            }
        }
    }

    package func replaceStore(
        _ old: StoreId, path: String, _ completion: @escaping (Result<StoreId, SheepError>) -> Void
    ) {
        guard let record = catalog.state.map.store(old) else { return completion(.failure(unknown(old))) }
        makeStore(path: path) { [self] result in
            switch result {
            case .failure(let error): completion(.failure(error))
            case .success(let store):
                let zone = record.zone == record.id.rawValue ? store.id.rawValue : record.zone
                let description = StoreDescription(
                    id: store.id, node: id, path: path, weight: record.weight, zone: zone,
                    session: store.session, wallClock: clock.wallClock)
                join(store, .replaceStore(old, by: description), completion)
            }
        }
    }

    /// Claims, formats and opens an empty store; it does not take part yet.
    private func makeStore(
        path: String, _ completion: @escaping (Result<AttachedStore, SheepError>) -> Void
    ) {
        provider.claimEmpty(path: path) { [self] result in
            guard case .success(let disk) = result else {
                if case .failure(let error) = result { completion(.failure(error)) }
                return
            }
            let store = provider.newStoreId()
            let identity = StoreIdentity(
                clusterId: catalog.state.clusterId, storeId: store, createdWallClock: clock.wallClock)
            let failed = { [self] (error: StoreError) in
                wipe(disk) { [self] in
                    provider.release(path: path)
                    completion(.failure(error.sheepError))
                }
            }
            ObjectStore.format(disk, identity: identity, configuration: storeConfiguration) { [self] result in
                if case .failure(let error) = result { return failed(error) }
                let objects = openable(disk, store)
                objects.open { [self] result in
                    switch result {
                    case .failure(let error):
                        objects.stop()
                        failed(error)
                    case .success(let report):
                        completion(
                            .success(
                                AttachedStore(
                                    id: store, path: path, disk: disk,
                                    copy: Copy(store: store, objects: objects, catalog: catalog),
                                    session: report.session)))
                    }
                }
            }
        }
    }

    /// A store's core that reports its death to this node.
    package func openable(_ disk: any Disk, _ store: StoreId) -> ObjectStore {
        ObjectStore(disk: disk, clock: clock, pool: pool, configuration: storeConfiguration) { [weak self] error in
            self?.storeFailed(store, error.sheepError.why)
        }
    }

    private func join(
        _ store: AttachedStore, _ command: CatalogCommand,
        _ completion: @escaping (Result<StoreId, SheepError>) -> Void
    ) {
        joining.append(store.id)
        attach(
            AttachedStore.Parts(
                id: store.id, path: store.path, disk: store.disk, objects: store.copy.objects, session: store.session))
        let refused = { [self] (error: SheepError) in giveUp(store) { completion(.failure(error)) } }
        storage.attach(store: store.id, disk: store.disk) { [self] error in
            if let error { return refused(error) }
            catalog.propose(command, request: nil) { [self] answer in
                if case .refused(let error) = answer { return refused(error) }
                joining.removeAll { $0 == store.id }
                completion(.success(store.id))
            }
        }
    }

    package func removeStore(_ store: StoreId, force: Bool, _ completion: @escaping (SheepError?) -> Void) {
        guard let record = catalog.state.map.store(store) else { return completion(unknown(store)) }
        if force, record.status == .up { storeFailed(store, "removed by force") }
        let command: CatalogCommand =
            force ? .storeOut(store, reason: "removed by force", wallClock: clock.wallClock) : .removeStore(store)
        propose(command, completion)
    }

    package func setWeight(_ store: StoreId, weight: UInt64, _ completion: @escaping (SheepError?) -> Void) {
        propose(.setWeight(store, weight), completion)
    }
    package func acceptLoss(_ stores: [StoreId], _ completion: @escaping (SheepError?) -> Void) {
        propose(.acceptLoss(stores), completion)
    }
    package func changeSettings(_ settings: Settings, _ completion: @escaping (SheepError?) -> Void) {
        propose(.changeSettings(settings), completion)
    }

    private func propose(_ command: CatalogCommand, _ completion: @escaping (SheepError?) -> Void) {
        catalog.propose(command, request: nil) { answer in
            if case .refused(let error) = answer { completion(error) } else { completion(nil) }
        }
    }

    private func unknown(_ store: StoreId) -> SheepError {
        SheepError(
            .noEntry, what: "there is no store \(store)", why: "the cluster map does not have it",
            remedy: "look at `dog store list`")
    }

    // MARK: looking

    package func startScrub(deep: Bool, volume: VolumeId?, _ completion: @escaping (SheepError?) -> Void) {
        if scrubber.start(deep: deep, volume: volume) { return completion(nil) }
        completion(
            SheepError(
                .busy, what: "no scrub was started", why: "one is running",
                remedy: "wait for it: `dog scrub status` shows how far it is"))
    }

    package func check(
        _ volume: VolumeId, repair: Bool, progress: @escaping (Int, Int) -> Void,
        _ completion: @escaping (Result<CheckReport, SheepError>) -> Void
    ) {
        scrubber.check(volume, deep: true, repair: repair, progress: progress) { completion(.success($0)) }
    }

    package func map(_ id: VolumeId, _ completion: @escaping ([ObjectPlacement]) -> Void) {
        var placements: OrderedDictionary<UInt32, ObjectPlacement> = [:]
        for store in stores {
            for entry in store.copy.objects.objects(of: id) {
                let index = entry.object.index
                let state = entry.state == .complete && !entry.isVerified ? "unverified" : "\(entry.state)"
                placements[index, default: ObjectPlacement(index: index, copies: [])].copies.append(
                    ObjectPlacement.Copy(
                        store: store.id, version: entry.version, state: state,
                        generations: entry.generations.map(\.generation), allocatedBlocks: entry.allocatedBlocks))
            }
        }
        completion(placements.values.sorted { $0.index < $1.index })
    }

    // MARK: the end

    /// Flushes, gives the leases back, closes the stores. A flush that meets a failed store waits until that is excluded,
    /// unless the catalog has stopped: then that never happens.
    package func shutDown(_ completion: @escaping () -> Void) {
        isStopping = true
        // What waits for copies has no time left.
        gateway.options.errorWhenUnavailable = true
        gateway.wakeWaiters()
        let ids = gateway.volumeOrder
        var hasFlushed = false
        let goOn = { [self] in
            guard !hasFlushed else { return }
            hasFlushed = true
            releaseLeases { [self] in
                isClosing = true
                let closing = Join(stores.count + 1) { _ in completion() }
                closing.arrive(nil)
                for store in stores { store.copy.objects.close { _ in closing.arrive(nil) } }
            }
        }
        onHopeless = { [self] in
            log(
                "what was written last may not be on all stores: the catalog has stopped, and the node stops without it"
            )
            goOn()
        }
        let flushes = Join(ids.count + 1) { _ in goOn() }
        flushes.arrive(nil)
        for id in ids { gateway.flush(id) { _ in flushes.arrive(nil) } }
        if isHopeless { onHopeless() }
    }

    private func releaseLeases(_ completion: @escaping () -> Void) {
        let leases = gateway.volumeOrder.compactMap { gateway.volumes[$0] }.filter { $0.phase == .ready }
        let released = Join(leases.count + 1) { _ in completion() }
        released.arrive(nil)
        for volume in leases {
            gateway.release(volume) { _ in released.arrive(nil) }
        }
    }
}
