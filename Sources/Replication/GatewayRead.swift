// Reads: from a complete copy, layer by layer (the volume, then what it was cloned from), never from a copy that may be
// behind. A block that fails its checksum is taken from another copy and repaired.
import Catalog
import Model
import ObjectStore
import OrderedCollections

extension Gateway {
    /// See `VolumeService.read`.
    package func read(
        _ view: VolumeView, offset: UInt64, count: Int, into buffer: Buffer, bufferOffset: Int,
        _ completion: @escaping (Errno?) -> Void
    ) {
        guard count > 0 else { return completion(nil) }
        statistics.reads += 1
        statistics.bytesRead += UInt64(count)
        whenReady(view.volume) { [self] volume, errno in
            guard let volume else { return completion(errno) }
            guard let path = path(of: view) else { return completion(.stale) }
            let first = offset / UInt64(objectSize)
            let last = (offset + UInt64(count) - 1) / UInt64(objectSize)
            if first == last {
                return readObject(
                    volume, view, path, UInt32(first), Int(offset % UInt64(objectSize)), count, buffer, bufferOffset,
                    completion)
            }
            let join = Join(Int(last - first + 1), completion)
            var done = 0
            while done < count {
                let position = offset + UInt64(done)
                let within = Int(position % UInt64(objectSize))
                let length = min(count - done, objectSize - within)
                readObject(
                    volume, view, path, UInt32(position / UInt64(objectSize)), within, length, buffer,
                    bufferOffset + done, join.arrive)
                done += length
            }
        }
    }

    func path(of view: VolumeView) -> GenerationPath? {
        switch view {
        case .current(let id): volumes[id]?.path
        case .snapshot(let id, let generation):
            catalog.state.volumes[id]?.snapshots.first { $0.generation == generation }?.path
        }
    }

    private func readObject(
        _ volume: VolumeState, _ view: VolumeView, _ path: GenerationPath, _ index: UInt32, _ offset: Int, _ count: Int,
        _ buffer: Buffer, _ bufferOffset: Int, _ completion: @escaping (Errno?) -> Void
    ) {
        let first = offset / blockSize
        let blocks = BlockRange(first: first, count: (offset + count + blockSize - 1) / blockSize - first)
        func run(_ object: ObjectState, _ ticket: BlockLocks.Ticket?) {
            // As it is now: a snapshot may have come between.
            let path = view == .current(volume.id) ? volume.path : path
            let finish: (Errno?) -> Void = { [self] errno in
                switch standing(of: view, path, volume) {
                case .shown: break
                case .gone:
                    if let ticket { object.unlock(ticket) }
                    return completion(.stale)
                case .changed where errno == nil: return run(object, ticket)
                case .changed: break
                }
                if let ticket { object.unlock(ticket) }
                completion(errno)
            }
            if offset % blockSize == 0, count % blockSize == 0, bufferOffset % blockSize == 0 {
                return readBlocks(volume, object, path, blocks, into: buffer, at: bufferOffset, finish)
            }
            let whole = pool.buffer(blocks.byteCount)
            readBlocks(volume, object, path, blocks, into: whole, at: 0) { errno in
                if errno == nil {
                    (buffer.bytes + bufferOffset).copyMemory(
                        from: whole.bytes + (offset - blocks.byteOffset), byteCount: count)
                }
                finish(errno)
            }
        }
        switch view {
        case .current: lock(volume, index, blocks, exclusive: false, failed: completion, run)
        case .snapshot:
            // A closed generation does not change: no lock, but copies that differ are made equal first.
            whenPrepared(volume, index, failed: completion) { object in run(object, nil) }
        }
    }

    private enum ViewStanding {
        case shown
        /// The current view is another one since a rollback: what the old one looked through may have been removed.
        case changed
        /// The snapshot, or the volume, was removed: its generations may be, too, and read as absent.
        case gone
    }
    /// How a view that was read stands at the end of the read.
    private func standing(of view: VolumeView, _ path: GenerationPath, _ volume: VolumeState) -> ViewStanding {
        if volume.isRemoved { return .gone }
        guard case .current = view else { return self.path(of: view) == nil ? .gone : .shown }
        if path == volume.path { return .shown }
        return catalog.state.reachableViews(of: volume.id).contains(path) ? .shown : .changed
    }

    /// Fills whole blocks from the volume's own copies, and what they do not hold from the layer below.
    /// `bufferOffset` is where the first block goes. The caller holds the lock where one is needed.
    func readBlocks(
        _ volume: VolumeState, _ object: ObjectState, _ path: GenerationPath, _ blocks: BlockRange,
        into buffer: Buffer, at bufferOffset: Int, _ completion: @escaping (Errno?) -> Void
    ) {
        let index = object.id.index
        if volume.summaries[index] == nil, object.slots.contains(where: { $0.status == .complete }) {
            // No copy has it: the fence said so, and a current store was among those that did.
            return readBelow(volume, path, index, blocks, into: buffer, at: bufferOffset, completion)
        }
        readCopies(volume, object, path, blocks, into: buffer, at: bufferOffset, tried: []) { [self] result in
            switch result {
            case .failure(let errno): completion(errno)
            case .success(let absent):
                guard let absent, showsBelow(volume, path, index), !Saboteur.isOn(.cloneWithoutLowest) else {
                    return completion(nil)
                }
                fillAbsent(
                    volume, path, index, blocks, absent, from: blocks.first, into: buffer, at: bufferOffset, completion)
            }
        }
    }

    /// Reads from one complete copy, then from the next where blocks were corrupt. Answers with the blocks that no
    /// generation of the volume holds, or nil when all were held.
    func readCopies(
        _ volume: VolumeState, _ object: ObjectState, _ path: GenerationPath, _ blocks: BlockRange,
        into buffer: Buffer, at bufferOffset: Int, tried: [StoreId],
        _ completion: @escaping (Result<BlockBitmap?, Errno>) -> Void
    ) {
        if volume.isRemoved { return completion(.failure(.stale)) }
        if object.slotsEpoch != epoch.rawValue { refreshSlots(volume, object) }
        guard let slot = readSlot(object, tried) else {
            // Corrupt everywhere, or no current copy is up.
            let isCorrupt = tried.contains { channel($0) != nil }
            if isCorrupt {
                return reread(volume, object, tried.compactMap { channel($0) }) { [self] isReadable in
                    if isReadable {
                        return readCopies(
                            volume, object, path, blocks, into: buffer, at: bufferOffset, tried: [], completion)
                    }
                    guard blocks.count > 1 else { return completion(.failure(.inputOutput)) }
                    readOneByOne(
                        volume, object, path, blocks, 0, BlockBitmap(), into: buffer, at: bufferOffset, completion)
                }
            }
            if options.errorWhenUnavailable || isLost(volume, object) { return completion(.failure(.inputOutput)) }
            mapWaiters.append { [self] in
                readCopies(
                    volume, object, path, blocks, into: buffer, at: bufferOffset, tried: [], completion)
            }
            return
        }
        let store = slot.channel.store
        slot.channel.read(object.id, path, blocks, into: buffer, bufferOffset: bufferOffset) { [self] result in
            switch result {
            case .success(let outcome) where outcome.isWhole:
                completion(.success(nil))
            case .success(let outcome) where outcome.corrupt.isEmpty:
                // One that is no target any more may have been removed while it was asked: it says nothing of what is absent.
                guard isCurrent(volume, object, store) else {
                    return readCopies(
                        volume, object, path, blocks, into: buffer, at: bufferOffset, tried: tried + [store], completion
                    )
                }
                completion(.success(outcome.absent))
            case .success(let outcome):
                repairRead(
                    volume, object, path, blocks, outcome, store, into: buffer, at: bufferOffset, tried: tried,
                    completion)
            case .failure(.silent):
                // It has left; should it come back, nothing is known against it.
                refreshSlots(volume, object)
                readCopies(
                    volume, object, path, blocks, into: buffer, at: bufferOffset, tried: tried, completion)
            case .failure(.staleTerm) where leases != nil:
                outdated(volume)
                completion(.failure(.stale))
            case .failure(let failure):
                if case .dead(let reason) = failure { reportFailure(store, reason) }
                readCopies(
                    volume, object, path, blocks, into: buffer, at: bufferOffset, tried: tried + [store], completion)
            }
        }
    }

    /// No copy has all of these blocks, but each block may be fine on another one.
    private func readOneByOne(
        _ volume: VolumeState, _ object: ObjectState, _ path: GenerationPath, _ blocks: BlockRange, _ done: Int,
        _ missing: BlockBitmap, into buffer: Buffer, at bufferOffset: Int,
        _ completion: @escaping (Result<BlockBitmap?, Errno>) -> Void
    ) {
        guard done < blocks.count else { return completion(.success(missing.isEmpty ? nil : missing)) }
        let block = BlockRange(first: blocks.first + done, count: 1)
        readCopies(
            volume, object, path, block, into: buffer, at: bufferOffset + done * blockSize, tried: []
        ) { [self] result in
            switch result {
            case .failure(let errno): completion(.failure(errno))
            case .success(let absent):
                var missing = missing
                if let absent { missing.formUnion(absent) }
                readOneByOne(
                    volume, object, path, blocks, done + 1, missing, into: buffer, at: bufferOffset, completion)
            }
        }
    }

    /// The complete copy to read from: spread over the copies by object, so that every disk serves.
    private func readSlot(_ object: ObjectState, _ tried: [StoreId]) -> CopySlot? {
        let count = object.slots.count
        guard count > 0 else { return nil }
        let start = Int(object.id.hash % UInt64(count))
        for step in 0..<count {
            let slot = object.slots[(start + step) % count]
            if slot.status == .complete, !tried.contains(slot.channel.store) { return slot }
        }
        return nil
    }

    /// Whether the store's copy is (still) one to read from. A copy is removed only when it is none any more.
    func isCurrent(_ volume: VolumeState, _ object: ObjectState, _ store: StoreId) -> Bool {
        guard !volume.isRemoved else { return false }
        if object.slotsEpoch != epoch.rawValue { refreshSlots(volume, object) }
        return object.slots.contains { $0.status == .complete && $0.channel.store == store }
    }

    /// Whether no member of S can come back: all are out.
    func isLost(_ volume: VolumeState, _ object: ObjectState) -> Bool {
        let map = catalog.state.map
        return !map.stores.contains { $0.inSync[object.range, copies: volume.sureCopies] && $0.status != .out }
    }

    /// Blocks were corrupt on `bad`: another copy gives them, and `bad` gets them back.
    private func repairRead(
        _ volume: VolumeState, _ object: ObjectState, _ path: GenerationPath, _ blocks: BlockRange, _ outcome: CopyRead,
        _ bad: StoreId, into buffer: Buffer, at bufferOffset: Int, tried: [StoreId],
        _ completion: @escaping (Result<BlockBitmap?, Errno>) -> Void
    ) {
        readCopies(
            volume, object, path, blocks, into: buffer, at: bufferOffset, tried: tried + [bad]
        ) { [self] result in
            if case .success = result {
                statistics.readRepairs += 1
                onCorruptCopy(object.id, bad)
            }
            completion(result)
        }
    }

    // MARK: the layer below a volume

    private func showsBelow(_ volume: VolumeState, _ path: GenerationPath, _ index: UInt32) -> Bool {
        guard let parent = parent(of: volume, path) else { return false }
        return UInt64(index) * UInt64(objectSize) < parent.visibleBytes
    }

    /// What lies below a view: the parent, as visible as it was for that view.
    func parent(of volume: VolumeState, _ path: GenerationPath) -> ParentReference? {
        guard var parent = volume.parent else { return nil }
        if path.top != volume.path.top,
            let snapshot = catalog.state.volumes[volume.id]?.snapshots.first(where: { $0.generation == path.top })
        {
            parent.visibleBytes = snapshot.parentVisibleBytes
        }
        return parent
    }

    /// Fills the runs of blocks that are absent, one after the other.
    private func fillAbsent(
        _ volume: VolumeState, _ path: GenerationPath, _ index: UInt32, _ blocks: BlockRange, _ absent: BlockBitmap,
        from: Int, into buffer: Buffer, at bufferOffset: Int, _ completion: @escaping (Errno?) -> Void
    ) {
        guard let start = absent.firstIndex(from: from, where: true), start < blocks.end else { return completion(nil) }
        let end = min(absent.firstIndex(from: start, where: false) ?? blocks.end, blocks.end)
        readBelow(
            volume, path, index, BlockRange(first: start, count: end - start), into: buffer,
            at: bufferOffset + (start - blocks.first) * blockSize
        ) { [self] errno in
            if let errno { return completion(errno) }
            fillAbsent(volume, path, index, blocks, absent, from: end, into: buffer, at: bufferOffset, completion)
        }
    }

    /// Blocks that the volume does not hold: the parent's, up to where it is visible, else zeros.
    private func readBelow(
        _ volume: VolumeState, _ path: GenerationPath, _ index: UInt32, _ blocks: BlockRange, into buffer: Buffer,
        at bufferOffset: Int, _ completion: @escaping (Errno?) -> Void
    ) {
        let start = UInt64(index) * UInt64(objectSize) + UInt64(blocks.byteOffset)
        guard let parent = parent(of: volume, path), start < parent.visibleBytes else {
            buffer.fillZero(bufferOffset..<bufferOffset + blocks.byteCount)
            return completion(nil)
        }
        let visible = Int(min(UInt64(blocks.byteCount), parent.visibleBytes - start))
        let view = VolumeView.snapshot(parent.volume, parent.generation)
        if let leases, isForeign(parent.volume) {
            return leases.readBelow(view, offset: start, count: visible, into: buffer, bufferOffset: bufferOffset) {
                errno in
                if errno == nil, visible < blocks.byteCount {
                    buffer.fillZero(bufferOffset + visible..<bufferOffset + blocks.byteCount)
                }
                completion(errno)
            }
        }
        whenReady(parent.volume) { [self] below, errno in
            guard let below, let parentPath = self.path(of: view) else { return completion(errno ?? .inputOutput) }
            let finish: (Errno?) -> Void = { errno in
                if errno == nil, visible < blocks.byteCount {
                    buffer.fillZero(bufferOffset + visible..<bufferOffset + blocks.byteCount)
                }
                completion(errno)
            }
            whenPrepared(below, index, failed: finish) { [self] object in
                readBlocks(below, object, parentPath, blocks, into: buffer, at: bufferOffset, finish)
            }
        }
    }
}
