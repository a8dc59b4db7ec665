// The ways to say of what to take a snapshot, and under which tag.
import Catalog

package enum SnapshotWords {
    /// With `tag` all names are volumes (or one directory). Without, `vol.img tag` and `vol@tag.img` are understood;
    /// nil: the tag is missing.
    package static func split(_ names: [String], tag: String?) -> (paths: [String], tag: String)? {
        if let tag { return (names, tag) }
        if names.count == 2 { return ([names[0]], names[1]) }
        guard names.count == 1 else { return nil }
        let start = names[0].lastIndex(of: "/").map { names[0].index(after: $0) } ?? names[0].startIndex
        guard let (volume, tag) = Names.parse(String(names[0][start...])) else { return nil }
        return ([names[0][..<start] + volume], tag)
    }
}
