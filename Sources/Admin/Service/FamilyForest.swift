// The families of volumes: a volume, its snapshots, their clones, and so on. Built without recursion's risk from a
// damaged catalog: a volume appears once, wherever it is met first.
import Catalog
import Model
import OrderedCollections

struct FamilyForest {
    private let names: NamePaths
    private let clones: [SnapshotReference: [VolumeRecord]]

    /// The size that users see.
    private let size: (VolumeRecord) -> UInt64

    init(_ names: NamePaths, size: @escaping (VolumeRecord) -> UInt64) {
        self.names = names
        self.size = size
        var clones: [SnapshotReference: [VolumeRecord]] = [:]
        for record in names.state.volumes.values {
            guard let parent = record.parent else { continue }
            clones[SnapshotReference(volume: parent.volume, generation: parent.generation), default: []].append(record)
        }
        self.clones = clones.mapValues { list in list.sorted { names.path(of: $0) < names.path(of: $1) } }
    }

    /// nil: every family, from its root, also those whose root is deleted but kept. A volume: the family below it.
    /// A directory: those of its volumes whose parent is not in it.
    func nodes(below path: String?) throws(SheepError) -> [FamilyNode] {
        var chosen = try names.volumes(below: path).map(\.record)
        if path == nil { chosen += names.state.volumes.values.filter(\.isHidden) }
        let ids = Set(chosen.map(\.id))
        var seen: Set<VolumeId> = []
        return chosen.filter { record in record.parent.map { !ids.contains($0.volume) } ?? true }
            .compactMap { node($0, &seen) }
    }

    private func node(_ record: VolumeRecord, _ seen: inout Set<VolumeId>) -> FamilyNode? {
        guard seen.insert(record.id).inserted else { return nil }
        var snapshots: [FamilyNode] = []
        for snapshot in record.snapshots {
            let reference = SnapshotReference(volume: record.id, generation: snapshot.generation)
            var children: [FamilyNode] = []
            for clone in clones[reference] ?? [] { if let child = node(clone, &seen) { children.append(child) } }
            if snapshot.isHidden && children.isEmpty { continue }
            snapshots.append(
                FamilyNode(
                    kind: snapshot.isHidden ? "deleted-snapshot" : "snapshot",
                    name: snapshot.isHidden ? "" : snapshot.tag, size: snapshot.size,
                    created: TimeText.iso8601(nanoseconds: snapshot.createdWallClock), children: children))
        }
        if record.isHidden && snapshots.isEmpty { return nil }
        return FamilyNode(
            kind: record.isHidden ? "deleted-volume" : "volume", name: record.isHidden ? "" : names.path(of: record),
            size: size(record),
            created: TimeText.iso8601(nanoseconds: record.createdWallClock), children: snapshots)
    }
}
