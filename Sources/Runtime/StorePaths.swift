// Where a store's files lie in its directory, both ways. A name that does not have exactly the form that
// would be written is no file of the store.
import Model

/// A directory of a store: what must be synced after a file was made in it.
struct StoreFolder: Hashable {
    /// 0...255 object directories, then the others.
    let index: Int

    static let journal = StoreFolder(index: 256)
    static let catalog = StoreFolder(index: 257)
    static let quarantine = StoreFolder(index: 258)
    static let root = StoreFolder(index: 259)
    static let count = 260

    static func objects(_ object: ObjectId) -> StoreFolder { StoreFolder(index: Int(object.hash & 0xff)) }

    /// Relative to the store.
    var path: String {
        switch self {
        case .journal: "journal"
        case .catalog: "catalog"
        case .quarantine: "quarantine"
        case .root: "."
        default: "objects/" + hexadecimal(UInt64(index), digits: 2)
        }
    }
}

extension StoreFile {
    var folder: StoreFolder {
        switch self {
        case .superblock, .index: .root
        case .journal: .journal
        case .object(let object, _): .objects(object)
        case .catalogState, .catalogLog: .catalog
        case .quarantine: .quarantine
        }
    }

    /// Relative to `folder`.
    var name: String {
        switch self {
        case .superblock: "superblock"
        case .journal(let number): hexadecimal(number, digits: 16) + ".segment"
        case .object(let object, let generation), .quarantine(let object, let generation):
            hexadecimal(UInt64(object.volume.rawValue), digits: 8) + "."
                + hexadecimal(UInt64(object.index), digits: 8) + "."
                + hexadecimal(UInt64(generation.rawValue), digits: 8)
        case .index(let number): "index.\(number)"
        case .catalogState(let index): hexadecimal(index, digits: 16) + ".state"
        case .catalogLog(let index): hexadecimal(index, digits: 16) + ".log"
        }
    }

    /// Relative to the store's directory.
    package var path: String {
        let folder = folder
        return folder == .root ? name : folder.path + "/" + name
    }

    /// The file of kind `kind` that has this name, if one has. Fast, for a store has a million of them.
    static func parse(_ name: String, kind: StoreFileKind) -> StoreFile? {
        var name = name
        return name.withUTF8 { bytes in
            switch kind {
            case .index:
                guard bytes.count == 7, matches(bytes, "index.", at: 0) else { return nil }
                return bytes[6] == UInt8(ascii: "0") ? .index(0) : bytes[6] == UInt8(ascii: "1") ? .index(1) : nil
            case .journal: return number(bytes, ".segment").map(StoreFile.journal)
            case .catalogState: return number(bytes, ".state").map(StoreFile.catalogState)
            case .catalogLog: return number(bytes, ".log").map(StoreFile.catalogLog)
            case .object: return object(bytes).map { .object($0.0, $0.1) }
            case .quarantine: return object(bytes).map { .quarantine($0.0, $0.1) }
            }
        }
    }

    private typealias Bytes = UnsafeBufferPointer<UInt8>

    private static func number(_ bytes: Bytes, _ suffix: StaticString) -> UInt64? {
        guard bytes.count == 16 + suffix.utf8CodeUnitCount, matches(bytes, suffix, at: 16) else { return nil }
        return parseHexadecimal(bytes[0..<16])
    }

    private static func object(_ bytes: Bytes) -> (ObjectId, Generation)? {
        guard bytes.count == 26, matches(bytes, ".", at: 8), matches(bytes, ".", at: 17),
            let volume = parseHexadecimal(bytes[0..<8]), let index = parseHexadecimal(bytes[9..<17]),
            let generation = parseHexadecimal(bytes[18..<26])
        else { return nil }
        return (ObjectId(VolumeId(UInt32(volume)), UInt32(index)), Generation(UInt32(generation)))
    }

    private static func matches(_ bytes: Bytes, _ text: StaticString, at start: Int) -> Bool {
        for offset in 0..<text.utf8CodeUnitCount where bytes[start + offset] != text.utf8Start[offset] { return false }
        return true
    }

    /// Lower-case digits only: what would be written.
    private static func parseHexadecimal(_ digits: Slice<Bytes>) -> UInt64? {
        var value: UInt64 = 0
        for digit in digits {
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | UInt64(digit - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt64(digit - UInt8(ascii: "a") + 10)
            default: return nil
            }
        }
        return value
    }

    /// Ascending within a kind.
    static func isBefore(_ a: StoreFile, _ b: StoreFile) -> Bool {
        switch (a, b) {
        case (.journal(let a), .journal(let b)), (.catalogState(let a), .catalogState(let b)),
            (.catalogLog(let a), .catalogLog(let b)):
            a < b
        case (.index(let a), .index(let b)): a < b
        case (.object(let a, let x), .object(let b, let y)), (.quarantine(let a, let x), .quarantine(let b, let y)):
            a != b ? a < b : x < y
        default: false
        }
    }
}
