// Discards: whole blocks are given back on every copy, partial ones are overwritten with zeros. Objects that nobody has
// and nothing lies below are not touched, so discarding a whole empty volume costs nothing.
import Catalog
import Model

extension Gateway {
    /// See `VolumeService.discard`.
    package func discard(
        _ id: VolumeId, offset: UInt64, count: UInt64, _ completion: @escaping (Errno?) -> Void
    ) {
        guard count > 0 else { return completion(nil) }
        statistics.discards += 1
        whenReady(id) { [self] volume, errno in
            guard let volume else { return completion(errno) }
            enter(volume) { [self] in
                discardBlocks(volume, offset: offset, count: count) { [self] errno in
                    leave(volume)
                    if errno == nil, options.alwaysDurable { flush(id, completion) } else { completion(errno) }
                }
            }
        }
    }

    /// The caller has entered the gate.
    func discardBlocks(
        _ volume: VolumeState, offset: UInt64, count: UInt64, _ completion: @escaping (Errno?) -> Void
    ) {
        let end = offset + count
        let block = UInt64(blockSize)
        let alignedStart = (offset + block - 1) / block * block
        let alignedEnd = end / block * block
        var edges: [(UInt64, Int)] = []
        if alignedStart > alignedEnd {
            edges.append((offset, Int(count)))
        } else {
            if offset < alignedStart { edges.append((offset, Int(alignedStart - offset))) }
            if alignedEnd < end { edges.append((alignedEnd, Int(end - alignedEnd))) }
        }
        let whole = alignedStart < alignedEnd ? alignedStart..<alignedEnd : nil
        let join = Join(edges.count + 1, completion)
        for (offset, count) in edges { zeroEdge(volume, offset, count, join.arrive) }
        guard let whole else { return join.arrive(nil) }
        let first = UInt32(whole.lowerBound / UInt64(objectSize))
        let last = UInt32((whole.upperBound - 1) / UInt64(objectSize))
        existing(volume, .current(volume.id), first...last) { [self] indices in
            discardNext(volume, indices[...], whole, join.arrive)
        }
    }

    /// Objects in `range` that the volume or what it was cloned from has, ascending.
    private func existing(
        _ volume: VolumeState, _ view: VolumeView, _ range: ClosedRange<UInt32>, _ body: @escaping ([UInt32]) -> Void
    ) {
        var own = volume.indices().filter { range.contains($0) }
        let undecided = undecidedIndices(volume, range)
        if !undecided.isEmpty { own = (own + undecided).sorted() }
        guard let path = path(of: view), let parent = parent(of: volume, path) else { return body(own) }
        if let leases, isForeign(parent.volume) {
            let below = VolumeView.snapshot(parent.volume, parent.generation)
            let end = min(range.upperBound, UInt32((max(1, parent.visibleBytes) - 1) / UInt64(objectSize)))
            var all = Set(own)
            func next(_ index: UInt32) {
                guard index <= end else { return body(all.sorted()) }
                leases.nextObjectBelow(below, index) { result in
                    // Where that is not known every one may be there.
                    guard case .success(let found) = result else { return body(all.union(index...end).sorted()) }
                    guard let found, found <= end else { return body(all.sorted()) }
                    all.insert(found)
                    if found == .max { body(all.sorted()) } else { next(found + 1) }
                }
            }
            return next(range.lowerBound)
        }
        whenReady(parent.volume) { [self] below, _ in
            guard let below else { return body(own) }
            existing(below, .snapshot(parent.volume, parent.generation), range) { inherited in
                let visible = inherited.filter { UInt64($0) * UInt64(objectSize) < parent.visibleBytes }
                body(Set(own).union(visible).sorted())
            }
        }
    }

    /// A few objects at a time.
    private func discardNext(
        _ volume: VolumeState, _ indices: ArraySlice<UInt32>, _ whole: Range<UInt64>,
        _ completion: @escaping (Errno?) -> Void
    ) {
        let batch = indices.prefix(8)
        guard !batch.isEmpty else { return completion(nil) }
        let join = Join(batch.count) { [self] errno in
            if let errno { return completion(errno) }
            discardNext(volume, indices.dropFirst(8), whole, completion)
        }
        for index in batch {
            let base = UInt64(index) * UInt64(objectSize)
            let start = Int(max(whole.lowerBound, base) - base) / blockSize
            let end = Int(min(whole.upperBound, base + UInt64(objectSize)) - base) / blockSize
            let blocks = BlockRange(first: start, count: end - start)
            lock(volume, index, blocks, exclusive: true, failed: join.arrive) { [self] object, ticket in
                let keepAsZero =
                    (volume.hasOlderGenerations || volume.showsParent(index)) && !Saboteur.isOn(.discardDrops)
                guard volume.summaries[index] != nil || keepAsZero else {
                    object.unlock(ticket)
                    return join.arrive(nil)
                }
                send(volume, object, blocks, nil, keepAsZero: keepAsZero) { errno in
                    object.unlock(ticket)
                    join.arrive(errno)
                }
            }
        }
    }

    /// Part of one block becomes zeros: a write, unless nothing is there.
    private func zeroEdge(
        _ volume: VolumeState, _ offset: UInt64, _ count: Int, _ completion: @escaping (Errno?) -> Void
    ) {
        var pieces: [(UInt64, Int)] = []
        var position = offset
        while position < offset + UInt64(count) {
            let end = min(offset + UInt64(count), (position / UInt64(blockSize) + 1) * UInt64(blockSize))
            pieces.append((position, Int(end - position)))
            position = end
        }
        let join = Join(pieces.count, completion)
        for (position, length) in pieces {
            let index = UInt32(position / UInt64(objectSize))
            guard volume.summaries[index] != nil || volume.showsParent(index) || isUndecided(volume, index) else {
                join.arrive(nil)
                continue
            }
            let zeros = pool.buffer(blockSize)
            zeros.fillZero(0..<blockSize)
            writeObject(
                volume, index, Int(position % UInt64(objectSize)), length, zeros, 0, join.arrive)
        }
    }
}
