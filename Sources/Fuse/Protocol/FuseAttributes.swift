// Lookup, attributes, statfs and extended attributes: what their requests carry and what answers them.
// The layouts are the kernel's (fuse_attr, fuse_entry_out, fuse_setattr_in, ...); no meaning of volumes here.

/// A moment as the protocol knows it: seconds since 1970 and nanoseconds.
package struct FuseTime: Sendable, Hashable {
    package var seconds: UInt64
    package var nanoseconds: UInt32
    package init(seconds: UInt64, nanoseconds: UInt32) {
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }
    /// Wall-clock nanoseconds since 1970.
    package init(wallClock: UInt64) {
        seconds = wallClock / 1_000_000_000
        nanoseconds = UInt32(wallClock % 1_000_000_000)
    }
    package var wallClock: UInt64 { seconds &* 1_000_000_000 &+ UInt64(nanoseconds) }
}

/// A file's attributes (fuse_attr, 88 bytes).
package struct FuseAttributes: Sendable, Hashable {
    static let byteCount = 88
    package var inode: UInt64
    package var size: UInt64
    /// Units of 512 bytes.
    package var blocks: UInt64
    package var accessTime: FuseTime
    package var modificationTime: FuseTime
    package var changeTime: FuseTime
    /// Type and permission bits.
    package var mode: UInt32
    package var linkCount: UInt32
    package var uid: UInt32
    package var gid: UInt32
    package var device: UInt32
    package var blockSize: UInt32

    package init(
        inode: UInt64, size: UInt64, blocks: UInt64, mode: UInt32, linkCount: UInt32 = 1, uid: UInt32 = 0,
        gid: UInt32 = 0, accessTime: FuseTime = FuseTime(wallClock: 0),
        modificationTime: FuseTime = FuseTime(wallClock: 0), changeTime: FuseTime = FuseTime(wallClock: 0),
        device: UInt32 = 0, blockSize: UInt32 = 4096
    ) {
        self.inode = inode
        self.size = size
        self.blocks = blocks
        self.mode = mode
        self.linkCount = linkCount
        self.uid = uid
        self.gid = gid
        self.accessTime = accessTime
        self.modificationTime = modificationTime
        self.changeTime = changeTime
        self.device = device
        self.blockSize = blockSize
    }

    func encode(_ out: inout FuseWriter) {
        out.put(inode)
        out.put(size)
        out.put(blocks)
        out.put(accessTime.seconds)
        out.put(modificationTime.seconds)
        out.put(changeTime.seconds)
        out.put(accessTime.nanoseconds)
        out.put(modificationTime.nanoseconds)
        out.put(changeTime.nanoseconds)
        out.put(mode)
        out.put(linkCount)
        out.put(uid)
        out.put(gid)
        out.put(device)
        out.put(blockSize)
        out.put(UInt32(0))
    }
}

/// A directory entry's target and how long the kernel may believe it (fuse_entry_out, 128 bytes). Node 0 with an
/// entry time is a negative entry: the name is known not to exist.
package struct FuseEntry: Sendable, Hashable {
    static let byteCount = 128
    package var node: UInt64
    package var generation: UInt64
    package var entryValidMilliseconds: UInt64
    package var attributesValidMilliseconds: UInt64
    package var attributes: FuseAttributes

    package init(
        node: UInt64, generation: UInt64 = 0, entryValidMilliseconds: UInt64, attributesValidMilliseconds: UInt64,
        attributes: FuseAttributes
    ) {
        self.node = node
        self.generation = generation
        self.entryValidMilliseconds = entryValidMilliseconds
        self.attributesValidMilliseconds = attributesValidMilliseconds
        self.attributes = attributes
    }
    package static func negative(validMilliseconds: UInt64) -> FuseEntry {
        FuseEntry(
            node: 0, entryValidMilliseconds: validMilliseconds, attributesValidMilliseconds: 0,
            attributes: FuseAttributes(inode: 0, size: 0, blocks: 0, mode: 0, linkCount: 0))
    }

    func encode(_ out: inout FuseWriter) {
        out.put(node)
        out.put(generation)
        out.put(entryValidMilliseconds / 1000)
        out.put(attributesValidMilliseconds / 1000)
        out.put(UInt32(entryValidMilliseconds % 1000) * 1_000_000)
        out.put(UInt32(attributesValidMilliseconds % 1000) * 1_000_000)
        attributes.encode(&out)
    }
}

/// GETATTR (and what STATX shares with it).
package struct FuseGetAttributes: Sendable, Equatable {
    /// The open file it is asked through, if any.
    package let handle: UInt64?

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        let flags = try reader.u32()
        try reader.skip(4)
        let raw = try reader.u64()
        handle = flags & 1 != 0 ? raw : nil
    }
}

/// SETATTR: each field that is not nil is to be set.
package struct FuseSetAttributes: Sendable, Equatable {
    package enum Moment: Sendable, Equatable {
        case now
        case at(FuseTime)
    }
    package let mode: UInt32?
    package let uid: UInt32?
    package let gid: UInt32?
    package let size: UInt64?
    package let accessTime: Moment?
    package let modificationTime: Moment?
    package let changeTime: FuseTime?
    package let handle: UInt64?
    package let lockOwner: UInt64?

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        let valid = try reader.u32()
        try reader.skip(4)
        let handle = try reader.u64()
        let size = try reader.u64()
        let lockOwner = try reader.u64()
        let access = try reader.u64()
        let modification = try reader.u64()
        let change = try reader.u64()
        let accessNanoseconds = try reader.u32()
        let modificationNanoseconds = try reader.u32()
        let changeNanoseconds = try reader.u32()
        let mode = try reader.u32()
        try reader.skip(4)
        let uid = try reader.u32()
        let gid = try reader.u32()
        try reader.skip(4)
        func has(_ bit: Int) -> Bool { valid >> UInt32(bit) & 1 != 0 }
        func moment(_ bit: Int, now: Int, _ seconds: UInt64, _ nanoseconds: UInt32) -> Moment? {
            guard has(bit) else { return nil }
            return has(now) ? .now : .at(FuseTime(seconds: seconds, nanoseconds: nanoseconds))
        }
        self.mode = has(0) ? mode : nil
        self.uid = has(1) ? uid : nil
        self.gid = has(2) ? gid : nil
        self.size = has(3) ? size : nil
        accessTime = moment(4, now: 7, access, accessNanoseconds)
        modificationTime = moment(5, now: 8, modification, modificationNanoseconds)
        changeTime = has(10) ? FuseTime(seconds: change, nanoseconds: changeNanoseconds) : nil
        self.handle = has(6) ? handle : nil
        self.lockOwner = has(9) ? lockOwner : nil
    }
}

/// STATX.
package struct FuseStatx: Sendable, Equatable {
    package let handle: UInt64?
    package let flags: UInt32
    package let mask: UInt32

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        handle = try FuseGetAttributes(&reader).handle
        flags = try reader.u32()
        mask = try reader.u32()
    }
}

/// SETXATTR.
package struct FuseSetExtendedAttribute: Sendable, Equatable {
    package let name: String
    package let value: [UInt8]
    /// XATTR_CREATE (1), XATTR_REPLACE (2).
    package let flags: UInt32

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        let size = Int(try reader.u32())
        flags = try reader.u32()
        name = try reader.string()
        value = try reader.bytes(size)
    }
}

/// The file system as a whole (fuse_kstatfs, 80 bytes). Counts of blocks are in `fragmentSize` units.
package struct FuseStatistics: Sendable, Hashable {
    static let byteCount = 80
    package var blocks: UInt64
    package var freeBlocks: UInt64
    package var availableBlocks: UInt64
    package var files: UInt64
    package var freeFiles: UInt64
    package var blockSize: UInt32
    package var fragmentSize: UInt32
    package var maximumNameLength: UInt32

    package init(
        blocks: UInt64, freeBlocks: UInt64, availableBlocks: UInt64, files: UInt64, freeFiles: UInt64,
        blockSize: UInt32 = 4096, fragmentSize: UInt32 = 4096, maximumNameLength: UInt32 = 255
    ) {
        self.blocks = blocks
        self.freeBlocks = freeBlocks
        self.availableBlocks = availableBlocks
        self.files = files
        self.freeFiles = freeFiles
        self.blockSize = blockSize
        self.fragmentSize = fragmentSize
        self.maximumNameLength = maximumNameLength
    }

    func encode(_ out: inout FuseWriter) {
        out.put(blocks)
        out.put(freeBlocks)
        out.put(availableBlocks)
        out.put(files)
        out.put(freeFiles)
        out.put(blockSize)
        out.put(maximumNameLength)
        out.put(fragmentSize)
        out.zeros(28)
    }
}
