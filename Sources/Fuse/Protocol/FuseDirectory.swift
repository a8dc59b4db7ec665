// Directories: the requests that change names, and the listing that answers READDIR and READDIRPLUS.
// A listing never outgrows what the kernel asked for; an entry that does not fit is the next call's first.
import Glibc
import Model

/// MKDIR.
package struct FuseMakeDirectory: Sendable, Equatable {
    package let name: String
    package let mode: UInt32
    package let umask: UInt32

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        mode = try reader.u32()
        umask = try reader.u32()
        name = try reader.name()
    }
}

/// MKNOD.
package struct FuseMakeNode: Sendable, Equatable {
    package let name: String
    package let mode: UInt32
    package let device: UInt32
    package let umask: UInt32

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        mode = try reader.u32()
        device = try reader.u32()
        umask = try reader.u32()
        try reader.skip(4)
        name = try reader.name()
    }
}

/// RENAME and RENAME2: from `name` in the request's node to `newName` in `newDirectory`.
package struct FuseRename: Sendable, Equatable {
    package static let noReplace: UInt32 = 1
    package static let exchange: UInt32 = 2
    package static let whiteout: UInt32 = 4
    package let name: String
    package let newDirectory: UInt64
    package let newName: String
    /// `noReplace`, `exchange`, `whiteout`.
    package let flags: UInt32

    init(_ reader: inout FuseReader, hasFlags: Bool) throws(FuseDecodeError) {
        newDirectory = try reader.u64()
        if hasFlags {
            flags = try reader.u32()
            try reader.skip(4)
        } else {
            flags = 0
        }
        name = try reader.name()
        newName = try reader.name()
    }
}

/// LINK: a new `name`, in the request's node, for `node`.
package struct FuseLink: Sendable, Equatable {
    package let node: UInt64
    package let name: String

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        node = try reader.u64()
        name = try reader.name()
    }
}

/// SYMLINK.
package struct FuseSymbolicLink: Sendable, Equatable {
    package let name: String
    package let target: String

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        name = try reader.name()
        target = try reader.string()
    }
}

/// READDIR and READDIRPLUS: entries after `offset` (0 = from the start), at most `size` bytes.
package struct FuseReadDirectory: Sendable, Equatable {
    package let handle: UInt64
    package let offset: UInt64
    package let size: Int

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        let read = try FuseRead(&reader)
        handle = read.handle
        offset = read.offset
        size = read.size
    }
}

/// One piece of a listing, made entry by entry in a buffer.
package struct FuseListing {
    /// Types of entries (DT_DIR and DT_REG).
    package static let directory: UInt32 = 4
    package static let file: UInt32 = 8
    package static let symbolicLink: UInt32 = 10

    let buffer: Buffer
    private var out: FuseWriter
    package var byteCount: Int { out.position }

    /// `limit`: the size that the kernel asked for.
    package init(limit: Int, pool: BufferPool) {
        let size = max(1, min(limit, 1 << 20))
        buffer = pool.buffer(size)
        out = FuseWriter(buffer.bytes, capacity: min(max(0, limit), size))
    }

    /// Adds an entry for READDIR. `nextOffset`: where a later call goes on after it. False: it did not fit.
    package mutating func add(name: String, inode: UInt64, type: UInt32, nextOffset: UInt64) -> Bool {
        let count = name.utf8.count
        guard out.capacity - out.position >= FuseListing.size(count) else { return false }
        putEntry(name, count, inode, type, nextOffset)
        return true
    }
    /// Adds an entry with its attributes, for READDIRPLUS. The kernel counts it as a lookup of `entry.node`, unless
    /// that is 0 (then it knows the name and the inode number only).
    package mutating func add(name: String, entry: FuseEntry, nextOffset: UInt64) -> Bool {
        let count = name.utf8.count
        guard out.capacity - out.position >= FuseEntry.byteCount + FuseListing.size(count) else { return false }
        entry.encode(&out)
        putEntry(name, count, entry.attributes.inode, entry.attributes.mode >> 12 & 15, nextOffset)
        return true
    }

    private static func size(_ nameLength: Int) -> Int { (24 + nameLength + 7) & ~7 }
    private mutating func putEntry(_ name: String, _ count: Int, _ inode: UInt64, _ type: UInt32, _ next: UInt64) {
        out.put(inode)
        out.put(next)
        out.put(UInt32(count))
        out.put(type)
        out.bytes(name, count: count)
        out.zeros(FuseListing.size(count) - 24 - count)
    }
}
