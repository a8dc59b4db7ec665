// CRC32C, computed at the gateway, kept beside every block, checked at the gateway again.
import CSheep

/// The CRC32C of `count` bytes at `bytes`; `seed` continues an earlier one.
@inlinable
package func crc32c(_ bytes: UnsafeRawPointer, count: Int, seed: UInt32 = 0) -> UInt32 {
    csheep_crc32c(seed, bytes, count)
}

package func crc32c(_ bytes: [UInt8], seed: UInt32 = 0) -> UInt32 {
    bytes.withUnsafeBytes { $0.count == 0 ? seed : csheep_crc32c(seed, $0.baseAddress!, $0.count) }
}

/// The CRC32C of a block of zeros.
package let zeroBlockChecksum: UInt32 = crc32c([UInt8](repeating: 0, count: blockSize))
