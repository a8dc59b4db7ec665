// From the paths that an administrator types to what the catalog knows, and back. Reads the catalog's state only;
// never touches a file system (a path below our own mount would wait for ourselves).
import Catalog
import Model
import OrderedCollections

/// What a path stands for.
package enum NamedThing: Equatable {
    case directory(DirectoryId)
    case volume(VolumeId)
    case snapshot(VolumeId, tag: String)
    /// `dir/.snap/tag`.
    case groupSnapshot(DirectoryId, tag: String)
}

package struct NamePaths {
    package let state: CatalogState
    /// Where the namespace is mounted now.
    package let mounts: [MountReport]

    package init(state: CatalogState, mounts: [MountReport]) {
        self.state = state
        self.mounts = mounts
    }

    /// The components below the root. A full path below a mountpoint loses the mountpoint and gains its subdirectory.
    package func components(_ path: String) throws(SheepError) -> [String] {
        var relative = path[...]
        if path.hasPrefix("/") {
            let below = mounts.filter { path == $0.mountpoint || path.hasPrefix($0.mountpoint + "/") }
            if let mount = below.max(by: { $0.mountpoint.utf8.count < $1.mountpoint.utf8.count }) {
                relative = (mount.subdirectory + "/" + path.dropFirst(mount.mountpoint.count))[...]
            }
        }
        let parts = relative.split(separator: "/").map(String.init).filter { $0 != "." }
        guard !parts.contains("..") else {
            throw SheepError(
                .invalid, what: "the path \(path) is refused", why: "it contains ..", remedy: "write it without ..")
        }
        return parts
    }

    package func find(_ path: String) throws(SheepError) -> NamedThing {
        let parts = try components(path)
        var directory = DirectoryId.root
        for (position, name) in parts.enumerated() {
            let isLast = position == parts.count - 1
            if name == ".snap", position == parts.count - 2 {
                let tag = parts[position + 1]
                guard state.directories[directory]?.groupSnapshots[tag] != nil else { throw notFound(path) }
                return .groupSnapshot(directory, tag: tag)
            }
            switch state.names[DirectoryEntryKey(directory, name)] {
            case .directory(let id): directory = id
            case .volume(let id):
                guard isLast else { throw notFound(path) }
                return .volume(id)
            case nil:
                guard isLast, let (volumeName, tag) = Names.parse(name),
                    case .volume(let id) = state.names[DirectoryEntryKey(directory, volumeName)],
                    snapshot(id, tag) != nil
                else { throw notFound(path) }
                return .snapshot(id, tag: tag)
            }
        }
        return .directory(directory)
    }

    package func volume(_ path: String) throws(SheepError) -> VolumeRecord {
        let thing = try find(path)
        guard case .volume(let id) = thing, let record = state.visibleVolume(id) else {
            let kind = if case .directory = thing { "a directory" } else { "a snapshot" }
            throw SheepError(
                .invalid, what: "\(path) is not a volume", why: "it is \(kind)", remedy: "name a volume: dog vdi list")
        }
        return record
    }

    /// Where something new of this path would stand. The directory must exist; the name must be free and allowed.
    package func place(_ path: String) throws(SheepError) -> (directory: DirectoryId, name: String) {
        let parts = try components(path)
        if let problem = Names.problem(withVolumeName: parts.last ?? "") { throw problem }
        let directory = try self.directory(parts.dropLast(), of: path)
        guard state.names[DirectoryEntryKey(directory, parts[parts.count - 1])] == nil else {
            throw SheepError(
                .exists, what: "\(path) exists already", why: "a volume or directory has this name",
                remedy: "choose another name, or remove it first")
        }
        return (directory, parts[parts.count - 1])
    }

    package func snapshot(_ volume: VolumeId, _ tag: String) -> SnapshotRecord? {
        state.visibleVolume(volume)?.snapshot(tag)
    }

    /// `images/100/`, or empty for the root: what stands before the names of a directory.
    package func prefix(of directory: DirectoryId) -> String {
        var text = ""
        var id = directory
        // A directory is never deeper than there are directories; the bound ends a loop that damaged state could have.
        for _ in 0...state.directories.count {
            guard id != .root, let record = state.directories[id] else { break }
            text = record.name + "/" + text
            id = record.parent
        }
        return text
    }

    package func path(of volume: VolumeRecord) -> String { prefix(of: volume.directory) + volume.name }

    package func path(of snapshot: SnapshotRecord, in volume: VolumeRecord) -> String {
        prefix(of: volume.directory) + Names.compose(volume: volume.name, tag: snapshot.tag)
    }

    /// Volumes at or below `path` (nil: all), by path.
    package func volumes(below path: String?) throws(SheepError) -> [(path: String, record: VolumeRecord)] {
        var all = state.volumes.values.filter { !$0.isHidden }.map { (path: self.path(of: $0), record: $0) }
        if let path {
            switch try find(path) {
            case .directory(let id):
                let prefix = prefix(of: id)
                all = all.filter { $0.path.hasPrefix(prefix) }
            case .volume(let id), .snapshot(let id, _): all = all.filter { $0.record.id == id }
            case .groupSnapshot(let id, let tag):
                let members = state.directories[id]?.groupSnapshots[tag]?.members ?? []
                all = all.filter { entry in members.contains { $0.volume == entry.record.id } }
            }
        }
        return all.sorted { $0.path < $1.path }
    }

    private func directory(_ parts: ArraySlice<String>, of path: String) throws(SheepError) -> DirectoryId {
        var directory = DirectoryId.root
        for name in parts {
            guard case .directory(let id) = state.names[DirectoryEntryKey(directory, name)] else {
                throw SheepError(
                    .noEntry, what: "\(path) cannot be made", why: "there is no directory \(name)",
                    remedy: "make it on the mount: mkdir -p")
            }
            directory = id
        }
        return directory
    }

    private func notFound(_ path: String) -> SheepError {
        SheepError(
            .noEntry, what: "there is no \(path)", why: "no volume, snapshot or directory has this name",
            remedy: "see what there is: dog vdi list, dog snapshot list")
    }
}
