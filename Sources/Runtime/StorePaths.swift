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

    /// The file of kind `kind` that has this name, if one has.
    static func parse(_ name: String, kind: StoreFileKind) -> StoreFile? {
        let file: StoreFile?
        switch kind {
        case .index: file = name.hasPrefix("index.") ? UInt8(name.dropFirst(6)).map(StoreFile.index) : nil
        case .journal: file = number(name).map(StoreFile.journal)
        case .catalogState: file = number(name).map(StoreFile.catalogState)
        case .catalogLog: file = number(name).map(StoreFile.catalogLog)
        case .object: file = object(name).map { .object($0.0, $0.1) }
        case .quarantine: file = object(name).map { .quarantine($0.0, $0.1) }
        }
        guard let file, file.name == name else { return nil }
        return file
    }

    private static func number(_ name: String) -> UInt64? { UInt64(name.prefix(16), radix: 16) }

    private static func object(_ name: String) -> (ObjectId, Generation)? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3, let volume = UInt32(parts[0], radix: 16), let index = UInt32(parts[1], radix: 16),
            let generation = UInt32(parts[2], radix: 16)
        else { return nil }
        return (ObjectId(VolumeId(volume), index), Generation(generation))
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
