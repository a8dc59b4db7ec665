// Writes and discards: split into objects, filled up to whole blocks, locked, given a version, sent to all targets,
// and answered when all have answered and enough of them are complete.
import Catalog
import Model
import ObjectStore
import OrderedCollections

extension Gateway {
    /// See `VolumeService.write`.
    package func write(
        _ id: VolumeId, offset: UInt64, count: Int, from buffer: Buffer, bufferOffset: Int, durable: Bool,
        _ completion: @escaping (Errno?) -> Void
    ) {
        guard count > 0 else { return completion(nil) }
        statistics.writes += 1
        statistics.bytesWritten += UInt64(count)
        let mustFlush = durable || options.alwaysDurable
        let finish: (Errno?) -> Void =
            mustFlush
            ? { [self] errno in
                if let errno { completion(errno) } else { flush(id, completion) }
            } : completion
        if let volume = enterAtOnce(id) {
            return writeEntered(volume, offset, count, buffer, bufferOffset, finish)
        }
        whenReady(id) { [self] volume, errno in
            guard let volume else { return finish(errno) }
            enter(volume) { [self] in writeEntered(volume, offset, count, buffer, bufferOffset, finish) }
        }
    }

    /// The volume, entered, when nothing has to be waited for: nearly always, and without a closure that waits.
    private func enterAtOnce(_ id: VolumeId) -> VolumeState? {
        guard let volume = volume(id), volume.phase == .ready, !volume.gateClosed else { return nil }
        volume.lastUse = clock.now
        volume.writesInFlight += 1
        return volume
    }

    private func writeEntered(
        _ volume: VolumeState, _ offset: UInt64, _ count: Int, _ buffer: Buffer, _ bufferOffset: Int,
        _ completion: @escaping (Errno?) -> Void
    ) {
        let finish: (Errno?) -> Void = { [self] errno in
            leave(volume)
            completion(errno)
        }
        // Here, because a shrink may have been waited for.
        guard offset + UInt64(count) <= volume.size else { return finish(.fileTooBig) }
        let first = offset / UInt64(objectSize)
        let last = (offset + UInt64(count) - 1) / UInt64(objectSize)
        if first == last {
            return writeObject(
                volume, UInt32(first), Int(offset % UInt64(objectSize)), count, buffer, bufferOffset, finish)
        }
        let join = Join(Int(last - first + 1), finish)
        var done = 0
        while done < count {
            let position = offset + UInt64(done)
            let within = Int(position % UInt64(objectSize))
            let length = min(count - done, objectSize - within)
            writeObject(
                volume, UInt32(position / UInt64(objectSize)), within, length, buffer, bufferOffset + done, join.arrive)
            done += length
        }
    }

    func writeObject(
        _ volume: VolumeState, _ index: UInt32, _ offset: Int, _ count: Int, _ buffer: Buffer, _ bufferOffset: Int,
        _ completion: @escaping (Errno?) -> Void
    ) {
        let first = offset / blockSize
        let blocks = BlockRange(first: first, count: (offset + count + blockSize - 1) / blockSize - first)
        let isAligned = offset % blockSize == 0 && count % blockSize == 0
        lock(volume, index, blocks, exclusive: true, failed: completion) { [self] object, ticket in
            let finish: (Errno?) -> Void = { errno in
                object.unlock(ticket)
                completion(errno)
            }
            if isAligned && bufferOffset % blockSize == 0 {
                let payload = Payload(
                    buffer: buffer, firstBlock: bufferOffset / blockSize, blockCount: blocks.count)
                buffer.computeChecksums(payload.firstBlock..<payload.firstBlock + payload.blockCount)
                return send(volume, object, blocks, payload, keepAsZero: false, finish)
            }
            // Whole blocks only beyond this point: what the write does not cover is read first, under the same lock.
            let whole = pool.buffer(blocks.byteCount)
            let assemble: (Errno?) -> Void = { [self] errno in
                if let errno { return finish(errno) }
                (whole.bytes + (offset - blocks.byteOffset)).copyMemory(
                    from: buffer.bytes + bufferOffset, byteCount: count)
                whole.computeChecksums(0..<blocks.count)
                send(
                    volume, object, blocks, Payload(buffer: whole, firstBlock: 0, blockCount: blocks.count),
                    keepAsZero: false, finish)
            }
            let headIsPartial = offset % blockSize != 0
            let tailIsPartial = (offset + count) % blockSize != 0
            guard headIsPartial || tailIsPartial else { return assemble(nil) }
            if blocks.count <= 2 {
                return readBlocks(volume, object, volume.path, blocks, into: whole, at: 0, assemble)
            }
            let parts = (headIsPartial ? 1 : 0) + (tailIsPartial ? 1 : 0)
            let join = Join(parts, assemble)
            if headIsPartial {
                readBlocks(
                    volume, object, volume.path, BlockRange(first: blocks.first, count: 1), into: whole, at: 0,
                    join.arrive)
            }
            if tailIsPartial {
                readBlocks(
                    volume, object, volume.path, BlockRange(first: blocks.end - 1, count: 1), into: whole,
                    at: (blocks.count - 1) * blockSize, join.arrive)
            }
        }
    }

    /// Calls `body` with the object prepared and the blocks locked: they are unlocked by the ticket.
    func lock(
        _ volume: VolumeState, _ index: UInt32, _ blocks: BlockRange, exclusive: Bool,
        failed: @escaping (Errno?) -> Void, _ body: @escaping (ObjectState, BlockLocks.Ticket) -> Void
    ) {
        // Nearly always nothing has to be waited for (see whenPrepared), and no closure is made.
        if !volume.isRemoved, runningAdoptions.isEmpty {
            let object = object(volume, index)
            if object.isPrepared { return lockPrepared(object, blocks, exclusive: exclusive, body) }
        }
        whenPrepared(volume, index, failed: failed) { [self] object in
            lockPrepared(object, blocks, exclusive: exclusive, body)
        }
    }

    /// Calls `body` when the object's copies in S are equal; waits for the map to change where that cannot be.
    func whenPrepared(
        _ volume: VolumeState, _ index: UInt32, failed: @escaping (Errno?) -> Void,
        _ body: @escaping (ObjectState) -> Void
    ) {
        if volume.isRemoved { return failed(.stale) }
        if !runningAdoptions.isEmpty, isAdopting(volume, ObjectId(volume.id, index).range) {
            adoptionWaiters.append { [self] in whenPrepared(volume, index, failed: failed, body) }
            return
        }
        let object = object(volume, index)
        guard !object.isPrepared else { return body(object) }
        let wakeUps = wakeUps
        prepare(volume, object) { [self] errno in
            if errno == nil || object.isPrepared { return body(object) }
            rereadMembers(volume, object) { [self] isUnreadable in
                if !object.slots.contains(where: { $0.isMember && $0.status == .complete }),
                    learnAnew(
                        volume,
                        { [self] in
                            mapSettled(volume)
                            whenPrepared(volume, index, failed: failed, body)
                            wakeWaiters()
                        })
                {
                    return
                }
                if options.errorWhenUnavailable || isUnreadable || isLost(volume, object) {
                    return failed(.inputOutput)
                }
                // Somebody has learnt more meanwhile, and has woken those who waited then.
                if self.wakeUps != wakeUps { return whenPrepared(volume, index, failed: failed, body) }
                mapWaiters.append { [self] in whenPrepared(volume, index, failed: failed, body) }
            }
        }
    }

    private func lockPrepared(
        _ object: ObjectState, _ blocks: BlockRange, exclusive: Bool,
        _ body: @escaping (ObjectState, BlockLocks.Ticket) -> Void
    ) {
        if let ticket = object.locks.acquire(blocks, exclusive: exclusive) { return body(object, ticket) }
        object.locks.wait(blocks, exclusive: exclusive) { ticket in body(object, ticket) }
    }

    /// Gives the next version and sends to every target. The blocks are locked by the caller.
    func send(
        _ volume: VolumeState, _ object: ObjectState, _ blocks: BlockRange, _ payload: Payload?, keepAsZero: Bool,
        _ completion: @escaping (Errno?) -> Void
    ) {
        if volume.isRemoved { return completion(.stale) }
        if object.isPaused {
            object.pausedWrites.append { [self] in
                send(volume, object, blocks, payload, keepAsZero: keepAsZero, completion)
            }
            return
        }
        if object.slotsEpoch != epoch.rawValue { refreshSlots(volume, object) }
        // Room first: ENOSPC is answered before any copy has changed.
        if payload != nil, let errno = admit(volume, object, blocks) { return completion(errno) }
        let version = object.version.following(in: volume.term)
        let request = CopyWrite(
            authority: Authority(epoch: epoch, term: volume.term), object: object.id,
            generation: volume.path.top, previous: object.version, version: version, blocks: blocks, payload: payload,
            keepAsZero: keepAsZero)
        object.version = version
        volume.allocated?.isOld = true
        if volume.summaries.updateValue(
            ObjectSummary(version: version, isUniform: object.isPrepared), forKey: object.id.index) == nil
        {
            volume.sortedIndices = nil
            // Nobody had anything of it: who gets its first write has all of it, also outside S.
            for slot in object.slots where slot.status == .complete && !slot.isMember {
                setStatus(volume, object.id.index, slot.channel.store, .complete)
            }
        }
        let operation = WriteOperation(object: object, request: request, completion: completion)
        object.inFlight.append(operation)
        dispatch(volume, operation)
    }

    /// Nil when enough targets have room. One that has none is marked suspect for this object, durably by its own write
    /// path, so that the others go on; the volume is full when too few are left.
    private func admit(_ volume: VolumeState, _ object: ObjectState, _ blocks: BlockRange) -> Errno? {
        var room = 0
        for slot in object.slots where slot.status == .complete {
            if slot.channel.admits(object.id, volume.path.top, blocks) { room += 1 }
        }
        let complete = object.slots.reduce(0) { $0 + ($1.status == .complete ? 1 : 0) }
        return room < min(complete, minimumCopies(volume)) ? .noSpace : nil
    }

    private func dispatch(_ volume: VolumeState, _ operation: WriteOperation) {
        let object = operation.object
        operation.isParked = false
        operation.completeCopies = 0
        operation.failed.removeAll()
        operation.damaged.removeAll()
        operation.pending.removeAll(keepingCapacity: true)
        var request = operation.request
        request.authority.epoch = epoch
        let slots = object.slots
        for slot in slots where slot.takesWrites { operation.pending.append(slot.channel.store) }
        for slot in slots where slot.takesWrites {
            let store = slot.channel.store
            if request.payload != nil, !slot.channel.admits(object.id, request.generation, request.blocks) {
                // No room there: that copy is given up for this object, durably, before the write is acknowledged.
                slot.channel.markSuspect(object.id) { [self] failure in
                    answered(volume, operation, store, .failure(failure ?? .full))
                }
                continue
            }
            volume.applied(store)
            slot.channel.write(request) { [self] result in answered(volume, operation, store, result) }
        }
        if operation.pending.isEmpty { settle(volume, operation) }
    }

    /// A write on its way reaches stores, too, that were not there when it was sent: before it is acknowledged.
    func send(_ volume: VolumeState, _ operation: WriteOperation, alsoTo stores: [StoreId]) {
        if operation.isParked { return dispatch(volume, operation) }
        var request = operation.request
        request.authority.epoch = epoch
        for slot in operation.object.slots where slot.takesWrites && stores.contains(slot.channel.store) {
            let store = slot.channel.store
            guard !operation.pending.contains(store) else { continue }
            operation.failed.removeAll { $0 == store }
            operation.pending.append(store)
            volume.applied(store)
            slot.channel.write(request) { [self] result in answered(volume, operation, store, result) }
        }
    }

    private func answered(
        _ volume: VolumeState, _ operation: WriteOperation, _ store: StoreId, _ result: Result<CopyWritten, CopyFailure>
    ) {
        guard let position = operation.pending.firstIndex(of: store) else { return }
        operation.pending.remove(at: position)
        switch result {
        case .success(let written):
            if written.isComplete { operation.completeCopies += 1 }
            if Saboteur.isOn(.ackEarly), operation.completion != nil { finish(volume, operation, nil) }
        case .failure(.behind), .failure(.full):
            setStatus(volume, operation.object.id.index, store, .unverified)
            onCopyBehind(operation.object.id, store)
        case .failure(.damaged): operation.damaged.append(store)
        case .failure(.dead(let reason)):
            operation.failed.append(store)
            reportFailure(store, reason)
        case .failure(.staleEpoch), .failure(.silent):
            operation.failed.append(store)  // sent again when the new map is here
        case .failure(.staleTerm) where leases != nil:
            outdated(volume)
            return finish(volume, operation, .stale)
        case .failure(.staleTerm):
            return finish(volume, operation, .inputOutput)
        }
        if operation.pending.isEmpty { settle(volume, operation) }
    }

    /// All targets have answered: acknowledge, or wait for the map to change.
    private func settle(_ volume: VolumeState, _ operation: WriteOperation) {
        guard operation.completion != nil else { return }
        if !operation.damaged.isEmpty { return settleDamaged(volume, operation) }
        let stillUp =
            !operation.failed.isEmpty
            && operation.failed.contains { catalog.state.map.store($0)?.status == .up }
        if !stillUp, !operation.object.lacksMember, operation.completeCopies >= minimumCopies(volume) {
            return finish(volume, operation, nil)
        }
        operation.isParked = true
        if volume.isRemoved { return finish(volume, operation, .stale) }
        for granted in operation.object.locks.yield(operation.request.blocks) { granted() }
        if !stillUp, options.errorWhenUnavailable { return finish(volume, operation, .inputOutput) }
        settled(operation.object)
    }

    /// Copies that could not take the write, because their headers cannot be read: where another copy has it, they are
    /// suspect, durably, before it is acknowledged. Where none has, they are all that there is, and nothing is.
    private func settleDamaged(_ volume: VolumeState, _ operation: WriteOperation) {
        let id = operation.object.id
        let damaged = operation.damaged
        operation.damaged = []
        for store in damaged {
            setStatus(volume, id.index, store, .unverified)
            onCopyBehind(id, store)
        }
        guard operation.completeCopies > 0 else { return settle(volume, operation) }
        operation.pending += damaged
        for store in damaged {
            guard let channel = channel(store) else {
                answered(volume, operation, store, .failure(.dead("it has left")))
                continue
            }
            channel.markSuspect(id) { [self] failure in
                answered(volume, operation, store, .failure(failure ?? .behind))
            }
        }
    }

    /// Runs what waits for this object's writes to have been answered or parked.
    func settled(_ object: ObjectState) {
        guard !object.whenIdle.isEmpty, object.inFlight.allSatisfy(\.isParked) else { return }
        let actions = object.whenIdle
        object.whenIdle = []
        for action in actions { action() }
    }

    /// Something has changed for this object: parked writes are sent again, in order. What a copy has, it answers as applied.
    func reconsider(_ volume: VolumeState, _ object: ObjectState) {
        if volume.isRemoved {
            for operation in object.inFlight where operation.isParked { finish(volume, operation, .stale) }
            return
        }
        for operation in object.inFlight where operation.isParked { dispatch(volume, operation) }
    }

    /// All writes of the object that are on their way end like this.
    func endWrites(_ volume: VolumeState, _ object: ObjectState, _ errno: Errno) {
        for operation in object.inFlight { finish(volume, operation, errno) }
    }

    private func finish(_ volume: VolumeState, _ operation: WriteOperation, _ errno: Errno?) {
        guard let completion = operation.completion else { return }
        operation.completion = nil
        let object = operation.object
        if let index = object.inFlight.firstIndex(where: { $0 === operation }) { object.inFlight.remove(at: index) }
        completion(errno)
        settled(object)
    }

    /// Lets a write in, or keeps it waiting while the gate is closed for a snapshot.
    func enter(_ volume: VolumeState, _ action: @escaping () -> Void) {
        if volume.gateClosed {
            volume.gatedWrites.append { [self] in enter(volume, action) }
        } else {
            volume.writesInFlight += 1
            action()
        }
    }

    func leave(_ volume: VolumeState) {
        volume.writesInFlight -= 1
        guard volume.writesInFlight == 0, !volume.whenDrained.isEmpty else { return }
        let actions = volume.whenDrained
        volume.whenDrained = []
        for action in actions { action() }
    }

    /// See `VolumeService.flush`. A store counts as flushed up to what it had applied when the flush was sent.
    package func flush(_ id: VolumeId, _ completion: @escaping (Errno?) -> Void) {
        statistics.flushes += 1
        guard let volume = volumes[id] else { return completion(nil) }
        let dirty = volume.stores.filter { $0.applied > $0.flushed }
            .prefix(Saboteur.isOn(.flushForgetsStores) ? 1 : .max)
        guard !dirty.isEmpty else { return flushed(volume, completion) }
        let join = Join(dirty.count) { [self] _ in flushed(volume, completion) }
        for mark in dirty { flush(volume, mark.store, mark.applied) { join.arrive(nil) } }
    }

    /// Ends when the store has flushed, or has left durably: what it had is on the others then.
    private func flush(
        _ volume: VolumeState, _ store: StoreId, _ applied: UInt64, _ done: @escaping () -> Void
    ) {
        guard isUp(store) else {
            volume.hasLostStore = true
            volume.flushed(store, upTo: applied)
            return done()
        }
        let again = { [self] in flush(volume, store, applied, done) }
        guard let channel = channel(store) else { return mapWaiters.append(again) }
        channel.flush { [self] failure in
            guard let failure else {
                volume.flushed(store, upTo: applied)
                return done()
            }
            if case .dead(let reason) = failure { reportFailure(store, reason) }
            // It leaves, or comes back on another connection.
            let isThere = self.channel(store).map { $0 === channel } ?? true
            if isUp(store), isThere { mapWaiters.append(again) } else { again() }
        }
    }

    /// Every store has flushed or left. Where one has left, the others must have what it had.
    private func flushed(_ volume: VolumeState, _ completion: @escaping (Errno?) -> Void) {
        guard volume.hasLostStore, !volume.isRemoved, volume.phase == .ready else { return completion(nil) }
        let bare = volume.indices().first { index in
            let id = ObjectId(volume.id, index)
            return !targets(volume, id.range).contains { isUp($0) && isComplete(id, on: $0) }
        }
        guard let bare else {
            volume.hasLostStore = false
            return completion(nil)
        }
        if options.errorWhenUnavailable || isLost(volume, object(volume, bare)) { return completion(.inputOutput) }
        mapWaiters.append { [self] in flushed(volume, completion) }
    }
    private func isUp(_ store: StoreId) -> Bool { catalog.state.map.store(store)?.status == .up }

    /// Runs when the store is no longer up in the map.
    func whenExcluded(_ store: StoreId, _ action: @escaping () -> Void) {
        guard catalog.state.map.store(store)?.status == .up else { return action() }
        exclusionWaiters.append((store, action))
    }
}

/// Calls back when `count` things have arrived, with the first error among them.
final class Join {
    private var left: Int
    private var errno: Errno?
    private let completion: (Errno?) -> Void

    init(_ count: Int, _ completion: @escaping (Errno?) -> Void) {
        left = count
        self.completion = completion
    }

    func arrive(_ errno: Errno?) {
        if self.errno == nil { self.errno = errno }
        left -= 1
        if left == 0 { completion(self.errno) }
    }
}
