// Room in journal and memory: an operation whose record would not fit waits here, before anything of it shows. So
// what is staged always finds its place, a checkpoint never waits for what waits for it, and a full disk stops
// writes while the records that say so still go in.
import DequeModule
import Model

/// What an operation needs before it may be staged.
struct RoomNeed {
    enum Kind {
        /// Brings data: refused when the disk is full, waits for memory, leaves the journal's reserve alone.
        case data
        /// States, fences, removals, discards: may use the reserve.
        case record
    }
    let kind: Kind
    /// Of the journal.
    let bytes: Int

    static let record = RoomNeed(kind: .record, bytes: Record.headerBytes)
    static func records(_ count: Int) -> RoomNeed {
        RoomNeed(kind: .record, bytes: Record.headerBytes * max(1, count))
    }
    static func data(_ type: RecordType, _ blocks: BlockRange) -> RoomNeed {
        RoomNeed(
            kind: .data,
            bytes: Record.headerBytes + Record.tableBytes(type, first: blocks.first, count: blocks.count)
                + blocks.byteCount)
    }
}

struct RoomWaiter {
    let need: RoomNeed
    /// While one of these lasts it is told so instead of waiting.
    let refusal: Shortages
    let action: (Result<Void, StoreError>) -> Void
}

/// What found no space on the disk, each until it has succeeded.
struct Shortages: OptionSet {
    let rawValue: Int
    static let direct = Shortages(rawValue: 1)
    static let blocks = Shortages(rawValue: 2)
    static let checkpoint = Shortages(rawValue: 4)
    static let any: Shortages = [.direct, .blocks, .checkpoint]
    /// Until these end the journal does not get shorter.
    static let lasting: Shortages = [.blocks, .checkpoint]
}

extension ObjectStore {
    /// Free segments that only records without data may open.
    private static let reservedSegments = 1

    /// Headers that cannot be forgotten because they are not durable: data for more of them waits for the checkpoint.
    /// They bound the memory for headers, and what the next start has to replay.
    private var hasRoomForHeaders: Bool {
        dirtySheets.count + (checkpoint?.unsyncedCount ?? 0) < 4 * configuration.dirtyHeaderLimit
    }

    private func fits(_ need: RoomNeed) -> Bool {
        switch need.kind {
        case .record: journal.hasRoom(need.bytes, keeping: 0)
        case .data:
            (isFull || overlayBytes <= configuration.memoryLimitBytes && hasRoomForHeaders)
                && journal.hasRoom(need.bytes, keeping: ObjectStore.reservedSegments)
        }
    }
    /// Whether an operation may be staged now, without passing one that waits.
    func hasRoom(_ need: RoomNeed) -> Bool {
        (need.kind == .record ? reserveWaiters.isEmpty : roomWaiters.isEmpty) && fits(need)
    }

    /// Calls `action` when there is room: at once if there is. Data is refused while one of `refusal` lasts.
    func whenRoom(
        _ need: RoomNeed, refusal: Shortages = .any, _ action: @escaping (Result<Void, StoreError>) -> Void
    ) {
        let refusal = need.kind == .data ? refusal : []
        if !refusal.isDisjoint(with: shortages) { return action(.failure(.full)) }
        if hasRoom(need) { return action(.success(())) }
        wait(RoomWaiter(need: need, refusal: refusal, action: action))
    }
    func wait(_ waiter: RoomWaiter) {
        if waiter.need.kind == .record { reserveWaiters.append(waiter) } else { roomWaiters.append(waiter) }
        makeRoom()
    }

    private func makeRoom() {
        if overlayBytes > configuration.memoryLimitBytes { journal.syncSoon() }
        if journal.freeSegments < 3 { journal.grow() }
        if journal.freeSegments < 3 || !hasRoomForHeaders { later { [self] in startCheckpoint() } }
    }

    /// Lets those go on for whom there is room now; after every change that makes some.
    func giveRoom() {
        guard !isGivingRoom, !isDead else { return }
        isGivingRoom = true
        defer { isGivingRoom = false }
        while !isDead, let first = reserveWaiters.first, fits(first.need) {
            reserveWaiters.removeFirst()
            first.action(.success(()))
        }
        while !isDead, let first = roomWaiters.first {
            if !first.refusal.isDisjoint(with: shortages) {
                roomWaiters.removeFirst()
                first.action(.failure(.full))
            } else if fits(first.need) {
                roomWaiters.removeFirst()
                first.action(.success(()))
            } else {
                break
            }
        }
        if !roomWaiters.isEmpty || !reserveWaiters.isEmpty { makeRoom() }
    }

    /// The disk has no space: writes that need some are refused until a retry succeeds.
    func becomeFull(_ shortage: Shortages) {
        shortages.insert(shortage)
        applyLater()
        giveRoom()
    }

    /// Gives up a journal segment for what cannot do without space; `then` is told whether there was one.
    func yieldSpace(_ then: @escaping (Bool) -> Void) {
        guard let slot = journal.yieldSegment() else { return then(false) }
        disk.submit(.remove([.journal(slot)], syncDirectory: true)) { [self] result in
            guard !isDead else { return }
            if case .failure(let errno) = result { return die(.io(errno)) }
            then(true)
        }
    }
}
