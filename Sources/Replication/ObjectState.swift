// What the gateway knows of one object while it is used: its version, which stores have it how, who holds its blocks,
// and which writes are on their way.
import Model

/// How one target stands with one object.
enum SlotStatus {
    /// Has every acknowledged write.
    case complete
    /// Takes every write, and pulls what it missed.
    case syncing
    /// A member of S that has every acknowledged write, but not all that was sent to others: made equal, in place, before
    /// the object is used (see Equaliser). Should the others go meanwhile, it is as good as they were.
    case lagging
    /// Not believed and not written to, until recovery begins to synchronise it.
    case unverified
}

struct CopySlot {
    let channel: any CopyChannel
    var status: SlotStatus
    /// A member of S for the object's range.
    let isMember: Bool

    var takesWrites: Bool { status == .complete || status == .syncing }
}

/// A write or discard on its way to the copies.
final class WriteOperation {
    let object: ObjectState
    let request: CopyWrite
    /// Stores that have not answered.
    var pending: [StoreId] = []
    /// Stores whose copy could not take it, because its header cannot be read.
    var damaged: [StoreId] = []
    /// Stores that failed and are not yet excluded.
    var failed: [StoreId] = []
    /// Complete copies that have applied it.
    var completeCopies = 0
    var isParked = false
    var completion: ((Errno?) -> Void)?

    init(object: ObjectState, request: CopyWrite, completion: @escaping (Errno?) -> Void) {
        self.object = object
        self.request = request
        self.completion = completion
    }
}

final class ObjectState {
    let id: ObjectId
    let range: RangeIndex
    /// The version of the last write that was sent.
    var version: Version
    /// For the epoch `slotsEpoch`.
    var slots: [CopySlot] = []
    var slotsEpoch: UInt64 = .max
    /// A member of S is up in the map and not among the slots: it failed and is not excluded yet, so that nothing that it
    /// does not have may be acknowledged.
    var lacksMember = false
    var locks = BlockLocks()
    /// In order of versions.
    var inFlight: [WriteOperation] = []
    /// A sync is beginning: writes wait until it has.
    var isPaused = false
    var pausedWrites: [() -> Void] = []
    /// Runs when nothing is in flight (for a sync that begins).
    var whenIdle: [() -> Void] = []
    /// Copies are being made equal: everything waits.
    var preparation: [(Errno?) -> Void]?
    var isPrepared: Bool
    /// Syncs that hold on to it.
    var users = 0

    init(id: ObjectId, version: Version, isPrepared: Bool) {
        self.id = id
        range = id.range
        self.version = version
        self.isPrepared = isPrepared
    }

    /// Lets go of blocks, and runs what waited for them.
    func unlock(_ ticket: BlockLocks.Ticket) { for granted in locks.release(ticket) { granted() } }

    var isQuiet: Bool {
        users == 0 && locks.isEmpty && inFlight.isEmpty && !isPaused && whenIdle.isEmpty && preparation == nil
    }
}
