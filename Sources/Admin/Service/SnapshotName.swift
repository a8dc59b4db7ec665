// How a snapshot is spelled as a file name (`vol@tag.img`), and which names volumes and tags may have.
import Model

package enum SnapshotName {
    /// `vol.img` and `monday` make `vol@monday.img`; `disk` makes `disk@monday`. The suffix is what follows the last
    /// dot, unless the name begins with it.
    package static func join(_ volume: String, _ tag: String) -> String {
        guard let dot = volume.lastIndex(of: "."), dot != volume.startIndex else { return volume + "@" + tag }
        return volume[..<dot] + "@" + tag + volume[dot...]
    }

    /// The volume's name and the tag; nil when it is not the spelling of a snapshot.
    package static func split(_ name: String) -> (volume: String, tag: String)? {
        guard let at = name.firstIndex(of: "@"), at != name.startIndex else { return nil }
        let rest = name[name.index(after: at)...]
        let end = rest.firstIndex(of: ".") ?? rest.endIndex
        let tag = String(rest[..<end])
        let volume = name[..<at] + rest[end...]
        guard isTag(tag), !volume.contains("@"), join(String(volume), tag) == name else { return nil }
        return (String(volume), tag)
    }

    /// Letters, digits, `_`, `-`, `:`; 1 to 64 of them.
    package static func isTag(_ text: String) -> Bool {
        guard 1...64 ~= text.utf8.count else { return false }
        return text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: ":"):
                true
            default: false
            }
        }
    }

    /// Why `name` cannot be a volume's name; nil when it can.
    package static func reasonAgainstVolumeName(_ name: String) -> String? {
        if name.isEmpty { return "the name is empty" }
        if name == "." || name == ".." { return "\(name) is not a name" }
        if [".snap", ".sheep", ".lineage"].contains(name) { return "the name \(name) is reserved" }
        if name.utf8.count > 255 { return "a name has at most 255 bytes" }
        if name.contains("@") { return "names with @ are snapshots" }
        if name.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f }) { return "control characters are not allowed in it" }
        return nil
    }
}
