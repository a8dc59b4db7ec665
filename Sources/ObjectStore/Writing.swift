// The data path: writes, discards, flushes. What is accepted here is in the journal, in order, before it completes.
import Model

extension ObjectStore {
    /// The sheet of `generation` to write to; a new one where there is none, which the index learns of when a record
    /// is staged. Its header must be in memory if there is one.
    func sheetForWriting(_ object: ObjectId, _ generation: Generation) -> Sheet {
        if let file = index[object]?.file(of: generation) { return sheet(FileKey(object: object, file: file))! }
        let key = FileKey(object: object, file: freeFileNumber(object, generation))
        // One that was made and not written to yet.
        if let sheet = sheets[key] {
            sheet.generation = generation
            return sheet
        }
        let sheet = Sheet(key: key, generation: generation)
        sheets[key] = sheet
        return sheet
    }
    /// A number that neither another generation of the copy nor a file on its way out uses.
    private func freeFileNumber(_ object: ObjectId, _ generation: Generation) -> UInt32 {
        func isTaken(_ file: UInt32) -> Bool {
            let key = FileKey(object: object, file: file)
            return index.generation(key) != nil || graves.contains { $0.key == key }
        }
        if !isTaken(generation.rawValue) { return generation.rawValue }
        var file: UInt32 = 1 << 31
        while isTaken(file) { file += 1 }
        return file
    }
    /// Tells the index of a change of `sheet` that is staged now. Versions only rise.
    func enter(_ sheet: Sheet, version: UInt64) {
        let entry = index.entry(sheet.key.object)
        if version > entry.version { entry.version = version }
        if let at = entry.generations.position(ofFile: sheet.key.file) {
            entry.raiseVersion(at: at, to: version)
        } else {
            entry.generations.insert(
                IndexGeneration(generation: sheet.generation.rawValue, file: sheet.key.file, version: version))
        }
    }

    /// Writes whole blocks. Completes when the record is in the journal (not yet durable).
    /// Errors: `full` (nothing was changed; an overwrite of blocks with data goes on), `dead`.
    package func write(_ write: ObjectWrite, completion: @escaping StoreCompletion) {
        guard isOpen else { return fail(completion, .dead) }
        guard !isFull || holdsAll(write.object, write.generation, write.blocks) else { return fail(completion, .full) }
        counters.writes += 1
        counters.writtenBytes += UInt64(write.payload.byteCount)
        let need = RoomNeed.data(.write, write.blocks)
        if let sheet = readySheet(write.object, write.generation, need), !isDirect(write, sheet) {
            stageWrite(write, sheet, elsewhere: false, completion)
            return
        }
        perform(
            write.object, write.generation, need: need, version: write.version.rawValue,
            isOverwrite: { [self] in holdsAll(write.object, write.generation, write.blocks) }, fail: completion
        ) { [self] sheet in
            if isDirect(write, sheet) {
                writeDirect(write, sheet, completion)
                return true
            }
            stageWrite(write, sheet, elsewhere: false, completion)
            return false
        }
    }

    /// The sheet to write to, when nothing waits for the object, the header is there, and there is room.
    private func readySheet(_ object: ObjectId, _ generation: Generation, _ need: RoomNeed) -> Sheet? {
        guard queues.isEmpty || queues[object] == nil, hasRoom(need) else { return nil }
        guard let file = index[object]?.file(of: generation) else { return sheetForWriting(object, generation) }
        return sheet(FileKey(object: object, file: file))
    }
    /// Runs `body` in the object's order with the sheet of `generation`, which is made if there is none.
    func perform(
        _ object: ObjectId, _ generation: Generation, need: RoomNeed, version: UInt64,
        isOverwrite: @escaping () -> Bool = { false }, fail: @escaping StoreCompletion,
        body: @escaping (Sheet) -> Bool
    ) {
        let files = { [self] in index[object]?.file(of: generation).map { [$0] } ?? [] }
        perform(object, need: need, version: version, files: files, isOverwrite: isOverwrite, fail: fail) { [self] in
            body(sheetForWriting(object, generation))
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
        putDirect(sheet, .write, write.blocks, write.payload) { [self] result in
            switch result {
            case .success(let elsewhere): stageWrite(write, sheet, elsewhere: elsewhere, completion)
            case .failure(let error): completion(.failure(error))
            }
            finish(write.object)
        }
    }

    /// Writes fresh blocks past the journal, and waits until it has room for their record; then `next`, with false when
    /// the disk was full: this write is kept in the journal, if that has room, and the next one is refused.
    func putDirect(
        _ sheet: Sheet, _ type: RecordType, _ blocks: BlockRange, _ payload: Payload,
        next: @escaping (Result<Bool, StoreError>) -> Void
    ) {
        pin(sheet)
        let data = FileWrite(
            file: sheet.key.storeFile, offset: UInt64(Sheet.dataOffset + blocks.byteOffset),
            slices: [
                BufferSlice(payload.buffer, offset: payload.firstBlock * blockSize, count: payload.byteCount)
            ])
        disk.submit(.writeDirect([data])) { [self] result in
            // The queue has failed the operation already.
            guard !isDead else { return }
            var elsewhere = true
            if case .failure(let errno) = result {
                guard errno == .noSpace else { return die(.io(errno)) }
                elsewhere = false
                becomeFull(.direct)
            }
            unsyncedFiles.insert(sheet.key)
            whenRoom(.data(type, blocks), refusal: .lasting) { [self] result in
                if case .success = result, elsewhere { journal.syncFirst(sheet.key.storeFile) }
                next(result.map { elsewhere })
                unpin(sheet)
            }
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
                ? nil : BufferSlice(payload.buffer, offset: payload.firstBlock * blockSize, count: payload.byteCount),
            table: { table in
                for block in 0..<payload.blockCount {
                    table.storeBytes(of: payload.checksum(block).littleEndian, toByteOffset: block * 4, as: UInt32.self)
                }
            }, completion: completion)
        enter(sheet, version: write.version.rawValue)
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
        if let sheet = readySheet(object, generation, .record) {
            stageDiscard(sheet, version.rawValue, blocks, keepAsZero, completion)
            return
        }
        perform(object, generation, need: .record, version: version.rawValue, fail: completion) { [self] sheet in
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
        enter(sheet, version: version)
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
        } else {
            stagedBarrier(completion)
        }
    }
    /// Everything staged is durable when it completes.
    func stagedBarrier(_ completion: @escaping StoreCompletion) {
        if journal.nextLsn - 1 <= journal.durableLsn {
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
        index.setAllocated(sheet.key, UInt16(sheet.allocatedBlocks))
        views.changed(sheet, blocks)
        guard isOpen else { return }
        if overlayBytes > configuration.memoryLimitBytes { journal.syncSoon() }
        if configuration.applyBeforeDurable || Saboteur.isOn(.applyBeforeDurable) { later { [self] in applyDurable() } }
    }
}
