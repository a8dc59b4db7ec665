// Reads the journal's segments after a start: which records there are, where the journal ends, and whether that end is
// the torn tail of an unclean stop (normal) or damage to what was durable. It changes nothing.
import Model

/// A record found in the journal.
struct FoundRecord {
    let record: Record
    let slot: UInt64
    let offset: Int
    /// Checksums and fill actions of records that may have to be checked against the object file.
    var checksums: [UInt32] = []
    var actions: [UInt8] = []
    var lsn: UInt64 { record.lsn }
    var key: FileKey { FileKey(object: ObjectId(rawValue: record.object), file: record.file) }

    /// Blocks that this record assigns in its file.
    var assigned: BlockBitmap {
        var bitmap = BlockBitmap()
        switch record.type {
        case .write, .discard: bitmap.insert(BlockRange(first: record.first, count: record.count))
        case .fill:
            for (i, action) in actions.enumerated() where action != 0 { bitmap[record.first + i] = true }
        default: break
        }
        return bitmap
    }
    /// Blocks whose data must be in the object file.
    var dataBlocks: BlockBitmap {
        guard record.type == .fill else { return assigned }
        var bitmap = BlockBitmap()
        for (i, action) in actions.enumerated() where action == FillAction.data.rawValue {
            bitmap[record.first + i] = true
        }
        return bitmap
    }
}

/// The contents of one segment.
struct FoundSegment {
    let slot: UInt64
    let header: SegmentHeader
    var records: [FoundRecord] = []
    /// Valid records behind the first invalid one.
    var strays: [Record] = []
}

struct JournalScan {
    /// Ascending, without gaps.
    var chain: [FoundRecord] = []
    /// The first record that is not there.
    var end: UInt64
    /// Everything up to here was durable, as later records say.
    var durable: UInt64 = 0
    /// Records at or behind `end` that say it had been durable: the journal is damaged.
    var witnesses: [Record] = []

    /// Reads one segment.
    static func scan(_ buffer: Buffer, count: Int, slot: UInt64, header: SegmentHeader, from start: UInt64)
        -> FoundSegment
    {
        var segment = FoundSegment(slot: slot, header: header)
        var position = SegmentHeader.bytes
        var expected = header.firstLsn
        while position + Record.headerBytes <= count {
            if let record = valid(buffer, position, count, header.sequence), record.lsn == expected {
                var found = FoundRecord(record: record, slot: slot, offset: position)
                keepTables(&found, buffer)
                if record.lsn >= start { segment.records.append(found) }
                expected += 1
                position += record.length
                continue
            }
            // What is not needed may be damaged.
            guard expected < start, let next = resume(buffer, position, count, header.sequence, upTo: start) else {
                break
            }
            position = next.position
            expected = next.lsn
        }
        while position + Record.headerBytes <= count {
            if let record = valid(buffer, position, count, header.sequence), record.lsn > expected {
                segment.strays.append(record)
                position += record.length
            } else {
                position += 8
            }
        }
        return segment
    }
    private static func valid(_ buffer: Buffer, _ position: Int, _ count: Int, _ sequence: UInt64) -> Record? {
        let bytes = UnsafeRawPointer(buffer.bytes + position)
        guard bytes.load(as: UInt32.self) == Record.magic.littleEndian,
            let record = Record.decode(bytes, available: count - position), record.segment == sequence,
            record.payloadIsValid(bytes)
        else { return nil }
        return record
    }
    private static func resume(
        _ buffer: Buffer, _ from: Int, _ count: Int, _ sequence: UInt64, upTo start: UInt64
    ) -> (position: Int, lsn: UInt64)? {
        var position = from + 8
        while position + Record.headerBytes <= count {
            if let record = valid(buffer, position, count, sequence), record.lsn <= start {
                return (position, record.lsn)
            }
            position += 8
        }
        return nil
    }
    private static func keepTables(_ found: inout FoundRecord, _ buffer: Buffer) {
        let record = found.record
        let table = buffer.bytes + found.offset + Record.headerBytes
        if record.isElsewhere {
            found.checksums = (0..<record.count).map {
                UInt32(littleEndian: table.load(fromByteOffset: $0 * 4, as: UInt32.self))
            }
        }
        if record.type == .fill {
            let offset = Record.actionsOffset(count: record.count)
            found.actions = (0..<record.count).map { table.load(fromByteOffset: offset + $0, as: UInt8.self) }
        }
    }

    /// Puts segments (ascending by sequence) together. A segment voids all records of earlier ones from its first
    /// record on: it was begun after a recovery that ended there.
    init(_ segments: [FoundSegment], start: UInt64) {
        end = start
        var limits = [UInt64](repeating: .max, count: segments.count)
        for at in segments.indices.dropLast().reversed() {
            limits[at] = min(limits[at + 1], segments[at + 1].header.firstLsn)
        }
        var strays: [Record] = []
        for (segment, limit) in zip(segments, limits) where segment.header.firstLsn < limit {
            let records = segment.records.prefix { $0.lsn < limit }
            if segment.header.firstLsn > end { strays += records.map(\.record) }
            strays += segment.strays.filter { $0.lsn < limit }
            for found in records where found.lsn == end {
                chain.append(found)
                end += 1
            }
        }
        for found in chain { durable = max(durable, found.record.durable) }
        let end = end
        witnesses = strays.filter { $0.lsn >= end && $0.durable >= end }
    }
}
