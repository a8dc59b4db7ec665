// The logs of one state on this host's stores, all written alike. An entry is committed when all stores of the
// list have synced it; a store that fails is reported and leaves the list before anything more is committed.
// Operations run one at a time, so that images, appends and changes of the list never mix.
import Model

final class StateLogGroup<State: LoggedState> {
    typealias Format = StateLogFormat<State>
    typealias Proposal = LogProposal<State.Command>
    /// Called with each committed command exactly once, in order, and never from inside `append`.
    var onCommit: ((Proposal) -> Void)?
    var onStoreFailure: ((StoreId, Errno) -> Void)?
    /// The committed state, which the state machine has.
    private let state: () -> State
    private let incarnation: UInt64
    /// How many bytes of log follow an image at most (or as many as the image has).
    private let imageInterval: Int
    /// Stores of the list, ascending.
    private(set) var members: [StateLog<State>] = []
    private var view: UInt64 = 0
    /// Of the last entry that was appended.
    private var hash: UInt32 = 0
    private var tail: UInt64 = 0
    private var bytesSinceImage = 0
    private var imageBytes = 0
    /// Appended, but not committed yet, oldest first; and the lists among it.
    private var uncommitted: [Proposal] = []
    private var uncommittedLists: [[StoreId]] = []
    private var accepted: [StoreId] = []
    /// Set once: nothing is committed any more.
    private(set) var stopped: SheepError?
    private var operations: [(@escaping () -> Void) -> Void] = []
    private var isRunning = false

    init(incarnation: UInt64, imageInterval: Int, state: @escaping () -> State) {
        self.incarnation = incarnation
        self.imageInterval = imageInterval
        self.state = state
    }

    /// Starts with stores that all have this state as their image, and confirms their list. `accepted`: stores that
    /// are missing by an administrator's leave.
    func begin(
        members: [StateLog<State>], view: UInt64, hash: UInt32, imageBytes: Int, accepted: [StoreId],
        _ completion: @escaping (SheepError?) -> Void
    ) {
        self.members = members
        self.view = view
        self.hash = hash
        self.imageBytes = imageBytes
        self.accepted = accepted
        tail = state().index
        run { done in
            self.commit([Proposal(.none, isInternal: true)]) { error in
                self.accepted = []
                completion(error)
                done()
            }
        }
    }

    private func run(_ operation: @escaping (@escaping () -> Void) -> Void) {
        operations.append(operation)
        runNext()
    }

    private func runNext() {
        if isRunning || operations.isEmpty { return }
        isRunning = true
        operations.removeFirst()({
            self.isRunning = false
            self.runNext()
        })
    }

    // MARK: appending

    /// Appends the commands behind all others. Answers nil after they were committed (and handed to `onCommit`), else
    /// why that is not known: then nothing more is committed by this log. Several may wait; they run one at a time.
    func append(_ proposals: [Proposal], _ completion: @escaping (SheepError?) -> Void) {
        run { done in
            if let stopped = self.stopped {
                completion(stopped)
                return done()
            }
            self.commit(proposals) { error in
                completion(error)
                if error == nil, self.bytesSinceImage > max(self.imageInterval, self.imageBytes) {
                    self.writeImages(done)
                } else {
                    done()
                }
            }
        }
    }

    /// Appends to all members and hands over what is committed.
    private func commit(_ proposals: [Proposal], _ completion: @escaping (SheepError?) -> Void) {
        var bytes: [UInt8] = []
        let batch = tail + 1
        for proposal in proposals {
            tail += 1
            let entry = Format.Entry(
                index: tail, view: view, incarnation: incarnation, batch: batch, request: proposal.request,
                command: proposal.command)
            bytes += Format.encode(entry, state().clusterId, hash: &hash)
            uncommitted.append(proposal)
            if let list = proposal.command.listedStores { uncommittedLists.append(list) }
        }
        bytesSinceImage += bytes.count
        onAll({ $0.append(bytes, $1) }) { failed in
            if failed { return self.shrink(completion) }
            let committed = self.uncommitted
            let changedList = !self.uncommittedLists.isEmpty
            self.uncommitted = []
            self.uncommittedLists = []
            for proposal in committed { self.onCommit?(proposal) }
            // An entry behind a change of the list says that it is committed: earlier lists have no say any more.
            if changedList {
                self.commit([Proposal(.none, isInternal: true)], completion)
            } else {
                completion(nil)
            }
        }
    }

    /// Runs an operation on all members at once; those that fail are reported and are members no more.
    private func onAll(
        _ operation: (StateLog<State>, @escaping (Errno?) -> Void) -> Void,
        _ completion: @escaping (_ failed: Bool) -> Void
    ) {
        var left = members.count
        var failed: [(StoreId, Errno)] = []
        for member in members {
            operation(member) { errno in
                if let errno { failed.append((member.id, errno)) }
                left -= 1
                if left > 0 { return }
                self.members.removeAll { member in failed.contains { $0.0 == member.id } }
                for (id, errno) in failed { self.onStoreFailure?(id, errno) }
                completion(!failed.isEmpty)
            }
        }
    }

    /// Members failed: the list becomes what is left, if that may go on.
    private func shrink(_ completion: @escaping (SheepError?) -> Void) {
        let ids = members.map(\.id)
        guard mayGoOn(with: ids) else {
            let error = SheepError(
                .inputOutput, what: "\(State.title) stopped: nothing can be changed any more.",
                why: "Too many of the stores that hold it failed.",
                remedy: "Repair or reconnect them, and restart sheep.")
            stopped = error
            return completion(error)
        }
        commit([Proposal(.setCatalogStores(ids), isInternal: true)], completion)
    }

    private func mayGoOn(with ids: [StoreId]) -> Bool {
        var quorum = StoreQuorum(state())
        quorum.lists += uncommittedLists
        return quorum.allowsGoingOn(with: ids, accepted: accepted)
    }

    // MARK: images and members

    /// `change` changes the state whole (its index is one more), and all members get an image of it. Answers nil when it
    /// is durable, else why that is not known.
    func replace(_ change: @escaping () -> Void, _ completion: @escaping (SheepError?) -> Void) {
        run { done in
            if let stopped = self.stopped {
                completion(stopped)
                return done()
            }
            change()
            self.tail += 1
            precondition(self.state().index == self.tail, "a change of the state that the log does not know")
            // No entry made this step, so the hash goes on from where it stands.
            var seed = ByteWriter()
            seed.write(self.view)
            seed.write(self.tail)
            self.hash = crc32c(seed.bytes, seed: self.hash)
            self.writeImages {
                completion(self.stopped)
                done()
            }
        }
    }

    /// Starts new logs behind images of the state.
    private func writeImages(_ done: @escaping () -> Void) {
        let state = state()
        let image = Format.encode(promised: view, view: view, hash: hash, state: state.encoded())
        imageBytes = image.count
        bytesSinceImage = 0
        onAll({ [view] in $0.replaceImage(image, index: state.index, promised: view, $1) }) { failed in
            if failed { self.shrink { _ in done() } } else { done() }
        }
    }

    /// The store gets the state whole, and counts when the list with it is committed.
    func attach(_ log: StateLog<State>, _ completion: @escaping (SheepError?) -> Void) {
        run { done in
            let finish: (SheepError?) -> Void = {
                completion($0)
                done()
            }
            if let stopped = self.stopped { return finish(stopped) }
            if self.members.contains(where: { $0.id == log.id }) { return finish(nil) }
            let state = self.state()
            let image = Format.encode(
                promised: self.view, view: self.view, hash: self.hash, state: state.encoded())
            log.replaceImage(image, index: state.index, promised: self.view) { errno in
                if let errno {
                    self.onStoreFailure?(log.id, errno)
                    return finish(
                        SheepError(
                            errno, what: "Store \(log.id) does not hold the catalog.", why: "Writing it there failed.",
                            remedy: "Look at the disk's health."))
                }
                self.members.append(log)
                self.members.sort { $0.id < $1.id }
                self.commit(
                    [Proposal(.setCatalogStores(self.members.map(\.id)), isInternal: true)], finish)
            }
        }
    }

    /// The store does not hold the catalog any more.
    func detach(_ id: StoreId, _ completion: @escaping (SheepError?) -> Void) {
        run { done in
            let finish: (SheepError?) -> Void = {
                completion($0)
                done()
            }
            if let stopped = self.stopped { return finish(stopped) }
            guard self.members.contains(where: { $0.id == id }) else { return finish(nil) }
            let rest = self.members.filter { $0.id != id }
            guard self.mayGoOn(with: rest.map(\.id)) else {
                return finish(
                    SheepError(
                        .busy, what: "Store \(id) still holds the catalog.", why: "No other store does.",
                        remedy: "Add a store first."))
            }
            self.members = rest
            self.commit([Proposal(.setCatalogStores(rest.map(\.id)), isInternal: true)], finish)
        }
    }
}
