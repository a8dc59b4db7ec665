// What changed between two states, for a node that gets the state whole instead of entry by entry: its observers hear
// the same kinds of changes as from entries, so that what they derived is right again. They look at the new state and at
// what changed, never at the steps between.
import Model
import OrderedCollections

extension CatalogState {
    /// Everything that differs from an older state of the same cluster, each thing once.
    package func changes(since old: CatalogState) -> [CatalogChange] {
        var changes: [CatalogChange] = []
        if settings != old.settings { changes.append(.settings) }
        if !map.isAsBefore(old.map) { changes.append(.map) }
        for (id, directory) in directories {
            guard let before = old.directories[id] else {
                changes.append(.directoryCreated(id))
                continue
            }
            if directory != before { changes.append(.directoryChanged(id)) }
        }
        for id in old.directories.keys where directories[id] == nil { changes.append(.directoryRemoved(id)) }
        for volume in volumes.values { volume.addChanges(since: old.volumes[volume.id], &changes) }
        for volume in old.volumes.values where volumes[volume.id] == nil {
            for snapshot in volume.snapshots { changes.append(.snapshotRemoved(volume.id, snapshot.generation)) }
            changes.append(.volumeRemoved(volume.id))
        }
        // One that came and went in between may have left objects.
        for id in deletedVolumes.keys where old.deletedVolumes[id] == nil && old.volumes[id] == nil {
            changes.append(.volumeRemoved(id))
        }
        addNames(since: old, &changes)
        return changes
    }

    private enum Named: Hashable {
        case entry(DirectoryEntry)
        case snapshot(SnapshotReference)
    }
    /// All names that users see, in the order of what they stand for.
    private var allNames: OrderedDictionary<DirectoryEntryKey, Named> {
        var all: OrderedDictionary<DirectoryEntryKey, Named> = [:]
        for directory in directories.values where directory.id != .root {
            all[DirectoryEntryKey(directory.parent, directory.name)] = .entry(.directory(directory.id))
        }
        for volume in volumes.values where !volume.isHidden {
            all[DirectoryEntryKey(volume.directory, volume.name)] = .entry(.volume(volume.id))
            for snapshot in volume.visibleSnapshots {
                let name = Names.compose(volume: volume.name, tag: snapshot.tag)
                all[DirectoryEntryKey(volume.directory, name)] = .snapshot(
                    SnapshotReference(volume: volume.id, generation: snapshot.generation))
            }
        }
        return all
    }
    private func addNames(since old: CatalogState, _ changes: inout [CatalogChange]) {
        let before = old.allNames
        let after = allNames
        for (key, named) in after where before[key] != named { changes.append(.name(key.directory, key.name)) }
        for key in before.keys where after[key] == nil { changes.append(.name(key.directory, key.name)) }
    }
}

extension VolumeRecord {
    fileprivate func addChanges(since old: VolumeRecord?, _ changes: inout [CatalogChange]) {
        if self == old { return }
        changes.append(old == nil ? .volumeCreated(id) : .volumeChanged(id))
        for snapshot in snapshots where old?.snapshot(snapshot.generation) == nil {
            changes.append(.snapshotCreated(id, snapshot.generation))
        }
        for snapshot in old?.snapshots ?? [] {
            let now = self.snapshot(snapshot.generation)
            if now == nil || (now!.isHidden && !snapshot.isHidden) {
                changes.append(.snapshotRemoved(id, snapshot.generation))
            }
        }
        if isHidden, old.map({ !$0.isHidden }) ?? true { changes.append(.volumeRemoved(id)) }
    }
}

extension ClusterMap {
    fileprivate func isAsBefore(_ old: ClusterMap) -> Bool {
        epoch == old.epoch && stores == old.stores && onRing == old.onRing && toRing == old.toRing
            && joinedZones == old.joinedZones && moveIsReplaceable == old.moveIsReplaceable
    }
}
