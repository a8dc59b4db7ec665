// The journal at a start: which segments there are, which records of them count, and where they end. What was found
// is durable before any of it reaches an object file.
import Model

extension Opening {
    func listJournal() {
        disk.submit(.list(.journal)) { [self] result in
            guard case .success(.files(let files)) = result else {
                return fail(.damaged("the journal's directory cannot be read"))
            }
            for file in files { if case .journal(let slot) = file, slot < 1 << 20 { slots.append(slot) } }
            readHeader(0)
        }
    }

    /// Reads the first two pages of each segment.
    func readHeader(_ at: Int) {
        guard at < slots.count else {
            headers.sort { $0.header.sequence < $1.header.sequence }
            if isRebuilt, let first = headers.first {
                store.startLsn = first.header.firstLsn
                store.previousStartLsn = store.startLsn
            }
            return readSegment(0)
        }
        let buffer = store.pool.buffer(2 * blockSize)
        disk.submit(
            .read(.journal(slots[at]), offset: 0, buffer: buffer, bufferOffset: 0, count: 2 * blockSize)
        ) { [self] result in
            var count = 0
            if case .success(.bytes(let n)) = result { count = n }
            if var header = SegmentHeader.decode(buffer.bytes, available: count), header.store == store.storeId {
                header.size = min(header.size, store.superblock.segmentBytes)
                if header.sequence == 0 { prepared.append(slots[at]) } else { headers.append((slots[at], header)) }
            } else if count > SegmentHeader.bytes + Record.headerBytes {
                // The page is damaged, or of a segment that was just begun: the first record says the same.
                let bytes = UnsafeRawPointer(buffer.bytes + SegmentHeader.bytes)
                if let record = Record.decode(bytes, available: 1 << 30, tableAvailable: count - SegmentHeader.bytes) {
                    headers.append(
                        (
                            slots[at],
                            SegmentHeader(
                                store: store.storeId, sequence: record.segment, firstLsn: record.lsn,
                                size: store.superblock.segmentBytes)
                        ))
                }
            }
            readEnd(at)
        }
    }
    /// A segment that does not reach its end must not be written to.
    func readEnd(_ at: Int) {
        let buffer = store.pool.buffer(blockSize)
        let end = store.superblock.segmentBytes - UInt64(blockSize)
        disk.submit(
            .read(.journal(slots[at]), offset: end, buffer: buffer, bufferOffset: 0, count: blockSize)
        ) { [self] result in
            if case .success(.bytes(blockSize)) = result {} else { short.insert(slots[at]) }
            readHeader(at + 1)
        }
    }

    /// Reads each segment that may hold needed records, and looks at its records.
    func readSegment(_ at: Int) {
        guard at < headers.count else { return assess() }
        let (slot, header) = headers[at]
        highestSequence = max(highestSequence, header.sequence)
        // Records of this segment all lie below the next one's first, or are void.
        let limit = headers[(at + 1)...].map(\.header.firstLsn).min() ?? .max
        let isNeeded = limit > store.startLsn && header.firstLsn < limit
        guard isNeeded else { return readSegment(at + 1) }
        let buffer = Buffer(capacity: Int(store.superblock.segmentBytes))
        disk.submit(
            .read(.journal(slot), offset: 0, buffer: buffer, bufferOffset: 0, count: buffer.capacity)
        ) { [self] result in
            var count = 0
            if case .success(.bytes(let n)) = result { count = n }
            segments.append(
                JournalScan.scan(buffer, count: count, slot: slot, header: header, from: store.startLsn))
            readSegment(at + 1)
        }
    }

    func assess() {
        scan = JournalScan(segments, start: store.startLsn)
        segments = []
        if let witness = scan.witnesses.first {
            damage.append(
                "journal record \(scan.end) is missing, which was durable when record \(witness.lsn) was written")
            suspects = Array(Set(scan.witnesses.map { ObjectId(rawValue: $0.object) })).sorted()
        }
        if scan.end <= knownDurableLsn {
            isCutOff = true
            damage.append("the journal ends before record \(scan.end); record \(knownDurableLsn) was durable")
        }
        scan.durable = max(scan.durable, knownDurableLsn)
        let candidates = scan.chain.filter { $0.record.isElsewhere && $0.lsn > scan.durable }
        check(candidates[...], mismatches: [])
    }

    /// Compares data that went past the journal with the records that describe it.
    func check(_ rest: ArraySlice<FoundRecord>, mismatches: [(lsn: UInt64, key: FileKey, blocks: BlockBitmap)]) {
        guard let found = rest.first else { return truncate(mismatches) }
        let count = found.record.count
        let buffer = store.pool.buffer(count * blockSize)
        disk.submit(
            .read(
                found.key.storeFile, offset: UInt64(Sheet.dataOffset + found.record.first * blockSize),
                buffer: buffer, bufferOffset: 0, count: count * blockSize)
        ) { [self] result in
            var bytes = 0
            if case .success(.bytes(let n)) = result { bytes = n }
            var bad = found.dataBlocks
            for block in 0..<count where (block + 1) * blockSize <= bytes {
                if crc32c(buffer.bytes + block * blockSize, count: blockSize) == found.checksums[block] {
                    bad[found.record.first + block] = false
                }
            }
            check(
                rest.dropFirst(),
                mismatches: bad.isEmpty ? mismatches : mismatches + [(found.lsn, found.key, bad)])
        }
    }

    /// A record whose data is not there ends the journal, unless later records (before the end) overwrite the data:
    /// then it was flushed, and its file is ahead of it.
    func truncate(_ mismatches: [(lsn: UInt64, key: FileKey, blocks: BlockBitmap)]) {
        var end = scan.end
        var isStable = false
        while !isStable {
            isStable = true
            for mismatch in mismatches where mismatch.lsn < end {
                var open = mismatch.blocks
                for found in scan.chain where found.lsn > mismatch.lsn && found.lsn < end {
                    guard found.record.object == mismatch.key.object.rawValue else { continue }
                    if found.record.type == .removeObject { open = .empty }
                    guard found.record.file == mismatch.key.file else { continue }
                    if found.record.type == .removeFile { open = .empty }
                    open.subtract(found.assigned)
                }
                if !open.isEmpty {
                    end = mismatch.lsn
                    isStable = false
                    break
                }
            }
        }
        scan.end = end
        while let last = scan.chain.last, last.lsn >= end { scan.chain.removeLast() }
        makeDurable()
    }

    /// After the death of a process alone, the journal's end may be in the page cache only.
    func makeDurable() {
        let direct = Set(scan.chain.filter { $0.record.isElsewhere && $0.lsn > scan.durable }.map(\.key)).sorted()
        let used = Set(scan.chain.map(\.slot)).sorted()
        let steps: [[StoreFile]] = [direct.map(\.storeFile), used.map { .journal($0) }].filter { !$0.isEmpty }
        sync(steps[...])
    }
    func sync(_ steps: ArraySlice<[StoreFile]>) {
        guard let files = steps.first else { return resume() }
        disk.submit(.sync(files)) { [self] result in
            if case .failure(let errno) = result { return fail(.io(errno)) }
            sync(steps.dropFirst())
        }
    }

    func resume() {
        let keep = min(store.previousStartLsn, store.startLsn)
        var kept: [Journal.Segment] = []
        var free: [UInt64] = []
        for (at, item) in headers.enumerated() {
            let next = headers[(at + 1)...].map(\.header.firstLsn).min() ?? .max
            // The last segments stay until the next checkpoint: their records are about to be replayed.
            if next > keep, item.header.firstLsn < min(next, scan.end) {
                kept.append(
                    Journal.Segment(
                        slot: item.slot, sequence: item.header.sequence, firstLsn: item.header.firstLsn,
                        lastLsn: min(next, scan.end) - 1, isUnsynced: false, isShort: short.contains(item.slot)))
            } else {
                if !short.contains(item.slot) { free.append(item.slot) }
            }
        }
        for found in scan.chain where found.record.isElsewhere {
            shadows[found.key, default: []].append((found.lsn, found.dataBlocks))
        }
        free += prepared.filter { !short.contains($0) }
        // The superblock is durable before the first segment is begun.
        let sequence = max(highestSequence + 1, min(store.superblock.openings, 1 << 29) << 32)
        store.journal.resume(segments: kept, free: free.sorted(), nextSequence: sequence, nextLsn: scan.end)
        replay(0)
    }
}
