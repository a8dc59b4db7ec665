// One disk's store.
import Model

package typealias StoreCompletion = (Result<Void, StoreError>) -> Void

package final class ObjectStore {
    /// Makes an empty store: superblock, two empty index images, the first journal segments.
    package static func format(
        _ disk: any Disk, identity: StoreIdentity, configuration: StoreConfiguration = StoreConfiguration(),
        completion: @escaping StoreCompletion
    ) { fatalError() }
    /// `onFailure` is called once, when the store dies of an error of its disk.
    package init(
        disk: any Disk, clock: any Clock, pool: BufferPool, configuration: StoreConfiguration,
        onFailure: @escaping (StoreError) -> Void
    ) { fatalError() }
    /// Reads superblock and index, replays the journal. Nothing else may be called before it has completed.
    package func open(completion: @escaping (Result<StoreReport, StoreError>) -> Void) { fatalError() }
    /// Checkpoint and clean mark. Nothing may be called afterwards.
    package func close(completion: @escaping StoreCompletion) { fatalError() }
    /// To be called at the end of every wake-up of the thread: what was journalled since goes out as one append.
    package func endOfBatch() { fatalError() }
    // Data path: completions come after the append has returned.
    package func write(_ write: ObjectWrite, completion: @escaping StoreCompletion) { fatalError() }
    package func discard(
        object: ObjectId, generation: Generation, version: Version, blocks: BlockRange, keepAsZero: Bool,
        completion: @escaping StoreCompletion
    ) { fatalError() }
    package func flush(completion: @escaping StoreCompletion) { fatalError() }
    package func read(
        object: ObjectId, path: GenerationPath, blocks: BlockRange, into: Buffer, bufferOffset: Int,
        completion: @escaping (Result<ReadOutcome, StoreError>) -> Void
    ) { fatalError() }
    // Recovery and repair
    package func begin(
        sync object: ObjectId, generation: Generation, base: Version, pending: BlockBitmap,
        completion: @escaping StoreCompletion
    ) { fatalError() }
    /// `held` and `zero` are relative to `firstBlock`; of `payload` only blocks held and not zero are looked at.
    package func fill(
        object: ObjectId, generation: Generation, firstBlock: Int, blockCount: Int, payload: Payload?,
        held: BlockBitmap, zero: BlockBitmap, chunkVersion: Version, onlyPending: Bool,
        completion: @escaping StoreCompletion
    ) { fatalError() }
    package func setState(
        object: ObjectId, _ state: CopyState, durable: Bool, completion: @escaping StoreCompletion
    ) { fatalError() }
    package func setVersion(object: ObjectId, _ version: Version, completion: @escaping StoreCompletion) {
        fatalError()
    }
    package func remove(object: ObjectId, generations: [Generation]?, completion: @escaping StoreCompletion) {
        fatalError()
    }
    package func merge(
        object: ObjectId, from: Generation, into: Generation, completion: @escaping StoreCompletion
    ) { fatalError() }
    package func quarantine(object: ObjectId, completion: @escaping StoreCompletion) { fatalError() }
    package func fence(volume: VolumeId, term: Term, completion: @escaping StoreCompletion) { fatalError() }
    package func fencedTerm(of volume: VolumeId) -> Term { fatalError() }
    package func distrustAll(completion: @escaping StoreCompletion) { fatalError() }
    // Index
    package func entry(_ object: ObjectId) -> CopyEntry? { fatalError() }
    package func objects(of volume: VolumeId) -> [CopyEntry] { fatalError() }
    package func volumes() -> [VolumeId] { fatalError() }
    package func forEach(_ body: (CopyEntry) -> Void) { fatalError() }
    package func view(
        object: ObjectId, path: GenerationPath, completion: @escaping (Result<ComposedView, StoreError>) -> Void
    ) { fatalError() }
    package func verify(
        object: ObjectId, deep: Bool, completion: @escaping (Result<VerifyOutcome, StoreError>) -> Void
    ) { fatalError() }
    package var space: StoreSpace { fatalError() }
    package func grant(bytes: Int) -> Bool { fatalError() }
    package func returnGrant(bytes: Int) { fatalError() }
    package var statistics: StoreStatistics { fatalError() }
    package var memoryPerCopy: Int { fatalError() }
}
