// Removing copies and generations, merging one generation into a newer one, and setting copies aside.
// A file goes only after the record that says so is durable.
import Model

extension ObjectStore {
    /// Removes `generations`, or the whole copy with its entry. What is not there is no error.
    package func remove(object: ObjectId, generations: [Generation]?, completion: @escaping StoreCompletion) {
        guard isOpen else { return fail(completion, .dead) }
        inOrder(object, roomToRemove(object), fail: completion) { [self] in
            guard let entry = index[object] else { return later { completion(.success(())) } }
            if let generations {
                let files = entry.generations.filter { generations.contains(Generation($0.generation)) }.map(\.file)
                guard !files.isEmpty else { return later { completion(.success(())) } }
                for file in files { index.removeFile(FileKey(object: object, file: file)) }
                stageRemoval(object, files, isWhole: false, isQuarantine: false, completion)
            } else {
                let gone = index.remove(object)?.map(\.file) ?? []
                stageRemoval(object, gone, isWhole: true, isQuarantine: false, completion)
            }
        }
        checkpointIfNeeded()
    }

    /// One record for each file, and some for files that earlier operations on the object still make.
    private func roomToRemove(_ object: ObjectId) -> RoomNeed {
        .records((index[object]?.generations.count ?? 0) + (queues[object]?.operations.count ?? 0) + 1)
    }

    private func stageRemoval(
        _ object: ObjectId, _ files: [UInt32], isWhole: Bool, isQuarantine: Bool, _ completion: StoreCompletion?
    ) {
        var record = Record()
        record.object = object.rawValue
        record.flags = isQuarantine ? RecordFlags.quarantine : 0
        var lsn: UInt64 = 0
        if isWhole {
            record.type = .removeObject
            lsn = journal.stage(record, completion: completion)
        } else {
            record.type = .removeFile
            for file in files {
                record.file = file
                lsn = journal.stage(record, completion: file == files.last ? completion : nil)
            }
        }
        for file in files { doom(FileKey(object: object, file: file), lsn: lsn, isQuarantine: isQuarantine) }
    }

    /// Sets the copy's files aside, with their headers up to date; the copy is gone.
    package func quarantine(object: ObjectId, completion: @escaping StoreCompletion) {
        guard isOpen else { return fail(completion, .dead) }
        guard index[object] != nil else { return later { completion(.success(())) } }
        // Its headers and blocks must be in the files before those are moved.
        let seal: StoreCompletion = { [self] result in
            guard case .success = result else { return completion(result) }
            inOrder(object, roomToRemove(object), fail: completion) { [self] in
                guard let generations = index.remove(object) else { return later { completion(.success(())) } }
                stageRemoval(object, generations.map(\.file), isWhole: true, isQuarantine: true, nil)
                barrier(completion)
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

    /// Moves what `from` holds (or has pending) and `into` does not up into `into`; then `from` is gone. The composed
    /// view is the same at every moment, so a crash leaves a merge that can be asked for again.
    package func merge(
        object: ObjectId, from: Generation, into: Generation, completion: @escaping StoreCompletion
    ) {
        precondition(from < into, "a merge goes into a newer generation")
        guard isOpen else { return fail(completion, .dead) }
        let files = { [self] () -> [UInt32] in
            guard let entry = index[object] else { return [] }
            return [from, into].compactMap { entry.file(of: $0) }
        }
        perform(object, need: .record, files: files, fail: completion) { [self] in
            guard let entry = index[object], let lower = entry.file(of: from),
                let below = sheets[FileKey(object: object, file: lower)]
            else {
                later { completion(.success(())) }
                return false
            }
            guard let upper = entry.file(of: into), let above = sheets[FileKey(object: object, file: upper)] else {
                renumber(below, to: into, completion)
                return false
            }
            // The header of a damaged sheet is not written: what is moved into it would be gone with `from`.
            guard !above.isDamaged else {
                later { completion(.failure(.damaged("a header of object \(object) cannot be read"))) }
                return false
            }
            if below.isDamaged {
                // It becomes pending: from here on being readable again does not make the copy whole.
                setState(object: object, .suspect, durable: false) { _ in }
            }
            pin(below)
            pin(above)
            move(below, above, 0) { [self] result in
                // The queue has failed the operation already.
                guard !isDead else { return }
                unpin(below)
                unpin(above)
                guard case .success = result else {
                    completion(result)
                    return finish(object)
                }
                whenRoom(.record) { [self] _ in
                    index.removeFile(below.key)
                    stageRemoval(object, [lower], isWhole: false, isQuarantine: false, completion)
                    finish(object)
                }
            }
            return true
        }
        checkpointIfNeeded()
    }

    /// The file keeps its name: only the generation that it stands for changes.
    private func renumber(_ sheet: Sheet, to generation: Generation, _ completion: @escaping StoreCompletion) {
        var record = Record()
        record.type = .renumber
        record.object = sheet.key.object.rawValue
        record.generation = generation.rawValue
        record.file = sheet.key.file
        journal.stage(record, completion: completion)
        sheet.generation = generation
        sheet.mutations += 1
        index.renumber(sheet.key, to: generation)
        views.drop(sheet.key.object)
        markDirty(sheet)
    }

    /// Blocks that are moved at once: few enough for a small segment.
    private var mergeBlocks: Int { min(64, journal.maximumRecordBytes / 2 / chunkSize * blocksPerChunk) }

    /// Moves some blocks, then the next ones.
    private func move(_ below: Sheet, _ above: Sheet, _ first: Int, _ done: @escaping StoreCompletion) {
        if isDead { return done(.failure(.dead)) }
        guard first < blocksPerObject else { return done(.success(())) }
        let object = below.key.object
        let range = BlockRange(first: first, count: min(mergeBlocks, blocksPerObject - first))
        var actions = [FillAction](repeating: .none, count: range.count)
        for block in 0..<range.count where !above.held[first + block] && !above.pending[first + block] {
            if below.isDamaged || below.pending[first + block] {
                actions[block] = .pending
            } else if below.held[first + block] {
                actions[block] = below.zero[first + block] ? .zero : .data
            }
        }
        let next: StoreCompletion = { [self] result in
            guard case .success = result else { return done(result) }
            move(below, above, range.end, done)
        }
        guard actions.contains(where: { $0 != .none }) else { return move(below, above, range.end, done) }
        if !actions.contains(.data) { return carry(above, below, range, actions, nil, next) }
        let buffer = pool.buffer(range.byteCount)
        let generation = below.generation
        let path = GenerationPath(top: generation, hidden: [Generation(0)...Generation(generation.rawValue - 1)])
        read(object: object, path: path, blocks: range, into: buffer, bufferOffset: 0) { [self] result in
            guard case .success(let outcome) = result else { return done(.failure(.dead)) }
            var actions = actions
            var isSpoilt = false
            for block in 0..<range.count where actions[block] == .data && !outcome.held[block] {
                // It is not zeros, and it is not here: it must come from a peer.
                actions[block] = .pending
                isSpoilt = true
            }
            if isSpoilt { setState(object: object, .suspect, durable: false) { _ in } }
            let payload = Payload(buffer: buffer, firstBlock: 0, blockCount: range.count)
            carry(above, below, range, actions, payload, next)
        }
    }
    private func carry(
        _ above: Sheet, _ below: Sheet, _ range: BlockRange, _ actions: [FillAction], _ payload: Payload?,
        _ next: @escaping StoreCompletion
    ) {
        let versions = range.chunks.map { chunk in
            above.chunkVersions[chunk] == 0 ? below.chunkVersions[chunk] : above.chunkVersions[chunk]
        }
        if let payload, isFresh(range, above), actions.allSatisfy({ $0 == .data }) {
            if isFull { return next(.failure(.full)) }
            putDirect(above, .fill, range, payload) { [self] result in
                switch result {
                case .success(let elsewhere):
                    stageFill(above, range, actions, payload, versions, elsewhere: elsewhere, next)
                case .failure(let error): next(.failure(error))
                }
            }
        } else {
            whenRoom(.data(.fill, range)) { [self] result in
                guard case .success = result else { return next(result) }
                stageFill(above, range, actions, payload, versions, elsewhere: false, next)
            }
        }
    }
}
