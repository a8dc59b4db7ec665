// What changes a volume as a whole: resize, snapshot, clone of now, rollback, flatten. Each drains the volume where the
// contract asks for it, proposes one command conditional on the term, and goes on.
import Catalog
import Model
import ObjectStore
import OrderedCollections

/// How long a snapshot may wait for writes on their way, in milliseconds.
let drainTimeoutMilliseconds: UInt64 = 5_000

extension Gateway {
    /// Control operations of one volume follow one another.
    private func queueControl(_ volume: VolumeState, _ action: @escaping (_ done: @escaping () -> Void) -> Void) {
        let run = { [self] in
            action { [self] in
                volume.controlBusy = false
                if !volume.controlQueue.isEmpty { volume.controlQueue.removeFirst()() }
                _ = self
            }
        }
        if volume.controlBusy {
            volume.controlQueue.append {
                volume.controlBusy = true
                run()
            }
        } else {
            volume.controlBusy = true
            run()
        }
    }

    private func refusal(_ errno: Errno, _ what: String) -> CommandAnswer {
        .refused(
            SheepError(
                errno, what: what,
                why: errno == .tryAgain
                    ? "writes on their way did not end in time" : "the volume is gone or cannot be taken",
                remedy: errno == .tryAgain
                    ? "try again; `dog status` says whether a store is failing" : "look at `dog vdi list`"))
    }

    // MARK: size

    package func resize(
        _ id: VolumeId, size: UInt64, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void
    ) {
        guard let volume = volume(id) else { return completion(refusal(.stale, "the volume cannot be resized")) }
        queueControl(volume) { [self] done in
            finishTrim(volume) { [self] in
                // One that came again: others may have changed the size and written since.
                if let request, let earlier = catalog.state.answered[request]?.answer {
                    completion(earlier)
                    return done()
                }
                let old = catalog.state.volumes[id]?.size ?? 0
                guard size < old, size % UInt64(blockSize) != 0 else {
                    return proposeSize(volume, size, request) { answer in
                        completion(answer)
                        done()
                    }
                }
                // What remains of the last block must read as zeros when the volume grows again.
                let tail = min(old, (size / UInt64(blockSize) + 1) * UInt64(blockSize)) - size
                discard(id, offset: size, count: tail) { [self] _ in
                    proposeSize(volume, size, request) { answer in
                        completion(answer)
                        done()
                    }
                }
            }
        }
    }

    private func proposeSize(
        _ volume: VolumeState, _ size: UInt64, _ request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void
    ) {
        let propose = { [self] (reopen: @escaping () -> Void) in
            self.propose(.resize(volume.id, size: size), under: volume, request: request) { [self] answer in
                reopen()
                if case .done = answer { finishTrim(volume) { completion(answer) } } else { completion(answer) }
            }
        }
        guard size < volume.size else { return propose {} }
        decideAbsent(volume, from: size) { [self] errno in
            if let errno { return completion(refusal(errno, "the volume was not resized")) }
            // Writes on their way to what is cut off must not land behind the trim.
            drained([volume]) { [self] in
                completion(refusal(.tryAgain, "the volume was not resized"))
            } _: {
                propose($0)
            }
        }
    }

    /// A member of S that is away may have objects beyond `size` that nobody here knows of. That they are absent is
    /// decided, durably, before they are cut off: the trim goes by what is known, and what that member has must not show
    /// when it is back and the volume has grown again.
    private func decideAbsent(_ volume: VolumeState, from size: UInt64, _ completion: @escaping (Errno?) -> Void) {
        whenReady(volume.id) { [self] ready, errno in
            guard ready != nil else { return completion(errno) }
            guard size < volume.size else { return completion(nil) }
            let first = UInt32(size / UInt64(objectSize))
            let last = UInt32((volume.size - 1) / UInt64(objectSize))
            decideNext(volume, undecidedIndices(volume, first...last)[...], completion)
        }
    }

    /// A few objects at a time.
    private func decideNext(
        _ volume: VolumeState, _ indices: ArraySlice<UInt32>, _ completion: @escaping (Errno?) -> Void
    ) {
        let batch = indices.prefix(8)
        guard !batch.isEmpty else { return completion(nil) }
        let join = Join(batch.count) { [self] errno in
            if let errno { return completion(errno) }
            clock.after(milliseconds: 0) { [self] in decideNext(volume, indices.dropFirst(8), completion) }
        }
        for index in batch { whenPrepared(volume, index, failed: join.arrive) { _ in join.arrive(nil) } }
    }

    /// Gives back what a shrink has cut off; also one that an earlier process left unfinished.
    private func finishTrim(_ volume: VolumeState, _ completion: @escaping () -> Void) {
        guard let record = catalog.state.volumes[volume.id], let from = record.trimFrom else { return completion() }
        whenReady(volume.id) { [self] ready, _ in
            guard ready != nil else { return completion() }
            let indices = volume.indices()
            let last = indices.last.map { UInt64($0 + 1) * UInt64(objectSize) } ?? from
            let end = max(last, volume.parent?.visibleBytes ?? 0)
            let trimmed = { [self] in
                propose(.trimmed(volume.id), under: volume, request: nil) { _ in completion() }
            }
            guard end > from else { return trimmed() }
            // Inside the gate, so that no snapshot closes the generation in between; and durable before the catalog
            // forgets that there is something to cut off.
            enter(volume) { [self] in
                discardBlocks(volume, offset: from, count: end - from) { [self] errno in
                    leave(volume)
                    guard errno == nil else { return completion() }
                    flush(volume.id) { errno in if errno == nil { trimmed() } else { completion() } }
                }
            }
        }
    }

    // MARK: snapshots

    /// Closes the gates of all volumes, waits for their writes, and calls `body`, which calls `reopen` when its command
    /// has been decided. `tooLate`: writes did not end in time; the gates are open again.
    private func drained(
        _ volumes: [VolumeState], tooLate: @escaping () -> Void,
        _ body: @escaping (_ reopen: @escaping () -> Void) -> Void
    ) {
        if Saboteur.isOn(.snapshotWithoutDrain) { return body({}) }
        var waiting = volumes.count
        var isOver = false
        let reopen = { [self] in for volume in volumes { openGate(volume) } }
        for volume in volumes {
            closeGate(volume) {
                waiting -= 1
                guard waiting == 0, !isOver else { return }
                isOver = true
                body(reopen)
            }
        }
        guard waiting > 0 else { return }
        clock.after(milliseconds: drainTimeoutMilliseconds) {
            guard !isOver else { return }
            isOver = true
            reopen()
            tooLate()
        }
    }

    private func whenAllReady(_ ids: [VolumeId], _ body: @escaping ([VolumeState]?, Errno?) -> Void) {
        var ready: [VolumeState] = []
        let join = Join(max(1, ids.count)) { errno in
            if let errno { body(nil, errno) } else { body(ready.sorted { $0.id < $1.id }, nil) }
        }
        guard !ids.isEmpty else { return join.arrive(nil) }
        for id in ids {
            whenReady(id) { volume, errno in
                if let volume { ready.append(volume) }
                join.arrive(errno)
            }
        }
    }

    /// Makes copies that a takeover found different equal, before a snapshot makes their state last.
    func prepareAll(_ volume: VolumeState, _ completion: @escaping () -> Void) {
        let unprepared = volume.indices().filter { volume.summaries[$0]?.isUniform == false }
        let join = Join(unprepared.count + 1) { _ in completion() }
        join.arrive(nil)
        for index in unprepared { prepare(volume, object(volume, index), join.arrive) }
    }

    package func snapshot(
        _ ids: [VolumeId], tag: String, group: DirectoryId?, replaceExisting: Bool, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        whenAllReady(ids) { [self] volumes, errno in
            guard let volumes else { return completion(refusal(errno ?? .stale, "no snapshot was made")) }
            let join = Join(volumes.count + 1) { [self] _ in
                drained(volumes) { [self] in
                    completion(refusal(.tryAgain, "no snapshot was made"))
                } _: { [self] reopen in
                    let members = volumes.map {
                        SnapshotRequest(volume: $0.id, term: $0.term, replaceExisting: replaceExisting)
                    }
                    catalog.propose(
                        .snapshot(members: members, tag: tag, group: group, wallClock: clock.wallClock),
                        request: request
                    ) { answer in
                        reopen()
                        completion(answer)
                    }
                }
            }
            join.arrive(nil)
            for volume in volumes { prepareAll(volume) { join.arrive(nil) } }
        }
    }

    package func cloneCurrent(
        _ id: VolumeId, directory: DirectoryId, name: String, attributes: FileAttributes, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        conditional(id, "no clone was made", completion) { [self] volume in
            .cloneCurrent(
                source: id, term: volume.term, directory: directory, name: name, attributes: attributes,
                wallClock: clock.wallClock)
        } request: {
            request
        }
    }

    package func rollback(
        _ id: VolumeId, tag: String, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void
    ) {
        guard let volume = volume(id) else { return completion(refusal(.stale, "nothing was rolled back")) }
        // Not in the middle of a resize: both say what is still to be trimmed.
        queueControl(volume) { [self] done in
            let finish: (CommandAnswer) -> Void = { answer in
                completion(answer)
                done()
            }
            conditional(id, "nothing was rolled back", finish) { volume in
                .rollback(volume: id, term: volume.term, tag: tag)
            } request: {
                request
            }
        }
    }

    /// Drains one volume and proposes one command under its term.
    private func conditional(
        _ id: VolumeId, _ what: String, _ completion: @escaping (CommandAnswer) -> Void,
        _ command: @escaping (VolumeState) -> CatalogCommand, request: @escaping () -> RequestId?
    ) {
        whenReady(id) { [self] volume, errno in
            guard let volume else { return completion(refusal(errno ?? .stale, what)) }
            prepareAll(volume) { [self] in
                drained([volume]) { [self] in
                    completion(refusal(.tryAgain, what))
                } _: { [self] reopen in
                    catalog.propose(command(volume), request: request()) { answer in
                        reopen()
                        completion(answer)
                    }
                }
            }
        }
    }

    // MARK: flatten

    /// See `VolumeService.flatten`: object by object, blocks that come from the parent are written into the volume.
    package func flatten(
        _ id: VolumeId, progress: @escaping (UInt64, UInt64) -> Void, _ completion: @escaping (CommandAnswer) -> Void
    ) {
        whenReady(id) { [self] volume, errno in
            guard let volume else { return completion(refusal(errno ?? .stale, "nothing was flattened")) }
            guard let parent = volume.parent else { return completion(.done) }
            guard let record = catalog.state.volumes[id], record.snapshots.isEmpty else {
                return completion(
                    .refused(
                        SheepError(
                            .notEmpty, what: "the volume was not flattened",
                            why: "its snapshots still read through its parent", remedy: "remove its snapshots first")))
            }
            let total = min(parent.visibleBytes, record.size)
            flattenNext(volume, at: 0, total: total, progress) { [self] errno in
                if let errno { return completion(refusal(errno, "the volume was not flattened whole")) }
                // What was copied is durable before the link to where it came from is cut.
                flush(id) { [self] errno in
                    if let errno { return completion(refusal(errno, "the volume was not flattened whole")) }
                    conditional(id, "the volume was not flattened", completion) { volume in
                        .flattened(volume: id, term: volume.term)
                    } request: {
                        nil
                    }
                }
            }
        }
    }

    private func flattenNext(
        _ volume: VolumeState, at offset: UInt64, total: UInt64, _ progress: @escaping (UInt64, UInt64) -> Void,
        _ completion: @escaping (Errno?) -> Void
    ) {
        guard offset < total else { return completion(nil) }
        progress(offset, total)
        seek(.current(volume.id), offset: offset, data: true) { [self] result in
            let data: UInt64
            switch result {
            case .success(let position): data = position
            case .failure(.noPosition): return completion(nil)
            // Not known to hold everything: the link to the parent must stay.
            case .failure(let errno): return completion(errno)
            }
            guard data < total else { return completion(nil) }
            let base = data / UInt64(objectSize) * UInt64(objectSize)
            flattenChunk(volume, UInt32(base / UInt64(objectSize)), 0) { [self] errno in
                if let errno { return completion(errno) }
                pace(objectSize) { [self] in
                    flattenNext(volume, at: base + UInt64(objectSize), total: total, progress, completion)
                }
            }
        }
    }

    /// Writes what this object shows of its parent into it, chunk by chunk under the chunk's lock.
    private func flattenChunk(
        _ volume: VolumeState, _ index: UInt32, _ chunk: Int, _ completion: @escaping (Errno?) -> Void
    ) {
        guard chunk < chunksPerObject else { return completion(nil) }
        let blocks = BlockRange.chunk(chunk)
        let next: (Errno?) -> Void = { [self] errno in
            if let errno { return completion(errno) }
            flattenChunk(volume, index, chunk + 1, completion)
        }
        enter(volume) { [self] in
            let leaveAndGoOn: (Errno?) -> Void = { [self] errno in
                leave(volume)
                next(errno)
            }
            lock(volume, index, blocks, exclusive: true, failed: leaveAndGoOn) { [self] object, ticket in
                let finish: (Errno?) -> Void = { errno in
                    object.unlock(ticket)
                    leaveAndGoOn(errno)
                }
                ownBlocks(volume, object) { [self] own in
                    guard !own.containsAll(blocks) else { return finish(nil) }
                    let buffer = pool.buffer(blocks.byteCount)
                    readBlocks(volume, object, volume.path, blocks, into: buffer, at: 0) { [self] errno in
                        if let errno { return finish(errno) }
                        buffer.computeChecksums(0..<blocks.count)
                        // Only what the volume does not hold, in runs, and no zeros.
                        var runs: [BlockRange] = []
                        var block = blocks.first
                        while block < blocks.end {
                            let isNeeded = { (b: Int) in
                                !own[b] && !buffer.isZero(block: b - blocks.first)
                            }
                            guard isNeeded(block) else {
                                block += 1
                                continue
                            }
                            var end = block
                            while end < blocks.end, isNeeded(end) { end += 1 }
                            runs.append(BlockRange(first: block, count: end - block))
                            block = end
                        }
                        guard !runs.isEmpty else { return finish(nil) }
                        let join = Join(runs.count, finish)
                        for run in runs {
                            send(
                                volume, object, run,
                                Payload(buffer: buffer, firstBlock: run.first - blocks.first, blockCount: run.count),
                                keepAsZero: false, join.arrive)
                        }
                    }
                }
            }
        }
    }

    /// The blocks that the volume itself holds in its current view.
    private func ownBlocks(_ volume: VolumeState, _ object: ObjectState, _ body: @escaping (BlockBitmap) -> Void) {
        guard volume.summaries[object.id.index] != nil,
            let slot = object.slots.first(where: { $0.status == .complete })
        else { return body(.empty) }
        slot.channel.view(object.id, volume.path) { result in
            if case .success(let view) = result { body(view.held) } else { body(.empty) }
        }
    }
}
