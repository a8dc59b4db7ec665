// Commands of the namespace: volumes and directories, their names, sizes and attributes.
// A name stands for one thing, and ids are never reused.
import Model
import OrderedCollections

extension CatalogState {
    mutating func createVolume(
        _ directory: DirectoryId, _ name: String, _ size: UInt64, _ copies: Int?, _ attributes: FileAttributes,
        _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        try requireFree(directory, volumeName: name)
        try requireSize(size)
        if let copies { try requireCopies(copies) }
        let id = try newVolumeId()
        insert(
            VolumeRecord(
                id: id, directory: directory, name: name, size: size, copies: copies ?? settings.copies,
                generation: .first, attributes: attributes.clean, createdWallClock: attributes.changeTime), &changes)
        return .volume(id)
    }

    /// The id of the volume to be made next; `insert` takes it.
    func newVolumeId() throws(SheepError) -> VolumeId {
        if nextVolumeId == .max { throw .exhausted("volume id") }
        return VolumeId(nextVolumeId)
    }

    mutating func insert(_ volume: VolumeRecord, _ changes: inout [CatalogChange]) {
        nextVolumeId = volume.id.rawValue + 1
        volumes[volume.id] = volume
        names[DirectoryEntryKey(volume.directory, volume.name)] = .volume(volume.id)
        changes += [.volumeCreated(volume.id), .name(volume.directory, volume.name)]
    }

    func requireSize(_ size: UInt64) throws(SheepError) {
        if size <= maximumVolumeSize { return }
        throw SheepError(
            .fileTooBig, what: "A volume cannot have \(size) bytes.",
            why: "The largest has \(maximumVolumeSize) bytes.", remedy: "Use several volumes.")
    }

    mutating func createDirectory(
        _ parent: DirectoryId, _ name: String, _ attributes: FileAttributes, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        _ = try requireDirectory(parent)
        if let problem = Names.problem(withDirectoryName: name) { throw problem }
        if entry(parent, name) != nil { throw .exists(name) }
        if nextDirectoryId == .max { throw .exhausted("directory id") }
        let id = DirectoryId(nextDirectoryId)
        nextDirectoryId += 1
        directories[id] = DirectoryRecord(id: id, parent: parent, name: name, attributes: attributes.clean)
        names[DirectoryEntryKey(parent, name)] = .directory(id)
        changes += [.directoryCreated(id), .name(parent, name)]
        return .directory(id)
    }

    mutating func removeDirectory(
        _ id: DirectoryId, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let directory = try requireDirectory(id)
        if id == .root { throw .rootStays }
        try requireEmpty(directory)
        drop(directory, &changes)
        return .done
    }

    private func requireEmpty(_ directory: DirectoryRecord) throws(SheepError) {
        let hasEntries =
            volumes.values.contains { $0.directory == directory.id && !$0.isHidden }
            || directories.values.contains { $0.parent == directory.id && $0.id != .root }
        let hasGroups = directory.groupSnapshots.values.contains { !$0.members.isEmpty }
        if !hasEntries && !hasGroups { return }
        throw SheepError(
            .notEmpty, what: "\u{22}\(directory.name)\u{22} was not removed.",
            why: hasEntries ? "It is not empty." : "It has group snapshots.",
            remedy: hasEntries ? "Remove what is in it first." : "Remove those under .snap first.")
    }

    private mutating func drop(_ directory: DirectoryRecord, _ changes: inout [CatalogChange]) {
        directories[directory.id] = nil
        names[DirectoryEntryKey(directory.parent, directory.name)] = nil
        changes += [.directoryRemoved(directory.id), .name(directory.parent, directory.name)]
    }

    mutating func renameDirectory(
        _ id: DirectoryId, _ parent: DirectoryId, _ name: String, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let directory = try requireDirectory(id)
        if id == .root { throw .rootStays }
        _ = try requireDirectory(parent)
        if let problem = Names.problem(withDirectoryName: name) { throw problem }
        var above = parent
        while above != .root {
            if above == id {
                throw SheepError(
                    .invalid, what: "\u{22}\(directory.name)\u{22} was not moved.",
                    why: "The new place is inside it.", remedy: "Choose another place.")
            }
            above = directories[above]?.parent ?? .root
        }
        switch entry(parent, name) {
        case .volume:
            throw SheepError(
                .notDirectory, what: "\u{22}\(directory.name)\u{22} was not renamed.",
                why: "\u{22}\(name)\u{22} is a volume.", remedy: "Choose another name.")
        case .directory(let other) where other != id:
            let replaced = try requireDirectory(other)
            try requireEmpty(replaced)
            drop(replaced, &changes)
        default: break
        }
        names[DirectoryEntryKey(directory.parent, directory.name)] = nil
        directories[id]?.parent = parent
        directories[id]?.name = name
        names[DirectoryEntryKey(parent, name)] = .directory(id)
        changes += [.name(directory.parent, directory.name), .name(parent, name), .directoryChanged(id)]
        return .done
    }

    mutating func removeVolume(
        _ id: VolumeId, recursive: Bool, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let volume = try requireVolume(id)
        if !recursive, !volume.visibleSnapshots.isEmpty { throw .hasSnapshots(volume) }
        unname(volume, &changes)
        for snapshot in volume.visibleSnapshots { removeSnapshot(id, snapshot.generation, &changes) }
        hideOrDelete(id, &changes)
        return .done
    }

    mutating func renameVolume(
        _ id: VolumeId, _ directory: DirectoryId, _ name: String, replacing: Bool, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let volume = try requireVolume(id)
        _ = try requireDirectory(directory)
        if let problem = Names.problem(withVolumeName: name) { throw problem }
        switch entry(directory, name) {
        case .directory:
            throw SheepError(
                .isDirectory, what: "\u{22}\(volume.name)\u{22} was not renamed.",
                why: "\u{22}\(name)\u{22} is a directory.", remedy: "Choose another name.")
        case .volume(let other) where other != id:
            if !replacing { throw .exists(name) }
            let replaced = try requireVolume(other)
            if !replaced.visibleSnapshots.isEmpty { throw .hasSnapshots(replaced) }
            unname(replaced, &changes)
            hideOrDelete(other, &changes)
        default: break
        }
        unname(volume, &changes)
        volumes[id]?.directory = directory
        volumes[id]?.name = name
        names[DirectoryEntryKey(directory, name)] = .volume(id)
        changes.append(.name(directory, name))
        for snapshot in volume.visibleSnapshots {
            changes.append(.name(directory, Names.compose(volume: name, tag: snapshot.tag)))
        }
        changes.append(.volumeChanged(id))
        return .done
    }

    /// Takes the volume's name, and with it those of its snapshots, out of the namespace.
    private mutating func unname(_ volume: VolumeRecord, _ changes: inout [CatalogChange]) {
        names[DirectoryEntryKey(volume.directory, volume.name)] = nil
        changes.append(.name(volume.directory, volume.name))
        for snapshot in volume.visibleSnapshots {
            changes.append(.name(volume.directory, Names.compose(volume: volume.name, tag: snapshot.tag)))
        }
    }

    mutating func setAttributes(
        _ id: VolumeId, _ attributes: FileAttributes, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        _ = try requireVolume(id)
        volumes[id]?.attributes = attributes.clean
        changes.append(.volumeChanged(id))
        return .done
    }

    mutating func setDirectoryAttributes(
        _ id: DirectoryId, _ attributes: FileAttributes, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        _ = try requireDirectory(id)
        directories[id]?.attributes = attributes.clean
        changes.append(.directoryChanged(id))
        return .done
    }

    mutating func setVolumeCopies(
        _ id: VolumeId, _ copies: Int, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let volume = try requireVolume(id)
        try requireCopies(copies)
        // Fewer hold at once. More have to be made first: until then the additional targets prove nothing.
        volumes[id]?.copies = min(copies, volume.copies)
        volumes[id]?.wantedCopies = copies > volume.copies ? copies : nil
        changes.append(.volumeChanged(id))
        return .done
    }

    mutating func copiesReached(
        _ id: VolumeId, _ copies: Int, _ epoch: Epoch, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let volume = try requireVolume(id)
        try requireEpoch(epoch)
        guard volume.wantedCopies == copies else { return .done }
        volumes[id]?.copies = copies
        volumes[id]?.wantedCopies = nil
        changes.append(.volumeChanged(id))
        return .done
    }

    mutating func resize(
        _ id: VolumeId, _ size: UInt64, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let volume = try requireVolume(id)
        try requireSize(size)
        if size == volume.size { return .done }
        if size > volume.size, volume.trimFrom != nil {
            throw SheepError(
                .busy, what: "\u{22}\(volume.name)\u{22} cannot grow yet.",
                why: "What was cut off is still being given back.", remedy: "Try again in a moment.")
        }
        if size < volume.size {
            volumes[id]?.trimFrom = min(size, volume.trimFrom ?? size)
            if let parent = volume.parent { volumes[id]?.parent?.visibleBytes = min(parent.visibleBytes, size) }
        }
        volumes[id]?.size = size
        changes.append(.volumeChanged(id))
        releaseParentIfUnneeded(id, &changes)
        return .done
    }

    mutating func trimmed(_ id: VolumeId, _ changes: inout [CatalogChange]) throws(SheepError) -> CommandAnswer {
        let volume = try requireVolume(id)
        if volume.trimFrom == nil { return .done }
        volumes[id]?.trimFrom = nil
        changes.append(.volumeChanged(id))
        return .done
    }
}

extension FileAttributes {
    /// Without anything but permission bits in the mode.
    fileprivate var clean: FileAttributes {
        var clean = self
        clean.mode &= 0o7777
        return clean
    }
}

extension SheepError {
    fileprivate static var rootStays: SheepError {
        SheepError(
            .busy, what: "The root directory cannot be moved or removed.", why: "Everything stands in it.",
            remedy: "Name a directory below it.")
    }
}
