// The namespace as a function of the catalog: which node a name in a directory is, and what a directory lists.
// Without memory: the same state gives the same answer in any process. Attributes and contents are elsewhere.
import Catalog
import Model
import OrderedCollections

struct Namespace {
    let state: CatalogState
    /// The directory that is the mount's root.
    let root: DirectoryId
    let showsSnapshots: Bool

    struct Entry {
        let name: String
        let node: Node
    }

    // MARK: What exists

    func snapshot(_ volume: VolumeId, _ generation: Generation) -> SnapshotRecord? {
        guard let snapshot = state.visibleVolume(volume)?.snapshot(generation), !snapshot.isHidden else { return nil }
        return snapshot
    }
    func volume(_ directory: DirectoryId, _ name: String) -> VolumeRecord? {
        guard case .volume(let id)? = state.names[DirectoryEntryKey(directory, name)] else { return nil }
        return state.visibleVolume(id)
    }
    func group(_ directory: DirectoryId, hash: UInt32) -> GroupSnapshotRecord? {
        state.directories[directory]?.groupSnapshots.values.first { Node.hash(ofTag: $0.tag) == hash }
    }
    /// Clones that users see below a snapshot.
    func clones(of volume: VolumeId, _ generation: Generation) -> [VolumeRecord] {
        state.volumes.values.filter { clone in
            guard let parent = clone.parent, !clone.isHidden, parent.visibleBytes > 0 else { return false }
            return parent.volume == volume && parent.generation == generation
        }
    }
    private func volumes(in directory: DirectoryId) -> [VolumeRecord] {
        state.volumes.values.filter { $0.directory == directory && !$0.isHidden }
    }

    func exists(_ node: Node) -> Bool {
        switch node {
        case .directory(let id), .snapshots(let id), .lineageDirectory(let id): state.directories[id] != nil
        case .volume(let id), .lineageVolume(let id): state.visibleVolume(id) != nil
        case .snapshot(let id, let generation), .lineageSnapshot(let id, let generation):
            snapshot(id, generation) != nil
        case .groupSnapshot(let id, let hash): group(id, hash: hash) != nil
        case .control, .text: true
        }
    }

    // MARK: Names to nodes

    func lookup(_ parent: Node, _ name: String) -> Node? {
        switch parent {
        case .directory(let id): lookup(inDirectory: id, name)
        case .snapshots(let id):
            state.directories[id]?.groupSnapshots[name].map { _ in .groupSnapshot(id, tagHash: Node.hash(ofTag: name)) }
        case .control: ControlFile.allCases.first { $0.name == name }.map { .text($0) }
        case .groupSnapshot, .lineageDirectory, .lineageVolume, .lineageSnapshot:
            list(parent).first { $0.name == name }?.node
        case .volume, .snapshot, .text: nil
        }
    }

    private func lookup(inDirectory id: DirectoryId, _ name: String) -> Node? {
        switch state.names[DirectoryEntryKey(id, name)] {
        case .volume(let volume)?: return .volume(volume)
        case .directory(let directory)?: return .directory(directory)
        case nil: break
        }
        guard state.directories[id] != nil else { return nil }
        switch name {
        case ReservedName.snapshots: return .snapshots(id)
        case ReservedName.control: return id == root ? .control : nil
        case ReservedName.lineage: return id == root ? .lineageDirectory(root) : nil
        default: break
        }
        return snapshot(inDirectory: id, named: name).map { .snapshot($0.volume, $0.generation) }
    }

    /// The snapshot that `name` means in a directory: `vol@tag.img`, or one of the temporary names.
    func snapshot(inDirectory id: DirectoryId, named name: String) -> SnapshotReference? {
        if case .snapshot(let volumeName, let tag) = EntryName(name), let record = volume(id, volumeName),
            let snapshot = record.snapshot(tag)
        {
            return SnapshotReference(volume: record.id, generation: snapshot.generation)
        }
        if let temporary = EntryName.writtenTemporary(name), let record = volume(id, temporary.volume),
            let snapshot = record.snapshot(temporary.tag)
        {
            return SnapshotReference(volume: record.id, generation: snapshot.generation)
        }
        if EntryName.isLinkTemporary(name) {
            for record in volumes(in: id) {
                if let snapshot = record.snapshot(name) {
                    return SnapshotReference(volume: record.id, generation: snapshot.generation)
                }
            }
        }
        return nil
    }

    // MARK: Listings

    /// The entries of a directory, without `.` and `..`.
    func list(_ node: Node) -> [Entry] {
        switch node {
        case .directory(let id): listDirectory(id)
        case .snapshots(let id):
            (state.directories[id]?.groupSnapshots.keys).map { tags in
                tags.map { Entry(name: $0, node: .groupSnapshot(id, tagHash: Node.hash(ofTag: $0))) }
            } ?? []
        case .groupSnapshot(let id, let hash): listGroup(id, hash)
        case .control: ControlFile.allCases.map { Entry(name: $0.name, node: .text($0)) }
        case .lineageDirectory(let id): listLineage(id)
        case .lineageVolume(let id):
            (state.visibleVolume(id)?.visibleSnapshots ?? []).map {
                Entry(name: $0.tag, node: .lineageSnapshot(id, $0.generation))
            }
        case .lineageSnapshot(let id, let generation): listClones(id, generation)
        case .volume, .snapshot, .text: []
        }
    }

    private func directories(in id: DirectoryId) -> [DirectoryRecord] {
        state.directories.values.filter { $0.parent == id && $0.id != id }
    }

    private func listDirectory(_ id: DirectoryId) -> [Entry] {
        var entries: [Entry] = []
        if id == root { entries.append(Entry(name: ReservedName.lineage, node: .lineageDirectory(root))) }
        for directory in directories(in: id) {
            entries.append(Entry(name: directory.name, node: .directory(directory.id)))
        }
        for volume in volumes(in: id) {
            entries.append(Entry(name: volume.name, node: .volume(volume.id)))
            guard showsSnapshots else { continue }
            for snapshot in volume.visibleSnapshots {
                entries.append(
                    Entry(
                        name: Names.compose(volume: volume.name, tag: snapshot.tag),
                        node: .snapshot(volume.id, snapshot.generation)))
            }
        }
        return entries
    }

    private func listGroup(_ id: DirectoryId, _ hash: UInt32) -> [Entry] {
        var seen: Set<String> = []
        return (group(id, hash: hash)?.members ?? []).compactMap { member in
            guard let volume = state.volumes[member.volume], snapshot(member.volume, member.generation) != nil,
                seen.insert(volume.name).inserted
            else { return nil }
            return Entry(name: volume.name, node: .snapshot(member.volume, member.generation))
        }
    }

    /// Directories, and the volumes that are nobody's visible clone: those stand below their snapshot.
    private func listLineage(_ id: DirectoryId) -> [Entry] {
        directories(in: id).map { Entry(name: $0.name, node: .lineageDirectory($0.id)) }
            + volumes(in: id).filter { volume in
                guard let parent = volume.parent, parent.visibleBytes > 0 else { return true }
                return snapshot(parent.volume, parent.generation) == nil
            }.map { Entry(name: $0.name, node: .lineageVolume($0.id)) }
    }

    /// Clones by their names; those that live in another directory than the snapshot's volume have its path before
    /// the name, with `:` for `/`.
    private func listClones(_ id: VolumeId, _ generation: Generation) -> [Entry] {
        guard let source = state.volumes[id], snapshot(id, generation) != nil else { return [] }
        return clones(of: id, generation).map { clone in
            let name =
                clone.directory == source.directory
                ? clone.name : (path(of: clone.directory) + [clone.name]).joined(separator: ":")
            return Entry(name: name, node: .lineageVolume(clone.id))
        }
    }

    /// The names from the cluster's root to a directory.
    func path(of directory: DirectoryId) -> [String] {
        var names: [String] = []
        var current = directory
        while current != .root, let record = state.directories[current], names.count < 4096 {
            names.append(record.name)
            current = record.parent
        }
        return names.reversed()
    }

    /// The directory that an option's path means, from the cluster's root.
    static func directory(_ path: [String], in state: CatalogState) -> DirectoryId? {
        var current = DirectoryId.root
        for name in path {
            guard case .directory(let next)? = state.names[DirectoryEntryKey(current, name)] else { return nil }
            current = next
        }
        return current
    }
}
