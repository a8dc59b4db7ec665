// Headers in memory: loading them, forgetting clean ones, and the queues of operations that wait for one.
import DequeModule
import Model

/// An operation on one object that waits for its headers, or for an earlier operation on the object.
struct QueuedOperation {
    let ticket: UInt64
    let need: RoomNeed
    /// The files whose headers it needs, as the index is when it runs.
    let files: () -> [UInt32]
    /// Brings data, but needs no space on the disk: it is let in when the disk is full.
    let isOverwrite: () -> Bool
    /// True: the operation goes on after its return, and `finish` will be called.
    let body: () -> Bool
    let fail: (StoreError) -> Void
}

/// The operations on one object that were accepted and are not staged.
struct ObjectQueue {
    var operations: Deque<QueuedOperation> = []
    /// The version that the last of them gives to the copy; the index shows it when it is staged.
    var version: UInt64 = 0
}

extension ObjectStore {
    // MARK: Order of operations on an object

    /// Runs `body` when all earlier operations on `object` are in the journal, the headers of `files` are in memory,
    /// and there is room: at once if so. `version`: the copy's when this is done.
    func perform(
        _ object: ObjectId, need: RoomNeed, version: UInt64 = 0, files: @escaping () -> [UInt32],
        isOverwrite: @escaping () -> Bool = { false }, fail: @escaping StoreCompletion, body: @escaping () -> Bool
    ) {
        let ticket = nextTicket
        nextTicket += 1
        unstaged.append(ticket)
        let operation = QueuedOperation(
            ticket: ticket, need: need, files: files, isOverwrite: isOverwrite, body: body
        ) { fail(.failure($0)) }
        let isFirst = queues[object] == nil
        queues[object, default: ObjectQueue()].operations.append(operation)
        if version > 0 { queues[object]!.version = version }
        if isFirst { advance(object) }
    }

    /// Runs the first operation of the object's queue, and those after it while they need not wait.
    /// `hasWaited`: there is room for the first one, whose turn it is.
    private func advance(_ object: ObjectId, hasWaited: Bool = false) {
        var hasWaited = hasWaited
        while !isDead, let operation = queues[object]?.operations.first {
            for file in operation.files() {
                let key = FileKey(object: object, file: file)
                // A file that is no longer listed was removed after this operation had been accepted.
                if sheets[key] == nil, index.generation(key) != nil {
                    return load(key) { [self] in if !isDead { advance(object) } }
                }
            }
            if !hasWaited, !hasRoom(operation.need) || isFull {
                var refusal: Shortages = operation.need.kind == .data ? .any : []
                if isFull, !refusal.isEmpty, operation.isOverwrite() { refusal = .lasting }
                let isRoom = hasRoom(operation.need)
                if !refusal.isDisjoint(with: shortages), !isRoom || refusal == .any {
                    finishFirst(object)
                    later { operation.fail(.full) }
                    continue
                }
                if !isRoom {
                    return wait(
                        RoomWaiter(need: operation.need, refusal: refusal) { [self] result in
                            if case .success = result { advance(object, hasWaited: true) } else { advance(object) }
                        })
                }
            }
            hasWaited = false
            if operation.body() { return }
            finishFirst(object)
        }
    }
    /// Ends the operation of `object` that went on after its body returned.
    func finish(_ object: ObjectId) {
        guard !isDead, queues[object] != nil else { return }
        finishFirst(object)
        advance(object)
    }
    private func finishFirst(_ object: ObjectId) {
        guard let operation = queues[object]?.operations.popFirst() else { return }
        if queues[object]!.operations.isEmpty { queues[object] = nil }
        staged(operation.ticket)
    }

    private func staged(_ ticket: UInt64) {
        if unstaged.first == ticket {
            unstaged.removeFirst()
        } else if let at = unstaged.firstIndex(of: ticket) {
            unstaged.remove(at: at)
        }
        let floor = unstaged.first ?? .max
        while let waiter = flushWaiters.first, waiter.ticket <= floor {
            flushWaiters.removeFirst()
            // Perhaps all is durable already: an operation may end without a record.
            stagedBarrier(waiter.completion)
        }
    }

    /// The sheet in memory, or a new one for a new file.
    func sheet(_ key: FileKey) -> Sheet? { sheets[key] ?? freshSheet(key) }

    // MARK: Sheets

    /// A new file's header: the index names it, and nothing of it is on disk.
    private func freshSheet(_ key: FileKey) -> Sheet? {
        guard let item = index.generation(key), item.stamp == 0,
            loading[key] == nil
        else { return nil }
        let sheet = Sheet(key: key, generation: Generation(item.generation))
        sheets[key] = sheet
        return sheet
    }

    /// Brings the header of `key` into memory and calls `then`; the header may be damaged, or gone.
    func load(_ key: FileKey, then: @escaping () -> Void) {
        if loading[key] != nil {
            loading[key]!.append(then)
            return
        }
        if sheets[key] != nil || freshSheet(key) != nil { return later(then) }
        guard index.generation(key) != nil else {
            return later(then)
        }
        loading[key] = [then]
        counters.headerLoads += 1
        let buffer = pool.buffer(Sheet.dataOffset)
        disk.submit(
            .read(key.storeFile, offset: 0, buffer: buffer, bufferOffset: 0, count: Sheet.dataOffset)
        ) { [self] result in
            guard !isDead else { return }
            var count = 0
            if case .success(.bytes(let n)) = result { count = n }
            if case .failure(let errno) = result { noteReadFailure(key, errno) }
            // The failure may have been one too many: `stop` has told those that wait.
            guard !isDead else { return }
            if let item = index.generation(key), sheets[key] == nil {
                let sheet = Sheet(key: key, generation: Generation(item.generation))
                // Stamp 0: the file was removed and made again while this read was on its way.
                if item.stamp > 0 { adopt(buffer, count: count, into: sheet, item) }
                sheets[key] = sheet
                if sheet.isDamaged {
                    counters.damagedHeaders += 1
                    // During a replay a later record may still remove the file.
                    if isOpen { noteDamage(key.object) }
                }
                list(sheet)
            }
            let waiters = loading.removeValue(forKey: key) ?? []
            for waiter in waiters { waiter() }
            trimClean()
        }
    }

    /// Takes the newer valid slot. Each must be at least as new as the index says, or the copy would silently age.
    func adopt(_ buffer: Buffer, count: Int, into sheet: Sheet, _ item: IndexGeneration) {
        var best: (slot: Int, stamp: UInt32)?
        var durable: (slot: Int, stamp: UInt32)?
        for slot in 0..<2 where count >= (slot + 1) * Sheet.slotBytes {
            guard
                let facts = Sheet.facts(buffer.bytes + slot * Sheet.slotBytes, key: sheet.key, store: storeId),
                facts.stamp >= item.stamp
            else { continue }
            highestStamp = max(highestStamp, facts.stamp)
            if best == nil || facts.stamp > best!.stamp { best = (slot, facts.stamp) }
            // A higher stamp is of a checkpoint that never ended: perhaps only in the page cache of a killed process.
            // The index takes a stamp over when its header is synced, which is before the checkpoint has ended.
            if facts.stamp <= max(lastCheckpoint, item.stamp), durable == nil || facts.stamp > durable!.stamp {
                durable = (slot, facts.stamp)
            }
        }
        guard let best else {
            sheet.isDamaged = true
            sheet.version = Version(rawValue: item.version)
            return
        }
        sheet.decode(buffer.bytes + best.slot * Sheet.slotBytes)
        sheet.generation = Generation(item.generation)
        sheet.stamp = item.stamp
        sheet.durableSlot = durable?.slot ?? 1 - best.slot
    }

    /// The sheet differs from its header on disk from now on.
    func markDirty(_ sheet: Sheet) {
        mutations += 1
        unlist(sheet)
        guard !sheet.isDirty, !sheet.isRemoved else { return }
        sheet.isDirty = true
        dirtySheets[sheet.key] = sheet
        if isOpen { checkpointIfNeeded() }
    }

    /// Puts a sheet that could be forgotten at the new end of the list.
    func list(_ sheet: Sheet) {
        guard !sheet.isListed, !sheet.isDirty, sheet.pins == 0, sheet.overlay.isEmpty, !sheet.isRemoved else { return }
        sheet.isListed = true
        sheet.older = newestClean
        sheet.newer = nil
        newestClean?.newer = sheet
        newestClean = sheet
        if oldestClean == nil { oldestClean = sheet }
        cleanCount += 1
    }
    func unlist(_ sheet: Sheet) {
        guard sheet.isListed else { return }
        sheet.isListed = false
        let newer = sheet.newer
        let older = sheet.older
        newer?.older = older
        if let older { older.newer = newer } else { oldestClean = newer }
        if newer == nil { newestClean = older }
        sheet.newer = nil
        sheet.older = nil
        cleanCount -= 1
    }
    func touch(_ sheet: Sheet) {
        guard sheet.isListed, sheet.newer != nil else { return }
        unlist(sheet)
        list(sheet)
    }
    func trimClean() {
        while cleanCount > configuration.headerCacheCount, let sheet = oldestClean {
            unlist(sheet)
            sheets[sheet.key] = nil
        }
    }
    func pin(_ sheet: Sheet) {
        sheet.pins += 1
        unlist(sheet)
    }
    func unpin(_ sheet: Sheet) {
        sheet.pins -= 1
        list(sheet)
        trimClean()
    }

    /// Calls `body` with the sheets of the files that `select` names, pinned until it returns. Empty when dead.
    func withSheets(
        _ object: ObjectId, select: @escaping () -> [UInt32], pinned: [Sheet] = [],
        body: @escaping ([Sheet]) -> Void
    ) {
        var found: [Sheet] = []
        for file in select() {
            let key = FileKey(object: object, file: file)
            if isDead { break }
            guard let sheet = sheets[key] else {
                let kept = pinned + found
                for sheet in found { pin(sheet) }
                return load(key) { [self] in withSheets(object, select: select, pinned: kept, body: body) }
            }
            found.append(sheet)
        }
        body(isDead ? [] : found)
        for sheet in pinned { unpin(sheet) }
        for sheet in found { touch(sheet) }
    }
}
