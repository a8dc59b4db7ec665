// Finding things in the state, and the refusals that finding nothing comes to. Changes nothing.
import Model
import OrderedCollections

extension CatalogState {
    /// What stands under this name. Snapshots are not found here (see `Names.parse`).
    package func entry(_ directory: DirectoryId, _ name: String) -> DirectoryEntry? {
        names[DirectoryEntryKey(directory, name)]
    }

    /// The volume, unless it was removed (and is kept for its clones only).
    package func visibleVolume(_ id: VolumeId) -> VolumeRecord? {
        guard let volume = volumes[id], !volume.isHidden else { return nil }
        return volume
    }

    func requireVolume(_ id: VolumeId) throws(SheepError) -> VolumeRecord {
        if let volume = visibleVolume(id) { return volume }
        throw SheepError(
            .noEntry, what: "Volume \(id) does not exist.", why: "It was removed, or never made.",
            remedy: "Look at the names that exist now.")
    }

    /// The volume, provided that nobody took its lease since `term`.
    func requireVolume(_ id: VolumeId, term: Term) throws(SheepError) -> VolumeRecord {
        let volume = try requireVolume(id)
        if volume.term == term { return volume }
        throw SheepError(
            .tryAgain, what: "\u{22}\(volume.name)\u{22} was not changed.",
            why: "Its lease moved on (term \(volume.term), not \(term)) while this was asked.", remedy: "Try again.")
    }

    func requireDirectory(_ id: DirectoryId) throws(SheepError) -> DirectoryRecord {
        if let directory = directories[id] { return directory }
        throw SheepError(
            .noEntry, what: "The directory does not exist.", why: "It was removed meanwhile.",
            remedy: "Make it again, or use another one.")
    }

    func requireSnapshot(_ volume: VolumeRecord, _ tag: String) throws(SheepError) -> SnapshotRecord {
        if let snapshot = volume.snapshot(tag) { return snapshot }
        throw SheepError(
            .noEntry, what: "\u{22}\(volume.name)\u{22} has no snapshot \u{22}\(tag)\u{22}.",
            why: "It was removed, or never made.", remedy: "List its snapshots.")
    }

    func requireStore(_ id: StoreId) throws(SheepError) -> Int {
        if let index = map.stores.firstIndex(where: { $0.id == id }) { return index }
        throw SheepError(
            .noEntry, what: "Store \(id) is not part of this cluster.", why: "It was removed, or never added.",
            remedy: "List the stores.")
    }

    func requireEpoch(_ epoch: Epoch) throws(SheepError) {
        if map.epoch == epoch { return }
        throw SheepError(
            .tryAgain, what: "Nothing was changed.",
            why: "The cluster map moved on (epoch \(map.epoch), not \(epoch)) while this was asked.",
            remedy: "Try again.")
    }

    /// Checks that a volume can be made under this name.
    func requireFree(_ directory: DirectoryId, volumeName name: String) throws(SheepError) {
        _ = try requireDirectory(directory)
        if let problem = Names.problem(withVolumeName: name) { throw problem }
        if entry(directory, name) != nil { throw .exists(name) }
    }

    func requireCopies(_ copies: Int) throws(SheepError) {
        if (1...settings.copies).contains(copies) { return }
        throw SheepError(
            .invalid, what: "A volume cannot have \(copies) copies.",
            why: "The cluster keeps 1 to \(settings.copies).",
            remedy: "Choose fewer, or raise the cluster's copies first.")
    }
}

extension VolumeRecord {
    /// The snapshot that users see under this tag.
    package func snapshot(_ tag: String) -> SnapshotRecord? { snapshots.first { $0.tag == tag && !$0.isHidden } }
    /// The snapshot that closed this generation, hidden or not.
    package func snapshot(_ generation: Generation) -> SnapshotRecord? {
        snapshots.first { $0.generation == generation }
    }
    /// Snapshots that users see, oldest first.
    package var visibleSnapshots: [SnapshotRecord] { snapshots.filter { !$0.isHidden } }
}

extension SheepError {
    static func exists(_ name: String) -> SheepError {
        SheepError(
            .exists, what: "\u{22}\(name)\u{22} exists already.", why: "A name stands for one thing.",
            remedy: "Choose another name, or remove what is there.")
    }
    static func hasSnapshots(_ volume: VolumeRecord) -> SheepError {
        SheepError(
            .notEmpty, what: "\u{22}\(volume.name)\u{22} was not removed.",
            why: "It has \(volume.visibleSnapshots.count) snapshots.",
            remedy: "Remove them first, or all at once: dog vdi delete --recursive \(volume.name)")
    }
    static func hasClones(_ volume: VolumeRecord, _ snapshot: SnapshotRecord) -> SheepError {
        SheepError(
            .busy, what: "Snapshot \u{22}\(snapshot.tag)\u{22} of \u{22}\(volume.name)\u{22} was not replaced.",
            why: "It has \(snapshot.cloneCount) clones.", remedy: "Flatten or remove them, or choose another tag.")
    }
    static func exhausted(_ what: String) -> SheepError {
        SheepError(
            .overflow, what: "There is no \(what) left to give out.", why: "They are never reused.",
            remedy: "Copy the data to a new volume or cluster.")
    }
}
