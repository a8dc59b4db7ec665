// The replicated state: cluster map, directories, volumes, snapshots, leases, settings. A plain value that only
// `apply` changes, so that every node that applies the same log has the same state. Nothing here asks the world.
import OrderedCollections
import Model
import Placement

/// All of the catalog. Dictionaries are ordered, so that iterating them is deterministic.
package struct CatalogState: Sendable {
    package internal(set) var clusterId: ClusterId
    /// The index of the last applied entry. 0: nothing applied.
    package internal(set) var index: UInt64 = 0
    package internal(set) var map: ClusterMap
    package internal(set) var settings: Settings
    package internal(set) var directories: OrderedDictionary<DirectoryId, DirectoryRecord> = [:]
    package internal(set) var volumes: OrderedDictionary<VolumeId, VolumeRecord> = [:]
    /// (directory, name) to what stands there. Snapshots are not in it: they are found through their volume.
    package internal(set) var names: [DirectoryEntryKey: DirectoryEntry] = [:]
    /// Volumes that are gone for users but still have objects on stores that have not pruned them yet.
    package internal(set) var deletedVolumes: OrderedDictionary<VolumeId, DeletedVolume> = [:]
    package internal(set) var nextVolumeId: UInt32 = 1
    package internal(set) var nextDirectoryId: UInt32 = 2
    /// Answers to commands by request id, so that a repeated request gets the first answer.
    package internal(set) var answered: OrderedDictionary<RequestId, AnsweredRequest> = [:]
    /// The stores whose logs hold the catalog and count for a commit, ascending (see StoreQuorum).
    package internal(set) var catalogStores: [StoreId] = []
    /// Earlier lists that may be the last committed one as long as no entry follows that of `catalogStores`.
    package internal(set) var unconfirmedCatalogStores: [[StoreId]] = []
}

package struct DirectoryEntryKey: Hashable, Sendable {
    package let directory: DirectoryId
    package let name: String
    package init(_ directory: DirectoryId, _ name: String) {
        self.directory = directory
        self.name = name
    }
}

package enum DirectoryEntry: Hashable, Sendable {
    case directory(DirectoryId)
    case volume(VolumeId)
}

/// Cluster-wide settings; all can be changed by a command.
package struct Settings: Hashable, Sendable {
    /// Copies of new volumes, 1...7.
    package var copies: Int = 3
    /// Complete copies that a write needs before it is acknowledged; 0: copies less one, at least one.
    package var minCopies: Int = 0
    package var downOutIntervalMilliseconds: UInt64 = 600_000
    package var leaseMilliseconds: UInt64 = 6_000
    package init() {}
    /// `minCopies` with its default filled in.
    package var effectiveMinCopies: Int { minCopies > 0 ? minCopies : max(1, copies - 1) }
}

package struct DirectoryRecord: Hashable, Sendable {
    package let id: DirectoryId
    /// The directory it stands in; the root is its own parent.
    package var parent: DirectoryId
    package var name: String
    package var attributes: FileAttributes
    /// Group snapshots of this directory, by tag.
    package var groupSnapshots: OrderedDictionary<String, GroupSnapshotRecord> = [:]
}

/// `dir/.snap/tag`: the snapshots with this tag of the volumes that were in `dir`.
package struct GroupSnapshotRecord: Hashable, Sendable {
    package let tag: String
    package let createdWallClock: UInt64
    package var members: [SnapshotReference]
}

package struct SnapshotReference: Hashable, Sendable {
    package let volume: VolumeId
    package let generation: Generation
    package init(volume: VolumeId, generation: Generation) {
        self.volume = volume
        self.generation = generation
    }
}

/// Owner, group, mode and times of a volume or directory, as chown and chmod set them.
package struct FileAttributes: Hashable, Sendable {
    package var uid: UInt32
    package var gid: UInt32
    /// Permission bits only (07777).
    package var mode: UInt32
    /// Nanoseconds since 1970.
    package var accessTime: UInt64
    package var modifyTime: UInt64
    package var changeTime: UInt64
    package init(uid: UInt32, gid: UInt32, mode: UInt32, time: UInt64) {
        self.uid = uid
        self.gid = gid
        self.mode = mode
        accessTime = time
        modifyTime = time
        changeTime = time
    }
}

package struct VolumeRecord: Hashable, Sendable {
    /// What the numbers of files on a mount have room for.
    package static let maximumGeneration: UInt32 = 1 << 28 - 1

    package let id: VolumeId
    package var directory: DirectoryId
    package var name: String
    /// Bytes; any number up to `maximumVolumeSize`.
    package var size: UInt64
    /// Bytes from here on are being given back after a shrink; growing again waits until it is done. nil: nothing to do.
    package var trimFrom: UInt64?
    /// Copies that the volume is known to have where its targets are in-sync.
    package var copies: Int
    /// More than that are wanted: writes go to as many already, and `copies` follows when everything is there.
    package var wantedCopies: Int?
    package var targetCopies: Int { wantedCopies ?? copies }
    /// The generation that writes go to.
    package var generation: Generation
    /// Generations hidden from the current view by rollbacks, ascending.
    package var hidden: [ClosedRange<Generation>] = []
    /// Ascending by generation; hidden ones (deleted, but with clones) included.
    package var snapshots: [SnapshotRecord] = []
    /// What this volume was cloned from, unless flattened.
    package var parent: ParentReference?
    package var attributes: FileAttributes
    package var lease: Lease?
    /// The newest term ever given for this volume.
    package var term: Term = .none
    package var createdWallClock: UInt64
    /// Removed by its owner: it has no name and no current view; kept for the clones of its (hidden) snapshots.
    package var isHidden: Bool = false

    /// The view that writes go to and plain reads come from.
    package var currentPath: GenerationPath { GenerationPath(top: generation, hidden: hidden) }
}

package struct ParentReference: Hashable, Sendable {
    package let volume: VolumeId
    package let generation: Generation
    /// Bytes of the parent that show through: at most the smallest size this clone ever had.
    package var visibleBytes: UInt64
}

package struct SnapshotRecord: Hashable, Sendable {
    package var tag: String
    /// The generation that this snapshot closed: its content is the view at it.
    package let generation: Generation
    /// Generations hidden in this snapshot's view.
    package let hidden: [ClosedRange<Generation>]
    package let size: UInt64
    /// The parent's visible bytes when the snapshot was made.
    package let parentVisibleBytes: UInt64
    /// The volume's `trimFrom` when the snapshot was made: what lies beyond is not zeros yet in its layers.
    package let trimFrom: UInt64?
    package var attributes: FileAttributes
    package let createdWallClock: UInt64
    /// Deleted by its owner, kept for its clones; not shown.
    package var isHidden: Bool = false
    /// Clones that still read through it.
    package var cloneCount: Int = 0

    package var path: GenerationPath { GenerationPath(top: generation, hidden: hidden) }
}

package struct Lease: Hashable, Sendable {
    package let node: NodeId
    /// The life of the gateway process that holds it.
    package let incarnation: UInt64
    package let term: Term
}

package struct DeletedVolume: Hashable, Sendable {
    package let id: VolumeId
    /// Stores that may still have objects of it.
    package var stores: [StoreId]
}

// MARK: the cluster map

/// Which stores there are, which are up, and where ranges belong. Every change of it is an epoch.
package struct ClusterMap: Sendable {
    package internal(set) var epoch: Epoch
    /// Ascending by id.
    package internal(set) var stores: [StoreRecord]
    /// Members of the ring that the data is on.
    package internal(set) var onRing: RingDescription
    /// Members of the ring that the data is moving to; nil when nothing moves.
    package internal(set) var toRing: RingDescription?
    /// The rings themselves, computed from their descriptions; not part of the persisted state.
    package internal(set) var on: Ring
    package internal(set) var to: Ring?
    /// The ranges that each member of a ring is a target of, in the order of its members; computed like the rings.
    var onRanges: [[RangeSet]] = []
    var toRanges: [[RangeSet]] = []
    /// The most zones that the ring the data is on ever had, lowered only by an administrator's command: what
    /// `minimumCopies` follows.
    package internal(set) var joinedZones: Int = 0
    /// The move may be replaced by another one before it ends: an administrator said so.
    package internal(set) var moveIsReplaceable: Bool = false

    package func store(_ id: StoreId) -> StoreRecord? { stores.first { $0.id == id } }
    /// Stores that a write of this range must reach when they are up, for a volume with so many copies: both rings'
    /// first targets, those of `on` first, and what else is in-sync (a member of S stays a target until a move is over,
    /// also when `to` was replaced meanwhile).
    package func targets(of range: RangeIndex, copies: Int) -> [StoreId] {
        var all = Array(on.targets(of: range).prefix(copies))
        if let to { for store in to.targets(of: range).prefix(copies) where !all.contains(store) { all.append(store) } }
        for store in stores where store.inSync[range, copies: copies] && !all.contains(store.id) {
            all.append(store.id)
        }
        return all
    }
}

/// What a ring is computed from.
package struct RingDescription: Hashable, Sendable {
    package var members: [RingMember]
    package var copies: Int
}

package enum StoreStatus: UInt8, Hashable, Sendable {
    case up
    /// Not reachable or failed; writes go on without it; nothing moves yet.
    case down
    /// Given up: not in any ring any more, or about to leave it.
    case out
}

package struct StoreRecord: Hashable, Sendable {
    package let id: StoreId
    package let node: NodeId
    /// The directory on its node.
    package var path: String
    /// Bytes.
    package var weight: UInt64
    package var zone: UInt64
    package var status: StoreStatus
    package var session: StoreSession
    /// Why it is down or out, for people; empty when up.
    package var reason: String
    /// Wall-clock nanoseconds of the last change of status, for people.
    package var changedWallClock: UInt64
    /// What it is in-sync for (a member of S).
    package var inSync: InSyncSets
    /// It is being drained for good: in no new ring, and forgotten when the move ends.
    package var isLeaving: Bool = false
    /// The epoch at which it last came up after an unclean stop under another boot id: what was not synced by then
    /// may be gone, so copies on it are made equal before they are read. nil: never.
    package var sessionBrokeAt: Epoch?
    /// What it is in-sync for only because a loss was accepted, until its copies there have been taken as they are.
    package var adoption: Adoption? = nil
    /// The part of `inSync` for which its session broke, and it is not decided yet whether another member has more (see
    /// ClusterMap+Sessions). It is not current there meanwhile. nil: no such part.
    package internal(set) var broken: InSyncSets? = nil

    /// The ranges for which it is in-sync and current, for volumes with so many copies.
    package func current(copies: Int) -> RangeSet {
        var ranges = inSync[copies: copies]
        if let broken { ranges.subtract(broken[copies: copies]) }
        return ranges
    }
    package func isCurrent(_ range: RangeIndex, copies: Int) -> Bool {
        inSync[range, copies: copies] && !(broken?[range, copies: copies] ?? false)
    }
}

/// The part of S that an accepted loss made of a store that did not have everything.
package struct Adoption: Hashable, Sendable {
    package internal(set) var ranges: InSyncSets
    /// The epoch in which a loss was accepted last.
    package internal(set) var since: Epoch
}

/// (mount or client id, number in it): repeating a command with the same id gets the first answer.
package struct RequestId: Hashable, Sendable {
    package let client: UInt64
    package let number: UInt64
    package init(client: UInt64, number: UInt64) {
        self.client = client
        self.number = number
    }
}

package struct AnsweredRequest: Hashable, Sendable {
    package let index: UInt64
    package let answer: CommandAnswer
}
