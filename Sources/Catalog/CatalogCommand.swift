// What can be asked of the catalog. A command is decided by `apply` on every node alike; times and random ids that it
// needs are in it, put there by whoever proposes it.
import Model

package enum CatalogCommand: Hashable, Sendable {
    // namespace
    case createVolume(directory: DirectoryId, name: String, size: UInt64, copies: Int?, attributes: FileAttributes)
    case createDirectory(parent: DirectoryId, name: String, attributes: FileAttributes)
    case removeDirectory(DirectoryId)
    /// Removes a volume without visible snapshots (else ENOTEMPTY). `recursive` removes its snapshots too; those with
    /// clones are kept for them, hidden.
    case removeVolume(VolumeId, recursive: Bool)
    /// Renames or moves a volume; `replacing` says whether an existing volume there is replaced
    /// (ENOTEMPTY when it has snapshots; the proposer has checked that it is not in use).
    case renameVolume(VolumeId, directory: DirectoryId, name: String, replacing: Bool)
    case renameDirectory(DirectoryId, parent: DirectoryId, name: String)
    case renameSnapshot(volume: VolumeId, from: String, to: String, replacing: Bool)
    case setAttributes(VolumeId, FileAttributes)
    case setDirectoryAttributes(DirectoryId, FileAttributes)
    case setSnapshotAttributes(volume: VolumeId, tag: String, FileAttributes)
    /// Fewer copies hold at once; more are wanted until `copiesReached`.
    case setVolumeCopies(VolumeId, copies: Int)
    /// Every object of the volume is complete at all targets that so many copies make, and at nobody in S was it not
    /// looked at; conditional on the epoch.
    case copiesReached(VolumeId, copies: Int, epoch: Epoch)
    /// Grows or shrinks. A shrink sets `trimFrom`; growing while it is set is EBUSY to the proposer, who waits.
    case resize(VolumeId, size: UInt64)
    case trimmed(VolumeId)
    // snapshots and clones
    /// One command for a group; conditional on every (volume, term). Names that exist are EEXIST, unless replaced
    /// is said (a snapshot without clones is then replaced).
    case snapshot(members: [SnapshotRequest], tag: String, group: DirectoryId?, wallClock: UInt64)
    case removeSnapshot(volume: VolumeId, tag: String)
    case removeGroupSnapshot(directory: DirectoryId, tag: String)
    /// A new volume whose lower layer is the snapshot.
    case clone(
        source: SnapshotReference, directory: DirectoryId, name: String, copies: Int?, attributes: FileAttributes)
    /// A clone of now: a snapshot that is hidden from the start, and its clone, in one step; conditional on the term.
    case cloneCurrent(
        source: VolumeId, term: Term, directory: DirectoryId, name: String, attributes: FileAttributes,
        wallClock: UInt64)
    /// The current view becomes the snapshot's, atomically; conditional on the term.
    case rollback(volume: VolumeId, term: Term, tag: String)
    /// The volume holds all its blocks itself: its parent link goes. Conditional on the term.
    case flattened(volume: VolumeId, term: Term)
    // leases
    /// Gives (volume, node, incarnation) the next term. The local driver grants at once.
    case acquireLease(VolumeId, node: NodeId, incarnation: UInt64)
    case releaseLease(VolumeId, term: Term)
    /// Terms up to this one were given by a catalog that is lost: the next one is higher.
    case raiseTerm(VolumeId, Term)
    // the map
    case addStore(StoreDescription)
    case storeUp(StoreId, session: StoreSession, wallClock: UInt64)
    /// These stores are there, in the sessions that the map names: members of S whose sessions broke leave it to them.
    /// Only as a decision in an epoch (`ClusterCommand.inEpoch`).
    case sessionsConfirmed([StoreId])
    /// Excludes a store: it leaves S of all its ranges where the rule of DESIGN 7 allows it.
    case storeDown(StoreId, reason: String, wallClock: UInt64)
    /// Gives a store up: a new ring without it begins.
    case storeOut(StoreId, reason: String, wallClock: UInt64)
    /// A new store takes the place of an old one in the ring, with its zone.
    case replaceStore(StoreId, by: StoreDescription)
    case removeStore(StoreId)
    case setWeight(StoreId, UInt64)
    /// These ranges are complete on this store; conditional on the epoch.
    case inSync(StoreId, RangeSet, epoch: Epoch)
    /// The move is over: conditional on the epoch and on every range of `to` being in-sync at all its targets.
    case dropOldRing(epoch: Epoch)
    /// An administrator gives up what only these stores have.
    case acceptLoss([StoreId])
    /// The store's copies in the ranges that it was to adopt are as they are now, durably; only what was accepted in
    /// that epoch.
    case adopted(StoreId, since: Epoch)
    /// An administrator lets the running move be replaced by a join or a change of weight; conditional on the epoch.
    case allowMoveReplacement(epoch: Epoch)
    /// The stores whose logs hold the catalog from this entry on.
    case setCatalogStores([StoreId])
    case changeSettings(Settings)
    /// A store has removed all objects of a deleted volume.
    case pruned(VolumeId, StoreId)
    /// Does nothing (a new view, a test).
    case none
}

package struct SnapshotRequest: Hashable, Sendable {
    package let volume: VolumeId
    package let term: Term
    package let replaceExisting: Bool
    package init(volume: VolumeId, term: Term, replaceExisting: Bool = false) {
        self.volume = volume
        self.term = term
        self.replaceExisting = replaceExisting
    }
}

package struct StoreDescription: Hashable, Sendable {
    package let id: StoreId
    package let node: NodeId
    package let path: String
    package let weight: UInt64
    package let zone: UInt64
    package let session: StoreSession
    package let wallClock: UInt64
    package init(
        id: StoreId, node: NodeId, path: String, weight: UInt64, zone: UInt64, session: StoreSession, wallClock: UInt64
    ) {
        self.id = id
        self.node = node
        self.path = path
        self.weight = weight
        self.zone = zone
        self.session = session
        self.wallClock = wallClock
    }
}

/// What a command came to.
package enum CommandAnswer: Hashable, Sendable {
    case done
    case volume(VolumeId)
    case directory(DirectoryId)
    case snapshot(VolumeId, Generation)
    case term(Term)
    /// Refused: the errno that a caller on the mount gets, and the words for a person.
    case refused(SheepError)
}

/// What changed, for those who keep something derived (gateway, mount, recovery).
package enum CatalogChange: Hashable, Sendable {
    case map
    case settings
    case volumeCreated(VolumeId)
    case volumeChanged(VolumeId)
    case volumeRemoved(VolumeId)
    case snapshotCreated(VolumeId, Generation)
    case snapshotRemoved(VolumeId, Generation)
    case directoryCreated(DirectoryId)
    case directoryChanged(DirectoryId)
    case directoryRemoved(DirectoryId)
    /// A name appeared, went, or now means something else (for the mount's entry cache).
    case name(DirectoryId, String)
}
