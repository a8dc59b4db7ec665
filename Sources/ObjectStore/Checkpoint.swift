// Checkpoints: headers and index go to their places, so that journal segments can be used again. New writes go on
// meanwhile; a checkpoint never waits for anything that waits for it.
//
// Why one sync of data and headers together is enough: the replay starts at `startLsn` of a *completed* checkpoint,
// taken before the first header was written. Records state absolute values. A header that already contains the
// effects of a prefix of the records that are replayed over it therefore ends as if it did not: every field that a
// replayed record assigns gets the last one's value, all others are as they were at `startLsn`. So a header (or data)
// of a checkpoint that never completed does no harm, as long as every record whose effect it contains is durable
// before it is written: hence the barriers. The last completed checkpoint's header is in the other slot, untouched.
import Model

final class CheckpointRun {
    enum Phase { case barrier, apply, headers, sync, graves, image, writing }
    let number: UInt32
    /// The records below are in headers and image when the checkpoint completes.
    let startLsn: UInt64
    var phase = Phase.barrier
    /// Sheets that still need their header written, descending, so that the next one is the last.
    var todo: [Sheet]
    /// Sheets whose header was written.
    var written: [Sheet] = []
    /// Headers that were taken and are not durable yet.
    var unsyncedCount = 0
    var volumes: [UInt32] = []
    var indices: [UInt32] = []
    var builder: IndexImageBuilder?

    init(number: UInt32, startLsn: UInt64, todo: [Sheet]) {
        self.number = number
        self.startLsn = startLsn
        self.todo = todo
    }
}

extension ObjectStore {
    private static let headersAtOnce = 256
    private static let entriesAtOnce = 16_384
    private static let filesAtOnce = 256

    /// Starts a checkpoint when the journal or the memory for headers runs short; otherwise sets the timer.
    func checkpointIfNeeded() {
        guard isOpen, checkpoint == nil else { return }
        let short = journal.availableSegments < max(2, journal.segmentLimit / 2)
        let helps = (journal.segments.dropFirst().first?.firstLsn ?? .max) <= journal.nextLsn
        if dirtySheets.count >= configuration.dirtyHeaderLimit || (short && helps) {
            later { [self] in startCheckpoint() }
            return
        }
        guard !isCheckpointTimerArmed else { return }
        isCheckpointTimerArmed = true
        clock.after(milliseconds: configuration.checkpointIntervalMilliseconds) { [weak self] in
            guard let self else { return }
            isCheckpointTimerArmed = false
            if isOpen, !dirtySheets.isEmpty || journal.nextLsn > startLsn { startCheckpoint() }
        }
    }

    func startCheckpoint() {
        guard !isDead, checkpoint == nil, superblock != nil else { return }
        let todo = dirtySheets.keys.sorted(by: >).map { dirtySheets[$0]! }
        // Never a number that a header may have, or an old header could pass for a new one. Odd and even alternate,
        // so that the image goes where the older one is.
        var number = max(lastCheckpoint, highestStamp) + 1
        if number & 1 == lastCheckpoint & 1 { number += 1 }
        highestStamp = number
        let run = CheckpointRun(number: number, startLsn: journal.nextLsn, todo: todo)
        checkpoint = run
        for sheet in todo { pin(sheet) }
        stagedBarrier { [self] result in
            guard case .success = result, checkpoint === run else { return }
            run.phase = .apply
            applyDurable()
            advanceCheckpoint()
        }
    }

    /// Called whenever something that a checkpoint may wait for has happened.
    func advanceCheckpoint() {
        guard let run = checkpoint, !isDead else { return }
        if run.phase == .apply {
            for sheet in overlaySheets.values {
                for block in sheet.overlay.values where block.lsn < run.startLsn { return }
            }
            run.phase = .headers
            writeHeaders(run)
        } else if run.phase == .graves {
            if graves.contains(where: { $0.lsn < run.startLsn }) { return }
            run.phase = .image
            run.volumes = index.volumes().reversed()
            run.builder = IndexImageBuilder(
                checkpoint: run.number, store: storeId, startLsn: run.startLsn,
                nextSequence: (journal.segments.last?.sequence ?? 0) + 1, index: index)
            buildImage(run)
        }
    }

    /// Headers as they are now, once every record that made them so is durable.
    private func writeHeaders(_ run: CheckpointRun) {
        var batch: [(sheet: Sheet, write: FileWrite)] = []
        while batch.count < ObjectStore.headersAtOnce, let sheet = run.todo.popLast() {
            if sheet.isRemoved || sheet.isDamaged {
                sheet.isDirty = false
                dirtySheets[sheet.key] = nil
                unpin(sheet)
                continue
            }
            let buffer = pool.buffer(Sheet.dataOffset)
            let entry = index[sheet.key.object]
            sheet.encode(
                to: buffer.bytes, store: storeId, stamp: run.number,
                state: (entry?.state ?? .suspect).rawValue, copyVersion: entry?.version ?? 0)
            sheet.isDirty = false
            dirtySheets[sheet.key] = nil
            let slot = sheet.isOfReplay ? 0 : 1 - sheet.durableSlot
            let header = BufferSlice(buffer, offset: 0, count: Sheet.slotBytes)
            batch.append(
                (
                    sheet,
                    FileWrite(
                        file: sheet.key.storeFile, offset: UInt64(slot * Sheet.slotBytes),
                        slices: sheet.isOfReplay ? [header, header] : [header])
                ))
        }
        run.unsyncedCount += batch.count
        guard !batch.isEmpty else {
            run.phase = .sync
            let files = unsyncedFiles.sorted()
            unsyncedFiles = []
            return syncFiles(run, files[...])
        }
        stagedBarrier { [self] result in
            guard case .success = result else { return }
            // A file that was removed meanwhile must not come back.
            let alive = batch.filter { !$0.sheet.isRemoved }
            for item in batch where item.sheet.isRemoved { unpin(item.sheet) }
            if alive.isEmpty { return writeHeaders(run) }
            disk.submit(.write(alive.map(\.write))) { [self] result in
                guard !isDead else { return }
                run.written += alive.map(\.sheet)
                if case .failure(let errno) = result { return abort(run, errno) }
                for item in alive where !item.sheet.isRemoved { unsyncedFiles.insert(item.sheet.key) }
                writeHeaders(run)
            }
        }
    }

    private func syncFiles(_ run: CheckpointRun, _ files: ArraySlice<FileKey>) {
        if files.isEmpty {
            for sheet in run.written where !sheet.isRemoved {
                sheet.stamp = run.number
                sheet.durableSlot = 1 - sheet.durableSlot
                sheet.isOfReplay = false
                index.updateFile(sheet.key) { $0.stamp = run.number }
            }
            unpinWritten(run)
            run.unsyncedCount = 0
            run.phase = .graves
            // Removals before the start must be done, or their files would stay for ever after a crash.
            bury()
            giveRoom()
            advanceCheckpoint()
            return
        }
        let batch = files.prefix(ObjectStore.filesAtOnce)
        disk.submit(.sync(batch.map(\.storeFile))) { [self] result in
            guard !isDead else { return }
            if case .failure(let errno) = result { return die(.io(errno)) }
            syncFiles(run, files.dropFirst(batch.count))
        }
    }

    /// Adds some entries to the image and lets others work, until all are in.
    private func buildImage(_ run: CheckpointRun) {
        var added = 0
        while added < ObjectStore.entriesAtOnce {
            if let item = run.indices.popLast() {
                let object = ObjectId(VolumeId(run.volumes.last!), item)
                if let entry = index[object] { run.builder!.add(object.rawValue, entry) }
                added += 1
                if run.indices.isEmpty { run.volumes.removeLast() }
            } else if let volume = run.volumes.last {
                run.indices = index.indices(of: volume).reversed()
                if run.indices.isEmpty { run.volumes.removeLast() }
            } else {
                return writeImage(run)
            }
        }
        later { [self] in if !isDead { buildImage(run) } }
    }

    private func writeImage(_ run: CheckpointRun) {
        run.phase = .writing
        // All that the entries say is durable before the image is: a start that finds less of the journal must not believe
        // versions whose blocks it has not seen.
        let bytes = run.builder!.finish(durableLsn: journal.nextLsn - 1)
        run.builder = nil
        stagedBarrier { [self] result in
            guard case .success = result else { return }
            disk.submit(.replace(.index(UInt8(run.number & 1)), contents: bytes)) { [self] result in
                guard !isDead else { return }
                if case .failure(let errno) = result { return abort(run, errno) }
                completed(run)
            }
        }
    }

    private func completed(_ run: CheckpointRun) {
        checkpoint = nil
        counters.checkpoints += 1
        shortages.remove(.checkpoint)
        lastCheckpoint = run.number
        // The older image must stay usable until the next one is written: its part of the journal is kept too.
        previousStartLsn = startLsn
        startLsn = run.startLsn
        journal.recycle(below: previousStartLsn)
        let waiters = checkpointWaiters
        checkpointWaiters = []
        for waiter in waiters { waiter(.success(())) }
        checkpointIfNeeded()
    }

    private func unpinWritten(_ run: CheckpointRun) {
        for sheet in run.written { unpin(sheet) }
        run.written = []
    }

    /// Full: a journal segment is given up for the checkpoint; without one everything is as before it, and it is tried
    /// again. Other errors are the end.
    private func abort(_ run: CheckpointRun, _ errno: Errno) {
        guard errno == .noSpace else { return die(.io(errno)) }
        for sheet in run.written + run.todo where !sheet.isRemoved {
            sheet.isDirty = true
            dirtySheets[sheet.key] = sheet
        }
        for sheet in run.todo { unpin(sheet) }
        unpinWritten(run)
        checkpoint = nil
        yieldSpace { [self] hasYielded in
            if hasYielded { return startCheckpoint() }
            let waiters = checkpointWaiters
            checkpointWaiters = []
            for waiter in waiters { waiter(.failure(.full)) }
            becomeFull(.checkpoint)
            clock.after(milliseconds: 1000) { [weak self] in self?.startCheckpoint() }
        }
    }
}
