// The catalog of one host: the state machine over a driver. Commands that arrive while an append is under way go into
// the next one together. Nothing is answered or shown before it is committed.
import Model

package final class LocalCatalog: CatalogProposer {
    package internal(set) var state: CatalogState
    /// A store whose catalog could not be read or written. It is not used for the catalog any more.
    package var onStoreFailure: ((StoreId, Errno) -> Void)? {
        didSet { host.onStoreFailure = onStoreFailure }
    }
    /// Stores of the map on which there is no catalog at all, though each got one before it joined: they were wiped, or are
    /// others with an old id. They do not get the catalog, and nothing that they say of objects may be believed.
    package var strangers: [StoreId] { host.strangers }
    let clock: any Clock
    let incarnation: UInt64
    let node: NodeId
    private(set) var host: HostLog<CatalogState>!
    private var observers: [([CatalogChange]) -> Void] = []
    private var waiting: [(CatalogProposal, (CommandAnswer) -> Void)] = []
    /// Completions of what is being appended, oldest first.
    private var appending: [(CommandAnswer) -> Void] = []
    private var isAppending = false
    private var isOpen = false
    private static let batchLimit = 256

    /// `disks`: the stores of this host that can be reached. `incarnation`: the life of this process. After
    /// `imageInterval` bytes of log the state is written whole.
    package init(
        disks: [(StoreId, any Disk)], clock: any Clock, node: NodeId, incarnation: UInt64,
        imageInterval: Int = 1 << 20
    ) {
        self.clock = clock
        self.node = node
        self.incarnation = incarnation
        state = CatalogState(
            clusterId: ClusterId(high: 0, low: 0), settings: Settings(),
            rootAttributes: FileAttributes(uid: 0, gid: 0, mode: 0o755, time: 0))
        host = HostLog(
            disks: disks, clock: clock, incarnation: incarnation, imageInterval: imageInterval,
            state: { [unowned self] in self.state }, adopt: { [unowned self] in self.state = $0 })
        host.group.onCommit = { [unowned self] in self.committed($0) }
    }

    func opened(_ error: SheepError?, _ completion: (SheepError?) -> Void) {
        if error == nil { isOpen = true }
        completion(error)
    }

    package func observe(_ observer: @escaping ([CatalogChange]) -> Void) { observers.append(observer) }

    package func propose(
        _ command: CatalogCommand, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void
    ) {
        if let error = refusal(of: command) {
            clock.after(milliseconds: 0) { completion(.refused(error)) }
            return
        }
        waiting.append((CatalogProposal(command, request: request), completion))
        appendWaiting()
    }

    private func refusal(of command: CatalogCommand) -> SheepError? {
        if let stopped = host.group.stopped { return stopped }
        if !isOpen {
            return SheepError(
                .tryAgain, what: "The catalog is not open.", why: "The node is starting or stopping.",
                remedy: "Try again.")
        }
        if case .setCatalogStores = command {
            return SheepError(
                .notPermitted, what: "The list of stores that hold the catalog was not changed.",
                why: "It follows the stores that are there.", remedy: "Attach or detach a store.")
        }
        var bytes = ByteWriter()
        command.encode(&bytes)
        if bytes.bytes.count > CatalogFormat.maximumEntryBytes {
            return SheepError(
                .tooBig, what: "The command is too large.",
                why: "It has \(bytes.bytes.count) bytes; \(CatalogFormat.maximumEntryBytes) are allowed.",
                remedy: "Name fewer volumes at a time.")
        }
        return nil
    }

    private func appendWaiting() {
        if isAppending || waiting.isEmpty { return }
        isAppending = true
        let batch = Array(waiting.prefix(LocalCatalog.batchLimit))
        waiting.removeFirst(batch.count)
        appending = batch.map(\.1)
        host.group.append(batch.map(\.0)) { error in
            self.isAppending = false
            if let error { self.refuseAll(error) }
            self.appendWaiting()
        }
    }

    private func refuseAll(_ error: SheepError) {
        let completions = appending + waiting.map(\.1)
        appending = []
        waiting = []
        for completion in completions { completion(.refused(error)) }
    }

    private func committed(_ proposal: CatalogProposal) {
        let (answer, changes) = state.apply(proposal.command, request: proposal.request)
        if !changes.isEmpty { for observer in observers { observer(changes) } }
        if proposal.isInternal { return }
        if !appending.isEmpty { appending.removeFirst()(answer) }
    }

    /// Gives a store of this host the catalog. It counts from the answer on.
    package func attach(store: StoreId, disk: any Disk, _ completion: @escaping (SheepError?) -> Void) {
        host.group.attach(StoreLog(id: store, disk: disk), completion)
    }

    /// The store does not hold the catalog any more: it is being removed. EBUSY when too few others do.
    package func detach(store: StoreId, _ completion: @escaping (SheepError?) -> Void) {
        host.group.detach(store, completion)
    }
}
