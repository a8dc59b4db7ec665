// Brings durable blocks into their object files, and removes files whose removal is durable. Strictly write-ahead:
// a block goes to its file only after its record is durable; until it is there it is read from memory.
import Model

/// A file that is to go when the record of its removal is durable.
struct Grave {
    let key: FileKey
    let sheet: Sheet?
    let lsn: UInt64
    let isQuarantine: Bool
}

/// Blocks that go to their files together.
private final class ApplyRound {
    /// The blocks of one file that are to go; its memory serves all of them.
    var found: [(block: Int, item: OverlayBlock)] = []
    var items: [(sheet: Sheet, block: Int, lsn: UInt64)] = []
    var sheets: [Sheet] = []
    var writes: [FileWrite] = []
    var punches: [DiskOperation] = []
    /// Of `writes` and of `punches`: their items.
    var written: [Range<Int>] = []
    var punched: [Range<Int>] = []
    /// Items that are in their files.
    var done: [Range<Int>] = []
    var left = 0
    /// Each write is an operation of its own.
    var isSingle = false
    var isOutOfSpace = false
    var failure: Errno?
}

extension ObjectStore {
    private static let roundBlocks = 4096

    /// There are durable blocks: they go to their files with those of the next milliseconds, because each round costs a
    /// hand-over to the disk's thread and one back; at once where something waits for them, or they are many.
    func applySoon() {
        if isFull || whenApplied != nil || checkpoint?.phase == .apply
            || overlayBytes >= configuration.memoryLimitBytes / 8
        {
            return applyDurable()
        }
        guard !isApplyArmed, !isDead, !overlaySheets.isEmpty else { return }
        isApplyArmed = true
        clock.after(milliseconds: configuration.applyDelayMilliseconds) { [weak self] in
            guard let self else { return }
            isApplyArmed = false
            applyDurable()
        }
    }

    /// One round at a time, so that two writes of a block can never pass each other.
    func applyDurable() {
        guard !isApplying, !isDead, !overlaySheets.isEmpty else { return }
        let round = ApplyRound()
        let durable =
            configuration.applyBeforeDurable || Saboteur.isOn(.applyBeforeDurable) ? UInt64.max : journal.durableLsn
        for key in overlaySheets.keys.sorted() where isFull || round.items.count < ObjectStore.roundBlocks {
            collect(overlaySheets[key]!, durable, into: round)
        }
        guard !round.items.isEmpty else { return }
        isApplying = true
        round.isSingle = isFull
        // On a full disk each write stands for itself: those that need no space go on.
        let batches: [(writes: [FileWrite], items: [Range<Int>])] =
            isFull
            ? zip(round.writes, round.written).map { ([$0], [$1]) }
            : round.writes.isEmpty ? [] : [(round.writes, round.written)]
        round.left = round.punches.count + batches.count
        for batch in batches {
            disk.submit(.write(batch.writes)) { [self] result in finish(round, result, batch.items) }
        }
        for (punch, items) in zip(round.punches, round.punched) {
            disk.submit(punch) { [self] result in
                // Nothing to deallocate, or a file system that cannot: the space stays, the data is not read.
                if case .failure(let errno) = result, errno == .notSupported || errno == .noEntry {
                    finish(round, .success(.done), [items])
                } else {
                    finish(round, result, [items])
                }
            }
        }
    }

    /// Adds the durable blocks of one file to the round: one write or punch for each run of neighbours.
    private func collect(_ sheet: Sheet, _ durable: UInt64, into round: ApplyRound) {
        round.found.removeAll(keepingCapacity: true)
        for (block, item) in sheet.overlay where item.lsn <= durable { round.found.append((block, item)) }
        guard !round.found.isEmpty else { return }
        if round.found.count > 1 { round.found.sort { $0.block < $1.block } }
        pin(sheet)
        round.sheets.append(sheet)
        var at = 0
        while at < round.found.count {
            let firstItem = round.items.count
            let first = round.found[at].block
            let isData = round.found[at].item.buffer != nil
            var end = at
            var slices: [BufferSlice] = []
            while end < round.found.count, round.found[end].block == first + (end - at) {
                let item = round.found[end].item
                guard (item.buffer != nil) == isData else { break }
                if let buffer = item.buffer {
                    guard (end - at + 1) * blockSize <= disk.maximumBufferedWrite || end == at else { break }
                    if let last = slices.last, last.buffer === buffer, last.offset + last.count == item.offset {
                        slices[slices.count - 1] = BufferSlice(
                            buffer, offset: last.offset, count: last.count + blockSize)
                    } else {
                        slices.append(BufferSlice(buffer, offset: item.offset, count: blockSize))
                    }
                }
                round.items.append((sheet, first + (end - at), item.lsn))
                end += 1
            }
            let offset = UInt64(Sheet.dataOffset + first * blockSize)
            if isData {
                round.writes.append(FileWrite(file: sheet.key.storeFile, offset: offset, slices: slices))
                round.written.append(firstItem..<round.items.count)
            } else {
                round.punches.append(
                    .punch(sheet.key.storeFile, offset: offset, count: UInt64((end - at) * blockSize)))
                round.punched.append(firstItem..<round.items.count)
            }
            at = end
        }
    }

    private func finish(_ round: ApplyRound, _ result: Result<DiskOutcome, Errno>, _ items: [Range<Int>]) {
        switch result {
        case .success: round.done += items
        case .failure(.noSpace): round.isOutOfSpace = true
        case .failure(let errno): round.failure = errno
        }
        round.left -= 1
        if round.left == 0, !isDead { applied(round) }
    }

    private func applied(_ round: ApplyRound) {
        isApplying = false
        for sheet in round.sheets where !sheet.isRemoved { unsyncedFiles.insert(sheet.key) }
        if let failure = round.failure { return die(.io(failure)) }
        for range in round.done {
            for (sheet, block, lsn) in round.items[range] {
                // Another write may have covered the block meanwhile.
                guard let at = sheet.overlay.index(forKey: block), sheet.overlay.values[at].lsn == lsn else { continue }
                if sheet.overlay.remove(at: at).value.buffer != nil { overlayBytes -= blockSize }
                if sheet.overlay.isEmpty { overlaySheets[sheet.key] = nil }
            }
        }
        if round.isOutOfSpace { shortages.insert(.blocks) } else { shortages.remove(.blocks) }
        for sheet in round.sheets { unpin(sheet) }
        bury()
        if round.isOutOfSpace { applyLater() }
        giveRoom()
        advanceCheckpoint()
        // The first time out of space: again at once, each write for itself.
        if !round.isOutOfSpace || !round.isSingle { applySoon() }
        if !isApplying, round.isOutOfSpace || overlaySheets.isEmpty, let action = whenApplied {
            whenApplied = nil
            action()
        }
    }

    /// The disk is full: tries again in a while.
    func applyLater() {
        guard !isApplyRetryArmed else { return }
        isApplyRetryArmed = true
        clock.after(milliseconds: 500) { [weak self] in
            guard let self else { return }
            isApplyRetryArmed = false
            guard !isDead else { return }
            // A direct write finds out anew.
            shortages.remove(.direct)
            if overlaySheets.isEmpty { shortages.remove(.blocks) }
            giveRoom()
            applyDurable()
        }
    }

    // MARK: Removal of files

    /// Removes (or sets aside) the files whose removal is durable and that nobody uses any more.
    func bury() {
        guard !isBurying, !isDead else { return }
        let ready = graves.filter { $0.lsn <= journal.durableLsn && ($0.sheet?.pins ?? 0) == 0 }
        guard !ready.isEmpty else { return }
        isBurying = true
        var left = ready.count
        let done = { [self] (result: Result<DiskOutcome, Errno>, count: Int) in
            guard !isDead else { return }
            if case .failure(let errno) = result { return die(.io(errno)) }
            left -= count
            guard left == 0 else { return }
            isBurying = false
            let gone = Set(ready.map(\.key))
            graves.removeAll { gone.contains($0.key) }
            advanceCheckpoint()
            bury()
        }
        let plain = ready.filter { !$0.isQuarantine }
        if !plain.isEmpty {
            disk.submit(.remove(plain.map { $0.key.storeFile }.sorted(by: ObjectStore.isBefore), syncDirectory: true)) {
                done($0, plain.count)
            }
        }
        for grave in ready where grave.isQuarantine {
            disk.submit(
                .rename(grave.key.storeFile, to: .quarantine(grave.key.object, Generation(grave.key.file)))
            ) { result in
                if case .failure(.noEntry) = result { return done(.success(.done), 1) }
                done(result, 1)
            }
        }
    }
    private static func isBefore(_ a: StoreFile, _ b: StoreFile) -> Bool {
        guard case .object(let x, let m) = a, case .object(let y, let n) = b else { return false }
        return x == y ? m < n : x < y
    }

    /// Takes a file out of memory and plans its removal.
    func doom(_ key: FileKey, lsn: UInt64, isQuarantine: Bool) {
        let sheet = sheets.removeValue(forKey: key)
        if let sheet {
            sheet.isRemoved = true
            sheet.mutations += 1
            unlist(sheet)
            for block in sheet.overlay.values where block.buffer != nil { overlayBytes -= blockSize }
            sheet.overlay = [:]
            overlaySheets[key] = nil
            dirtySheets[key] = nil
            sheet.isDirty = false
        }
        mutations += 1
        unsyncedFiles.remove(key)
        views.drop(key.object)
        graves.append(Grave(key: key, sheet: sheet, lsn: lsn, isQuarantine: isQuarantine))
    }
}
