// Commands for snapshots, rollback and clones. A snapshot closes the volume's generation; a clone is a volume whose
// lower layer is a snapshot. What clones still need is hidden instead of removed, and goes with the last of them.
import Model
import OrderedCollections

extension CatalogState {
    mutating func snapshot(
        _ members: [SnapshotRequest], _ tag: String, _ group: DirectoryId?, _ wallClock: UInt64,
        _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        if let problem = Names.problem(withTag: tag) { throw problem }
        var seen: Set<VolumeId> = []
        for member in members {
            let volume = try requireVolume(member.volume, term: member.term)
            if !seen.insert(member.volume).inserted || (group != nil && volume.directory != group) {
                throw SheepError(
                    .invalid, what: "No snapshot was made.",
                    why: "\u{22}\(volume.name)\u{22} is named twice, or is not in the group's directory.",
                    remedy: "Name each volume of the group once.")
            }
            if let existing = volume.snapshot(tag) {
                if !member.replaceExisting { throw .exists(Names.compose(volume: volume.name, tag: tag)) }
                if existing.cloneCount > 0 { throw .hasClones(volume, existing) }
            }
            if volume.generation.rawValue >= VolumeRecord.maximumGeneration { throw .exhausted("generation") }
        }
        if let group {
            let directory = try requireDirectory(group)
            if directory.groupSnapshots[tag] != nil { throw .exists(tag) }
        } else if members.isEmpty {
            throw SheepError(
                .invalid, what: "No snapshot was made.", why: "No volume was named.", remedy: "Name a volume.")
        }

        var made: [SnapshotReference] = []
        for member in members {
            if let existing = volumes[member.volume]?.snapshot(tag) {
                removeSnapshot(member.volume, existing.generation, &changes)
            }
            let generation = closeGeneration(member.volume, tag: tag, wallClock, isHidden: false, &changes)
            made.append(SnapshotReference(volume: member.volume, generation: generation))
        }
        if let group {
            directories[group]?.groupSnapshots[tag] = GroupSnapshotRecord(
                tag: tag, createdWallClock: wallClock, members: made)
            changes.append(.directoryChanged(group))
        } else if made.count == 1 {
            return .snapshot(made[0].volume, made[0].generation)
        }
        return .done
    }

    /// The volume's generation becomes a snapshot; the volume goes on in the next one.
    private mutating func closeGeneration(
        _ id: VolumeId, tag: String, _ wallClock: UInt64, isHidden: Bool, _ changes: inout [CatalogChange]
    ) -> Generation {
        guard var volume = volumes[id] else { return .first }
        let generation = volume.generation
        var attributes = volume.attributes
        attributes.mode &= 0o444
        attributes.changeTime = wallClock
        volume.snapshots.append(
            SnapshotRecord(
                tag: tag, generation: generation, hidden: volume.hidden, size: volume.size,
                parentVisibleBytes: volume.parent?.visibleBytes ?? 0, trimFrom: volume.trimFrom,
                attributes: attributes, createdWallClock: wallClock, isHidden: isHidden))
        volume.generation = generation.next
        volumes[id] = volume
        changes += [.snapshotCreated(id, generation), .volumeChanged(id)]
        if !isHidden { changes.append(.name(volume.directory, Names.compose(volume: volume.name, tag: tag))) }
        return generation
    }

    mutating func removeSnapshot(
        _ id: VolumeId, _ tag: String, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let volume = try requireVolume(id)
        let snapshot = try requireSnapshot(volume, tag)
        removeSnapshot(id, snapshot.generation, &changes)
        return .done
    }

    mutating func removeGroupSnapshot(
        _ id: DirectoryId, _ tag: String, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let directory = try requireDirectory(id)
        guard let group = directory.groupSnapshots[tag] else {
            throw SheepError(
                .noEntry, what: "There is no group snapshot \u{22}\(tag)\u{22}.", why: "It was removed, or never made.",
                remedy: "List the directory's .snap.")
        }
        directories[id]?.groupSnapshots[tag] = nil
        changes.append(.directoryChanged(id))
        for member in group.members { removeSnapshot(member.volume, member.generation, &changes) }
        return .done
    }

    /// Removes a visible snapshot: hides it while it has clones.
    mutating func removeSnapshot(_ id: VolumeId, _ generation: Generation, _ changes: inout [CatalogChange]) {
        guard let volume = volumes[id],
            let position = volume.snapshots.firstIndex(where: { $0.generation == generation }),
            !volume.snapshots[position].isHidden
        else { return }
        let snapshot = volume.snapshots[position]
        forgetInGroups(SnapshotReference(volume: id, generation: generation), &changes)
        changes.append(.name(volume.directory, Names.compose(volume: volume.name, tag: snapshot.tag)))
        if snapshot.cloneCount > 0 {
            volumes[id]?.snapshots[position].isHidden = true
            changes += [.snapshotRemoved(id, generation), .volumeChanged(id)]
        } else {
            discardSnapshot(id, generation, &changes)
        }
    }

    private mutating func discardSnapshot(_ id: VolumeId, _ generation: Generation, _ changes: inout [CatalogChange]) {
        release(dropSnapshot(id, generation, &changes), &changes)
    }

    private mutating func forgetInGroups(_ reference: SnapshotReference, _ changes: inout [CatalogChange]) {
        for (id, directory) in directories {
            for (tag, group) in directory.groupSnapshots where group.members.contains(reference) {
                let rest = group.members.filter { $0 != reference }
                if rest.isEmpty {
                    directories[id]?.groupSnapshots[tag] = nil
                } else {
                    directories[id]?.groupSnapshots[tag]?.members = rest
                }
                changes.append(.directoryChanged(id))
            }
        }
    }

    mutating func renameSnapshot(
        _ id: VolumeId, _ from: String, _ to: String, replacing: Bool, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let volume = try requireVolume(id)
        let snapshot = try requireSnapshot(volume, from)
        if let problem = Names.problem(withTag: to) { throw problem }
        if from == to { return .done }
        if let existing = volume.snapshot(to) {
            if !replacing { throw .exists(Names.compose(volume: volume.name, tag: to)) }
            if existing.cloneCount > 0 { throw .hasClones(volume, existing) }
            removeSnapshot(id, existing.generation, &changes)
        }
        edit(id, snapshot.generation) { $0.tag = to }
        changes += [
            .name(volume.directory, Names.compose(volume: volume.name, tag: from)),
            .name(volume.directory, Names.compose(volume: volume.name, tag: to)), .volumeChanged(id),
        ]
        return .done
    }

    mutating func setSnapshotAttributes(
        _ id: VolumeId, _ tag: String, _ attributes: FileAttributes, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let snapshot = try requireSnapshot(try requireVolume(id), tag)
        if attributes.mode & 0o222 != 0 {
            throw SheepError(
                .readOnly, what: "Snapshot \u{22}\(tag)\u{22} cannot be made writable.",
                why: "A snapshot never changes.", remedy: "Clone it, and write to the clone.")
        }
        edit(id, snapshot.generation) {
            $0.attributes = attributes
            $0.attributes.mode &= 0o7777
        }
        changes.append(.volumeChanged(id))
        return .done
    }

    private mutating func edit(_ id: VolumeId, _ generation: Generation, _ body: (inout SnapshotRecord) -> Void) {
        guard let position = volumes[id]?.snapshots.firstIndex(where: { $0.generation == generation }) else { return }
        body(&volumes[id]!.snapshots[position])
    }

    mutating func rollback(
        _ id: VolumeId, _ term: Term, _ tag: String, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        var volume = try requireVolume(id, term: term)
        let snapshot = try requireSnapshot(volume, tag)
        if volume.generation.rawValue >= VolumeRecord.maximumGeneration { throw .exhausted("generation") }
        // The snapshot closed an earlier generation, so there is at least one to hide.
        volume.hidden = snapshot.hidden + [snapshot.generation.next...volume.generation]
        volume.generation = volume.generation.next
        volume.size = snapshot.size
        volume.trimFrom = snapshot.trimFrom
        volume.parent?.visibleBytes = snapshot.parentVisibleBytes
        volumes[id] = volume
        changes.append(.volumeChanged(id))
        return .done
    }

    // MARK: clones

    mutating func clone(
        _ source: SnapshotReference, _ directory: DirectoryId, _ name: String, _ copies: Int?,
        _ attributes: FileAttributes, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let volume = try requireVolume(source.volume)
        guard let snapshot = volume.snapshot(source.generation), !snapshot.isHidden else {
            throw SheepError(
                .noEntry, what: "The snapshot of \u{22}\(volume.name)\u{22} does not exist.",
                why: "It was removed meanwhile.", remedy: "Make a new snapshot.")
        }
        try requireFree(directory, volumeName: name)
        if let copies { try requireCopies(copies) }
        let id = try newVolumeId()
        insertClone(id, of: source, directory, name, copies ?? volume.targetCopies, attributes, &changes)
        return .volume(id)
    }

    mutating func cloneCurrent(
        _ source: VolumeId, _ term: Term, _ directory: DirectoryId, _ name: String, _ attributes: FileAttributes,
        _ wallClock: UInt64, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let volume = try requireVolume(source, term: term)
        try requireFree(directory, volumeName: name)
        if volume.generation.rawValue >= VolumeRecord.maximumGeneration { throw .exhausted("generation") }
        let id = try newVolumeId()
        let generation = closeGeneration(
            source, tag: Names.internalTag(volume.generation), wallClock, isHidden: true, &changes)
        insertClone(
            id, of: SnapshotReference(volume: source, generation: generation), directory, name, volume.targetCopies,
            attributes, &changes)
        return .volume(id)
    }

    private mutating func insertClone(
        _ id: VolumeId, of source: SnapshotReference, _ directory: DirectoryId, _ name: String, _ copies: Int,
        _ attributes: FileAttributes, _ changes: inout [CatalogChange]
    ) {
        let size = volumes[source.volume]?.snapshot(source.generation)?.size ?? 0
        edit(source.volume, source.generation) { $0.cloneCount += 1 }
        var attributes = attributes
        attributes.mode &= 0o7777
        insert(
            VolumeRecord(
                id: id, directory: directory, name: name, size: size, copies: copies, generation: .first,
                parent: ParentReference(volume: source.volume, generation: source.generation, visibleBytes: size),
                attributes: attributes, createdWallClock: attributes.changeTime), &changes)
        changes.append(.volumeChanged(source.volume))
    }

    /// The current view needs nothing of the parent any more. The link itself stays as long as a snapshot made
    /// before still reads through it.
    mutating func flattened(
        _ id: VolumeId, _ term: Term, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let volume = try requireVolume(id, term: term)
        if volume.parent == nil { return .done }
        volumes[id]?.parent?.visibleBytes = 0
        changes.append(.volumeChanged(id))
        releaseParentIfUnneeded(id, &changes)
        return .done
    }

    mutating func releaseParentIfUnneeded(_ id: VolumeId, _ changes: inout [CatalogChange]) {
        release(cutParent(id, &changes), &changes)
    }

    /// One clone less reads through this snapshot. What that frees may free something further up: a loop, because a
    /// family can be deeper than the stack.
    private mutating func release(_ parent: ParentReference?, _ changes: inout [CatalogChange]) {
        var next = parent
        while let parent = next {
            next = nil
            edit(parent.volume, parent.generation) { $0.cloneCount = max(0, $0.cloneCount - 1) }
            if let snapshot = volumes[parent.volume]?.snapshot(parent.generation), snapshot.isHidden,
                snapshot.cloneCount == 0
            {
                next = dropSnapshot(parent.volume, parent.generation, &changes)
            } else {
                changes.append(.volumeChanged(parent.volume))
            }
        }
    }

    /// Takes the snapshot's record away; nobody reads through it any more. The volume may go with its last one.
    /// Answers the parent that one clone less reads through now, if any; so do the next two.
    private mutating func dropSnapshot(
        _ id: VolumeId, _ generation: Generation, _ changes: inout [CatalogChange]
    ) -> ParentReference? {
        volumes[id]?.snapshots.removeAll { $0.generation == generation }
        changes += [.snapshotRemoved(id, generation), .volumeChanged(id)]
        if let volume = volumes[id], volume.isHidden, volume.snapshots.isEmpty { return dropVolume(id, &changes) }
        return cutParent(id, &changes)
    }

    /// Cuts the link to the parent when neither the current view nor a snapshot shows anything of it.
    private mutating func cutParent(_ id: VolumeId, _ changes: inout [CatalogChange]) -> ParentReference? {
        guard let volume = volumes[id], let parent = volume.parent else { return nil }
        if !volume.isHidden && parent.visibleBytes > 0 { return nil }
        if volume.snapshots.contains(where: { $0.parentVisibleBytes > 0 }) { return nil }
        volumes[id]?.parent = nil
        changes.append(.volumeChanged(id))
        return parent
    }

    /// Nothing of the volume can be reached any more: stores remove its objects.
    private mutating func dropVolume(_ id: VolumeId, _ changes: inout [CatalogChange]) -> ParentReference? {
        guard let volume = volumes.removeValue(forKey: id) else { return nil }
        let stores = map.stores.map(\.id)
        if !stores.isEmpty { deletedVolumes[id] = DeletedVolume(id: id, stores: stores) }
        changes.append(.volumeRemoved(id))
        return volume.parent
    }

    // MARK: the end of a volume

    /// The volume has lost its name: hides it while clones need its snapshots, else deletes it.
    mutating func hideOrDelete(_ id: VolumeId, _ changes: inout [CatalogChange]) {
        guard let volume = volumes[id] else { return }
        if volume.snapshots.isEmpty {
            release(dropVolume(id, &changes), &changes)
            return
        }
        volumes[id]?.isHidden = true
        volumes[id]?.lease = nil
        volumes[id]?.trimFrom = nil
        changes.append(.volumeRemoved(id))
        releaseParentIfUnneeded(id, &changes)
    }

    mutating func pruned(_ id: VolumeId, _ store: StoreId) -> CommandAnswer {
        deletedVolumes[id]?.stores.removeAll { $0 == store }
        if let deleted = deletedVolumes[id], deleted.stores.isEmpty { deletedVolumes[id] = nil }
        return .done
    }
}
