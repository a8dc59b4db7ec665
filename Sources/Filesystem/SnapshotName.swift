// What a name in a directory may mean: a volume, a snapshot beside its volume (`vol@tag.img`), or a temporary name that a
// tool renames into place. Text only; whether any of it exists is not asked here.
import Catalog

/// What a name in a directory says.
enum EntryName: Hashable {
    case plain(String)
    case snapshot(volume: String, tag: String)
    /// Not a name that anything can have: an `@` in the wrong place, or a tag of other characters.
    case invalid

    init(_ name: String) {
        if !name.utf8.contains(UInt8(ascii: "@")) {
            self = .plain(name)
        } else if let parts = Names.parse(name) {
            self = .snapshot(volume: parts.volume, tag: parts.tag)
        } else {
            self = .invalid
        }
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }

    /// `CuXXXXXX`, to which `ln -f` links before it renames that onto the name it was asked for.
    static func isLinkTemporary(_ name: String) -> Bool {
        let bytes = Array(name.utf8)
        return bytes.count == 8 && bytes[0] == UInt8(ascii: "C") && bytes[1] == UInt8(ascii: "u")
            && bytes[2...].allSatisfy { isAlphanumeric($0) }
    }

    /// The tag of a snapshot that still goes by a temporary name.
    static func isTemporaryTag(_ tag: String) -> Bool {
        if isLinkTemporary(tag) { return true }
        guard let colon = tag.lastIndex(of: ":"), colon != tag.startIndex else { return false }
        let random = tag[tag.index(after: colon)...].utf8
        return random.count == 6 && random.allSatisfy { isAlphanumeric($0) }
    }

    /// `.NAME.XXXXXX`, where NAME is a snapshot's name: what rsync writes before it renames. The snapshot has the
    /// tag `TAG:XXXXXX` until then.
    static func writtenTemporary(_ name: String) -> (volume: String, tag: String)? {
        guard name.hasPrefix("."), let dot = name.lastIndex(of: ".") else { return nil }
        let random = name[name.index(after: dot)...]
        guard random.utf8.count == 6, random.utf8.allSatisfy({ isAlphanumeric($0) }), dot != name.startIndex,
            case .snapshot(let volume, let tag) = EntryName(String(name[name.index(after: name.startIndex)..<dot]))
        else { return nil }
        let temporary = tag + ":" + random
        return Names.problem(withTag: temporary) == nil ? (volume, temporary) : nil
    }
}

/// Names that mean something of their own: the first in every directory, the others at the mount's root.
enum ReservedName {
    static let snapshots = ".snap"
    static let control = ".sheep"
    static let lineage = ".lineage"
}
