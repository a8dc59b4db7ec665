// Where a volume has data: for SEEK_DATA and SEEK_HOLE, for du, and for copies inside the cluster.
import Catalog
import Model
import ObjectStore
import OrderedCollections

extension Gateway {
    /// The size of a view in bytes; nil when it is gone.
    func size(of view: VolumeView) -> UInt64? {
        guard let record = catalog.state.volumes[view.volume] else { return nil }
        switch view {
        case .current: return record.size
        case .snapshot(_, let generation): return record.snapshots.first { $0.generation == generation }?.size
        }
    }

    /// Blocks with data (not zeros, not absent) of one object as this view shows it, layers below included.
    func dataBlocks(
        _ view: VolumeView, _ index: UInt32, _ completion: @escaping (Result<BlockBitmap, Errno>) -> Void
    ) {
        whenReady(view.volume) { [self] volume, errno in
            guard let volume, let path = path(of: view) else { return completion(.failure(errno ?? .stale)) }
            let below: (BlockBitmap, BlockBitmap) -> Void = { [self] data, held in
                guard let parent = parent(of: volume, path), UInt64(index) * UInt64(objectSize) < parent.visibleBytes
                else { return completion(.success(data)) }
                let parentView = VolumeView.snapshot(parent.volume, parent.generation)
                let look = { [self] (body: @escaping (Result<BlockBitmap, Errno>) -> Void) in
                    if let leases, isForeign(parent.volume) {
                        leases.dataBlocksBelow(parentView, index, body)
                    } else {
                        dataBlocks(parentView, index, body)
                    }
                }
                look { result in
                    guard case .success(var inherited) = result else { return completion(result) }
                    let visible = parent.visibleBytes - UInt64(index) * UInt64(objectSize)
                    if visible < UInt64(objectSize) {
                        let end = Int((visible + UInt64(blockSize) - 1) / UInt64(blockSize))
                        if end < blocksPerObject {
                            inherited.remove(BlockRange(first: end, count: blocksPerObject - end))
                        }
                    }
                    inherited.subtract(held)
                    inherited.formUnion(data)
                    completion(.success(inherited))
                }
            }
            guard volume.summaries[index] != nil || isUndecided(volume, index) else { return below(.empty, .empty) }
            whenPrepared(volume, index, failed: { completion(.failure($0 ?? .inputOutput)) }) { [self] object in
                let channels = object.slots.filter { $0.status == .complete }.map(\.channel)
                firstView(volume, channels[...], object, path) { view in
                    guard let view else { return completion(.failure(.inputOutput)) }
                    var data = view.held
                    data.subtract(view.zero)
                    data.formUnion(view.corrupt)
                    below(data, view.held)
                }
            }
        }
    }
    /// The view of the first of these copies that can tell; nil when none can.
    private func firstView(
        _ volume: VolumeState, _ channels: ArraySlice<any CopyChannel>, _ object: ObjectState, _ path: GenerationPath,
        _ completion: @escaping (ComposedView?) -> Void
    ) {
        guard let channel = channels.first else { return completion(nil) }
        channel.view(object.id, path) { [self] result in
            switch result {
            case .success(let view) where isCurrent(volume, object, channel.store): return completion(view)
            case .success: break
            case .failure(.dead(let reason)): reportFailure(channel.store, reason)
            case .failure: break
            }
            firstView(volume, channels.dropFirst(), object, path, completion)
        }
    }

    /// The next object at or after `index` that the view may have data in; nil when none follows.
    func nextObject(_ view: VolumeView, _ index: UInt32, _ body: @escaping (Result<UInt32?, Errno>) -> Void) {
        whenReady(view.volume) { [self] volume, errno in
            guard let volume else { return body(.failure(errno ?? .stale)) }
            let indices = volume.indices()
            var low = 0
            var high = indices.count
            while low < high {
                let middle = (low + high) / 2
                if indices[middle] < index { low = middle + 1 } else { high = middle }
            }
            var own = low < indices.count ? indices[low] : nil
            // Whether there is something is decided before it is said.
            let last = UInt32((max(1, volume.size) - 1) / UInt64(objectSize))
            let end = min(own ?? last, last)
            if index <= end, let undecided = undecidedIndices(volume, index...end).first { own = undecided }
            guard let path = path(of: view), let parent = parent(of: volume, path) else { return body(.success(own)) }
            let below = VolumeView.snapshot(parent.volume, parent.generation)
            let look = { [self] (body: @escaping (Result<UInt32?, Errno>) -> Void) in
                if let leases, isForeign(parent.volume) {
                    leases.nextObjectBelow(below, index, body)
                } else {
                    nextObject(below, index, body)
                }
            }
            look { result in
                guard case .success(let inherited) = result else { return body(result) }
                let visible = inherited.flatMap { UInt64($0) * UInt64(objectSize) < parent.visibleBytes ? $0 : nil }
                body(.success([own, visible].compactMap { $0 }.min()))
            }
        }
    }

    /// See `VolumeService.seek`.
    package func seek(
        _ view: VolumeView, offset: UInt64, data: Bool, _ completion: @escaping (Result<UInt64, Errno>) -> Void
    ) {
        guard let size = size(of: view) else { return completion(.failure(.stale)) }
        guard offset < size else { return completion(.failure(.noPosition)) }
        let index = UInt32(offset / UInt64(objectSize))
        nextObject(view, index) { [self] result in
            guard case .success(let next) = result else {
                if case .failure(let errno) = result { completion(.failure(errno)) }
                return
            }
            guard let next, UInt64(next) * UInt64(objectSize) < size else {
                return completion(data ? .failure(.noPosition) : .success(offset))
            }
            if next > index, !data { return completion(.success(offset)) }
            let start = max(offset, UInt64(next) * UInt64(objectSize))
            dataBlocks(view, next) { [self] result in
                guard case .success(let blocks) = result else {
                    if case .failure(let errno) = result { completion(.failure(errno)) }
                    return
                }
                let base = UInt64(next) * UInt64(objectSize)
                let first = Int((start - base) / UInt64(blockSize))
                if let found = blocks.firstIndex(from: first, where: data) {
                    let position = max(start, base + UInt64(found * blockSize))
                    if position < size { return completion(.success(position)) }
                    return completion(data ? .failure(.noPosition) : .success(size))
                }
                let after = base + UInt64(objectSize)
                guard after < size else { return completion(data ? .failure(.noPosition) : .success(size)) }
                seek(view, offset: after, data: data, completion)
            }
        }
    }

    /// See `VolumeService.allocatedBytes`. Counted anew after each change; for volumes with very many objects, where
    /// counting takes long, at most every ten seconds, or every 50 seconds for a million of them.
    package func allocatedBytes(_ view: VolumeView, _ completion: @escaping (UInt64) -> Void) {
        whenReady(view.volume) { [self] volume, _ in
            guard let volume else { return completion(0) }
            if let allocated = volume.allocated, !allocated.isOld || volume.summaries.count > 20_000,
                clock.now.milliseconds(since: allocated.at) < max(10_000, UInt64(volume.summaries.count) / 20)
            {
                return completion(allocated.bytes)
            }
            let bytes = countAllocated(volume.id)
            volume.allocated = (bytes, clock.now, false)
            completion(bytes)
        }
    }

    /// What the volume's own objects take on one copy each: blocks with data, all generations. Where an object has holes
    /// the sum stays below the size, so that tools see a sparse file.
    private func countAllocated(_ id: VolumeId) -> UInt64 {
        // Ascending by the object's index: the lists of the copies are merged.
        var largest: [(index: UInt32, blocks: Int)] = []
        for copy in localCopies() {
            var merged: [(index: UInt32, blocks: Int)] = []
            merged.reserveCapacity(largest.count)
            var position = 0
            copy.objects.forEach(in: id) { entry in
                guard entry.state == .complete else { return }
                let index = entry.object.index
                var blocks = min(entry.allocatedBlocks, blocksPerObject)
                while position < largest.count, largest[position].index < index {
                    merged.append(largest[position])
                    position += 1
                }
                if position < largest.count, largest[position].index == index {
                    blocks = max(blocks, largest[position].blocks)
                    position += 1
                }
                merged.append((index, blocks))
            }
            largest = merged + largest[position...]
        }
        let total = largest.reduce(0) { $0 + $1.blocks }
        return UInt64(total * blockSize)
    }

    /// What a full copy of the object would move, at most.
    func estimateBytes(_ object: ObjectId) -> UInt64 {
        var blocks = 0
        for copy in localCopies() { blocks = max(blocks, copy.objects.entry(object)?.allocatedBlocks ?? 0) }
        return UInt64(blocks * blockSize)
    }

    /// See `VolumeService.copy`. Runs of data are read and written, holes are discarded; at most 1 MiB of data a call, so that a
    /// caller can be interrupted; it asks again for the rest.
    package func copy(
        from source: VolumeView, offset: UInt64, to id: VolumeId, at destination: UInt64, count: UInt64,
        _ completion: @escaping (Result<UInt64, Errno>) -> Void
    ) {
        guard let size = size(of: source), offset < size else { return completion(.success(0)) }
        let count = min(count, size - offset)
        guard count > 0 else { return completion(.success(0)) }
        seek(source, offset: offset, data: true) { [self] result in
            let dataStart: UInt64
            switch result {
            case .success(let position): dataStart = min(position, offset + count)
            case .failure(.noPosition): dataStart = offset + count
            case .failure(let errno): return completion(.failure(errno))
            }
            if dataStart > offset {
                let hole = dataStart - offset
                discard(id, offset: destination, count: hole) { errno in
                    completion(errno.map { .failure($0) } ?? .success(hole))
                }
                return
            }
            let length = Int(min(count, UInt64(1 << 20)))
            let buffer = pool.buffer((length + blockSize - 1) / blockSize * blockSize)
            read(source, offset: offset, count: length, into: buffer, bufferOffset: 0) { [self] errno in
                if let errno { return completion(.failure(errno)) }
                write(id, offset: destination, count: length, from: buffer, bufferOffset: 0, durable: false) { errno in
                    completion(errno.map { .failure($0) } ?? .success(UInt64(length)))
                }
            }
        }
    }
}
