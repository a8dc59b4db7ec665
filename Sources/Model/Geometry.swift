// The sizes that the whole system agrees on. They are part of every format (wire, journal, object file);
// changing one is a new format version, never a setting.

/// Bytes of a block: the unit of writing, of checksums and of the held bitmap.
package let blockSize = 4096
/// Blocks of an object.
package let blocksPerObject = 1024
/// Bytes of an object's data: 4 MiB.
package let objectSize = blockSize * blocksPerObject
/// Blocks of a chunk, the unit of resynchronisation: 64 KiB.
package let blocksPerChunk = 16
/// Bytes of a chunk.
package let chunkSize = blockSize * blocksPerChunk
/// Chunks of an object.
package let chunksPerObject = blocksPerObject / blocksPerChunk
/// Fixed slices of the object-id hash: the unit of targets, inventories and in-sync sets.
package let rangeCount = 65_536
/// The largest volume: 16 PiB less one object (2^32 - 1 objects, the last index being unused).
package let maximumVolumeSize = UInt64(objectSize) * UInt64(UInt32.max)
/// The sector that a volume's size must be a multiple of, in bytes.
package let sectorSize = 512

/// Blocks `first ..< first + count` of one object. Never empty, never beyond the object.
package struct BlockRange: Hashable, Sendable {
    package let first: Int
    package let count: Int

    package init(first: Int, count: Int) {
        precondition(first >= 0 && count > 0 && first + count <= blocksPerObject, "block range outside its object")
        self.first = first
        self.count = count
    }

    package static let whole = BlockRange(first: 0, count: blocksPerObject)
    package var end: Int { first + count }
    package var indices: Range<Int> { first..<end }
    /// The chunks that these blocks touch.
    package var chunks: Range<Int> { first / blocksPerChunk..<(end + blocksPerChunk - 1) / blocksPerChunk }
    package var byteOffset: Int { first * blockSize }
    package var byteCount: Int { count * blockSize }

    package func overlaps(_ other: BlockRange) -> Bool { first < other.end && other.first < end }
    package static func chunk(_ index: Int) -> BlockRange {
        BlockRange(first: index * blocksPerChunk, count: blocksPerChunk)
    }
}
