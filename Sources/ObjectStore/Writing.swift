// The data path: writes, discards, flushes. What is accepted here is in the journal, in order, before it completes.
import Model

extension ObjectStore {
    /// The file of `generation`, made in the index if there is none; the versions move up at once.
    func fileForWriting(_ object: ObjectId, _ generation: Generation, version: UInt64) -> UInt32 {
        let entry = index.entry(object)
        if version > entry.version { entry.version = version }
        if let at = entry.generations.firstIndex(where: { $0.generation == generation.rawValue }) {
            if version > entry.generations[at].version { entry.generations[at].version = version }
            return entry.generations[at].file
        }
        let file = freeFileNumber(object, generation)
        entry.generations.insert(IndexGeneration(generation: generation.rawValue, file: file, version: version))
        return file
    }
    /// A number that neither another generation of the copy nor a file on its way out uses.
    private func freeFileNumber(_ object: ObjectId, _ generation: Generation) -> UInt32 {
        func isTaken(_ file: UInt32) -> Bool {
            index.generation(FileKey(object: object, file: file)) != nil
                || sheets[FileKey(object: object, file: file)] != nil
                || graves.contains { $0.key.object == object && $0.key.file == file }
        }
        if !isTaken(generation.rawValue) { return generation.rawValue }
        var file: UInt32 = 1 << 31
        while isTaken(file) { file += 1 }
        return file
    }

    /// Writes whole blocks. Completes when the record is in the journal (not yet durable).
    /// Errors: `full` (nothing was changed), `dead`.
    package func write(_ write: ObjectWrite, completion: @escaping StoreCompletion) {
        guard isOpen else { return fail(completion, .dead) }
        guard !isFull else { return fail(completion, .full) }
        counters.writes += 1
        counters.writtenBytes += UInt64(write.payload.byteCount)
        if let sheet = readySheet(write.object, write.generation, version: write.version.rawValue),
            !isDirect(write, sheet)
        {
            stageWrite(write, sheet, elsewhere: false, completion)
            return
        }
        perform(write.object, write.generation, version: write.version.rawValue, fail: completion) { [self] sheet in
            if isDirect(write, sheet) {
                writeDirect(write, sheet, completion)
                return true
            }
            stageWrite(write, sheet, elsewhere: false, completion)
            return false
        }
    }

    /// The sheet to write to, when nothing waits for the object and the header is there.
    private func readySheet(_ object: ObjectId, _ generation: Generation, version: UInt64) -> Sheet? {
        guard queues.isEmpty || queues[object] == nil else { return nil }
        return sheet(FileKey(object: object, file: fileForWriting(object, generation, version: version)))
    }
    /// Runs `body` in the object's order with the sheet of `generation`, which is made if there is none. The version
    /// moves up at once; which file it is shows only when the operation runs, for a removal may be before it.
    func perform(
        _ object: ObjectId, _ generation: Generation, version: UInt64, fail: @escaping StoreCompletion,
        body: @escaping (Sheet) -> Bool
    ) {
        if version > 0 {
            let entry = index.entry(object)
            entry.version = max(entry.version, version)
        }
        let files = { [self] in [fileForWriting(object, generation, version: version)] }
        perform(object, files: files, fail: fail) { [self] in
            body(sheet(FileKey(object: object, file: fileForWriting(object, generation, version: version)))!)
        }
    }

    /// Whether nothing flushed lives in the blocks, so that their file may be written before the journal is.
    private func isDirect(_ write: ObjectWrite, _ sheet: Sheet) -> Bool {
        write.payload.byteCount >= configuration.directWriteBytes && isFresh(write.blocks, sheet)
    }
    func isFresh(_ blocks: BlockRange, _ sheet: Sheet) -> Bool {
        guard !sheet.isDamaged, sheet.lastDropLsn <= journal.durableLsn, !sheet.held.containsAny(blocks) else {
            return false
        }
        if !sheet.overlay.isEmpty {
            for block in blocks.indices where sheet.overlay[block] != nil { return false }
        }
        return true
    }

    private func writeDirect(_ write: ObjectWrite, _ sheet: Sheet, _ completion: @escaping StoreCompletion) {
        counters.directWrites += 1
        putDirect(sheet, write.firstBlock, write.payload) { [self] elsewhere in
            stageWrite(write, sheet, elsewhere: elsewhere, completion)
            finish(write.object)
        }
    }

    /// Writes fresh blocks past the journal; then `next`, with
    /// false when the disk was full: the journal has room, so this write is kept and the next one is refused.
    func putDirect(
        _ sheet: Sheet, _ firstBlock: Int, _ payload: Payload, next: @escaping (Bool) -> Void
    ) {
        pin(sheet)
        let data = FileWrite(
            file: sheet.key.storeFile, offset: UInt64(Sheet.dataOffset + firstBlock * blockSize),
            slices: [
                BufferSlice(payload.buffer, offset: payload.firstBlock * blockSize, count: payload.byteCount)
            ])
        disk.submit(.writeDirect([data])) { [self] result in
            // The queue has failed the operation already.
            guard !isDead else { return }
            var elsewhere = true
            if case .failure(let errno) = result {
                guard errno == .noSpace else { return die(.io(errno)) }
                isFull = true
                elsewhere = false
                applyLater()
            }
            unsyncedFiles.insert(sheet.key)
            if elsewhere { journal.syncFirst(sheet.key.storeFile) }
            unpin(sheet)
            next(elsewhere)
        }
    }

    private func stageWrite(
        _ write: ObjectWrite, _ sheet: Sheet, elsewhere: Bool, _ completion: @escaping StoreCompletion
    ) {
        let payload = write.payload
        var record = Record()
        record.type = .write
        record.flags = elsewhere ? RecordFlags.elsewhere : 0
        record.object = write.object.rawValue
        record.generation = sheet.generation.rawValue
        record.file = sheet.key.file
        record.version = write.version.rawValue
        record.first = write.firstBlock
        record.count = payload.blockCount
        record.payloadBlocks = elsewhere ? 0 : payload.blockCount
        let lsn = journal.stage(
            record,
            payload: elsewhere
                ? [] : [BufferSlice(payload.buffer, offset: payload.firstBlock * blockSize, count: payload.byteCount)],
            table: { table in
                for block in 0..<payload.blockCount {
                    table.storeBytes(of: payload.checksum(block).littleEndian, toByteOffset: block * 4, as: UInt32.self)
                }
            }
        ) { [self] result in
            if case .success = result { acknowledge(completion) } else { completion(result) }
        }
        sheet.applyWrite(
            first: write.firstBlock, count: payload.blockCount, version: write.version.rawValue,
            checksum: payload.checksum)
        if !elsewhere {
            for block in 0..<payload.blockCount {
                cover(
                    sheet, write.firstBlock + block,
                    OverlayBlock(
                        buffer: payload.buffer, offset: (payload.firstBlock + block) * blockSize, lsn: lsn))
            }
        }
        changed(sheet, write.blocks)
    }

    /// Drops the blocks, or holds them as zero where a layer lies below. Versioned like a write.
    package func discard(
        object: ObjectId, generation: Generation, version: Version, blocks: BlockRange, keepAsZero: Bool,
        completion: @escaping StoreCompletion
    ) {
        guard isOpen else { return fail(completion, .dead) }
        if let sheet = readySheet(object, generation, version: version.rawValue) {
            stageDiscard(sheet, version.rawValue, blocks, keepAsZero, completion)
            return
        }
        perform(object, generation, version: version.rawValue, fail: completion) { [self] sheet in
            stageDiscard(sheet, version.rawValue, blocks, keepAsZero, completion)
            return false
        }
    }
    private func stageDiscard(
        _ sheet: Sheet, _ version: UInt64, _ blocks: BlockRange, _ keepAsZero: Bool,
        _ completion: @escaping StoreCompletion
    ) {
        var record = Record()
        record.type = .discard
        record.flags = keepAsZero ? RecordFlags.keepAsZero : 0
        record.object = sheet.key.object.rawValue
        record.generation = sheet.generation.rawValue
        record.file = sheet.key.file
        record.version = version
        record.first = blocks.first
        record.count = blocks.count
        let lsn = journal.stage(record, completion: completion)
        sheet.lastDropLsn = lsn
        for block in blocks.indices where sheet.hasData(block) || sheet.overlay[block] != nil {
            cover(sheet, block, OverlayBlock(buffer: nil, offset: 0, lsn: lsn))
        }
        sheet.applyDiscard(blocks, version: version, keepAsZero: keepAsZero)
        changed(sheet, blocks)
    }

    /// Everything accepted before this call is durable when it completes.
    package func flush(completion: @escaping StoreCompletion) {
        guard isOpen else { return fail(completion, .dead) }
        barrier(completion)
    }
    func barrier(_ completion: @escaping StoreCompletion) {
        if !unstaged.isEmpty {
            flushWaiters.append((nextTicket, completion))
        } else if journal.nextLsn - 1 <= journal.durableLsn {
            later { completion(.success(())) }
        } else {
            journal.flush(upTo: journal.nextLsn - 1, completion: completion)
        }
    }

    /// Makes a block of `sheet` come from memory until it has been applied.
    func cover(_ sheet: Sheet, _ block: Int, _ new: OverlayBlock) {
        if new.buffer != nil { overlayBytes += blockSize }
        if let old = sheet.overlay.updateValue(new, forKey: block), old.buffer != nil { overlayBytes -= blockSize }
        if sheet.overlay.count == 1 {
            overlaySheets[sheet.key] = sheet
            unlist(sheet)
        }
    }

    /// After every change of a sheet: index, views, dirty mark, memory limit.
    func changed(_ sheet: Sheet, _ blocks: BlockRange?) {
        markDirty(sheet)
        let allocated = UInt16(sheet.allocatedBlocks)
        index.updateFile(sheet.key) { $0.allocated = allocated }
        views.changed(sheet, blocks)
        guard isOpen else { return }
        if overlayBytes > configuration.memoryLimitBytes { journal.syncSoon() }
        if configuration.applyBeforeDurable { later { [self] in applyDurable() } }
    }
}
