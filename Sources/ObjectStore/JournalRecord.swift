// The records of the journal: encoding and strict decoding. A record states absolute values (never "add one"),
// so that replaying it over a header that already contains it changes nothing. See sheepfold-store-format(7).
import Model

enum RecordType: UInt8 {
    case write = 1
    case discard = 2
    case begin = 3
    case fill = 4
    case state = 5
    case version = 6
    case removeFile = 7
    case removeObject = 8
    case renumber = 9
    case fence = 10
    case distrust = 11
}

/// What a fill does with a block.
enum FillAction: UInt8 {
    case none = 0
    case drop = 1
    case zero = 2
    case data = 3
    case pending = 4
}

struct RecordFlags {
    /// The payload is in the object file, not in the record.
    static let elsewhere: UInt8 = 1
    /// A discard keeps the blocks as zero.
    static let keepAsZero: UInt8 = 2
    /// A removal sets the files aside.
    static let quarantine: UInt8 = 4
}

struct Record {
    static let magic: UInt32 = 0x524a_4853  // "SHJR"
    static let headerBytes = 96

    var type = RecordType.write
    var flags: UInt8 = 0
    var lsn: UInt64 = 0
    /// Records up to this one were durable when this one was appended.
    var durable: UInt64 = 0
    var segment: UInt64 = 0
    var object: UInt64 = 0
    var generation: UInt32 = 0
    var file: UInt32 = 0
    var version: UInt64 = 0
    var first = 0
    var count = 0
    /// Blocks of payload that follow the table.
    var payloadBlocks = 0
    var argument: UInt64 = 0
    var tableBytes = 0

    var length: Int { Record.headerBytes + tableBytes + payloadBlocks * blockSize }
    var isElsewhere: Bool { flags & RecordFlags.elsewhere != 0 }

    /// Bytes of the table that a record of this type must have.
    static func tableBytes(_ type: RecordType, first: Int, count: Int) -> Int {
        switch type {
        case .write: return (count * 4 + 7) & ~7
        case .fill:
            let chunks = count == 0 ? 0 : BlockRange(first: first, count: count).chunks.count
            return ((count * 4 + 7) & ~7) + ((count + 7) & ~7) + chunks * 8
        case .begin: return 128
        default: return 0
        }
    }
    /// Where the actions of a fill begin in its table, and where its chunk versions do.
    static func actionsOffset(count: Int) -> Int { (count * 4 + 7) & ~7 }
    static func chunksOffset(count: Int) -> Int { actionsOffset(count: count) + ((count + 7) & ~7) }

    /// Writes the header before its table, which must be in place already.
    func encode(to bytes: UnsafeMutableRawPointer) {
        func put<T: FixedWidthInteger>(_ value: T, _ offset: Int) {
            bytes.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
        }
        put(Record.magic, 0)
        put(type.rawValue, 4)
        put(flags, 5)
        put(UInt16(payloadBlocks), 6)
        put(UInt32(length), 8)
        put(UInt32(tableBytes), 12)
        put(lsn, 16)
        put(durable, 24)
        put(segment, 32)
        put(object, 40)
        put(generation, 48)
        put(file, 52)
        put(version, 56)
        put(UInt16(first), 64)
        put(UInt16(count), 66)
        put(UInt32(0), 68)
        put(argument, 72)
        put(UInt64(0), 80)
        put(crc32c(bytes + Record.headerBytes, count: tableBytes), 88)
        put(crc32c(bytes, count: 92), 92)
    }

    /// The record at `bytes`, if header and table are valid; the payload is not looked at.
    /// `tableAvailable`: how much of the record is at `bytes`, where that is less than `available`, the room it may have.
    static func decode(_ bytes: UnsafeRawPointer, available: Int, tableAvailable: Int = .max) -> Record? {
        guard available >= headerBytes else { return nil }
        func get<T: FixedWidthInteger>(_ offset: Int, _ type: T.Type = T.self) -> T {
            T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
        }
        guard get(0, UInt32.self) == magic, get(92, UInt32.self) == crc32c(bytes, count: 92),
            let type = RecordType(rawValue: get(4, UInt8.self))
        else { return nil }
        var record = Record()
        record.type = type
        record.flags = get(5)
        record.payloadBlocks = Int(get(6, UInt16.self))
        record.tableBytes = Int(get(12, UInt32.self))
        record.lsn = get(16)
        record.durable = get(24)
        record.segment = get(32)
        record.object = get(40)
        record.generation = get(48)
        record.file = get(52)
        record.version = get(56)
        record.first = Int(get(64, UInt16.self))
        record.count = Int(get(66, UInt16.self))
        record.argument = get(72)
        guard Sane.isNumber(record.lsn), Sane.isNumber(record.segment),
            record.first + record.count <= blocksPerObject, record.payloadBlocks <= record.count,
            Sane.isVersion(record.version),
            record.tableBytes == tableBytes(type, first: record.first, count: record.count),
            Int(get(8, UInt32.self)) == record.length, record.length <= available,
            headerBytes + record.tableBytes <= tableAvailable,
            get(88, UInt32.self) == crc32c(bytes + headerBytes, count: record.tableBytes)
        else { return nil }
        // What has no payload says nothing about any: neither that it follows, nor that it is elsewhere.
        let hasPayload = type == .write || type == .fill
        guard hasPayload || record.payloadBlocks == 0 && !record.isElsewhere else { return nil }
        switch type {
        case .write:
            guard record.count > 0, record.payloadBlocks == (record.isElsewhere ? 0 : record.count) else { return nil }
        case .fill:
            guard record.count > 0, !record.isElsewhere || record.payloadBlocks == 0 else { return nil }
        case .discard: guard record.count > 0 else { return nil }
        case .distrust: guard record.argument <= UInt64(Sane.highestTrust) else { return nil }
        default: break
        }
        switch type {
        case .write, .fill, .discard, .begin, .renumber: return record.generation > 0 ? record : nil
        default: return record
        }
    }

    /// Whether the payload matches the checksums of the table, and is all that the table tells of.
    func payloadIsValid(_ bytes: UnsafeRawPointer) -> Bool {
        guard type == .write || type == .fill, !isElsewhere else { return true }
        let table = bytes + Record.headerBytes
        var data = table + tableBytes
        var seen = 0
        for block in 0..<count {
            if type == .fill {
                let action = table.load(fromByteOffset: Record.actionsOffset(count: count) + block, as: UInt8.self)
                if action != FillAction.data.rawValue { continue }
            }
            guard seen < payloadBlocks else { return false }
            let checksum = UInt32(littleEndian: table.loadUnaligned(fromByteOffset: block * 4, as: UInt32.self))
            guard crc32c(data, count: blockSize) == checksum else { return false }
            data += blockSize
            seen += 1
        }
        return seen == payloadBlocks
    }
}

/// The first page of a segment.
struct SegmentHeader {
    static let magic: UInt64 = 0x4e52_554f_4a50_4853  // "SHPJOURN"
    static let bytes = blockSize
    var store: UInt64 = 0
    var sequence: UInt64 = 0
    /// The first record of this segment; records of earlier segments from here on are void.
    var firstLsn: UInt64 = 0
    var size: UInt64 = 0

    func encode(to bytes: UnsafeMutableRawPointer) {
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: SegmentHeader.bytes)
        bytes.storeBytes(of: SegmentHeader.magic.littleEndian, toByteOffset: 0, as: UInt64.self)
        bytes.storeBytes(of: storeFormatVersion.littleEndian, toByteOffset: 8, as: UInt32.self)
        bytes.storeBytes(of: store.littleEndian, toByteOffset: 16, as: UInt64.self)
        bytes.storeBytes(of: sequence.littleEndian, toByteOffset: 24, as: UInt64.self)
        bytes.storeBytes(of: firstLsn.littleEndian, toByteOffset: 32, as: UInt64.self)
        bytes.storeBytes(of: size.littleEndian, toByteOffset: 40, as: UInt64.self)
        bytes.storeBytes(of: crc32c(bytes, count: 48).littleEndian, toByteOffset: 48, as: UInt32.self)
    }
    static func decode(_ bytes: UnsafeRawPointer, available: Int) -> SegmentHeader? {
        func get(_ offset: Int) -> UInt64 {
            UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        }
        guard available >= SegmentHeader.bytes, get(0) == magic, Sane.isNumber(get(24)), Sane.isNumber(get(32)),
            UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self)) == storeFormatVersion,
            UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 48, as: UInt32.self)) == crc32c(bytes, count: 48)
        else { return nil }
        guard Sane.isNumber(get(24)), Sane.isNumber(get(32)) else { return nil }
        return SegmentHeader(store: get(16), sequence: get(24), firstLsn: get(32), size: get(40))
    }
}
