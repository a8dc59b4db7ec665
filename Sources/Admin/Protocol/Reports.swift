// The values that answers are made of. Ids are hexadecimal text (a 64-bit number does not survive every JSON reader),
// sizes are bytes, times are ISO 8601 in UTC. Field names are part of the protocol: add, never rename.

package struct StatusReport: Codable, Equatable, Sendable {
    package var clusterId: String
    /// healthy, at-risk or degraded.
    package var health: String
    package var epoch: UInt64
    package var catalogIndex: UInt64
    /// Everything volumes can hold, and can still take: the stores' sums divided by the copies.
    package var capacityBytes: UInt64
    package var availableBytes: UInt64
    package var volumeCount: Int
    package var snapshotCount: Int
    package var objectCount: Int
    package var settings: SettingsReport
    package var stores: [StoreReport]
    package var mounts: [MountReport]
    package var recovery: RecoveryReport
    package var scrub: ScrubReport
    package var problems: [String]
    package var risks: [String]
    package var next: [String]
    package var statistics: StatisticsReport
}

package struct StatisticsReport: Codable, Equatable, Sendable {
    package var reads: UInt64
    package var writes: UInt64
    package var flushes: UInt64
    package var discards: UInt64
    package var bytesRead: UInt64
    package var bytesWritten: UInt64
    package var readRepairs: UInt64
}

package struct SettingsReport: Codable, Equatable, Sendable {
    package var copies: Int
    /// 0: by rule (copies less one, at least one).
    package var minCopies: Int
    package var effectiveMinCopies: Int
    package var downOutIntervalMilliseconds: UInt64
    package var leaseMilliseconds: UInt64
}

package struct StoreReport: Codable, Equatable, Sendable {
    package var id: String
    package var path: String
    package var zone: UInt64
    package var weight: UInt64
    /// up, down or out.
    package var state: String
    package var reason: String
    package var changed: String
    package var capacityBytes: UInt64
    package var availableBytes: UInt64
    /// fine, low or full.
    package var spaceLevel: String
    package var copies: Int
    package var incompleteCopies: Int
    /// 0...1.
    package var inSyncShare: Double
}

package struct MountReport: Codable, Hashable, Sendable {
    package var mountpoint: String
    /// The directory of the namespace that the mount shows; empty: the root.
    package var subdirectory: String
    package var options: String
    package var openFiles: Int
    package init(mountpoint: String, subdirectory: String = "", options: String = "", openFiles: Int = 0) {
        self.mountpoint = mountpoint
        self.subdirectory = subdirectory
        self.options = options
        self.openFiles = openFiles
    }
}

package struct RecoveryReport: Codable, Equatable, Sendable {
    /// idle, verifying, copying, moving, removing or waiting.
    package var phase: String
    package var objectsDone: Int
    package var objectsTotal: Int
    package var bytesMoved: UInt64
    package var bytesTotal: UInt64
    package var bytesPerSecond: UInt64
    package var waitingFor: String
}

package struct ScrubReport: Codable, Equatable, Sendable {
    package var running: Bool
    package var deep: Bool
    package var objectsDone: Int
    package var objectsTotal: Int
    package var blocksRepaired: Int
    package var copiesRepaired: Int
    package var alarms: [String]
    /// nil: never.
    package var started: String?
    package var finished: String?
}

package struct VolumeReport: Codable, Equatable, Sendable {
    package var path: String
    package var id: String
    package var size: UInt64
    /// In the volume's own objects, counted once, not per copy; nil when it was not asked for.
    package var allocatedBytes: UInt64?
    package var copies: Int
    package var generation: UInt32
    package var snapshotCount: Int
    /// The snapshot it was cloned from (`dir/vol@tag.img`), unless flattened.
    package var parent: String?
    package var openCount: Int
    package var uid: UInt32
    package var gid: UInt32
    /// Octal.
    package var mode: String
    package var created: String
    /// Only in the answer to volumeInfo.
    package var snapshots: [SnapshotReport]?
}

package struct SnapshotReport: Codable, Equatable, Sendable {
    package var path: String
    package var volume: String
    package var tag: String
    package var generation: UInt32
    package var size: UInt64
    package var allocatedBytes: UInt64?
    package var created: String
    /// Paths of the volumes cloned from it.
    package var clones: [String]
}

/// A volume or a snapshot in the family tree; a volume's children are its snapshots, a snapshot's are its clones.
package struct FamilyNode: Codable, Equatable, Sendable {
    /// volume, snapshot, or deleted-volume and deleted-snapshot: deleted but kept for their clones.
    package var kind: String
    /// A volume's path, a snapshot's tag; empty for what is deleted.
    package var name: String
    package var size: UInt64
    package var created: String
    package var children: [FamilyNode]
}

package struct CheckResult: Codable, Equatable, Sendable {
    package var objects: Int
    package var copies: Int
    package var blocksBad: Int
    package var blocksRepaired: Int
    package var copiesMissing: Int
    package var copiesDifferent: Int
    package var isClean: Bool { blocksBad == blocksRepaired && copiesMissing == 0 && copiesDifferent == 0 }
}

package struct ObjectReport: Codable, Equatable, Sendable {
    package struct Copy: Codable, Equatable, Sendable {
        package var store: String
        package var version: String
        package var state: String
        package var generations: [UInt32]
        package var allocatedBytes: UInt64
    }
    package var index: UInt32
    package var copies: [Copy]
}
