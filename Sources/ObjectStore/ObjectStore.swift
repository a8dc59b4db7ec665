// One disk's store: the index of its copies, their journal, their files. It stores durably and truthfully what it is
// told; it never checks versions, terms or epochs, and never touches a file, clock or thread except through
// `Disk` and `Clock`. All calls and completions are on one thread; no completion comes from inside a call.
import DequeModule
import Model

package typealias StoreCompletion = (Result<Void, StoreError>) -> Void

package final class ObjectStore {
    let disk: any Disk
    let clock: any Clock
    let pool: BufferPool
    let configuration: StoreConfiguration
    private let onFailure: (StoreError) -> Void

    // Set by `open`.
    var superblock: Superblock!
    var journal: Journal!
    var index = Index()
    var isOpen = false
    /// Where an error goes while the store is being opened.
    var onOpenFailure: ((StoreError) -> Void)?
    private(set) var isDead = false
    /// What found no space on the disk.
    var shortages: Shortages = []
    /// Writes that need space are refused until what found none succeeds.
    var isFull: Bool { !shortages.isEmpty }

    // Headers in memory.
    var sheets: [FileKey: Sheet] = [:]
    var dirtySheets: [FileKey: Sheet] = [:]
    var loading: [FileKey: [() -> Void]] = [:]
    var oldestClean: Sheet?
    unowned(unsafe) var newestClean: Sheet?
    var cleanCount = 0
    var views = ViewCache()
    /// Counts every change of a header: a read that finds a mismatch looks whether it was overtaken.
    var mutations: UInt64 = 0

    // Operations that wait, by object; the first of a queue is running.
    var queues: [ObjectId: ObjectQueue] = [:]
    var nextTicket: UInt64 = 0
    /// Tickets of operations that were accepted and are not in the journal yet, ascending.
    var unstaged: [UInt64] = []
    var flushWaiters = Deque<(ticket: UInt64, completion: StoreCompletion)>()

    var deferred: [() -> Void] = []
    /// What waits for room in journal or memory, in order; and what may use the journal's last segments.
    var roomWaiters = Deque<RoomWaiter>()
    var reserveWaiters = Deque<RoomWaiter>()
    var isGivingRoom = false

    // Applying.
    var overlaySheets: [FileKey: Sheet] = [:]
    var overlayBytes = 0
    var isApplying = false
    var isApplyArmed = false
    var isApplyRetryArmed = false
    /// Called once when everything durable is in the files, or does not fit.
    var whenApplied: (() -> Void)?
    /// Files written since their last sync.
    var unsyncedFiles: Set<FileKey> = []
    var graves: [Grave] = []
    var isBurying = false

    // Checkpoints.
    var checkpoint: CheckpointRun?
    var lastCheckpoint: UInt32 = 0
    /// The highest number that any header may carry: a checkpoint that failed leaves headers with its own.
    var highestStamp: UInt32 = 0
    /// Where a replay starts by the newest image, and by the one before.
    var startLsn: UInt64 = 1
    var previousStartLsn: UInt64 = 1
    var isCheckpointTimerArmed = false
    var checkpointWaiters: [StoreCompletion] = []

    /// When the last reads failed.
    private var readFailures = Deque<Instant>()

    var grantedBytes: UInt64 = 0
    var counters = StoreStatistics()

    /// `onFailure` is called once, when the store dies of an error of its disk.
    package init(
        disk: any Disk, clock: any Clock, pool: BufferPool, configuration: StoreConfiguration,
        onFailure: @escaping (StoreError) -> Void
    ) {
        precondition(configuration.journalMaximumSegments >= 4)
        self.disk = disk
        self.clock = clock
        self.pool = pool
        self.configuration = configuration
        self.onFailure = onFailure
    }

    var storeId: UInt64 { superblock.identity.storeId.rawValue }
    package var identity: StoreIdentity { superblock.identity }
    package var session: StoreSession { superblock.session }

    // MARK: Batches, deferral, death

    /// To be called at the end of every wake-up of the thread: what was journalled since goes out as one append.
    package func endOfBatch() {
        while !deferred.isEmpty {
            let actions = deferred
            deferred = []
            for action in actions { action() }
        }
        guard !isDead else { return }
        if let loss = disk.loss { return die(loss == .noEntry ? .lost : .io(loss)) }
        journal?.endOfBatch()
    }

    /// Runs `action` soon, outside the present call.
    func later(_ action: @escaping () -> Void) {
        if deferred.isEmpty {
            // Whoever drives the store may have no reason to wake up again.
            clock.after(milliseconds: 0) { [self] in if !deferred.isEmpty { endOfBatch() } }
        }
        deferred.append(action)
    }
    func fail(_ completion: @escaping StoreCompletion, _ error: StoreError) { later { completion(.failure(error)) } }

    /// An object file could not be read, or is not there although the index knows it. One such file is repaired from
    /// another copy; many within a minute are the disk's failure, which repairs would only drag out.
    func noteReadFailure(_ key: FileKey, _ errno: Errno) {
        // A file that was removed while it was read is no failure.
        guard isOpen, !isDead, let item = index.generation(key), errno != .noEntry || item.stamp > 0 else { return }
        readFailures.append(clock.now)
        while let first = readFailures.first, clock.now.milliseconds(since: first) > ObjectStore.readFailureWindow {
            readFailures.removeFirst()
        }
        if readFailures.count > ObjectStore.maximumReadFailures { die(errno == .noEntry ? .lost : .io(errno)) }
    }
    /// More failed reads than this within the window (milliseconds) end the store.
    private static let maximumReadFailures = 16
    private static let readFailureWindow: UInt64 = 60_000

    /// The disk failed: the store is out of service for good.
    func die(_ error: StoreError) {
        guard !isDead else { return }
        if let onOpenFailure {
            onOpenFailure(error)
        } else {
            stop()
            onFailure(error)
        }
    }

    /// The store is not used any more, for whatever reason: everything that waits completes with `dead`.
    package func stop() {
        guard !isDead else { return }
        isDead = true
        isOpen = false
        var waiting: [StoreCompletion] = journal?.die() ?? []
        waiting += flushWaiters.map(\.completion)
        waiting += checkpointWaiters
        var operations: [QueuedOperation] = []
        for object in queues.keys.sorted() { operations += queues[object]!.operations }
        flushWaiters = []
        roomWaiters = []
        reserveWaiters = []
        checkpointWaiters = []
        queues = [:]
        let loaders = loading.keys.sorted().flatMap { loading[$0]! }
        loading = [:]
        later {
            for completion in waiting { completion(.failure(.dead)) }
            for operation in operations { operation.fail(.dead) }
            for loader in loaders { loader() }
        }
    }

    // MARK: Index

    package func entry(_ object: ObjectId) -> CopyEntry? {
        index[object].map { CopyEntry(object: object, $0, trust: index.trustGeneration) }
    }
    /// Ascending.
    package func objects(of volume: VolumeId) -> [CopyEntry] {
        var entries: [CopyEntry] = []
        entries.reserveCapacity(index.count(of: volume.rawValue))
        forEach(in: volume) { entries.append($0) }
        return entries
    }
    /// Ascending. The store must not be changed meanwhile.
    package func forEach(in volume: VolumeId, _ body: (CopyEntry) -> Void) {
        let trust = index.trustGeneration
        index.forEach(in: volume.rawValue) { body(CopyEntry(object: $0, $1, trust: trust)) }
    }
    /// Ascending.
    package func volumes() -> [VolumeId] { index.volumes().map { VolumeId($0) } }
    /// Ascending by object.
    package func forEach(_ body: (CopyEntry) -> Void) {
        for volume in volumes() { forEach(in: volume, body) }
    }
    package var objectCount: Int { index.count }
    package func fencedTerm(of volume: VolumeId) -> Term { Term(index.terms[volume.rawValue] ?? 0) }

    // MARK: Space

    package var space: StoreSpace {
        let now = disk.space
        let kept = configuration.reserveBytes + grantedBytes
        let available = now.availableBytes > kept ? now.availableBytes - kept : 0
        let level: SpaceLevel =
            isFull || available == 0 ? .full : available < configuration.lowSpaceBytes ? .low : .fine
        return StoreSpace(
            capacityBytes: now.capacityBytes, availableBytes: available, grantedBytes: grantedBytes, level: level)
    }
    /// Sets `bytes` aside for a gateway; false if there is not that much.
    package func grant(bytes: Int) -> Bool {
        precondition(bytes >= 0)
        guard !isDead, !isFull, UInt64(bytes) <= space.availableBytes else { return false }
        grantedBytes += UInt64(bytes)
        return true
    }
    package func returnGrant(bytes: Int) {
        precondition(bytes >= 0 && UInt64(bytes) <= grantedBytes, "more credit returned than granted")
        grantedBytes -= UInt64(bytes)
    }

    package var statistics: StoreStatistics {
        var now = counters
        now.overlayBytes = overlayBytes
        now.dirtyHeaders = dirtySheets.count
        now.cachedHeaders = sheets.count
        if let journal {
            now.journalAppends = journal.appendCount
            now.journalRecords = journal.recordCount
            now.journalSyncs = journal.syncCount
            now.journalSegments = journal.segments.count
            now.freeJournalSegments = journal.freeSegments
        }
        return now
    }
}

extension CopyEntry {
    init(object: ObjectId, _ entry: IndexEntry, trust: UInt32) {
        self.init(
            object: object, version: Version(rawValue: entry.version), state: entry.state,
            isVerified: entry.trust == trust, items: entry.generations)
    }
}
