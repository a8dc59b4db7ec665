// Locks of byte ranges (fcntl, OFD) and of whole files (flock) as the protocol carries them. Who holds what is
// decided elsewhere.

/// A lock or the wish for one.
package struct FuseLock: Sendable, Hashable {
    static let byteCount = 24
    package enum Kind: UInt32, Sendable {
        case read = 0
        case write = 1
        case unlock = 2
    }
    package var start: UInt64
    /// The last byte, included; `UInt64.max >> 1` is the end of the file whatever it is.
    package var end: UInt64
    package var kind: Kind
    package var pid: UInt32

    package init(start: UInt64, end: UInt64, kind: Kind, pid: UInt32) {
        self.start = start
        self.end = end
        self.kind = kind
        self.pid = pid
    }
    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        start = try reader.u64()
        end = try reader.u64()
        guard let kind = Kind(rawValue: try reader.u32()) else { throw .malformed }
        self.kind = kind
        pid = try reader.u32()
        guard start <= end else { throw .malformed }
    }
    func encode(_ out: inout FuseWriter) {
        out.put(start)
        out.put(end)
        out.put(kind.rawValue)
        out.put(pid)
    }
}

/// GETLK, SETLK, SETLKW.
package struct FuseLockRequest: Sendable, Equatable {
    package let handle: UInt64
    /// Opaque and unique for each owner (process or open file description).
    package let owner: UInt64
    package let lock: FuseLock
    /// flock of the whole file instead of a byte range.
    package let isFlock: Bool

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        handle = try reader.u64()
        owner = try reader.u64()
        lock = try FuseLock(&reader)
        isFlock = try reader.u32() & 1 != 0
        try reader.skip(4)
    }
}
