// What a node tells of itself: plain values for the administrator, made from the cores' state.
import Catalog
import Model

/// A store as seen now.
package struct StoreStatusReport: Hashable, Sendable {
    package var id: StoreId
    package var path: String
    package var zone: UInt64
    package var weight: UInt64
    package var status: StoreStatus
    package var reason: String
    package var changedWallClock: UInt64
    package var capacityBytes: UInt64
    package var availableBytes: UInt64
    /// fine, low or full.
    package var spaceLevel: String
    package var copies: Int
    /// Copies that are not (yet) complete: syncing, suspect or unverified.
    package var incompleteCopies: Int
    /// The part of its ranges that it is in-sync for, 0...1.
    package var inSyncShare: Double
}

/// Work that brings redundancy back or moves data.
package struct RecoveryStatus: Hashable, Sendable {
    package enum Phase: String, Hashable, Sendable { case idle, verifying, copying, moving, removing, waiting }
    package var phase: Phase = .idle
    package var objectsDone: Int = 0
    package var objectsTotal: Int = 0
    package var bytesMoved: UInt64 = 0
    /// An estimate that gets better; 0: not known yet.
    package var bytesTotal: UInt64 = 0
    package var bytesPerSecond: UInt64 = 0
    /// Why it waits, if it does.
    package var waitingFor: String = ""
    package init() {}
}

package struct ScrubStatus: Hashable, Sendable {
    package var isRunning = false
    package var isDeep = false
    package var objectsDone = 0
    package var objectsTotal = 0
    package var blocksRepaired = 0
    package var copiesRepaired = 0
    /// Two copies that are each consistent but differ at the same version: an alarm, never a vote.
    package var alarms: [String] = []
    package var startedWallClock: UInt64 = 0
    package var finishedWallClock: UInt64 = 0
    package init() {}
}

/// What `dog status` shows.
package struct NodeStatusReport: Sendable {
    package var clusterId: ClusterId
    package var epoch: Epoch
    package var catalogIndex: UInt64
    package var settings: Settings
    package var stores: [StoreStatusReport]
    package var recovery: RecoveryStatus
    package var scrub: ScrubStatus
    package var volumeCount: Int
    package var snapshotCount: Int
    package var objectCount: Int
    package var space: VolumeSpace
    /// What is wrong now, a line each; empty: all is well.
    package var problems: [String]
    /// What would be lost or stop if one more thing failed.
    package var risks: [String]
    /// What the system will do by itself, and what it waits for.
    package var next: [String]
    package var statistics: GatewayStatistics
}

package struct GatewayStatistics: Hashable, Sendable {
    package var reads: UInt64 = 0
    package var writes: UInt64 = 0
    package var flushes: UInt64 = 0
    package var discards: UInt64 = 0
    package var bytesRead: UInt64 = 0
    package var bytesWritten: UInt64 = 0
    package var readRepairs: UInt64 = 0
    package init() {}
}

/// What an administrator can ask of a node besides `VolumeService`.
package protocol NodeAdministration: AnyObject {
    func report() -> NodeStatusReport
    /// Formats the directory and adds it as a store. Errors: not empty, claimed, of another cluster.
    func addStore(
        path: String, zone: UInt64?, weight: UInt64?, _ completion: @escaping (Result<StoreId, SheepError>) -> Void)
    /// Moves everything off the store, then takes it out. `force`: it is gone, do not wait for it.
    func removeStore(_ id: StoreId, force: Bool, _ completion: @escaping (SheepError?) -> Void)
    /// A new empty directory takes the place of a store (that may be dead).
    func replaceStore(_ id: StoreId, path: String, _ completion: @escaping (Result<StoreId, SheepError>) -> Void)
    func setWeight(_ id: StoreId, weight: UInt64, _ completion: @escaping (SheepError?) -> Void)
    func acceptLoss(_ ids: [StoreId], _ completion: @escaping (SheepError?) -> Void)
    func changeSettings(_ settings: Settings, _ completion: @escaping (SheepError?) -> Void)
    func startScrub(deep: Bool, volume: VolumeId?, _ completion: @escaping (SheepError?) -> Void)
    /// Compares all copies of a volume's objects and repairs what fails its own checksum.
    func check(
        _ volume: VolumeId, repair: Bool, progress: @escaping (Int, Int) -> Void,
        _ completion: @escaping (Result<CheckReport, SheepError>) -> Void)
    /// Where each existing object of a volume is: index, and per store generation versions and state.
    func map(_ volume: VolumeId, _ completion: @escaping ([ObjectPlacement]) -> Void)
    /// Flushes everything, gives up leases, closes stores.
    func shutDown(_ completion: @escaping () -> Void)
}

package struct CheckReport: Hashable, Sendable {
    package var objects = 0
    package var copies = 0
    package var blocksBad = 0
    package var blocksRepaired = 0
    package var copiesMissing = 0
    package var copiesDifferent = 0
    package init() {}
}

package struct ObjectPlacement: Hashable, Sendable {
    package struct Copy: Hashable, Sendable {
        package var store: StoreId
        package var version: Version
        package var state: String
        package var generations: [Generation]
        package var allocatedBlocks: Int
    }
    package var index: UInt32
    package var copies: [Copy]
}
