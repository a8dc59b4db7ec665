// Aligned, pooled memory for payloads. One buffer is shared by the request, the journals and the copies that
// still need it; it goes back to its pool when the last of them lets go.
import CSheep
import Glibc
import Synchronization

/// Memory aligned to a block. The owner that fills it must be done before it shares it: afterwards it is only read.
/// `checksums` has room for one CRC32C per block.
package final class Buffer: @unchecked Sendable {
    package let bytes: UnsafeMutableRawPointer
    package let checksums: UnsafeMutablePointer<UInt32>
    /// A multiple of `blockSize`.
    package let capacity: Int
    private let pool: BufferPool?

    fileprivate init(capacity: Int, pool: BufferPool?, recycled: BufferPool.Memory? = nil) {
        precondition(capacity > 0 && capacity % blockSize == 0, "a buffer is whole blocks")
        self.capacity = capacity
        self.pool = pool
        if let recycled {
            bytes = recycled.bytes
            checksums = recycled.checksums
        } else {
            bytes = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: blockSize)
            pool?.onAllocate?(bytes, capacity)
            checksums = .allocate(capacity: capacity / blockSize)
        }
    }

    /// A buffer outside any pool; its contents are undefined.
    package convenience init(capacity: Int) { self.init(capacity: capacity, pool: nil) }

    deinit {
        if let pool, pool.take(back: .init(bytes: bytes, checksums: checksums), capacity: capacity) { return }
        pool?.onFree?(bytes, capacity)
        bytes.deallocate()
        checksums.deallocate()
    }

    package func fillZero(_ range: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= capacity)
        memset(bytes + range.lowerBound, 0, range.count)
    }
    /// Whether a block of this buffer is all zeros (looked at byte for byte: a checksum does not prove it).
    package func isZero(block: Int) -> Bool {
        let start = bytes + block * blockSize
        return start.load(as: UInt64.self) == 0 && memcmp(start, start + 8, blockSize - 8) == 0
    }
    /// Computes the checksums of blocks `range` of this buffer.
    package func computeChecksums(_ range: Range<Int>) {
        precondition(range.upperBound * blockSize <= capacity)
        for block in range { checksums[block] = crc32c(bytes + block * blockSize, count: blockSize) }
    }
}

/// Keeps memory of a few sizes for reuse, from any thread.
package final class BufferPool: Sendable {
    fileprivate struct Memory: @unchecked Sendable {
        let bytes: UnsafeMutableRawPointer
        let checksums: UnsafeMutablePointer<UInt32>
    }
    private static let classes = [4096, 16384, 65536, 262_144, 1_048_576 + 65536]
    private let limitBytes: Int
    private let free: Mutex<(lists: [[Memory]], bytes: Int)>
    package typealias Hook = @Sendable (UnsafeMutableRawPointer, Int) -> Void
    fileprivate let onAllocate: Hook?
    fileprivate let onFree: Hook?

    /// `limitBytes`: how much idle memory is kept. `onAllocate` and `onFree` are told of memory that comes from the system
    /// and goes back to it, from any thread.
    package init(limitBytes: Int, onAllocate: Hook? = nil, onFree: Hook? = nil) {
        self.limitBytes = limitBytes
        self.onAllocate = onAllocate
        self.onFree = onFree
        free = Mutex((Array(repeating: [], count: BufferPool.classes.count), 0))
    }

    /// A buffer of at least `bytes`; its contents are undefined.
    package func buffer(_ bytes: Int) -> Buffer {
        guard let index = BufferPool.classes.firstIndex(where: { $0 >= bytes }) else {
            return Buffer(capacity: (bytes + blockSize - 1) / blockSize * blockSize, pool: nil)
        }
        let size = BufferPool.classes[index]
        let memory = free.withLock { state -> Memory? in
            guard let memory = state.lists[index].popLast() else { return nil }
            state.bytes -= size
            return memory
        }
        return Buffer(capacity: size, pool: self, recycled: memory)
    }

    fileprivate func take(back memory: Memory, capacity: Int) -> Bool {
        guard let index = BufferPool.classes.firstIndex(of: capacity) else { return false }
        return free.withLock { state in
            guard state.bytes + capacity <= limitBytes else { return false }
            state.bytes += capacity
            state.lists[index].append(memory)
            return true
        }
    }
}

/// Whole blocks in a buffer, with their checksums: what a write carries.
package struct Payload: Sendable {
    package let buffer: Buffer
    /// The first block, counted in the buffer.
    package let firstBlock: Int
    package let blockCount: Int

    package init(buffer: Buffer, firstBlock: Int, blockCount: Int) {
        precondition(firstBlock >= 0 && blockCount > 0 && (firstBlock + blockCount) * blockSize <= buffer.capacity)
        self.buffer = buffer
        self.firstBlock = firstBlock
        self.blockCount = blockCount
    }
    package var bytes: UnsafeMutableRawPointer { buffer.bytes + firstBlock * blockSize }
    package var byteCount: Int { blockCount * blockSize }
    package func checksum(_ block: Int) -> UInt32 { buffer.checksums[firstBlock + block] }
    package func slice(_ range: Range<Int>) -> Payload {
        Payload(buffer: buffer, firstBlock: firstBlock + range.lowerBound, blockCount: range.count)
    }
}
