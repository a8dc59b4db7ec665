// What goes into a store and what comes out of it: configuration, identity, writes, entries, outcomes.
// Plain values; nothing here does I/O or knows the formats on disk.
import Model

/// How a store works. The sizes can be changed between starts, except `journalSegmentBytes`, which `format` fixes.
package struct StoreConfiguration: Sendable {
    /// This boot of the machine. An unclean stop under another boot id ends the store's session.
    package var bootId = ClusterId(high: 0, low: 0)
    /// Bytes of a journal segment; a multiple of a block. A write must fit in one.
    package var journalSegmentBytes = 16 << 20
    /// Segments the journal grows to before it must be checkpointed; at least 4.
    package var journalMaximumSegments = 16
    /// Payload kept in memory because it is not yet in the object files.
    package var memoryLimitBytes = 64 << 20
    /// Clean headers kept in memory (about 5 KiB each).
    package var headerCacheCount = 1024
    /// Composed views kept in memory (about 14 KiB each).
    package var viewCacheCount = 512
    /// Headers changed since the last checkpoint that start the next one; at four times as many writes wait for it.
    package var dirtyHeaderLimit = 8192
    /// How long an appended record may wait for the background sync.
    package var syncDelayMilliseconds: UInt64 = 2
    /// How long a durable block may wait for others that go to the object files with it.
    package var applyDelayMilliseconds: UInt64 = 20
    /// Unsynced bytes that start the background sync at once.
    package var syncDelayBytes = 1 << 20
    /// The longest time between a change and the checkpoint that covers it.
    package var checkpointIntervalMilliseconds: UInt64 = 30_000
    /// Writes of at least this many bytes may go past the journal.
    package var directWriteBytes = 64 << 10
    /// Kept free for the journal, headers and recovery.
    package var reserveBytes: UInt64 = 1 << 30
    /// Below this much available space the level is `low`.
    package var lowSpaceBytes: UInt64 = 4 << 30
    /// How long after a start that followed an unclean stop files that nobody knows are looked for.
    package var sweepDelayMilliseconds: UInt64 = 60_000
    /// Test only: flushes complete without a sync of the journal.
    package var skipJournalSync = false
    /// Test only: blocks go to their object files before their records are durable.
    package var applyBeforeDurable = false

    package init() {}
}

/// Whose store this is.
package struct StoreIdentity: Hashable, Sendable {
    package let clusterId: ClusterId
    package let storeId: StoreId
    package let formatVersion: UInt32
    /// Nanoseconds since 1970, for people only.
    package let createdWallClock: UInt64
    package init(
        clusterId: ClusterId, storeId: StoreId, formatVersion: UInt32 = storeFormatVersion, createdWallClock: UInt64
    ) {
        self.clusterId = clusterId
        self.storeId = storeId
        self.formatVersion = formatVersion
        self.createdWallClock = createdWallClock
    }
}

/// The newest format of stores that this code writes and reads.
package let storeFormatVersion: UInt32 = 1

/// One versioned write of whole blocks. The payload carries its checksums, and is only read from now on.
package struct ObjectWrite: Sendable {
    package let object: ObjectId
    package let generation: Generation
    package let version: Version
    package let firstBlock: Int
    package let payload: Payload
    package init(object: ObjectId, generation: Generation, version: Version, firstBlock: Int, payload: Payload) {
        self.object = object
        self.generation = generation
        self.version = version
        self.firstBlock = firstBlock
        self.payload = payload
    }
    package var blocks: BlockRange { BlockRange(first: firstBlock, count: payload.blockCount) }
}

package enum CopyState: UInt8, Sendable {
    case complete = 0
    case syncing = 1
    case suspect = 2
    /// It was complete when something of a header could not be read, and has missed nothing since: should all of it be
    /// readable again, it is what it was (see `reread`).
    case damaged = 3
}

/// One generation of a copy, as the index knows it.
package struct GenerationEntry: Hashable, Sendable {
    package let generation: Generation
    package let version: Version
    /// Blocks with data on disk (held and not zero).
    package let allocatedBlocks: Int
}

/// A copy, as the index knows it. No I/O is needed to get one.
package struct CopyEntry: Sendable {
    package let object: ObjectId
    /// The highest version of any generation, or the stamp.
    package let version: Version
    package let state: CopyState
    /// False after `distrustAll` until `setState(.complete)`.
    package let isVerified: Bool
    let items: GenerationList
    /// Ascending. Empty for a copy that is only a stamp.
    package var generations: [GenerationEntry] {
        items.map {
            GenerationEntry(
                generation: Generation($0.generation), version: Version(rawValue: $0.version),
                allocatedBlocks: Int($0.allocated))
        }
    }
    /// Of a copy with one generation, as nearly all have; told without an allocation.
    package var onlyGeneration: Generation? { items.count == 1 ? Generation(items[0].generation) : nil }
    package var allocatedBlocks: Int { items.reduce(0) { $0 + Int($1.allocated) } }
}

/// What a read found; bits are relative to the first block that was read. A block is in at most one of the sets.
package struct ReadOutcome: Sendable {
    /// Blocks that this copy holds in the path (zeros included); their data is in the buffer, verified.
    package var held = BlockBitmap()
    /// Blocks that are still to be recovered from a peer; their data is zero-filled.
    package var pending = BlockBitmap()
    /// Blocks whose data or header does not match its checksum or cannot be read; their data is zero-filled.
    package var corrupt = BlockBitmap()
    /// Every block was held and fine.
    package var isWhole = false
}

/// A copy composed over the generations of a path.
package struct ComposedView: Sendable {
    package internal(set) var held = BlockBitmap()
    /// Held, as zero.
    package internal(set) var zero = BlockBitmap()
    package internal(set) var pending = BlockBitmap()
    /// Blocks of a generation whose header is damaged.
    package internal(set) var corrupt = BlockBitmap()
    /// 64: of each chunk the topmost generation's that is not zero; zero where a block of the chunk is pending.
    package internal(set) var chunkVersions: [Version]
    /// 1024; of a block that is not held, the checksum of zeros.
    package internal(set) var checksums: [UInt32]

    package init() {
        chunkVersions = [Version](repeating: .zero, count: chunksPerObject)
        checksums = [UInt32](repeating: zeroBlockChecksum, count: blocksPerObject)
    }
}

/// What a verification of one copy found.
package struct VerifyOutcome: Sendable {
    package struct Finding: Sendable {
        package let generation: Generation
        package internal(set) var headerIsFine: Bool
        /// Blocks whose data does not match their checksum (deep verification only).
        package internal(set) var corrupt: BlockBitmap
    }
    /// Ascending by generation.
    package internal(set) var generations: [Finding]
    package var isFine: Bool { generations.allSatisfy { $0.headerIsFine && $0.corrupt.isEmpty } }
}

/// What `open` found.
package struct StoreReport: Sendable {
    package let identity: StoreIdentity
    package let session: StoreSession
    package let lastStopWasClean: Bool
    /// False after an unclean stop under another boot id, or when damage made the store doubt itself.
    package let sessionContinued: Bool
    package let objectCount: Int
    package let replayedRecords: Int
    package let indexRebuilt: Bool
    /// One line for each thing found damaged. Not empty: the store has distrusted its copies, or marked some suspect.
    package let damage: [String]
    package var incarnation: UInt64 { session.incarnation }
}

package enum SpaceLevel: UInt8, Sendable { case fine, low, full }

package struct StoreSpace: Hashable, Sendable {
    package let capacityBytes: UInt64
    /// For volumes: what is free less the reserve and the grants given out.
    package let availableBytes: UInt64
    package let grantedBytes: UInt64
    package let level: SpaceLevel
}

/// Counters since `open`.
package struct StoreStatistics: Sendable {
    package var writes: UInt64 = 0
    package var writtenBytes: UInt64 = 0
    package var directWrites: UInt64 = 0
    package var reads: UInt64 = 0
    package var readBytes: UInt64 = 0
    package var journalAppends: UInt64 = 0
    package var journalRecords: UInt64 = 0
    package var journalSyncs: UInt64 = 0
    package var checkpoints: UInt64 = 0
    package var headerLoads: UInt64 = 0
    package var corruptBlocks: UInt64 = 0
    package var damagedHeaders: UInt64 = 0
    /// Object files that nobody knew, removed.
    package var orphans: UInt64 = 0
    /// Payload bytes that are served from memory now.
    package var overlayBytes = 0
    package var dirtyHeaders = 0
    package var cachedHeaders = 0
    package var journalSegments = 0
    package var freeJournalSegments = 0
    package init() {}
}
