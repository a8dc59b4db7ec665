// The replay: the records of the journal, in order, over the headers and the index. A record states absolute values,
// so that a header which already contains its effect ends the same.
import Model

extension Opening {
    /// Replays the records of one segment: headers first, then the records, then their blocks go to the files.
    func replay(_ at: Int) {
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

    func loadHeaders(_ keys: ArraySlice<FileKey>, _ then: @escaping () -> Void) {
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

    func replay(_ record: Record, _ buffer: Buffer, _ offset: Int) {
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
            let files = store.index.remove(object)?.map(\.file) ?? []
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

    func replayFill(_ record: Record, _ buffer: Buffer, _ offset: Int, _ sheet: Sheet) {
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
    func copy(_ buffer: Buffer, _ offset: Int, _ sheet: Sheet, _ block: Int, _ lsn: UInt64) {
        cover(sheet, block, OverlayBlock(buffer: buffer, offset: offset, lsn: lsn))
    }
    func cover(_ sheet: Sheet, _ block: Int, _ new: OverlayBlock) {
        if let later = shadows[sheet.key], later.contains(where: { $0.lsn > new.lsn && $0.blocks[block] }) {
            return uncover(sheet, block)
        }
        store.cover(sheet, block, new)
    }
    /// The file has the block's data already: what earlier records put above it must not overwrite it.
    func uncover(_ sheet: Sheet, _ block: Int) {
        guard let old = sheet.overlay.removeValue(forKey: block) else { return }
        if old.buffer != nil { store.overlayBytes -= blockSize }
        if sheet.overlay.isEmpty { store.overlaySheets[sheet.key] = nil }
    }

    /// The sheet that a record is about; a new one where the index (as of the replay) does not know the file.
    func sheet(_ record: Record, _ key: FileKey) -> Sheet {
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
        sheet.isOfReplay = true
        store.sheets[key] = sheet
        return sheet
    }

    func drop(_ key: FileKey, _ record: Record) {
        store.doom(key, lsn: 0, isQuarantine: false)
        store.graves = []
        removed[key] = record.flags & RecordFlags.quarantine != 0
    }
}
