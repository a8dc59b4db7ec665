// What must hold of every state: checked when a state is read from outside, and after every command in tests.
// Changes nothing.
import Model
import OrderedCollections

extension CatalogState {
    /// What is wrong with the state, in a few words; nil when it is consistent.
    package func inconsistency() -> String? {
        namespaceInconsistency() ?? volumeInconsistency() ?? mapInconsistency()
    }

    private func namespaceInconsistency() -> String? {
        guard let root = directories[.root], root.parent == .root else { return "no root directory" }
        var count = 0
        for (id, directory) in directories {
            guard directory.id == id, id.rawValue != 0, id.rawValue < nextDirectoryId else { return "directory id" }
            if id != .root {
                count += 1
                guard Names.problem(withDirectoryName: directory.name) == nil,
                    entry(directory.parent, directory.name) == .directory(id)
                else { return "directory name" }
                var above = directory.parent
                for _ in 0...directories.count {
                    if above == .root { break }
                    guard let next = directories[above] else { return "directory without parent" }
                    above = next.parent
                }
                if above != .root { return "directory inside itself" }
            }
            for (tag, group) in directory.groupSnapshots {
                guard group.tag == tag, Names.problem(withTag: tag) == nil else { return "group tag" }
                for member in group.members {
                    guard let snapshot = visibleVolume(member.volume)?.snapshot(member.generation),
                        !snapshot.isHidden
                    else { return "group of a snapshot that does not exist" }
                }
            }
        }
        for volume in volumes.values where !volume.isHidden {
            count += 1
            guard directories[volume.directory] != nil, Names.problem(withVolumeName: volume.name) == nil,
                entry(volume.directory, volume.name) == .volume(volume.id)
            else { return "volume name" }
        }
        return names.count == count ? nil : "names"
    }

    private func volumeInconsistency() -> String? {
        var clones: [SnapshotReference: Int] = [:]
        for volume in volumes.values {
            guard let parent = volume.parent else { continue }
            guard parent.volume < volume.id, parent.visibleBytes <= volume.size,
                volumes[parent.volume]?.snapshot(parent.generation) != nil
            else { return "parent" }
            clones[SnapshotReference(volume: parent.volume, generation: parent.generation), default: 0] += 1
        }
        for (id, volume) in volumes {
            guard volume.id == id, id.rawValue != 0, id.rawValue < nextVolumeId, deletedVolumes[id] == nil else {
                return "volume id"
            }
            guard volume.size <= maximumVolumeSize, (1...7).contains(volume.copies),
                volume.wantedCopies.map({ (volume.copies + 1...7).contains($0) }) ?? true,
                volume.generation >= .first, volume.generation.rawValue <= VolumeRecord.maximumGeneration,
                isSane(volume.hidden, below: volume.generation),
                (volume.lease?.term ?? .none) <= volume.term
            else { return "volume" }
            if volume.isHidden, volume.snapshots.isEmpty || !volume.visibleSnapshots.isEmpty {
                return "hidden volume"
            }
            var newest = Generation(0)
            var tags: Set<String> = []
            for snapshot in volume.snapshots {
                guard snapshot.generation > newest, snapshot.generation < volume.generation,
                    isSane(snapshot.hidden, below: snapshot.generation), snapshot.size <= maximumVolumeSize,
                    snapshot.parentVisibleBytes <= snapshot.size,
                    volume.parent != nil || snapshot.parentVisibleBytes == 0
                else { return "snapshot" }
                newest = snapshot.generation
                if !snapshot.isHidden {
                    guard Names.problem(withTag: snapshot.tag) == nil, tags.insert(snapshot.tag).inserted else {
                        return "tag"
                    }
                }
                let reference = SnapshotReference(volume: id, generation: snapshot.generation)
                guard snapshot.cloneCount == clones[reference, default: 0],
                    !snapshot.isHidden || snapshot.cloneCount > 0
                else { return "clone count" }
            }
        }
        for (id, deleted) in deletedVolumes {
            guard deleted.id == id, id.rawValue < nextVolumeId, !deleted.stores.isEmpty,
                deleted.stores.allSatisfy({ map.store($0) != nil })
            else { return "deleted volume" }
        }
        return nil
    }

    private func isSane(_ hidden: [ClosedRange<Generation>], below top: Generation) -> Bool {
        zip(hidden, hidden.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound }
            && (hidden.last.map { $0.upperBound < top } ?? true)
            && (hidden.first.map { $0.lowerBound >= .first } ?? true)
    }

    private func mapInconsistency() -> String? {
        guard (1...7).contains(settings.copies), (0...settings.copies).contains(settings.minCopies),
            (0...ClusterMap.maximumStores).contains(map.joinedZones)
        else { return "settings" }
        var known = InSyncSets(levelCount: map.levelCount)
        for store in map.stores {
            guard store.id.rawValue != 0, store.weight <= ClusterMap.maximumWeight else { return "store" }
            guard store.inSync.levels.count == map.levelCount else { return "in-sync ranges" }
            if let adoption = store.adoption {
                guard adoption.ranges.levels.count == map.levelCount, !adoption.ranges.isEmpty,
                    adoption.since <= map.epoch,
                    (1...map.levelCount).allSatisfy({
                        store.inSync[copies: $0].isSuperset(of: adoption.ranges[copies: $0])
                    })
                else { return "adoption" }
            }
            if let broken = store.broken {
                guard broken.levels.count == map.levelCount, !broken.isEmpty,
                    (1...map.levelCount).allSatisfy({
                        store.inSync[copies: $0].isSuperset(of: broken[copies: $0])
                    })
                else { return "broken sessions" }
            }
            for copies in 1...map.levelCount { known[copies: copies].formUnion(store.inSync[copies: copies]) }
        }
        if map.onRing.zoneCount > 0, known.levels.contains(where: { $0.count != rangeCount }) {
            return "a range without an in-sync store"
        }
        for list in [catalogStores] + unconfirmedCatalogStores {
            guard zip(list, list.dropFirst()).allSatisfy({ $0 < $1 }), list.count <= ClusterMap.maximumStores else {
                return "catalog stores"
            }
        }
        return nil
    }
}
