// Opening a store, step by step: superblock, index image, journal, replay, and at last the session. It trusts nothing
// that it reads before it is checked. The steps themselves: Opening+Journal, Opening+Replay, Opening+Rebuild.
import Model

extension ObjectStore {
    /// Reads superblock and index and replays the journal. Nothing else may be called before it completes.
    package func open(completion: @escaping (Result<StoreReport, StoreError>) -> Void) {
        precondition(superblock == nil, "a store is opened once")
        Opening(self, completion).begin()
    }
}

/// One opening on its way, step by step.
final class Opening {
    let store: ObjectStore
    let completion: (Result<StoreReport, StoreError>) -> Void
    var disk: any Disk { store.disk }
    /// The first one is the newer.
    var images: [IndexImage] = []
    var damage: [String] = []
    var isRebuilt = false
    /// Files that the index does not know and whose header is not valid.
    var nameless: [FileKey] = []
    var headerless: [FileKey] = []
    var slots: [UInt64] = []
    var segments: [FoundSegment] = []
    var headers: [(slot: UInt64, header: SegmentHeader)] = []
    /// Segments that were made and never used. Others without a header may not be whole: they are made anew.
    var prepared: [UInt64] = []
    var short: Set<UInt64> = []
    var scan = JournalScan([], start: 1)
    var suspects: [ObjectId] = []
    /// Files that the replay removed; the value says whether they are set aside.
    var removed: [FileKey: Bool] = [:]
    var wasClean = false
    var isDone = false
    /// Data that is in the object files because it went past the journal: no earlier record may overwrite it.
    var shadows: [FileKey: [(lsn: UInt64, blocks: BlockBitmap)]] = [:]
    var highestSequence: UInt64 = 0
    /// What the index image says of the journal.
    var knownDurableLsn: UInt64 = 0
    /// The journal ends before that.
    var isCutOff = false

    init(_ store: ObjectStore, _ completion: @escaping (Result<StoreReport, StoreError>) -> Void) {
        self.store = store
        self.completion = completion
    }

    func fail(_ error: StoreError) {
        guard !isDone else { return }
        isDone = true
        store.onOpenFailure = nil
        store.stop()
        completion(.failure(error))
    }

    // MARK: Superblock and index

    func begin() {
        store.onOpenFailure = { [self] error in fail(error) }
        disk.submit(.readWhole(.superblock, limit: 65536)) { [self] result in
            switch result {
            case .failure(.noEntry): return fail(.foreign("there is no superblock"))
            case .failure(.fileTooBig): return fail(.foreign("the superblock is no superblock: it is too large"))
            case .failure(let errno): return fail(.io(errno))
            case .success(.contents(let bytes)):
                switch Superblock.decode(bytes) {
                case .failure(let error): return fail(error)
                case .success(let block):
                    store.superblock = block
                    store.superblock.openings &+= 1
                }
            default: return fail(.damaged("the superblock cannot be read"))
            }
            wasClean = store.superblock.isClean
            store.journal = Journal(
                disk: disk, clock: store.clock, pool: store.pool, configuration: store.configuration,
                store: store.storeId, segmentBytes: Int(store.superblock.segmentBytes))
            store.journal.onError = { [unowned store] errno in store.die(.io(errno)) }
            store.journal.onDurable = { [unowned store] _ in
                store.applySoon()
                store.bury()
                store.advanceCheckpoint()
            }
            store.journal.onRoom = { [unowned store] in store.giveRoom() }
            store.journal.onSegmentChange = { [unowned store] in if store.isOpen { store.checkpointIfNeeded() } }
            orderImages()
        }
    }

    /// The newer image is read first; the other one is only checked, because with a million copies two take too long.
    func orderImages(_ numbers: [UInt32] = []) {
        guard numbers.count < 2 else { return readImages(numbers[0] > numbers[1] ? [0, 1] : [1, 0]) }
        let buffer = store.pool.buffer(blockSize)
        disk.submit(
            .read(.index(UInt8(numbers.count)), offset: 0, buffer: buffer, bufferOffset: 0, count: blockSize)
        ) { [self] result in
            var count = 0
            if case .success(.bytes(let n)) = result { count = n }
            orderImages(numbers + [IndexImage.checkpoint(ofPage: buffer.bytes, count: count)])
        }
    }

    func readImages(_ slots: ArraySlice<UInt8>) {
        guard let slot = slots.first else { return chooseImage() }
        disk.submit(.readWhole(.index(slot), limit: IndexImage.limitBytes)) { [self] result in
            if case .success(.contents(let bytes)) = result,
                let image = IndexImage.decode(bytes, store: store.storeId, entries: images.isEmpty),
                image.checkpoint & 1 == UInt32(slot)
            {
                images.append(image)
            } else {
                damage.append("index image \(slot) is damaged")
            }
            readImages(slots.dropFirst())
        }
    }

    func chooseImage() {
        guard let image = images.first else { return rebuild() }
        store.index = image.index
        headerless = image.headerless
        store.lastCheckpoint = image.checkpoint
        store.startLsn = image.startLsn
        store.previousStartLsn = images.count > 1 ? images[1].startLsn : image.startLsn
        highestSequence = image.nextSequence - 1
        knownDurableLsn = image.durableLsn
        images = []
        listJournal()
    }

    // MARK: The end

    func finish() {
        for key in nameless where store.sheets[key] == nil && removed[key] == nil {
            // Perhaps a leftover, perhaps a copy: it must not be taken for zeros.
            let entry = store.index.entry(key.object)
            if entry.generations.position(ofFile: key.file) == nil {
                var generation = max(1, key.file)
                while entry.generations.contains(where: { $0.generation == generation }) { generation += 1 }
                entry.generations.insert(IndexGeneration(generation: generation, file: key.file, stamp: 1))
            }
            suspects.append(key.object)
            damage.append("object \(key.object): the header of file \(key.file) is damaged")
        }
        for key in headerless where store.sheets[key] == nil {
            guard let item = store.index.generation(key), item.stamp == 0 else { continue }
            store.index.updateFile(key) { $0.stamp = 1 }
            suspects.append(key.object)
            damage.append("object \(key.object): the journal that described it is gone")
        }
        for key in store.sheets.keys.sorted() where store.sheets[key]!.isDamaged {
            suspects.append(key.object)
            damage.append("object \(key.object): both headers of file \(key.file) are damaged")
        }
        if let object = contradiction() {
            return fail(.damaged("the journal names two files for one generation of object \(object)"))
        }
        let mustDistrust = isRebuilt || isCutOff || !scan.witnesses.isEmpty
        if isRebuilt {
            damage.append("the index was rebuilt from \(store.index.count) copies")
            for volume in store.index.volumes() {
                for item in store.index.indices(of: volume) {
                    let version = Version(rawValue: store.index[ObjectId(VolumeId(volume), item)]!.version)
                    store.index.terms[volume] = max(store.index.terms[volume] ?? 0, version.term.rawValue)
                }
            }
        }
        for key in removed.keys.sorted() {
            store.graves.append(Grave(key: key, sheet: nil, lsn: 0, isQuarantine: removed[key]!))
        }
        let boot = store.configuration.bootId
        let continues = (wasClean || store.superblock.lastBootId == boot) && !mustDistrust
        if !continues || store.superblock.session.incarnation == 0 {
            store.superblock.session = StoreSession(
                bootId: boot, incarnation: store.superblock.session.incarnation + 1)
        }
        store.superblock.lastBootId = boot
        store.superblock.isClean = false
        writeSuperblock { [self] in go(continues: continues, mustDistrust: mustDistrust) }
    }

    /// A copy that has a generation twice, of those that the replay changed. (During the replay it may be so: the image
    /// is already ahead of the records.)
    private func contradiction() -> ObjectId? {
        for object in Set(scan.chain.map(\.record.object)).sorted() {
            guard let generations = store.index[ObjectId(rawValue: object)]?.generations, generations.count > 1 else {
                continue
            }
            for (one, next) in zip(generations, generations.dropFirst()) where one.generation == next.generation {
                return ObjectId(rawValue: object)
            }
        }
        return nil
    }

    /// Also on a full disk, if the journal has a segment to spare.
    func writeSuperblock(_ then: @escaping () -> Void) {
        disk.submit(.replace(.superblock, contents: store.superblock.encode())) { [self] result in
            switch result {
            case .success: then()
            case .failure(.noSpace):
                store.yieldSpace { [self] hasYielded in
                    if hasYielded { writeSuperblock(then) } else { fail(.full) }
                }
            case .failure(let errno): fail(.io(errno))
            }
        }
    }

    func go(continues: Bool, mustDistrust: Bool) {
        store.isOpen = true
        let report = StoreReport(
            identity: store.superblock.identity, session: store.superblock.session, lastStopWasClean: wasClean,
            sessionContinued: continues, objectCount: store.index.count, replayedRecords: scan.chain.count,
            indexRebuilt: isRebuilt, damage: damage)
        store.bury()
        for object in Array(Set(suspects)).sorted() where store.index[object] != nil {
            store.setState(object: object, .suspect, durable: false) { _ in }
        }
        if mustDistrust { store.distrustAll { _ in } }
        if !damage.isEmpty { store.startCheckpoint() }
        store.checkpointIfNeeded()
        if !wasClean { store.sweepLater() }
        let finished: StoreCompletion = { [self] result in
            guard !isDone else { return }
            isDone = true
            store.onOpenFailure = nil
            switch result {
            case .success: completion(.success(report))
            case .failure(let error): completion(.failure(error))
            }
        }
        // Nothing may be believed before the distrust is durable, also where it waits for a segment to be made.
        if mustDistrust { store.barrier(finished) } else { store.stagedBarrier(finished) }
    }
}
