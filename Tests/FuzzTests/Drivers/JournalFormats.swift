// The journal: one record, and whole segments as a start reads them. Checksums are put right where the input says so:
// otherwise nothing behind them would ever be reached.
import Model

@testable import ObjectStore

/// Makes the checksums (and, with `lengths`, the derived lengths) of the record at `start` what they must be.
func sealRecord(_ bytes: inout [UInt8], at start: Int, lengths: Bool) {
    guard start + Record.headerBytes <= bytes.count else { return }
    let first = Int(bytes.get(start + 64, UInt16.self))
    let count = Int(bytes.get(start + 66, UInt16.self))
    if lengths, let type = RecordType(rawValue: bytes[start + 4]), first + count <= blocksPerObject {
        let table = Record.tableBytes(type, first: first, count: count)
        let payload = Int(bytes.get(start + 6, UInt16.self)) * blockSize
        bytes.put(UInt32(table), at: start + 12)
        bytes.put(UInt32(truncatingIfNeeded: Record.headerBytes + table + payload), at: start + 8)
    }
    let table = start + Record.headerBytes
    let tableEnd = table + Int(bytes.get(start + 12, UInt32.self))
    let end = start + Int(bytes.get(start + 8, UInt32.self))
    if lengths, bytes[start + 4] == RecordType.write.rawValue, tableEnd <= end, end <= bytes.count {
        for block in 0..<min(count, (end - tableEnd) / blockSize) {
            let data = Array(bytes[tableEnd + block * blockSize..<tableEnd + (block + 1) * blockSize])
            bytes.put(crc32c(data), at: table + block * 4)
        }
    }
    if tableEnd <= bytes.count { bytes.put(crc32c(Array(bytes[table..<tableEnd])), at: start + 88) }
    bytes.put(crc32c(Array(bytes[start..<start + 92])), at: start + 92)
}

/// Records as the journal writes them.
enum SampleRecords {
    static func record(
        _ type: RecordType, lsn: UInt64, first: Int = 0, count: Int = 0, payload: Int = 0, flags: UInt8 = 0,
        argument: UInt64 = 0, table fill: (inout [UInt8]) -> Void = { _ in }
    ) -> [UInt8] {
        var record = Record()
        record.type = type
        record.flags = flags
        record.lsn = lsn
        record.durable = lsn > 2 ? lsn - 2 : 0
        record.segment = 1
        record.object = ObjectId(VolumeId(1), 0).rawValue
        record.generation = 1
        record.file = 1
        record.version = Version(term: Term(1), sequence: lsn).rawValue
        record.first = first
        record.count = count
        record.payloadBlocks = payload
        record.argument = argument
        record.tableBytes = Record.tableBytes(type, first: first, count: count)
        var bytes = [UInt8](repeating: 0, count: record.length)
        for i in Record.headerBytes + record.tableBytes..<bytes.count { bytes[i] = UInt8(truncatingIfNeeded: lsn) }
        fill(&bytes)
        bytes.withUnsafeMutableBytes { record.encode(to: $0.baseAddress!) }
        sealRecord(&bytes, at: 0, lengths: true)
        return bytes
    }
    /// One of every type, in the order of their sequence numbers.
    static let all: [[UInt8]] = [
        record(.write, lsn: 1, first: 3, count: 2, payload: 2),
        record(.write, lsn: 2, first: 8, count: 16, flags: RecordFlags.elsewhere),
        record(.discard, lsn: 3, first: 1, count: 4, flags: RecordFlags.keepAsZero),
        record(.begin, lsn: 4) { for i in 0..<16 { $0[Record.headerBytes + i] = 0xff } },
        record(.fill, lsn: 5, first: 0, count: 6) {
            for (i, action) in [UInt8(1), 2, 0, 4, 1, 2].enumerated() {
                $0[Record.headerBytes + Record.actionsOffset(count: 6) + i] = action
            }
        },
        record(.state, lsn: 6, argument: 2 | 1 << 32),
        record(.version, lsn: 7),
        record(.renumber, lsn: 8),
        record(.fence, lsn: 9, argument: 5),
        record(.distrust, lsn: 10, argument: 2),
        record(.removeFile, lsn: 11, flags: RecordFlags.quarantine),
        record(.removeObject, lsn: 12),
    ]
}

extension FuzzTarget {
    /// Input: one byte of what to put right (1: magic, 2: lengths, 4: checksums), then the record.
    static let record = FuzzTarget(
        name: "record", summary: "one record of the journal", maximumBytes: 16_384,
        seeds: { SampleRecords.all.map { [7] + $0 } }
    ) { input in
        var input = input
        let flags = input.byte()
        var bytes = input.rest()
        if flags & 1 != 0 { bytes.put(Record.magic, at: 0) }
        if flags & 4 != 0 { sealRecord(&bytes, at: 0, lengths: flags & 2 != 0) }
        return withExactCopy(bytes) { memory -> String? in
            guard let record = Record.decode(memory, available: bytes.count) else { return nil }
            guard record.length <= bytes.count, record.first + record.count <= blocksPerObject else {
                return "a record beyond its bytes or its object"
            }
            let isValid = record.payloadIsValid(memory)
            if record.type == .fill, isValid, !record.isElsewhere {
                let actions = Record.headerBytes + Record.actionsOffset(count: record.count)
                let data = bytes[actions..<actions + record.count].count { $0 == FillAction.data.rawValue }
                guard data == record.payloadBlocks else { return "a fill without the data that it tells of" }
            }
            var again = [UInt8](repeating: 0, count: record.length)
            let table = Record.headerBytes..<record.length
            again.replaceSubrange(table, with: bytes[table])
            return again.withUnsafeMutableBytes { raw -> String? in
                let base = raw.baseAddress!
                record.encode(to: base)
                guard let copy = Record.decode(base, available: raw.count) else {
                    return "an encoded record cannot be decoded"
                }
                guard "\(copy)" == "\(record)" else { return "\(record) became \(copy)" }
                return copy.payloadIsValid(base) == isValid ? nil : "the payload's validity changed"
            }
        }
    }

    /// Input: flags (1: checksums are put right, 2: derived lengths too, 4: two segments), the first sequence number
    /// that is needed, that of each segment's first record (64 bits), then the bytes behind the segments' headers.
    static let journal = FuzzTarget(
        name: "journal", summary: "segments of the journal, as a start reads them", maximumBytes: 32_768,
        seeds: {
            let all = SampleRecords.all.flatMap { $0 }
            let half = SampleRecords.all[..<6].flatMap { $0 }
            let torn = all.dropLast(5)
            let gap = SampleRecords.all.enumerated().filter { $0.offset != 6 }.flatMap { $0.element }
            func input(_ flags: UInt8, _ start: UInt8, _ firsts: [UInt64], _ body: some Sequence<UInt8>) -> [UInt8] {
                [flags, start] + firsts.flatMap(littleEndian) + body
            }
            return [
                input(3, 1, [1], all), input(3, 4, [1], all), input(3, 1, [1], torn), input(3, 1, [1], gap),
                input(7, 1, [1, 7], littleEndian(UInt16(half.count)) + all),
                input(7, 1, [1, 3], littleEndian(UInt16(half.count)) + all),
            ]
        }
    ) { input in
        var input = input
        let flags = input.byte()
        let start = UInt64(input.byte())
        let hasTwo = flags & 4 != 0
        let firsts = hasTwo ? [input.number(UInt64.self), input.number(UInt64.self)] : [input.number(UInt64.self)]
        let bodies = hasTwo ? [input.take(Int(input.number(UInt16.self))), input.rest()] : [input.rest()]
        var segments: [FoundSegment] = []
        for (at, body) in bodies.enumerated() {
            var body = body
            if flags & 1 != 0 { sealRecords(&body, lengths: flags & 2 != 0) }
            let header = SegmentHeader(store: 7, sequence: 1, firstLsn: firsts[at], size: 1 << 16)
            let count = SegmentHeader.bytes + body.count
            let buffer = Buffer(capacity: (count + blockSize - 1) / blockSize * blockSize)
            header.encode(to: buffer.bytes)
            guard Sane.isNumber(firsts[at]) else {
                guard SegmentHeader.decode(buffer.bytes, available: count) == nil else { return "an impossible number" }
                continue
            }
            guard let found = SegmentHeader.decode(buffer.bytes, available: count), found.firstLsn == firsts[at],
                found.sequence == 1, found.store == 7, found.size == 1 << 16
            else { return "a segment's header did not come back" }
            body.withUnsafeBytes { raw in
                if raw.count > 0 {
                    (buffer.bytes + SegmentHeader.bytes).copyMemory(from: raw.baseAddress!, byteCount: raw.count)
                }
            }
            segments.append(
                Poison.beyond(count, of: buffer) {
                    JournalScan.scan(buffer, count: count, slot: UInt64(at), header: found, from: start)
                })
        }
        let scan = JournalScan(segments, start: start)
        guard scan.end - start == UInt64(scan.chain.count) else { return "the chain does not lead to its end" }
        for (at, found) in scan.chain.enumerated() {
            guard found.lsn == start + UInt64(at) else { return "the chain has a gap" }
            guard found.dataBlocks.count <= found.assigned.count else { return "more data than blocks" }
            if found.record.isElsewhere, found.record.type == .write || found.record.type == .fill,
                found.checksums.count != found.record.count
            {
                return "checksums are missing"
            }
        }
        return scan.witnesses.allSatisfy { $0.lsn >= scan.end } ? nil : "a witness before the end"
    }

    private static func sealRecords(_ body: inout [UInt8], lengths: Bool) {
        let magic = littleEndian(Record.magic)
        var position = 0
        while position + Record.headerBytes <= body.count {
            if body[position] == magic[0], Array(body[position..<position + 4]) == magic {
                sealRecord(&body, at: position, lengths: lengths)
                let length = Int(body.get(position + 8, UInt32.self))
                if length >= Record.headerBytes, length % 8 == 0, position + length <= body.count {
                    position += length
                    continue
                }
            }
            position += 8
        }
    }
}
