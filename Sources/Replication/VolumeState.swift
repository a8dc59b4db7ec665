// What the gateway knows of one volume under its lease: the term, which objects exist, which copies are not as they
// should be, and the gate that closes for a snapshot.
import Catalog
import Model

/// What the fence told of an object: 16 bytes, because a large volume has a million.
struct ObjectSummary {
    var version: Version
    /// Every target that must have it has it, complete and at this version.
    var isUniform: Bool
}

final class VolumeState {
    enum Phase {
        case idle
        /// The lease is being taken or stores are being fenced.
        case acquiring
        case ready
    }

    let id: VolumeId
    var phase = Phase.idle
    /// The catalog does not know it any more: everything that waits ends with ESTALE.
    var isRemoved = false
    /// Scrubs and the like that hold on to it.
    var users = 0
    var waitingForReady: [(Errno?) -> Void] = []
    var term = Term.none
    /// Stores that have been fenced under this term, with the epoch at which they came up.
    var fenced: [StoreId] = []
    /// Stores that were fenced at any time under this term: all that they have of older terms has been seen.
    var heard: [StoreId] = []
    /// Stores that were heard while their sessions were in question: nothing that they had counted.
    var heardInQuestion: [StoreId] = []
    /// The highest sequence that an equaliser has given under this term: none is ever given twice, for copies at the same
    /// version count as equal.
    var highestStamp: UInt64 = 0
    /// Objects whose copies an equaliser has stamped without having come to its end: their versions are not those that the
    /// fence told of.
    var restamped: Set<UInt32> = []
    /// The epoch in which what the stores have was last compared anew.
    var learntEpoch: UInt64?
    var summaries: [UInt32: ObjectSummary] = [:]
    /// Copies that are not complete, by object: only those that differ from the rule.
    var exceptions: [UInt32: [StoreId: SlotStatus]] = [:]
    /// Objects in use.
    var objects: [UInt32: ObjectState] = [:]
    /// Existing objects in ascending order; nil when it must be made anew.
    var sortedIndices: [UInt32]?

    /// Copied from the catalog at each change of the volume.
    var path: GenerationPath
    /// That writes go to.
    var copies: Int
    /// That exist for sure: what S means for this volume.
    var sureCopies: Int
    var size: UInt64
    var parent: ParentReference?
    /// Generations other than the first: something may lie below a block.
    var hasOlderGenerations: Bool

    /// Snapshots close it: writes wait, and `whenDrained` runs when none is on its way.
    var gateClosed = false
    var gateHolders = 0
    var gatedWrites: [() -> Void] = []
    var writesInFlight = 0
    var whenDrained: [() -> Void] = []
    /// Operations that follow one another: resize, snapshot, rollback.
    var controlQueue: [() -> Void] = []
    var controlBusy = false

    /// A store that had writes of this volume was excluded before they were durable there: a flush is true only where others
    /// have them.
    var hasLostStore = false
    /// How many writes each store was sent, and how many of them are known to be durable.
    var stores: [StoreMark] = []
    var openCount = 0
    var lastUse = Instant(nanoseconds: 0)
    /// What was counted last; `isOld` after a change.
    var allocated: (bytes: UInt64, at: Instant, isOld: Bool)?

    init(record: VolumeRecord) {
        id = record.id
        path = record.currentPath
        copies = record.targetCopies
        sureCopies = record.copies
        size = record.size
        parent = record.parent
        hasOlderGenerations = record.generation > .first
    }

    func update(from record: VolumeRecord) {
        path = record.currentPath
        copies = record.targetCopies
        sureCopies = record.copies
        size = record.size
        parent = record.parent
        hasOlderGenerations = record.generation > .first
        allocated = nil
    }

    /// Whether `object` shows something of the parent.
    func showsParent(_ index: UInt32) -> Bool {
        guard let parent else { return false }
        return UInt64(index) * UInt64(objectSize) < parent.visibleBytes
    }

    func indices() -> [UInt32] {
        if let sortedIndices { return sortedIndices }
        let sorted = summaries.keys.sorted()
        sortedIndices = sorted
        return sorted
    }

    func applied(_ store: StoreId) {
        for i in stores.indices where stores[i].store == store {
            stores[i].applied += 1
            return
        }
        stores.append(StoreMark(store: store, applied: 1, flushed: 0))
    }

    func flushed(_ store: StoreId, upTo count: UInt64) {
        for i in stores.indices where stores[i].store == store {
            stores[i].flushed = max(stores[i].flushed, count)
        }
    }
}

struct StoreMark {
    let store: StoreId
    var applied: UInt64
    var flushed: UInt64
}
