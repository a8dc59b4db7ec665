// Making a catalog, and opening the one that a host's stores have: read them all, choose the newest by the rules of
// StoreQuorum, and write it whole to every store that can take it. A start that cannot be sure is refused.
import Model

extension LocalCatalog {
    /// Makes a new cluster's catalog on these disks, with these stores in it. Refused when one of them holds a
    /// catalog already.
    package func create(
        clusterId: ClusterId, settings: Settings, rootAttributes: FileAttributes, stores: [StoreDescription],
        _ completion: @escaping (SheepError?) -> Void
    ) {
        load { failures in
            if let error = failures.refused { return completion(error) }
            if let used = self.logs.first(where: { $0.found != nil }) {
                return completion(
                    SheepError(
                        .exists, what: "No new cluster was made.", why: "Store \(used.id) belongs to one already.",
                        remedy: "Use empty directories."))
            }
            var state = CatalogState(
                clusterId: clusterId, settings: settings, rootAttributes: rootAttributes,
                catalogStores: self.logs.map(\.id))
            for store in stores {
                if case .refused(let error) = state.apply(.addStore(store), request: nil).0 {
                    return completion(error)
                }
            }
            if !failures.disks.isEmpty || self.logs.isEmpty {
                return completion(.notWritten(failures.disks.map(\.0)))
            }
            self.install(state, on: self.logs, Installation(view: 1, hash: 0, accepted: [], isNew: true), completion)
        }
    }

    /// Opens the catalog that the stores have. `acceptMissing`: stores that an administrator says will not come
    /// back. Errors: no store has a catalog (ENOENT), too many are missing (EBUSY, which names them).
    package func open(acceptMissing: [StoreId] = [], _ completion: @escaping (SheepError?) -> Void) {
        load { failures in
            if let error = failures.refused { return completion(error) }
            for (id, errno) in failures.disks { self.onStoreFailure?(id, errno) }
            let failed = failures.disks.map(\.0)
            let usable = self.logs.filter { !failed.contains($0.id) }
            self.choose(usable, acceptMissing, completion)
        }
    }

    private struct Failures {
        var disks: [(StoreId, Errno)] = []
        var refused: SheepError?
    }

    private func load(_ completion: @escaping (Failures) -> Void) {
        var failures = Failures()
        var left = logs.count
        if left == 0 { return clock.after(milliseconds: 0) { completion(failures) } }
        for log in logs {
            log.load { failure in
                switch failure {
                case .disk(let errno): failures.disks.append((log.id, errno))
                case .refused(let error): failures.refused = error
                case nil: break
                }
                left -= 1
                if left == 0 { completion(failures) }
            }
        }
    }

    private func choose(_ usable: [StoreLog], _ accepted: [StoreId], _ completion: @escaping (SheepError?) -> Void) {
        let holders = usable.filter { $0.found != nil }
        guard let newest = holders.compactMap(\.found).max(by: { $0.position < $1.position }) else {
            return completion(
                SheepError(
                    .noEntry, what: "There is no catalog.", why: "None of the stores here holds one that can be read.",
                    remedy: "Name all stores of this host, or make a new cluster."))
        }
        if let stranger = holders.first(where: { $0.found?.state.clusterId != newest.state.clusterId }) {
            return completion(
                SheepError(
                    .invalid, what: "The node does not start.",
                    why: "Store \(stranger.id) belongs to another cluster than the others.",
                    remedy: "Take it out of the list of stores."))
        }
        let quorum = StoreQuorum(newest.state)
        let present = holders.map(\.id)
        guard quorum.allowsStart(with: present, accepted: accepted) else {
            return completion(.missing(quorum.missing(from: present)))
        }
        let view = (usable.map(\.promised).max() ?? 0) + 1
        onEach(holders, { $0.promise(view, $1) }) { promised in
            guard quorum.allowsStart(with: promised.map(\.id), accepted: accepted) else {
                return completion(.missing(quorum.missing(from: promised.map(\.id))))
            }
            // Damaged and new stores get the catalog like the others, but had no say.
            let failed = holders.filter { log in !promised.contains { $0.id == log.id } }
            // Before the first volume there is nothing that a blank store could have lost.
            let hasVolumes = newest.state.nextVolumeId > 1
            self.strangers = usable.filter { log in
                hasVolumes && log.isBlank && newest.state.map.store(log.id) != nil
            }.map(\.id)
            let able = usable.filter { log in
                !failed.contains { $0.id == log.id } && !self.strangers.contains(log.id)
            }
            // Stores that were given up or taken out of the cluster are not counted on any more, if the others suffice.
            var takers = able.filter { log in newest.state.map.store(log.id).map { $0.status != .out } ?? false }
            if !quorum.allowsGoingOn(with: takers.map(\.id), accepted: accepted) {
                let known = newest.state.map.stores.map(\.id) + quorum.lists.flatMap { $0 }
                takers = able.filter { known.contains($0.id) }
            }
            self.install(
                newest.state, on: takers,
                Installation(view: view, hash: newest.hash, accepted: accepted, isNew: false), completion)
        }
    }

    private struct Installation {
        let view: UInt64
        let hash: UInt32
        let accepted: [StoreId]
        /// All stores must take it.
        let isNew: Bool
    }

    /// Writes the state, with these stores as its list, to all of them. Those that fail leave the list, and it is
    /// written again.
    private func install(
        _ state: CatalogState, on takers: [StoreLog], _ installation: Installation,
        _ completion: @escaping (SheepError?) -> Void
    ) {
        var state = state
        _ = state.apply(.setCatalogStores(takers.map(\.id)), request: nil)
        // No entry made this step, so the hash goes on from the view, which no other start has.
        var seed = ByteWriter()
        seed.write(installation.view)
        seed.write(state.index)
        let hash = crc32c(seed.bytes, seed: installation.hash)
        let image = CatalogFormat.encode(
            promised: installation.view, view: installation.view, hash: hash, state: state.encoded())
        onEach(takers, { $0.replaceImage(image, index: state.index, promised: installation.view, $1) }) { written in
            if written.count == takers.count {
                for log in self.logs { log.forgetFound() }
                self.state = state
                return self.begin(
                    members: written, view: installation.view, hash: hash, imageBytes: image.count,
                    accepted: installation.accepted, completion)
            }
            let quorum = StoreQuorum(state)
            let ids = written.map(\.id)
            if installation.isNew {
                return completion(.notWritten(takers.map(\.id).filter { !ids.contains($0) }))
            }
            guard quorum.allowsGoingOn(with: ids, accepted: installation.accepted) else {
                return completion(.missing(quorum.missing(from: ids)))
            }
            self.install(state, on: written, installation, completion)
        }
    }

    /// Runs an operation on all; answers those that succeeded, ascending, and reports the others.
    private func onEach(
        _ logs: [StoreLog], _ operation: (StoreLog, @escaping (Errno?) -> Void) -> Void,
        _ completion: @escaping ([StoreLog]) -> Void
    ) {
        var left = logs.count
        var failed: [StoreId] = []
        for log in logs {
            operation(log) { errno in
                if let errno {
                    failed.append(log.id)
                    self.onStoreFailure?(log.id, errno)
                }
                left -= 1
                if left == 0 { completion(logs.filter { !failed.contains($0.id) }) }
            }
        }
    }
}

extension SheepError {
    fileprivate static func missing(_ stores: [StoreId]) -> SheepError {
        let names = stores.map(\.description)
        return SheepError(
            .busy, what: "The node does not start: stores are missing or damaged: \(names.joined(separator: ", ")).",
            why: "Without them nobody can tell whether the catalog found is the newest.",
            remedy: "Bring them back. If they are lost for good: sheep run "
                + names.map { "--accept-missing \($0)" }.joined(separator: " "))
    }
    fileprivate static func notWritten(_ stores: [StoreId]) -> SheepError {
        SheepError(
            .inputOutput, what: "No new cluster was made.",
            why: stores.isEmpty
                ? "No store was named."
                : "These stores cannot be written: \(stores.map(\.description).joined(separator: ", ")).",
            remedy: "Name directories on healthy disks.")
    }
}
