// What volumes, directories and tags may be called, and how a snapshot's file name is made of a volume's name and
// a tag. Works on UTF-8 bytes, never on characters: a combining mark after `@` must not hide it.
// Two names that Unicode calls canonically equivalent are the same name.
import Model

package enum Names {
    /// Bytes of any file name.
    package static let maximumNameBytes = 255
    package static let maximumTagBytes = 64
    /// Bytes of a volume's name, such that `@` and the longest tag still fit into a file name.
    package static let maximumVolumeNameBytes = maximumNameBytes - 1 - maximumTagBytes
    /// Names that the mount keeps for itself, in every directory.
    package static let reserved = [".snap", ".sheep", ".lineage"]

    /// nil when a volume may have this name.
    package static func problem(withVolumeName name: String) -> SheepError? {
        problem(name, kind: "volume", limit: maximumVolumeNameBytes)
    }

    /// nil when a directory may have this name.
    package static func problem(withDirectoryName name: String) -> SheepError? {
        problem(name, kind: "directory", limit: maximumNameBytes)
    }

    private static func problem(_ name: String, kind: String, limit: Int) -> SheepError? {
        let what = "A \(kind) cannot be called \u{22}\(name)\u{22}."
        let bytes = name.utf8
        if bytes.count > limit {
            return SheepError(
                .nameTooLong, what: what, why: "The name has \(bytes.count) bytes; \(limit) are allowed.",
                remedy: "Choose a shorter name.")
        }
        if bytes.isEmpty || name == "." || name == ".." || reserved.contains(name) {
            return SheepError(
                .invalid, what: what, why: "The name is empty or reserved.", remedy: "Choose another name.")
        }
        if bytes.contains(where: { $0 == 0 || $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "@") }) {
            return SheepError(
                .invalid, what: what, why: "It contains @, / or NUL; @ marks snapshots.",
                remedy: "Choose a name without them.")
        }
        return nil
    }

    /// nil when a snapshot may have this tag: 1...64 letters, digits, `_`, `-`, `:`.
    package static func problem(withTag tag: String) -> SheepError? {
        let bytes = tag.utf8
        if (1...maximumTagBytes).contains(bytes.count), bytes.allSatisfy(isTagByte) { return nil }
        return SheepError(
            .invalid, what: "\u{22}\(tag)\u{22} is not a tag.",
            why: "A tag is 1 to \(maximumTagBytes) letters, digits, underscores, hyphens or colons.",
            remedy: "Choose another tag.")
    }

    private static func isTagByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: ":"):
            true
        default: false
        }
    }

    /// `vol.img` and `tag` make `vol@tag.img`; `disk` and `tag` make `disk@tag`. The suffix begins at the last dot,
    /// unless that is the first byte.
    package static func compose(volume: String, tag: String) -> String {
        let bytes = Array(volume.utf8)
        let dot = bytes.lastIndex(of: UInt8(ascii: ".")) ?? 0
        let split = dot > 0 ? dot : bytes.count
        return String(decoding: bytes[..<split], as: UTF8.self) + "@" + tag
            + String(decoding: bytes[split...], as: UTF8.self)
    }

    /// The volume's name and the tag of a snapshot's file name; nil when no snapshot can have this name.
    package static func parse(_ fileName: String) -> (volume: String, tag: String)? {
        let bytes = Array(fileName.utf8)
        guard let at = bytes.firstIndex(of: UInt8(ascii: "@")) else { return nil }
        let rest = bytes[(at + 1)...]
        let end = rest.firstIndex(of: UInt8(ascii: ".")) ?? rest.endIndex
        let volume = String(decoding: bytes[..<at] + rest[end...], as: UTF8.self)
        let tag = String(decoding: rest[..<end], as: UTF8.self)
        guard problem(withVolumeName: volume) == nil, problem(withTag: tag) == nil,
            compose(volume: volume, tag: tag).utf8.elementsEqual(bytes)
        else { return nil }
        return (volume, tag)
    }

    /// The tag of a snapshot that is hidden from the start; no user can give it.
    static func internalTag(_ generation: Generation) -> String { "#\(generation)" }
}
