// The disk of one store, as a store's core sees it: files named by role, operations that complete later.
// The real process runs them on page cache and threads; the simulator on virtual disks that tear and forget.

/// A file of a store, by role. The real disk maps these to paths.
package enum StoreFile: Hashable, Sendable {
    /// Identity and format version.
    case superblock
    /// A journal segment.
    case journal(UInt64)
    /// The data and header of one object in one generation.
    case object(ObjectId, Generation)
    /// An image of the index; two alternate.
    case index(UInt8)
    /// An image of the catalog's state at an index.
    case catalogState(UInt64)
    /// The catalog's log from an index on.
    case catalogLog(UInt64)
    /// An object file set aside: never read by the data path, expires.
    case quarantine(ObjectId, Generation)
}

/// A directory of a store, for listing.
package enum StoreFileKind: Sendable { case journal, object, index, catalogState, catalogLog, quarantine }

/// Part of a buffer to be written. Holds the buffer until the write is done.
package struct BufferSlice: Sendable {
    package let buffer: Buffer
    package let offset: Int
    package let count: Int
    package init(_ buffer: Buffer, offset: Int, count: Int) {
        precondition(offset >= 0 && count >= 0 && offset + count <= buffer.capacity)
        self.buffer = buffer
        self.offset = offset
        self.count = count
    }
}

/// One contiguous write: the slices one after the other at `offset` of `file`.
package struct FileWrite: Sendable {
    package let file: StoreFile
    package let offset: UInt64
    package let slices: [BufferSlice]
    package init(file: StoreFile, offset: UInt64, slices: [BufferSlice]) {
        self.file = file
        self.offset = offset
        self.slices = slices
    }
}

package enum DiskOperation: Sendable {
    /// Writes through the page cache, at once in the caller's thread, in order: for the journal's appends.
    case append(FileWrite)
    /// Writes through the page cache by a thread, in order. A missing object file is created (sparse).
    case write([FileWrite])
    /// Writes past the page cache (O_DIRECT); offsets, lengths and slices are multiples of a block.
    /// A missing object file is created.
    case writeDirect([FileWrite])
    /// Fills `count` bytes of `buffer` at `bufferOffset` from `file`; short only at the end of the file:
    /// the outcome says how many bytes came. From the page cache at once, else by a thread.
    case read(StoreFile, offset: UInt64, buffer: Buffer, bufferOffset: Int, count: Int)
    /// fdatasync of each; missing files are skipped. Directories that got new entries for them are synced too.
    /// A failure of any is a failure of all.
    case sync([StoreFile])
    /// Makes `file` with `size` bytes, really written with zeros (a journal segment), synced with its directory.
    case createWritten(StoreFile, size: UInt64)
    /// Writes a small file whole, durably and atomically (temporary name, sync, rename, directory sync).
    case replace(StoreFile, contents: [UInt8])
    /// Reads a file whole; fails with ENOENT when it does not exist, EFBIG beyond `limit`.
    case readWhole(StoreFile, limit: Int)
    /// Deallocates; reads zeros afterwards.
    case punch(StoreFile, offset: UInt64, count: UInt64)
    /// Removes files; missing ones are no error. Durable only with `syncDirectory`.
    case remove([StoreFile], syncDirectory: Bool)
    /// Moves one onto another name, durably.
    case rename(StoreFile, to: StoreFile)
    /// Appends whole bytes to a (catalog) log file at `offset` and syncs it; the file is created if missing.
    case appendSynced(StoreFile, offset: UInt64, contents: [UInt8])
    /// All files of a kind, ascending by their numbers.
    case list(StoreFileKind)
}

package enum DiskOutcome: Sendable {
    case done
    case bytes(Int)
    case contents([UInt8])
    case files([StoreFile])
}

package struct DiskSpace: Hashable, Sendable {
    package let capacityBytes: UInt64
    package let availableBytes: UInt64
    package init(capacityBytes: UInt64, availableBytes: UInt64) {
        self.capacityBytes = capacityBytes
        self.availableBytes = availableBytes
    }
}

/// One store's disk. Completions come on the core's thread, never from inside `submit`. Operations may complete in any
/// order and run side by side, except that appends run in the order of submission; whoever needs an order waits.
package protocol Disk: AnyObject {
    func submit(_ operation: DiskOperation, _ completion: @escaping (Result<DiskOutcome, Errno>) -> Void)
    /// The last known space; cheap (the real disk refreshes it about once a second).
    var space: DiskSpace { get }
    /// Why the disk is gone although its operations may still succeed: its directory was deleted or its file system
    /// unmounted. Nil while it is there.
    var loss: Errno? { get }
    /// How large a buffered write to an object file may be, in bytes (64 KiB on ext4, see the architecture pages).
    var maximumBufferedWrite: Int { get }
}

extension Disk {
    package var loss: Errno? { nil }
}
