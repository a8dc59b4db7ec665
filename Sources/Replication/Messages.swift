// What a gateway asks of a copy, and what the copy answers: the protocol of the data path. On one host a channel is
// the copy itself and a request is a function call; between hosts a channel is a connection.
import Model
import ObjectStore

/// Why a copy did not do what it was asked.
package enum CopyFailure: Error, Hashable, Sendable {
    /// The request's epoch is older than the copy's map.
    case staleEpoch(Epoch)
    /// The volume has been fenced by a newer term.
    case staleTerm(Term)
    /// The copy missed a write; it has marked itself suspect, durably.
    case behind
    /// A header of the copy cannot be read, so it takes no writes. It has not marked itself suspect: as long as nobody
    /// acknowledges what it does not have, it may be read again (see `reread`).
    case damaged
    /// The copy has no room; it has marked itself suspect, durably.
    case full
    /// The store is dead, with the reason.
    case dead(String)
    /// The store is on another node and does not answer, with the reason: what was asked may have been done, or be done
    /// later. It has left the gateway already, and its exclusion has been asked for (`RemoteStores`).
    case silent(String)
}

/// Epoch and term, carried by every request.
package struct Authority: Hashable, Sendable {
    package var epoch: Epoch
    package var term: Term
}

/// Whole blocks of one object: written, or discarded when `payload` is nil.
package struct CopyWrite: Sendable {
    package var authority: Authority
    package var object: ObjectId
    package var generation: Generation
    /// The version that the copy must stand at.
    package var previous: Version
    /// The version that it stands at afterwards.
    package var version: Version
    package var blocks: BlockRange
    package var payload: Payload?
    /// For a discard: blocks stay held, as zeros, because a layer lies below.
    package var keepAsZero: Bool
}

/// The answer to a write: whether the copy that applied it is complete (else it is still syncing).
package struct CopyWritten: Hashable, Sendable {
    package var isComplete: Bool
}

/// What a copy had of the blocks that were asked for.
package struct CopyRead: Sendable {
    /// Every block was held and right: the usual case; the bitmaps are empty then.
    package var isWhole: Bool
    /// Blocks (of the object) that no generation of this volume holds; zero-filled.
    package var absent: BlockBitmap
    /// Blocks that could not be read or do not match their checksum; undefined content.
    package var corrupt: BlockBitmap
}

/// A copy as the index knows it.
package struct CopySummary: Hashable, Sendable {
    package var object: ObjectId
    package var version: Version
    package var state: CopyState
    /// Not distrusted since it was last verified.
    package var isVerified: Bool
}

/// One store's copies, wherever the store is.
package protocol CopyChannel: AnyObject {
    var store: StoreId { get }
    /// Whether the store has room for these blocks in that generation. The gateway asks before it gives a version.
    func admits(_ object: ObjectId, _ generation: Generation, _ blocks: BlockRange) -> Bool
    func write(_ request: CopyWrite, _ reply: @escaping (Result<CopyWritten, CopyFailure>) -> Void)
    func read(
        _ object: ObjectId, _ path: GenerationPath, _ blocks: BlockRange, into buffer: Buffer, bufferOffset: Int,
        _ reply: @escaping (Result<CopyRead, CopyFailure>) -> Void)
    /// Everything that the store has answered is durable.
    func flush(_ reply: @escaping (CopyFailure?) -> Void)
    /// Refuses older terms from now on, durably; answers with all copies of the volume, ascending. Syncs the journal.
    func fence(
        _ volume: VolumeId, _ authority: Authority, _ reply: @escaping (Result<[CopySummary], CopyFailure>) -> Void)
    func view(
        _ object: ObjectId, _ path: GenerationPath, _ reply: @escaping (Result<ComposedView, CopyFailure>) -> Void)
    /// Begins to synchronise a copy (see ObjectSync): durable before the answer.
    func beginSync(
        _ object: ObjectId, top: Generation, base: Version, pending: BlockBitmap, _ authority: Authority,
        _ reply: @escaping (CopyFailure?) -> Void)
    /// Blocks for a copy that is synchronised or repaired.
    func fill(_ fill: CopyFill, _ reply: @escaping (CopyFailure?) -> Void)
    /// The copy is complete (after its data is durable).
    func completeSync(_ object: ObjectId, _ authority: Authority, _ reply: @escaping (CopyFailure?) -> Void)
    /// The copy must not be believed any more, durably.
    func markSuspect(_ object: ObjectId, _ reply: @escaping (CopyFailure?) -> Void)
    /// The object stands at `version` now, durably (a takeover that misses a member of S).
    func stamp(_ object: ObjectId, _ version: Version, _ reply: @escaping (CopyFailure?) -> Void)
    /// Looks at headers (and, deep, reads every block) of one copy.
    func verify(
        _ object: ObjectId, deep: Bool, _ reply: @escaping (Result<VerifyOutcome, CopyFailure>) -> Void)
    /// Looks again at a copy with a header that could not be read: true when all of it is fine by its checksums. It is
    /// complete again, durably.
    func reread(_ object: ObjectId, _ reply: @escaping (Result<Bool, CopyFailure>) -> Void)
    /// The copy is emptied to be made anew: suspect, durably, and without any content. It never looks like one of an
    /// object that was never written.
    func empty(_ object: ObjectId, _ reply: @escaping (CopyFailure?) -> Void)
    /// The whole copy goes.
    func remove(_ object: ObjectId, _ reply: @escaping (CopyFailure?) -> Void)
}

/// Recovery or repair data for blocks of one copy.
package struct CopyFill: Sendable {
    package var object: ObjectId
    package var generation: Generation
    package var blocks: BlockRange
    /// Blocks that the source holds. The others become not held.
    package var held: BlockBitmap
    /// Of those, the ones held as zero.
    package var zero: BlockBitmap
    /// Data of all `blocks`, with checksums; nil when no block has data.
    package var payload: Payload?
    package var chunkVersion: Version
    /// Blocks that the source does not show and the copy does: they go from all generations of `extraPath`.
    package var extra = BlockBitmap.empty
    package var extraPath: GenerationPath? = nil
    /// Fill only what is still pending (a sync of the current generation); else overwrite.
    package var onlyPending: Bool
}
