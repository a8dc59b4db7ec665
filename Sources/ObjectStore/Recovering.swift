// Recovery and repair: syncing, fills, states, fences. These change what a copy is, not what a guest wrote.
import Model

extension ObjectStore {
    /// Queues what concerns no object: volume 0 is no volume.
    private static let storeItself = ObjectId(rawValue: 0)

    /// Runs `body` in the object's order when there is room for its records; at once if nothing waits.
    func inOrder(
        _ object: ObjectId, _ need: RoomNeed = .record, version: UInt64 = 0, fail: @escaping StoreCompletion,
        body: @escaping () -> Void
    ) {
        if queues.isEmpty || queues[object] == nil, hasRoom(need) { return body() }
        perform(object, need: need, version: version, files: { [] }, fail: fail) {
            body()
            return false
        }
    }

    /// Makes the copy `syncing` at version `base`, with `pending` to be recovered in `generation`; the versions of
    /// their chunks become zero. Durable when it completes.
    package func begin(
        sync object: ObjectId, generation: Generation, base: Version, pending: BlockBitmap,
        completion: @escaping StoreCompletion
    ) {
        guard isOpen else { return fail(completion, .dead) }
        let need = RoomNeed(
            kind: .record, bytes: Record.headerBytes + Record.tableBytes(.begin, first: 0, count: 0))
        perform(object, generation, need: need, version: base.rawValue, fail: completion) { [self] sheet in
            enter(sheet, version: 0)
            let entry = index.entry(object)
            entry.version = base.rawValue
            index.setState(entry, .syncing)
            index.updateFile(sheet.key) { $0.version = base.rawValue }
            var blocks = pending
            if sheet.isDamaged {
                // Nothing is known of it: all of it must come from elsewhere.
                sheet.isDamaged = false
                blocks = .full
            }
            var record = Record()
            record.type = .begin
            record.object = object.rawValue
            record.generation = generation.rawValue
            record.file = sheet.key.file
            record.version = base.rawValue
            let lsn = journal.stage(
                record,
                table: { table in
                    for word in 0..<16 {
                        table.storeBytes(
                            of: blocks.words[word].littleEndian, toByteOffset: word * 8, as: UInt64.self)
                    }
                }, completion: nil)
            sheet.applyBegin(blocks)
            sheet.version = base
            changed(sheet, nil)
            journal.flush(upTo: lsn, completion: completion)
            return false
        }
    }

    /// Fills blocks with recovered data that has no version of its own. `held` and `zero` are relative to
    /// `firstBlock`; of `payload` (whole range) only blocks held and not zero are looked at; a block that is not held
    /// is dropped. With `onlyPending` other blocks stay as they are. A chunk's version becomes the larger one.
    package func fill(
        object: ObjectId, generation: Generation, firstBlock: Int, blockCount: Int, payload: Payload?,
        held: BlockBitmap, zero: BlockBitmap, chunkVersion: Version, onlyPending: Bool,
        completion: @escaping StoreCompletion
    ) {
        guard isOpen else { return fail(completion, .dead) }
        guard !isFull else { return fail(completion, .full) }
        let range = BlockRange(first: firstBlock, count: blockCount)
        precondition(payload == nil || payload!.blockCount == blockCount)
        perform(object, generation, need: .data(.fill, range), version: 0, fail: completion) { [self] sheet in
            var actions = [FillAction](repeating: .none, count: blockCount)
            for block in 0..<blockCount where !onlyPending || sheet.pending[firstBlock + block] {
                actions[block] = !held[block] ? .drop : zero[block] || payload == nil ? .zero : .data
            }
            var versions: [UInt64] = []
            for chunk in range.chunks {
                let blocks = max(chunk * blocksPerChunk, range.first)..<min((chunk + 1) * blocksPerChunk, range.end)
                let isTouched = blocks.contains { actions[$0 - firstBlock] != .none }
                let old = sheet.chunkVersions[chunk]
                versions.append(isTouched ? max(old, chunkVersion.rawValue) : old)
            }
            return put(sheet, range, actions, payload, versions, completion)
        }
    }

    /// Stages a fill, its data past the journal where that is allowed. True: it goes on later and calls `finish`.
    private func put(
        _ sheet: Sheet, _ range: BlockRange, _ actions: [FillAction], _ payload: Payload?, _ versions: [UInt64],
        _ completion: @escaping StoreCompletion
    ) -> Bool {
        guard actions.contains(where: { $0 != .none }) else {
            if index.generation(sheet.key) == nil { sheets[sheet.key] = nil }
            later { completion(.success(())) }
            return false
        }
        if let payload, payload.byteCount >= configuration.directWriteBytes, isFresh(range, sheet),
            actions.allSatisfy({ $0 == .data })
        {
            putDirect(sheet, .fill, range, payload) { [self] result in
                switch result {
                case .success(let elsewhere):
                    stageFill(sheet, range, actions, payload, versions, elsewhere: elsewhere, completion)
                case .failure(let error): completion(.failure(error))
                }
                finish(sheet.key.object)
            }
            return true
        }
        stageFill(sheet, range, actions, payload, versions, elsewhere: false, completion)
        return false
    }

    func stageFill(
        _ sheet: Sheet, _ range: BlockRange, _ actions: [FillAction], _ payload: Payload?, _ versions: [UInt64],
        elsewhere: Bool, _ completion: @escaping StoreCompletion
    ) {
        var record = Record()
        record.type = .fill
        record.flags = elsewhere ? RecordFlags.elsewhere : 0
        record.object = sheet.key.object.rawValue
        record.generation = sheet.generation.rawValue
        record.file = sheet.key.file
        record.first = range.first
        record.count = range.count
        var slices: [BufferSlice] = []
        if let payload, !elsewhere {
            for block in 0..<range.count where actions[block] == .data {
                record.payloadBlocks += 1
                let offset = (payload.firstBlock + block) * blockSize
                if let last = slices.last, last.offset + last.count == offset {
                    slices[slices.count - 1] = BufferSlice(
                        payload.buffer, offset: last.offset, count: last.count + blockSize)
                } else {
                    slices.append(BufferSlice(payload.buffer, offset: offset, count: blockSize))
                }
            }
        }
        let checksum = { (block: Int) in actions[block] == .data ? payload!.checksum(block) : 0 }
        let lsn = journal.stage(
            record, payload: slices.first, more: slices.dropFirst(),
            table: { table in
                for block in 0..<range.count {
                    table.storeBytes(of: checksum(block).littleEndian, toByteOffset: block * 4, as: UInt32.self)
                    table.storeBytes(
                        of: actions[block].rawValue, toByteOffset: Record.actionsOffset(count: range.count) + block,
                        as: UInt8.self)
                }
                for (i, version) in versions.enumerated() {
                    table.storeBytes(
                        of: version.littleEndian, toByteOffset: Record.chunksOffset(count: range.count) + i * 8,
                        as: UInt64.self)
                }
            }, completion: completion)
        enter(sheet, version: 0)
        for block in 0..<range.count {
            let at = range.first + block
            switch actions[block] {
            case .data:
                if !elsewhere, let payload {
                    cover(
                        sheet, at,
                        OverlayBlock(
                            buffer: payload.buffer, offset: (payload.firstBlock + block) * blockSize, lsn: lsn))
                }
            case .drop, .zero:
                sheet.lastDropLsn = lsn
                if sheet.hasData(at) || sheet.overlay[at] != nil {
                    cover(sheet, at, OverlayBlock(buffer: nil, offset: 0, lsn: lsn))
                }
            case .none, .pending: break
            }
            sheet.applyFill(at, actions[block], checksum: checksum(block))
        }
        for (i, chunk) in range.chunks.enumerated() { sheet.chunkVersions[chunk] = versions[i] }
        changed(sheet, nil)
    }

    /// Sets the copy's state, making an entry for an absent object. `complete` verifies it.
    package func setState(
        object: ObjectId, _ state: CopyState, durable: Bool, completion: @escaping StoreCompletion
    ) {
        guard isOpen else { return fail(completion, .dead) }
        inOrder(object, fail: completion) { [self] in
            let trust = index.trustGeneration
            index.setState(index.entry(object), state, trust: state == .complete ? trust : nil)
            if Saboteur.isOn(.suspectInMemory), state == .suspect { return later { completion(.success(())) } }
            var record = Record()
            record.type = .state
            record.object = object.rawValue
            record.argument = UInt64(state.rawValue) | (state == .complete ? UInt64(trust) << 32 : 0)
            let lsn = journal.stage(record, completion: durable ? nil : completion)
            if durable { journal.flush(upTo: lsn, completion: completion) }
        }
        checkpointIfNeeded()
    }

    /// Sets the copy's version without a write, making an entry for an absent object.
    package func setVersion(object: ObjectId, _ version: Version, completion: @escaping StoreCompletion) {
        guard isOpen else { return fail(completion, .dead) }
        inOrder(object, version: version.rawValue, fail: completion) { [self] in
            index.entry(object).version = version.rawValue
            var record = Record()
            record.type = .version
            record.object = object.rawValue
            record.version = version.rawValue
            journal.stage(record, completion: completion)
        }
        checkpointIfNeeded()
    }

    /// A store makes a term durable before it answers the fence; everything accepted before is durable then, too.
    package func fence(volume: VolumeId, term: Term, completion: @escaping StoreCompletion) {
        guard isOpen else { return fail(completion, .dead) }
        if term.rawValue > index.terms[volume.rawValue] ?? 0 {
            inOrder(ObjectStore.storeItself, fail: { _ in }) { [self] in
                index.terms[volume.rawValue] = max(term.rawValue, index.terms[volume.rawValue] ?? 0)
                if Saboteur.isOn(.termNotDurable) { return }
                var record = Record()
                record.type = .fence
                record.object = ObjectId(volume, 0).rawValue
                record.argument = UInt64(term.rawValue)
                journal.stage(record, completion: nil)
            }
            checkpointIfNeeded()
        }
        barrier(completion)
    }

    /// Every copy that is here now counts as not verified until `setState(.complete)`. Durable when it completes.
    package func distrustAll(completion: @escaping StoreCompletion) {
        guard isOpen else { return fail(completion, .dead) }
        inOrder(ObjectStore.storeItself, fail: { _ in }) { [self] in
            index.raiseTrust(to: index.trustGeneration + 1)
            var record = Record()
            record.type = .distrust
            record.argument = UInt64(index.trustGeneration)
            journal.stage(record, completion: nil)
        }
        barrier(completion)
        checkpointIfNeeded()
    }
}
