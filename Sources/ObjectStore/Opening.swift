// Making, opening and closing a store. Opening trusts nothing that it reads before it is checked, and makes durable
// what it found in the journal before any of it reaches an object file.
import Model

extension ObjectStore {
    /// Made at once, because a full disk must not keep the journal from turning.
    private static let firstSegments: UInt64 = 4

    /// Makes an empty store: the first journal segments, two empty index images, and at last the superblock.
    package static func format(
        _ disk: any Disk, identity: StoreIdentity, configuration: StoreConfiguration = StoreConfiguration(),
        completion: @escaping StoreCompletion
    ) {
        precondition(configuration.journalSegmentBytes % blockSize == 0 && configuration.journalSegmentBytes >= 65536)
        var steps: [DiskOperation] = []
        for slot in 0..<firstSegments {
            steps.append(.createWritten(.journal(slot), size: UInt64(configuration.journalSegmentBytes)))
            let page = Buffer(capacity: SegmentHeader.bytes)
            SegmentHeader(
                store: identity.storeId.rawValue, sequence: 0, firstLsn: 0,
                size: UInt64(configuration.journalSegmentBytes)
            ).encode(to: page.bytes)
            steps.append(
                .append(
                    FileWrite(
                        file: .journal(slot), offset: 0, slices: [BufferSlice(page, offset: 0, count: page.capacity)])))
            steps.append(.sync([.journal(slot)]))
        }
        for checkpoint in [UInt32(0), 1] {
            var builder = IndexImageBuilder(
                checkpoint: checkpoint, store: identity.storeId.rawValue, startLsn: 1, nextSequence: 1, index: Index())
            steps.append(.replace(.index(UInt8(checkpoint)), contents: builder.finish()))
        }
        let superblock = Superblock(
            identity: identity, segmentBytes: UInt64(configuration.journalSegmentBytes),
            session: StoreSession(bootId: ClusterId(high: 0, low: 0), incarnation: 0),
            lastBootId: ClusterId(high: 0, low: 0), isClean: true)
        steps.append(.replace(.superblock, contents: superblock.encode()))
        run(disk, steps[...], completion)
    }
    private static func run(
        _ disk: any Disk, _ steps: ArraySlice<DiskOperation>, _ completion: @escaping StoreCompletion
    ) {
        guard let step = steps.first else { return completion(.success(())) }
        disk.submit(step) { result in
            switch result {
            case .success: run(disk, steps.dropFirst(), completion)
            case .failure(.noSpace): completion(.failure(.full))
            case .failure(let errno): completion(.failure(.io(errno)))
            }
        }
    }

    /// Reads superblock and index and replays the journal. Nothing else may be called before it completes.
    package func open(completion: @escaping (Result<StoreReport, StoreError>) -> Void) {
        precondition(superblock == nil, "a store is opened once")
        Opening(self, completion).begin()
    }

    /// Checkpoint and clean mark. Nothing may be called afterwards.
    package func close(completion: @escaping StoreCompletion) {
        guard isOpen else { return fail(completion, .dead) }
        let seal: StoreCompletion = { [self] result in
            guard case .success = result else {
                stop()
                return completion(result)
            }
            isOpen = false
            superblock.isClean = true
            disk.submit(.replace(.superblock, contents: superblock.encode())) { [self] result in
                stop()
                switch result {
                case .success: completion(.success(()))
                case .failure(let errno): completion(.failure(.io(errno)))
                }
            }
        }
        let isRunning = checkpoint != nil
        checkpointWaiters.append { [self] result in
            guard isRunning, case .success = result else { return seal(result) }
            checkpointWaiters.append(seal)
            startCheckpoint()
        }
        startCheckpoint()
    }
}

/// One opening on its way, step by step.
final class Opening {
    let store: ObjectStore
    private let completion: (Result<StoreReport, StoreError>) -> Void
    private var disk: any Disk { store.disk }
    private var images: [IndexImage] = []
    private(set) var damage: [String] = []
    private(set) var isRebuilt = false
    /// Files that the index does not know and whose header is not valid.
    private var nameless: [FileKey] = []
    private var headerless: [FileKey] = []
    private var slots: [UInt64] = []
    private var segments: [FoundSegment] = []
    private var headers: [(slot: UInt64, header: SegmentHeader)] = []
    /// Segments that were made and never used. Others without a header may not be whole: they are made anew.
    private var prepared: [UInt64] = []
    private var scan = JournalScan([], start: 1)
    private var suspects: [ObjectId] = []
    /// Files that the replay removed; the value says whether they are set aside.
    private var removed: [FileKey: Bool] = [:]
    private var wasClean = false
    private var isDone = false
    /// Data that is in the object files because it went past the journal: no earlier record may overwrite it.
    private var shadows: [FileKey: [(lsn: UInt64, blocks: BlockBitmap)]] = [:]
    private var highestSequence: UInt64 = 0

    init(_ store: ObjectStore, _ completion: @escaping (Result<StoreReport, StoreError>) -> Void) {
        self.store = store
        self.completion = completion
    }

    private func fail(_ error: StoreError) {
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
                case .success(let block): store.superblock = block
                }
            default: return fail(.damaged("the superblock cannot be read"))
            }
            wasClean = store.superblock.isClean
            store.journal = Journal(
                disk: disk, clock: store.clock, pool: store.pool, configuration: store.configuration,
                store: store.storeId, segmentBytes: Int(store.superblock.segmentBytes))
            store.journal.onError = { [unowned store] errno in store.die(.io(errno)) }
            store.journal.onDurable = { [unowned store] _ in
                store.applyDurable()
                store.bury()
                store.advanceCheckpoint()
            }
            store.journal.onRoom = { [unowned store] in store.giveRoom() }
            store.journal.onSegmentChange = { [unowned store] in if store.isOpen { store.checkpointIfNeeded() } }
            readImage(0)
        }
    }

    private func readImage(_ slot: UInt8) {
        guard slot < 2 else { return chooseImage() }
        disk.submit(.readWhole(.index(slot), limit: IndexImage.limitBytes)) { [self] result in
            if case .success(.contents(let bytes)) = result,
                let image = IndexImage.decode(bytes, store: store.storeId), image.checkpoint & 1 == UInt32(slot)
            {
                images.append(image)
            } else {
                damage.append("index image \(slot) is damaged")
            }
            readImage(slot + 1)
        }
    }

    private func chooseImage() {
        images.sort { $0.checkpoint > $1.checkpoint }
        guard let image = images.first else { return rebuild() }
        store.index = image.index
        headerless = image.headerless
        store.lastCheckpoint = image.checkpoint
        store.startLsn = image.startLsn
        store.previousStartLsn = images.count > 1 ? images[1].startLsn : image.startLsn
        highestSequence = image.nextSequence - 1
        images = []
        listJournal()
    }

    // MARK: Journal

    private func listJournal() {
        disk.submit(.list(.journal)) { [self] result in
            guard case .success(.files(let files)) = result else {
                return fail(.damaged("the journal's directory cannot be read"))
            }
            for file in files { if case .journal(let slot) = file, slot < 1 << 20 { slots.append(slot) } }
            readHeader(0)
        }
    }

    /// Reads the first two pages of each segment.
    private func readHeader(_ at: Int) {
        guard at < slots.count else {
            headers.sort { $0.header.sequence < $1.header.sequence }
            if isRebuilt, let first = headers.first {
                store.startLsn = first.header.firstLsn
                store.previousStartLsn = store.startLsn
            }
            return readSegment(0)
        }
        let buffer = store.pool.buffer(2 * blockSize)
        disk.submit(
            .read(.journal(slots[at]), offset: 0, buffer: buffer, bufferOffset: 0, count: 2 * blockSize)
        ) { [self] result in
            var count = 0
            if case .success(.bytes(let n)) = result { count = n }
            if var header = SegmentHeader.decode(buffer.bytes, available: count), header.store == store.storeId {
                header.size = min(header.size, store.superblock.segmentBytes)
                if header.sequence == 0 { prepared.append(slots[at]) } else { headers.append((slots[at], header)) }
            } else if count > SegmentHeader.bytes + Record.headerBytes {
                // The page is damaged, or of a segment that was just begun: the first record says the same.
                let bytes = UnsafeRawPointer(buffer.bytes + SegmentHeader.bytes)
                if let record = Record.decode(bytes, available: 1 << 30, tableAvailable: count - SegmentHeader.bytes) {
                    headers.append(
                        (
                            slots[at],
                            SegmentHeader(
                                store: store.storeId, sequence: record.segment, firstLsn: record.lsn,
                                size: store.superblock.segmentBytes)
                        ))
                }
            }
            readHeader(at + 1)
        }
    }

    /// Reads each segment that may hold needed records, and looks at its records.
    private func readSegment(_ at: Int) {
        guard at < headers.count else { return assess() }
        let (slot, header) = headers[at]
        highestSequence = max(highestSequence, header.sequence)
        // Records of this segment all lie below the next one's first, or are void.
        let limit = headers[(at + 1)...].map(\.header.firstLsn).min() ?? .max
        let isNeeded = limit > store.startLsn && header.firstLsn < limit
        guard isNeeded else { return readSegment(at + 1) }
        let buffer = Buffer(capacity: Int(store.superblock.segmentBytes))
        disk.submit(
            .read(.journal(slot), offset: 0, buffer: buffer, bufferOffset: 0, count: buffer.capacity)
        ) { [self] result in
            var count = 0
            if case .success(.bytes(let n)) = result { count = n }
            segments.append(
                JournalScan.scan(buffer, count: count, slot: slot, header: header, from: store.startLsn))
            readSegment(at + 1)
        }
    }

    private func assess() {
        scan = JournalScan(segments, start: store.startLsn)
        segments = []
        if let witness = scan.witnesses.first {
            damage.append(
                "journal record \(scan.end) is missing, which was durable when record \(witness.lsn) was written")
            suspects = Array(Set(scan.witnesses.map { ObjectId(rawValue: $0.object) })).sorted()
        }
        let candidates = scan.chain.filter { $0.record.isElsewhere && $0.lsn > scan.durable }
        check(candidates[...], mismatches: [])
    }

    /// Compares data that went past the journal with the records that describe it.
    private func check(_ rest: ArraySlice<FoundRecord>, mismatches: [(lsn: UInt64, key: FileKey, blocks: BlockBitmap)])
    {
        guard let found = rest.first else { return truncate(mismatches) }
        let count = found.record.count
        let buffer = store.pool.buffer(count * blockSize)
        disk.submit(
            .read(
                found.key.storeFile, offset: UInt64(Sheet.dataOffset + found.record.first * blockSize),
                buffer: buffer, bufferOffset: 0, count: count * blockSize)
        ) { [self] result in
            var bytes = 0
            if case .success(.bytes(let n)) = result { bytes = n }
            var bad = found.dataBlocks
            for block in 0..<count where (block + 1) * blockSize <= bytes {
                if crc32c(buffer.bytes + block * blockSize, count: blockSize) == found.checksums[block] {
                    bad[found.record.first + block] = false
                }
            }
            check(
                rest.dropFirst(),
                mismatches: bad.isEmpty ? mismatches : mismatches + [(found.lsn, found.key, bad)])
        }
    }

    /// A record whose data is not there ends the journal, unless later records (before the end) overwrite the data:
    /// then it was flushed, and its file is ahead of it.
    private func truncate(_ mismatches: [(lsn: UInt64, key: FileKey, blocks: BlockBitmap)]) {
        var end = scan.end
        var isStable = false
        while !isStable {
            isStable = true
            for mismatch in mismatches where mismatch.lsn < end {
                var open = mismatch.blocks
                for found in scan.chain where found.lsn > mismatch.lsn && found.lsn < end {
                    guard found.record.object == mismatch.key.object.rawValue else { continue }
                    if found.record.type == .removeObject { open = .empty }
                    guard found.record.file == mismatch.key.file else { continue }
                    if found.record.type == .removeFile { open = .empty }
                    open.subtract(found.assigned)
                }
                if !open.isEmpty {
                    end = mismatch.lsn
                    isStable = false
                    break
                }
            }
        }
        scan.end = end
        while let last = scan.chain.last, last.lsn >= end { scan.chain.removeLast() }
        makeDurable()
    }

    /// After the death of a process alone, the journal's end may be in the page cache only.
    private func makeDurable() {
        let direct = Set(scan.chain.filter { $0.record.isElsewhere && $0.lsn > scan.durable }.map(\.key)).sorted()
        let used = Set(scan.chain.map(\.slot)).sorted()
        let steps: [[StoreFile]] = [direct.map(\.storeFile), used.map { .journal($0) }].filter { !$0.isEmpty }
        sync(steps[...])
    }
    private func sync(_ steps: ArraySlice<[StoreFile]>) {
        guard let files = steps.first else { return resume() }
        disk.submit(.sync(files)) { [self] result in
            if case .failure(let errno) = result { return fail(.io(errno)) }
            sync(steps.dropFirst())
        }
    }

    private func resume() {
        let keep = min(store.previousStartLsn, store.startLsn)
        var kept: [Journal.Segment] = []
        var free: [UInt64] = []
        for (at, item) in headers.enumerated() {
            let next = headers[(at + 1)...].map(\.header.firstLsn).min() ?? .max
            // The last segments stay until the next checkpoint: their records are about to be replayed.
            if next > keep, item.header.firstLsn < min(next, scan.end) {
                kept.append(
                    Journal.Segment(
                        slot: item.slot, sequence: item.header.sequence, firstLsn: item.header.firstLsn,
                        lastLsn: min(next, scan.end) - 1, isUnsynced: false))
            } else {
                free.append(item.slot)
            }
        }
        for found in scan.chain where found.record.isElsewhere {
            shadows[found.key, default: []].append((found.lsn, found.dataBlocks))
        }
        free += prepared
        store.journal.resume(
            segments: kept, free: free.sorted(), nextSequence: highestSequence + 1, nextLsn: scan.end)
        replay(0)
    }

    // MARK: Replay

    /// Replays the records of one segment: headers first, then the records, then their blocks go to the files.
    private func replay(_ at: Int) {
        guard at < scan.chain.count else { return finish() }
        let slot = scan.chain[at].slot
        var end = at
        while end < scan.chain.count, scan.chain[end].slot == slot { end += 1 }
        let records = scan.chain[at..<end]
        let buffer = Buffer(capacity: Int(store.superblock.segmentBytes))
        disk.submit(
            .read(.journal(slot), offset: 0, buffer: buffer, bufferOffset: 0, count: buffer.capacity)
        ) { [self] _ in
            let keys = Set(records.map(\.key)).sorted()
            loadHeaders(keys[...]) { [self] in
                for found in records {
                    // Read a second time: it must still be what was found.
                    guard
                        let record = Record.decode(
                            buffer.bytes + found.offset, available: buffer.capacity - found.offset),
                        record.lsn == found.lsn, record.payloadIsValid(buffer.bytes + found.offset)
                    else { return fail(.damaged("the journal changed while it was read")) }
                    replay(record, buffer, found.offset)
                }
                if store.overlaySheets.isEmpty { return replay(end) }
                store.whenApplied = { [self] in replay(end) }
                store.applyDurable()
            }
        }
    }

    private func loadHeaders(_ keys: ArraySlice<FileKey>, _ then: @escaping () -> Void) {
        var keys = keys
        while let key = keys.first {
            keys = keys.dropFirst()
            if store.sheets[key] == nil,
                let item = store.index.generation(key), item.stamp > 0
            {
                let rest = keys
                return store.load(key) { [self] in
                    // The replay changes it: it must not be forgotten before.
                    if let sheet = store.sheets[key] { store.unlist(sheet) }
                    loadHeaders(rest, then)
                }
            }
        }
        then()
    }

    private func replay(_ record: Record, _ buffer: Buffer, _ offset: Int) {
        let object = ObjectId(rawValue: record.object)
        let key = FileKey(object: object, file: record.file)
        let table = buffer.bytes + offset + Record.headerBytes
        switch record.type {
        case .write:
            let sheet = sheet(record, key)
            let payload = offset + Record.headerBytes + record.tableBytes
            if !record.isElsewhere {
                for block in 0..<record.count {
                    copy(buffer, payload + block * blockSize, sheet, record.first + block, record.lsn)
                }
            } else {
                for block in 0..<record.count { uncover(sheet, record.first + block) }
                store.unsyncedFiles.insert(key)
            }
            sheet.applyWrite(first: record.first, count: record.count, version: record.version) {
                UInt32(littleEndian: table.load(fromByteOffset: $0 * 4, as: UInt32.self))
            }
            store.changed(sheet, nil)
        case .discard:
            let sheet = sheet(record, key)
            let range = BlockRange(first: record.first, count: record.count)
            for block in range.indices where sheet.hasData(block) || sheet.overlay[block] != nil {
                cover(sheet, block, OverlayBlock(buffer: nil, offset: 0, lsn: record.lsn))
            }
            sheet.applyDiscard(
                range, version: record.version, keepAsZero: record.flags & RecordFlags.keepAsZero != 0)
            store.changed(sheet, nil)
        case .begin:
            let sheet = sheet(record, key)
            var blocks = BlockBitmap()
            for word in 0..<16 {
                blocks.words[word] = UInt64(
                    littleEndian: table.load(fromByteOffset: word * 8, as: UInt64.self))
            }
            if blocks == .full { sheet.isDamaged = false }
            sheet.applyBegin(blocks)
            sheet.version = Version(rawValue: record.version)
            let entry = store.index.entry(object)
            entry.version = record.version
            store.index.setState(entry, .syncing)
            store.index.updateFile(key) { $0.version = record.version }
            store.changed(sheet, nil)
        case .fill: replayFill(record, buffer, offset, sheet(record, key))
        case .state:
            guard let state = CopyState(rawValue: UInt8(truncatingIfNeeded: record.argument)) else { return }
            let trust = UInt32(record.argument >> 32)
            store.index.setState(store.index.entry(object), state, trust: trust > 0 ? trust : nil)
        case .version: store.index.entry(object).version = record.version
        case .removeFile:
            guard store.index[object] != nil else { return drop(key, record) }
            store.index.removeFile(key)
            drop(key, record)
        case .removeObject:
            let files = store.index.remove(object)?.generations.map(\.file) ?? []
            for file in files { drop(FileKey(object: object, file: file), record) }
        case .renumber:
            let sheet = sheet(record, key)
            sheet.generation = Generation(record.generation)
            store.index.renumber(key, to: sheet.generation)
            store.markDirty(sheet)
        case .fence:
            let volume = object.volume.rawValue
            store.index.terms[volume] = max(
                store.index.terms[volume] ?? 0, min(UInt32(truncatingIfNeeded: record.argument), Term.maximum))
        case .distrust:
            store.index.raiseTrust(to: UInt32(truncatingIfNeeded: record.argument))
        }
    }

    private func replayFill(_ record: Record, _ buffer: Buffer, _ offset: Int, _ sheet: Sheet) {
        let table = buffer.bytes + offset + Record.headerBytes
        var data = offset + Record.headerBytes + record.tableBytes
        for block in 0..<record.count {
            let raw = table.load(fromByteOffset: Record.actionsOffset(count: record.count) + block, as: UInt8.self)
            let action = FillAction(rawValue: raw) ?? .none
            let at = record.first + block
            switch action {
            case .data:
                if record.isElsewhere {
                    uncover(sheet, at)
                } else {
                    copy(buffer, data, sheet, at, record.lsn)
                    data += blockSize
                }
            case .drop, .zero:
                if sheet.hasData(at) || sheet.overlay[at] != nil {
                    cover(sheet, at, OverlayBlock(buffer: nil, offset: 0, lsn: record.lsn))
                }
            case .none, .pending: break
            }
            sheet.applyFill(
                at, action,
                checksum: UInt32(littleEndian: table.load(fromByteOffset: block * 4, as: UInt32.self)))
        }
        if record.isElsewhere { store.unsyncedFiles.insert(sheet.key) }
        let range = BlockRange(first: record.first, count: record.count)
        for (i, chunk) in range.chunks.enumerated() {
            sheet.chunkVersions[chunk] = UInt64(
                littleEndian: table.load(
                    fromByteOffset: Record.chunksOffset(count: record.count) + i * 8, as: UInt64.self))
        }
        store.changed(sheet, nil)
    }

    /// The payload's place in the record is not aligned to a block's offset, which the overlay does not need.
    private func copy(_ buffer: Buffer, _ offset: Int, _ sheet: Sheet, _ block: Int, _ lsn: UInt64) {
        cover(sheet, block, OverlayBlock(buffer: buffer, offset: offset, lsn: lsn))
    }
    private func cover(_ sheet: Sheet, _ block: Int, _ new: OverlayBlock) {
        if let later = shadows[sheet.key], later.contains(where: { $0.lsn > new.lsn && $0.blocks[block] }) {
            return uncover(sheet, block)
        }
        store.cover(sheet, block, new)
    }
    /// The file has the block's data already: what earlier records put above it must not overwrite it.
    private func uncover(_ sheet: Sheet, _ block: Int) {
        guard let old = sheet.overlay.removeValue(forKey: block) else { return }
        if old.buffer != nil { store.overlayBytes -= blockSize }
        if sheet.overlay.isEmpty { store.overlaySheets[sheet.key] = nil }
    }

    /// The sheet that a record is about; a new one where the index (as of the replay) does not know the file.
    private func sheet(_ record: Record, _ key: FileKey) -> Sheet {
        removed[key] = nil
        let entry = store.index.entry(key.object)
        if record.version > entry.version { entry.version = record.version }
        if let at = entry.generations.position(ofFile: key.file) {
            if record.version > entry.generations[at].version { entry.generations[at].version = record.version }
        } else {
            entry.generations.insert(
                IndexGeneration(generation: record.generation, file: key.file, version: record.version))
        }
        if let sheet = store.sheets[key] { return sheet }
        let sheet = Sheet(key: key, generation: Generation(record.generation))
        store.sheets[key] = sheet
        return sheet
    }

    private func drop(_ key: FileKey, _ record: Record) {
        store.doom(key, lsn: 0, isQuarantine: false)
        store.graves = []
        removed[key] = record.flags & RecordFlags.quarantine != 0
    }

    // MARK: Scan of the headers

    /// Without an index: every object file says itself what it is. None of it is trusted afterwards.
    private func rebuild() {
        isRebuilt = true
        disk.submit(.list(.object)) { [self] result in
            guard case .success(.files(let files)) = result else {
                return fail(.damaged("there is no index, and the object files cannot be listed"))
            }
            var keys: [FileKey] = []
            for file in files {
                if case .object(let object, let number) = file {
                    keys.append(FileKey(object: object, file: number.rawValue))
                }
            }
            scanHeader(keys.sorted()[...])
        }
    }
    private func scanHeader(_ keys: ArraySlice<FileKey>) {
        guard let key = keys.first else { return listJournal() }
        let buffer = store.pool.buffer(Sheet.dataOffset)
        disk.submit(
            .read(key.storeFile, offset: 0, buffer: buffer, bufferOffset: 0, count: Sheet.dataOffset)
        ) { [self] result in
            var count = 0
            if case .success(.bytes(let n)) = result { count = n }
            var best: (slot: Int, facts: Sheet.SlotFacts)?
            for slot in 0..<2 where count >= (slot + 1) * Sheet.slotBytes {
                if let facts = Sheet.facts(buffer.bytes + slot * Sheet.slotBytes, key: key, store: store.storeId),
                    best == nil || facts.stamp > best!.facts.stamp
                {
                    best = (slot, facts)
                }
            }
            if let (slot, facts) = best {
                let probe = Sheet(key: key, generation: Generation(facts.generation))
                probe.decode(buffer.bytes + slot * Sheet.slotBytes)
                let entry = store.index.entry(key.object)
                entry.version = max(entry.version, facts.version, facts.copyVersion)
                if facts.state != 0 { store.index.setState(entry, CopyState(rawValue: facts.state) ?? .suspect) }
                entry.generations.insert(
                    IndexGeneration(
                        generation: facts.generation, file: key.file, version: facts.version,
                        stamp: facts.stamp, allocated: UInt16(probe.allocatedBlocks)))
                store.lastCheckpoint = max(store.lastCheckpoint, facts.stamp)
            } else {
                nameless.append(key)
            }
            scanHeader(keys.dropFirst())
        }
    }

    // MARK: The end

    private func finish() {
        for key in nameless where store.sheets[key] == nil && removed[key] == nil {
            // Perhaps a leftover, perhaps a copy: it must not be taken for zeros.
            let entry = store.index.entry(key.object)
            if entry.generations.position(ofFile: key.file) == nil {
                entry.generations.insert(IndexGeneration(generation: key.file, file: key.file, stamp: 1))
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
        let mustDistrust = isRebuilt || !scan.witnesses.isEmpty
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

    /// Also on a full disk, if the journal has a segment to spare.
    private func writeSuperblock(_ then: @escaping () -> Void) {
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

    private func go(continues: Bool, mustDistrust: Bool) {
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
        store.stagedBarrier { [self] result in
            guard !isDone else { return }
            isDone = true
            store.onOpenFailure = nil
            switch result {
            case .success: completion(.success(report))
            case .failure(let error): completion(.failure(error))
            }
        }
    }
}
