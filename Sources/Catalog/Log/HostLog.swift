// A state on a host's stores: making it, and opening the one that the stores have: read them all, choose the newest by the
// rules of StoreQuorum, and write it whole to every store that can take it. A start that cannot be sure is refused.
import Model

final class HostLog<State: LoggedState> {
    typealias Format = StateLogFormat<State>
    typealias Log = StateLog<State>

    let group: StateLogGroup<State>
    /// A store that could not be read or written. It is not used for this state any more.
    var onStoreFailure: ((StoreId, Errno) -> Void)? {
        didSet { group.onStoreFailure = onStoreFailure }
    }
    /// Stores on which nothing at all was found, though the state says that there was something.
    private(set) var strangers: [StoreId] = []
    private let clock: any Clock
    private var logs: [Log]
    /// Takes what was read, or made, before it can change.
    private let adopt: (State) -> Void

    /// `disks`: the stores of this host that can be reached. `state` gives the committed state once it is open. After
    /// `imageInterval` bytes of log the state is written whole.
    init(
        disks: [(StoreId, any Disk)], clock: any Clock, incarnation: UInt64, imageInterval: Int,
        state: @escaping () -> State, adopt: @escaping (State) -> Void
    ) {
        self.clock = clock
        self.adopt = adopt
        logs = disks.map { Log(id: $0.0, disk: $0.1) }.sorted { $0.id < $1.id }
        group = StateLogGroup(incarnation: incarnation, imageInterval: imageInterval, state: state)
    }

    var stores: [StoreId] { logs.map(\.id) }

    /// Writes a new state to all disks. Refused when one of them has one already. `make` is asked when that is known.
    func create(_ make: @escaping () throws(SheepError) -> State, _ completion: @escaping (SheepError?) -> Void) {
        load { failures in
            if let error = failures.refused { return completion(error) }
            if let used = self.logs.first(where: { $0.found != nil }) {
                return completion(
                    SheepError(
                        .exists, what: "No new cluster was made.", why: "Store \(used.id) belongs to one already.",
                        remedy: "Use empty directories."))
            }
            let state: State
            do throws(SheepError) { state = try make() } catch { return completion(error) }
            if !failures.disks.isEmpty || self.logs.isEmpty {
                return completion(.notWritten(failures.disks.map(\.0)))
            }
            self.install(state, on: self.logs, Installation(view: 1, hash: 0, accepted: [], isNew: true), completion)
        }
    }

    /// Opens what the stores have. `acceptMissing`: stores that an administrator says will not come back. Errors: no
    /// store has anything (ENOENT), too many are missing (EBUSY, which names them). `onLoss` changes the state where it
    /// is believed by that leave only: something newer may be lost.
    func open(
        acceptMissing: [StoreId], onLoss: @escaping (inout State) -> Void = { _ in },
        _ completion: @escaping (SheepError?) -> Void
    ) {
        load { failures in
            if let error = failures.refused { return completion(error) }
            for (id, errno) in failures.disks { self.onStoreFailure?(id, errno) }
            let failed = failures.disks.map(\.0)
            let usable = self.logs.filter { !failed.contains($0.id) }
            self.choose(usable, acceptMissing, onLoss, completion)
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

    private func choose(
        _ usable: [Log], _ accepted: [StoreId], _ onLoss: @escaping (inout State) -> Void,
        _ completion: @escaping (SheepError?) -> Void
    ) {
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
            self.strangers = usable.filter { $0.isBlank && newest.state.isStranger(blank: $0.id) }.map(\.id)
            let able = usable.filter { log in
                !failed.contains { $0.id == log.id } && !self.strangers.contains(log.id)
            }
            var takers = able.filter { newest.state.counts(on: $0.id) }
            if !quorum.allowsGoingOn(with: takers.map(\.id), accepted: accepted) {
                let listed = quorum.lists.flatMap { $0 }
                takers = able.filter { newest.state.knows($0.id) || listed.contains($0.id) }
            }
            var state = newest.state
            // With the list in one step, so that no later start believes the old one.
            if !quorum.allowsStart(with: promised.map(\.id)) { onLoss(&state) }
            self.install(
                state, on: takers,
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
        _ state: State, on takers: [Log], _ installation: Installation,
        _ completion: @escaping (SheepError?) -> Void
    ) {
        var state = state
        state.replay(.setCatalogStores(takers.map(\.id)), request: nil)
        // No entry made this step, so the hash goes on from the view, which no other start has.
        var seed = ByteWriter()
        seed.write(installation.view)
        seed.write(state.index)
        let hash = crc32c(seed.bytes, seed: installation.hash)
        let image = Format.encode(
            promised: installation.view, view: installation.view, hash: hash, state: state.encoded())
        onEach(takers, { $0.replaceImage(image, index: state.index, promised: installation.view, $1) }) { written in
            if written.count == takers.count {
                for log in self.logs { log.forgetFound() }
                self.adopt(state)
                return self.group.begin(
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
        _ logs: [Log], _ operation: (Log, @escaping (Errno?) -> Void) -> Void,
        _ completion: @escaping ([Log]) -> Void
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
