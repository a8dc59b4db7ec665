// The journal's writing side: packs records into appends, switches segments, syncs in groups.
// It never decides what a record means, and never lets a record count as durable before a sync that began
// after its append has returned.
import DequeModule
import Model

final class Journal {
    struct Segment {
        let slot: UInt64
        let sequence: UInt64
        let firstLsn: UInt64
        /// The last record put into it; 0 while it has none.
        var lastLsn: UInt64
        var isUnsynced: Bool
        /// The file is too short: it is made anew before it is used again.
        var isShort = false
    }
    /// A record that waits to be packed. Header and table are encoded in `meta`.
    private struct Staged {
        var record: Record
        let meta: Buffer
        let metaOffset: Int
        /// How many of `stagedSlices` are its payload.
        let sliceCount: Int
        let completion: StoreCompletion?
    }
    private final class Append {
        var completions: [StoreCompletion] = []
        var lastLsn: UInt64 = 0
        var bytes = 0
        var isDone = false
    }

    private let disk: any Disk
    private let clock: any Clock
    private let pool: BufferPool
    private let configuration: StoreConfiguration
    private let store: UInt64
    private let segmentBytes: Int

    private(set) var nextLsn: UInt64 = 1
    private(set) var appendedLsn: UInt64 = 0
    private(set) var durableLsn: UInt64 = 0
    private(set) var unsyncedBytes = 0
    /// Ascending by sequence; the last one is written to.
    private(set) var segments: [Segment] = []
    private var free: [UInt64] = []
    private var nextSequence: UInt64 = 1
    private var creating: UInt64?
    /// The disk was full when the journal wanted to grow; tried again after a while.
    private var isGrowthRefused = false
    private var position = 0
    /// Where the records that are staged will end, and how many segments they will open: the packing, foretold.
    private var plannedPosition = 0
    private var plannedOpens = 0

    private var staged = Deque<Staged>()
    private var stagedSlices = Deque<BufferSlice>()
    private var appends = Deque<Append>()
    private var meta: Buffer
    private var metaUsed = 0
    private var tail: Buffer
    private var tailBytes = 0
    private let zeros: Buffer

    private var isSyncing = false
    /// Appends since the last sync began, and the syncs in a row that were of one append and served a flush: whoever
    /// writes so will flush after the next write too.
    private var unsyncedAppends = 0
    private var flushedAppends = 0
    private var expectsFlush: Bool { flushedAppends >= 2 }
    private var isTimerArmed = false
    /// A sync is wanted at once for everything up to here.
    private var urgentLsn: UInt64 = 0
    private var waiters = Deque<(lsn: UInt64, completion: StoreCompletion)>()
    /// Object files with data that went past the journal; they are synced before it.
    private var directFiles: [StoreFile] = []
    private var isDead = false

    var onDurable: (UInt64) -> Void = { _ in }
    var onSegmentChange: () -> Void = {}
    /// There are more free segments than before.
    var onRoom: () -> Void = {}
    var onError: (Errno) -> Void = { _ in }
    private(set) var appendCount: UInt64 = 0
    private(set) var recordCount: UInt64 = 0
    private(set) var syncCount: UInt64 = 0

    init(
        disk: any Disk, clock: any Clock, pool: BufferPool, configuration: StoreConfiguration, store: UInt64,
        segmentBytes: Int
    ) {
        self.disk = disk
        self.clock = clock
        self.pool = pool
        self.configuration = configuration
        self.store = store
        self.segmentBytes = segmentBytes
        meta = pool.buffer(65536)
        tail = pool.buffer(blockSize)
        zeros = Buffer(capacity: blockSize)
        zeros.fillZero(0..<blockSize)
    }

    /// Goes on after a replay: `segments` are still needed, `free` are not.
    func resume(segments: [Segment], free: [UInt64], nextSequence: UInt64, nextLsn: UInt64) {
        self.segments = segments
        self.free = free
        self.nextSequence = nextSequence
        self.nextLsn = nextLsn
        appendedLsn = nextLsn - 1
        durableLsn = nextLsn - 1
        position = segmentBytes  // the first record opens a new segment
        plannedPosition = segmentBytes
    }

    private var segmentCount: Int { segments.count + free.count }
    /// Segments that there may be: fewer than configured while the disk is full.
    var segmentLimit: Int {
        isGrowthRefused ? segmentCount : max(segmentCount, configuration.journalMaximumSegments)
    }
    /// Segments that can still be filled after the present one.
    var availableSegments: Int { segmentLimit - segments.count }
    var freeSegments: Int { free.count }

    /// Whether a record of `bytes` certainly finds its place, with `keeping` free segments left. Nothing may be staged
    /// that does not: a checkpoint waits for what is staged, and only a checkpoint frees segments.
    func hasRoom(_ bytes: Int, keeping: Int) -> Bool {
        let opens = plannedOpens + (plannedPosition + bytes > segmentBytes ? 1 : 0)
        return opens == 0 && keeping == 0 || free.count - opens >= keeping
    }
    /// More room is wanted: the journal grows, if it may.
    func grow() { if !isGrowthRefused { createSegment() } }

    /// Gives up one free segment, so that its space serves what matters more. Nil when it needs all it has.
    func yieldSegment() -> UInt64? {
        guard segmentCount > Journal.leastSegments, free.count - plannedOpens > 1 else { return nil }
        isGrowthRefused = true
        retryGrowth()
        return free.removeLast()
    }
    /// One is written to, one can follow, one is kept for records that carry no data.
    static let leastSegments = 3
    /// The largest record that fits.
    var maximumRecordBytes: Int { segmentBytes - SegmentHeader.bytes }
    var isIdle: Bool { staged.isEmpty && appends.isEmpty && !isSyncing && appendedLsn == durableLsn }

    // MARK: Staging

    /// Takes a record into the next append: `payload`, then `more`. `table` writes the record's table. Returns its log
    /// sequence number.
    @discardableResult
    func stage(
        _ record: Record, payload: BufferSlice? = nil, more: ArraySlice<BufferSlice> = [],
        table: (UnsafeMutableRawPointer) -> Void = { _ in }, completion: StoreCompletion?
    ) -> UInt64 {
        var record = record
        record.lsn = nextLsn
        nextLsn += 1
        record.tableBytes = Record.tableBytes(record.type, first: record.first, count: record.count)
        let bytes = Record.headerBytes + record.tableBytes
        precondition(record.length <= maximumRecordBytes, "a record larger than a segment")
        if plannedPosition + record.length > segmentBytes {
            plannedOpens += 1
            plannedPosition = SegmentHeader.bytes
        }
        plannedPosition += record.length
        if metaUsed + bytes > meta.capacity {
            meta = pool.buffer(65536)
            metaUsed = 0
        }
        let offset = metaUsed
        metaUsed += bytes
        if record.tableBytes > 0 {
            let target = meta.bytes + offset + Record.headerBytes
            target.initializeMemory(as: UInt8.self, repeating: 0, count: record.tableBytes)
            table(target)
        }
        if let payload { stagedSlices.append(payload) }
        stagedSlices.append(contentsOf: more)
        staged.append(
            Staged(
                record: record, meta: meta, metaOffset: offset, sliceCount: (payload == nil ? 0 : 1) + more.count,
                completion: completion))
        return record.lsn
    }

    /// Everything staged goes out: one append for each segment that it touches.
    func endOfBatch() {
        while !staged.isEmpty, !isDead {
            if position + staged[0].record.length > segmentBytes {
                guard openSegment() else { return }
            }
            appendOne()
        }
        // Not waiting for the flush saves the time that it takes to come. Here, so that the answers went out before.
        if expectsFlush, appendedLsn > durableLsn, !isSyncing, !isDead { startSync() }
    }

    private func appendOne() {
        let append = Append()
        let index = segments.count - 1
        let start = position / blockSize * blockSize
        var slices: [BufferSlice] = []
        slices.reserveCapacity(staged.count + stagedSlices.count + 2)
        append.completions.reserveCapacity(staged.count)
        var end = position
        if tailBytes > 0 { slices.append(BufferSlice(tail, offset: 0, count: tailBytes)) }
        while !staged.isEmpty, end + staged[0].record.length <= segmentBytes {
            let item = staged.removeFirst()
            var record = item.record
            record.segment = segments[index].sequence
            record.durable = durableLsn
            record.encode(to: item.meta.bytes + item.metaOffset)
            slices.append(
                BufferSlice(item.meta, offset: item.metaOffset, count: Record.headerBytes + record.tableBytes))
            for _ in 0..<item.sliceCount { slices.append(stagedSlices.removeFirst()) }
            end += record.length
            append.lastLsn = record.lsn
            if let completion = item.completion { append.completions.append(completion) }
            recordCount += 1
        }
        // The next append rewrites the last page whole, so that the kernel never has to read it.
        let newTailBytes = end % blockSize
        let newTail = pool.buffer(blockSize)
        var needed = newTailBytes
        for slice in slices.reversed() where needed > 0 {
            let take = min(needed, slice.count)
            (newTail.bytes + needed - take).copyMemory(
                from: slice.buffer.bytes + slice.offset + slice.count - take, byteCount: take)
            needed -= take
        }
        if newTailBytes > 0 { slices.append(BufferSlice(zeros, offset: 0, count: blockSize - newTailBytes)) }
        tail = newTail
        tailBytes = newTailBytes
        append.bytes = (end + blockSize - 1) / blockSize * blockSize - start
        position = end
        segments[index].lastLsn = append.lastLsn
        let sequence = segments[index].sequence
        let slot = segments[index].slot
        submit(append, FileWrite(file: .journal(slot), offset: UInt64(start), slices: slices), sequence)
        // A fresh buffer for the tables of the next batch: this one belongs to the append now.
        meta = pool.buffer(65536)
        metaUsed = 0
    }

    private func submit(_ append: Append, _ write: FileWrite, _ sequence: UInt64) {
        appends.append(append)
        appendCount += 1
        disk.submit(.append(write)) { [self] result in
            guard !isDead else { return }
            if case .failure(let errno) = result { return onError(errno) }
            append.isDone = true
            unsyncedBytes += append.bytes
            unsyncedAppends += 1
            if let index = segments.lastIndex(where: { $0.sequence == sequence }) { segments[index].isUnsynced = true }
            while let first = appends.first, first.isDone {
                appends.removeFirst()
                appendedLsn = max(appendedLsn, first.lastLsn)
                for completion in first.completions { completion(.success(())) }
            }
            if !isDead { syncIfNeeded() }
        }
    }

    // MARK: Segments

    /// Makes the next segment the present one; false if there is none yet.
    private func openSegment() -> Bool {
        guard let slot = free.first else {
            grow()
            return false
        }
        free.removeFirst()
        plannedOpens -= 1
        let header = SegmentHeader(
            store: store, sequence: nextSequence, firstLsn: staged[0].record.lsn, size: UInt64(segmentBytes))
        nextSequence += 1
        segments.append(
            Segment(
                slot: slot, sequence: header.sequence, firstLsn: header.firstLsn, lastLsn: 0, isUnsynced: false))
        tail = pool.buffer(blockSize)
        tailBytes = 0
        position = SegmentHeader.bytes
        let page = pool.buffer(blockSize)
        header.encode(to: page.bytes)
        submit(
            Append(),
            FileWrite(file: .journal(slot), offset: 0, slices: [BufferSlice(page, offset: 0, count: blockSize)]),
            header.sequence)
        if free.count < 2 { grow() }
        onSegmentChange()
        return true
    }

    private func createSegment() {
        guard creating == nil, !isDead, segmentCount < configuration.journalMaximumSegments else { return }
        let taken = Set(segments.map(\.slot) + free)
        let slot = (0...UInt64(taken.count)).first { !taken.contains($0) }!
        creating = slot
        disk.submit(.createWritten(.journal(slot), size: UInt64(segmentBytes))) { [self] result in
            guard !isDead else { return }
            if case .success = result { return prepare(slot) }
            creating = nil
            switch result {
            case .success: break
            case .failure(.noSpace):
                // The segments there are must do; the checkpoint gives them back.
                isGrowthRefused = true
                retryGrowth()
                onSegmentChange()
            case .failure(let errno): onError(errno)
            }
        }
    }
    /// A start trusts only segments that say they were made whole: on a full disk the others cannot be made anew.
    private func prepare(_ slot: UInt64) {
        let page = pool.buffer(blockSize)
        SegmentHeader(store: store, sequence: 0, firstLsn: 0, size: UInt64(segmentBytes)).encode(to: page.bytes)
        let header = FileWrite(
            file: .journal(slot), offset: 0, slices: [BufferSlice(page, offset: 0, count: blockSize)])
        let failed = { [self] (errno: Errno) in if !isDead { onError(errno) } }
        disk.submit(.append(header)) { [self] result in
            if case .failure(let errno) = result { return failed(errno) }
            disk.submit(.sync([.journal(slot)])) { [self] result in
                if case .failure(let errno) = result { return failed(errno) }
                guard !isDead else { return }
                creating = nil
                free.append(slot)
                endOfBatch()
                onRoom()
            }
        }
    }
    private func retryGrowth() {
        clock.after(milliseconds: 1000) { [weak self] in
            guard let self, !isDead else { return }
            isGrowthRefused = false
            if free.count < 2 { grow() }
        }
    }

    /// Gives back the segments whose records are all below `lsn`.
    func recycle(below lsn: UInt64) {
        while segments.count > 1, segments[1].firstLsn <= lsn, !segments[0].isUnsynced {
            let segment = segments.removeFirst()
            if !segment.isShort { free.append(segment.slot) }
        }
        if segmentCount < Journal.leastSegments { grow() }
        endOfBatch()
        onRoom()
    }

    // MARK: Syncing

    /// Completes when every record up to `lsn` is durable.
    func flush(upTo lsn: UInt64, completion: @escaping StoreCompletion) {
        waiters.append((lsn, completion))
        urgentLsn = max(urgentLsn, lsn)
        syncIfNeeded()
    }
    func syncSoon() {
        urgentLsn = max(urgentLsn, appendedLsn)
        syncIfNeeded()
    }
    func syncFirst(_ file: StoreFile) { directFiles.append(file) }

    private func syncIfNeeded() {
        guard !isSyncing, !isDead else { return }
        if urgentLsn > durableLsn {
            // What the waiter waits for may still be on its way to the page cache: its append comes back here.
            if urgentLsn <= appendedLsn { startSync() }
        } else if appendedLsn > durableLsn {
            if unsyncedBytes >= configuration.syncDelayBytes {
                startSync()
            } else if !isTimerArmed {
                isTimerArmed = true
                clock.after(milliseconds: configuration.syncDelayMilliseconds) { [weak self] in
                    guard let self else { return }
                    isTimerArmed = false
                    if !isDead { syncSoon() }
                }
            }
        }
    }

    private func startSync() {
        isSyncing = true
        syncCount += 1
        let target = appendedLsn
        let files = directFiles
        directFiles = []
        unsyncedBytes = 0
        flushedAppends = unsyncedAppends == 1 ? flushedAppends : -1
        unsyncedAppends = 0
        var unsynced: [StoreFile] = []
        for index in segments.indices where segments[index].isUnsynced {
            segments[index].isUnsynced = false
            unsynced.append(.journal(segments[index].slot))
        }
        if configuration.skipJournalSync || Saboteur.isOn(.skipJournalSync) {
            clock.after(milliseconds: 0) { [self] in synced(target) }
            return
        }
        // Data that went past the journal first: a durable record must never describe data that is not.
        syncStep(files) { [self] in syncStep(unsynced) { [self] in synced(target) } }
    }

    private func syncStep(_ files: [StoreFile], next: @escaping () -> Void) {
        if files.isEmpty { return next() }
        disk.submit(.sync(files)) { [self] result in
            guard !isDead else { return }
            if case .failure(let errno) = result { return onError(errno) }
            next()
        }
    }

    private func synced(_ target: UInt64) {
        guard !isDead else { return }
        isSyncing = false
        durableLsn = target
        // A retain cycle of waiters with different targets is fine: they are in no order.
        var kept = Deque<(lsn: UInt64, completion: StoreCompletion)>()
        var ready: [StoreCompletion] = []
        for waiter in waiters {
            if waiter.lsn <= target { ready.append(waiter.completion) } else { kept.append(waiter) }
        }
        waiters = kept
        flushedAppends = ready.isEmpty ? 0 : flushedAppends + 1
        onDurable(target)
        for completion in ready { completion(.success(())) }
        if !isDead { syncIfNeeded() }
    }

    /// Stops, and gives every completion that still waits to the caller.
    func die() -> [StoreCompletion] {
        isDead = true
        var all = appends.flatMap(\.completions)
        all += staged.compactMap(\.completion)
        all += waiters.map(\.completion)
        appends = []
        staged = []
        stagedSlices = []
        waiters = []
        return all
    }
}
