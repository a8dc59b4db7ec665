// Open files: opening, reading, writing, syncing, allocating, seeking, copying, closing.
// A write's payload lies in a buffer aligned to a block and is never copied on its way if it is large.
import Model

/// Bytes in a buffer: the payload of a write.
package struct FuseData: Sendable {
    package let buffer: Buffer
    /// Where the bytes begin in the buffer; 0 for what comes from the kernel.
    package let offset: Int
    package let count: Int
    package init(buffer: Buffer, offset: Int, count: Int) {
        precondition(offset >= 0 && count >= 0 && offset + count <= buffer.capacity, "data outside its buffer")
        self.buffer = buffer
        self.offset = offset
        self.count = count
    }
    package var bytes: UnsafeMutableRawPointer { buffer.bytes + offset }
}

/// How an opened file is to be treated by the kernel (FOPEN_*).
package struct FuseOpenFlags: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let directIO = FuseOpenFlags(rawValue: 1 << 0)
    package static let keepCache = FuseOpenFlags(rawValue: 1 << 1)
    package static let nonSeekable = FuseOpenFlags(rawValue: 1 << 2)
    package static let cacheDirectory = FuseOpenFlags(rawValue: 1 << 3)
    package static let stream = FuseOpenFlags(rawValue: 1 << 4)
    package static let noFlush = FuseOpenFlags(rawValue: 1 << 5)
    package static let parallelDirectWrites = FuseOpenFlags(rawValue: 1 << 6)
}

/// OPEN and OPENDIR.
package struct FuseOpen: Sendable, Equatable {
    /// The open flags of the caller (O_RDONLY, O_TRUNC, ...).
    package let flags: UInt32

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        flags = try reader.u32()
        try reader.skip(4)
    }
}

/// CREATE and TMPFILE.
package struct FuseCreate: Sendable, Equatable {
    package let name: String
    package let flags: UInt32
    package let mode: UInt32
    package let umask: UInt32

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        flags = try reader.u32()
        mode = try reader.u32()
        umask = try reader.u32()
        try reader.skip(4)
        name = try reader.name()
    }
}

/// READ.
package struct FuseRead: Sendable, Equatable {
    package let handle: UInt64
    package let offset: UInt64
    package let size: Int
    package let flags: UInt32
    package let lockOwner: UInt64?

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        handle = try reader.u64()
        offset = try reader.u64()
        size = Int(try reader.u32())
        let readFlags = try reader.u32()
        let owner = try reader.u64()
        flags = try reader.u32()
        try reader.skip(4)
        lockOwner = readFlags & 2 != 0 ? owner : nil
        // No answer may be larger than max_write; a larger wish is nothing that we negotiated.
        guard size <= FuseWrite.maximumSize else { throw .malformed }
    }
}

/// WRITE.
package struct FuseWrite: Sendable {
    static let headerByteCount = 40
    package static let maximumSize = 1 << 20
    package let handle: UInt64
    package let offset: UInt64
    package let data: FuseData
    package let flags: UInt32
    package let lockOwner: UInt64?
    /// Written back from the page cache (a shared mapping), not by a caller's own write.
    package let fromCache: Bool
    /// The kernel asks that set-user-id and set-group-id bits be dropped.
    package let dropsPrivileges: Bool
}

/// The fixed part of WRITE, before its data is bound to a buffer.
struct FuseWriteHeader {
    let handle: UInt64
    let offset: UInt64
    let size: Int
    let writeFlags: UInt32
    let lockOwner: UInt64
    let flags: UInt32

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        handle = try reader.u64()
        offset = try reader.u64()
        size = Int(try reader.u32())
        writeFlags = try reader.u32()
        lockOwner = try reader.u64()
        flags = try reader.u32()
        try reader.skip(4)
        guard size <= FuseWrite.maximumSize else { throw .malformed }
    }
    func bound(to data: FuseData) -> FuseWrite {
        FuseWrite(
            handle: handle, offset: offset, data: data, flags: flags,
            lockOwner: writeFlags & 2 != 0 ? lockOwner : nil, fromCache: writeFlags & 1 != 0,
            dropsPrivileges: writeFlags & 4 != 0)
    }
}

/// FSYNC and FSYNCDIR.
package struct FuseSync: Sendable, Equatable {
    package let handle: UInt64
    package let dataOnly: Bool

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        handle = try reader.u64()
        dataOnly = try reader.u32() & 1 != 0
        try reader.skip(4)
    }
}

/// FLUSH: one per close of a descriptor.
package struct FuseFlush: Sendable, Equatable {
    package let handle: UInt64
    package let lockOwner: UInt64

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        handle = try reader.u64()
        try reader.skip(8)
        lockOwner = try reader.u64()
    }
}

/// RELEASE and RELEASEDIR: the last close.
package struct FuseRelease: Sendable, Equatable {
    package let handle: UInt64
    package let flags: UInt32
    package let lockOwner: UInt64
    /// The file's flock locks are to be dropped.
    package let unlocksFlock: Bool

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        handle = try reader.u64()
        flags = try reader.u32()
        unlocksFlock = try reader.u32() & 2 != 0
        lockOwner = try reader.u64()
    }
}

/// FALLOCATE.
package struct FuseAllocate: Sendable, Equatable {
    package static let keepSize: UInt32 = 1
    package static let punchHole: UInt32 = 2
    package static let zeroRange: UInt32 = 16
    package let handle: UInt64
    package let offset: UInt64
    package let length: UInt64
    /// FALLOC_FL_*.
    package let mode: UInt32

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        handle = try reader.u64()
        offset = try reader.u64()
        length = try reader.u64()
        mode = try reader.u32()
        try reader.skip(4)
    }
}

/// LSEEK: only SEEK_DATA (3) and SEEK_HOLE (4) come.
package struct FuseSeek: Sendable, Equatable {
    package static let data: UInt32 = 3
    package static let hole: UInt32 = 4
    package let handle: UInt64
    package let offset: UInt64
    package let whence: UInt32

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        handle = try reader.u64()
        offset = try reader.u64()
        whence = try reader.u32()
        try reader.skip(4)
    }
}

/// COPY_FILE_RANGE, both of them: from the request's node to `targetNode`.
package struct FuseCopyRange: Sendable, Equatable {
    package let handle: UInt64
    package let offset: UInt64
    package let targetNode: UInt64
    package let targetHandle: UInt64
    package let targetOffset: UInt64
    package let length: UInt64
    package let flags: UInt64
    /// The answer may exceed 32 bits (opcode 53).
    package let isWide: Bool

    init(_ reader: inout FuseReader, isWide: Bool) throws(FuseDecodeError) {
        handle = try reader.u64()
        offset = try reader.u64()
        targetNode = try reader.u64()
        targetHandle = try reader.u64()
        targetOffset = try reader.u64()
        length = try reader.u64()
        flags = try reader.u64()
        self.isWide = isWide
    }
}

/// IOCTL.
package struct FuseControl: Sendable, Equatable {
    package let handle: UInt64
    package let flags: UInt32
    package let command: UInt32
    package let argument: UInt64
    package let input: [UInt8]
    package let outputSize: Int

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        handle = try reader.u64()
        flags = try reader.u32()
        command = try reader.u32()
        argument = try reader.u64()
        let inputSize = Int(try reader.u32())
        outputSize = Int(try reader.u32())
        input = try reader.bytes(inputSize)
    }
}

/// POLL.
package struct FusePoll: Sendable, Equatable {
    package let handle: UInt64
    package let pollHandle: UInt64
    package let flags: UInt32
    package let events: UInt32

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        handle = try reader.u64()
        pollHandle = try reader.u64()
        flags = try reader.u32()
        events = try reader.u32()
    }
}
