// The fixed header of every frame between nodes: 64 bytes, little-endian, with its own checksum. Everything that a hot
// write or read needs is in it. Nothing of a header is believed before its checksum and its fields have been checked.
import Model

/// What both ends of a connection agree on. Changing any of it is a new protocol version.
///
/// ```
///  0 magic u16   2 version u8   3 kind u8     4 flags u16   6 lane u16
///  8 request u64                              16 epoch u64
/// 24 object u64                               32 version u64
/// 40 generation u32           44 term u32     48 first block u16   50 block count u16
/// 52 payload blocks u16       54 body words u16
/// 56 checksum of the body, or, without a body, of the payload's only block u32
/// 60 CRC32C of bytes 0 ..< 60
/// ```
///
/// Behind the header follow the body (4-byte words; it begins with the CRC32C of each block of the payload, unless the
/// only one stands in the header) and the payload: whole blocks, as they lie in memory.
package enum WireFormat {
    package static let magic: UInt16 = 0x4853
    package static let headerBytes = 64
    /// Protocol versions that this code speaks, oldest to newest.
    package static let versions: ClosedRange<UInt8> = 1...1
    /// The version byte of frames that come before one has been agreed on: their layout never changes.
    package static let anyVersion: UInt8 = 0
    /// Bytes; the table of checksums counts.
    package static let maximumBodyBytes = 4 * Int(UInt16.max)
    package static let maximumPayloadBlocks = blocksPerObject
}

/// What a frame says. Numbers are part of the format.
package enum FrameKind: UInt8, Sendable, CaseIterable {
    // The connection itself.
    case hello = 1
    case challenge = 2
    case proof = 3
    case welcome = 4
    case refusal = 5
    case heartbeat = 6
    /// Between two nodes, about something else than one store.
    case message = 7
    // Requests to a copy.
    case open = 16
    case write = 17
    case discard = 18
    case read = 19
    case flush = 20
    case fence = 21
    case view = 22
    case beginSync = 23
    case fill = 24
    case completeSync = 25
    case markSuspect = 26
    case stamp = 27
    case verify = 28
    case empty = 29
    case remove = 30
    case reread = 31
    // Answers, and what a store says of itself.
    case done = 64
    case written = 65
    case data = 66
    case composed = 67
    case summaries = 68
    case verified = 69
    case failed = 70
    case room = 71
    case looked = 72

    /// Part of the handshake: stamped with `WireFormat.anyVersion`.
    package var isHandshake: Bool { rawValue <= FrameKind.refusal.rawValue }
}

package struct FrameFlags: OptionSet, Hashable, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }
    /// A discard: blocks stay held, as zeros. A fill: only what is still pending.
    package static let first = FrameFlags(rawValue: 1)
    /// See the coding of each kind.
    package static let second = FrameFlags(rawValue: 2)
    /// More frames of the same answer follow.
    package static let more = FrameFlags(rawValue: 4)
    /// The request was sent before, on an earlier connection.
    package static let resent = FrameFlags(rawValue: 8)
    static let known: FrameFlags = [.first, .second, .more, .resent]
}

/// Why bytes are no frame, or a frame no message. The connection that they came on ends.
package enum WireError: Error, Hashable, Sendable {
    case badMagic
    case badHeaderChecksum
    case otherVersion(UInt8)
    case unknownKind(UInt8)
    /// A field that has no such value, or does not go with the others.
    case badField(String)
    /// Longer than is allowed now; nothing was allocated for it.
    case tooLarge
    case badBodyChecksum
    /// A block of the payload does not match its checksum.
    case badPayloadChecksum(block: Int)
}

package struct FrameHeader: Hashable, Sendable {
    package var kind: FrameKind
    package var protocolVersion: UInt8
    package var flags: FrameFlags = []
    /// The store of the peer that is meant: a number that `open` gave it.
    package var lane: UInt16 = 0
    /// Answers carry the request's.
    package var request: UInt64 = 0
    package var epoch = Epoch(0)
    package var object = ObjectId(rawValue: 0)
    package var version = Version.zero
    package var generation = Generation(0)
    /// The lease's; of a write, whose own is in its version, that of the previous version.
    package var term = Term.none
    package var firstBlock: UInt16 = 0
    /// 0: the frame is about no blocks.
    package var blockCount: UInt16 = 0
    /// 0, or `blockCount`.
    package fileprivate(set) var payloadBlocks: UInt16 = 0
    /// Bytes of the body with the checksums in front of it, in words of 4 bytes.
    package fileprivate(set) var bodyWords: UInt16 = 0
    package fileprivate(set) var checksum: UInt32 = 0

    package init(_ kind: FrameKind, version: UInt8 = WireFormat.anyVersion) {
        self.kind = kind
        protocolVersion = version
    }

    /// Nil when the frame names no blocks.
    package var blocks: BlockRange? {
        get { blockCount == 0 ? nil : BlockRange(first: Int(firstBlock), count: Int(blockCount)) }
        set {
            firstBlock = UInt16(newValue?.first ?? 0)
            blockCount = UInt16(newValue?.count ?? 0)
        }
    }
    package var payloadBytes: Int { Int(payloadBlocks) * blockSize }
    package var bodyBytes: Int { Int(bodyWords) * 4 }
    package var frameBytes: Int { WireFormat.headerBytes + bodyBytes + payloadBytes }

    mutating func setLengths(payloadBlocks: Int, bodyBytes: Int, checksum: UInt32) {
        self.payloadBlocks = UInt16(payloadBlocks)
        bodyWords = UInt16(bodyBytes / 4)
        self.checksum = checksum
    }

    /// Writes the 64 bytes to `target`, which has room for them.
    package func encode(to target: UnsafeMutableRawPointer) {
        func put<T: FixedWidthInteger>(_ value: T, _ offset: Int) {
            target.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
        }
        put(WireFormat.magic, 0)
        put(protocolVersion, 2)
        put(kind.rawValue, 3)
        put(flags.rawValue, 4)
        put(lane, 6)
        put(request, 8)
        put(epoch.rawValue, 16)
        put(object.rawValue, 24)
        put(version.rawValue, 32)
        put(generation.rawValue, 40)
        put(term.rawValue, 44)
        put(firstBlock, 48)
        put(blockCount, 50)
        put(payloadBlocks, 52)
        put(bodyWords, 54)
        put(checksum, 56)
        put(crc32c(target, count: 60), 60)
    }

    /// Reads and checks 64 bytes.
    package init(decoding source: UnsafeRawPointer) throws(WireError) {
        func get<T: FixedWidthInteger>(_ offset: Int, _ type: T.Type = T.self) -> T {
            T(littleEndian: source.loadUnaligned(fromByteOffset: offset, as: T.self))
        }
        guard get(0, UInt16.self) == WireFormat.magic else { throw .badMagic }
        guard crc32c(source, count: 60) == get(60, UInt32.self) else { throw .badHeaderChecksum }
        guard let kind = FrameKind(rawValue: get(3, UInt8.self)) else { throw .unknownKind(get(3)) }
        self.kind = kind
        protocolVersion = get(2)
        flags = FrameFlags(rawValue: get(4))
        guard FrameFlags.known.isSuperset(of: flags) else { throw .badField("flags") }
        lane = get(6)
        request = get(8)
        epoch = Epoch(get(16))
        object = ObjectId(rawValue: get(24))
        version = Version(rawValue: get(32))
        generation = Generation(get(40))
        let term = get(44, UInt32.self)
        guard term <= Term.maximum else { throw .badField("term") }
        self.term = Term(term)
        firstBlock = get(48)
        blockCount = get(50)
        payloadBlocks = get(52)
        bodyWords = get(54)
        checksum = get(56)
        guard Int(firstBlock) + Int(blockCount) <= blocksPerObject, blockCount > 0 || firstBlock == 0 else {
            throw .badField("blocks")
        }
        guard payloadBlocks == 0 || payloadBlocks == blockCount else { throw .badField("payload blocks") }
        guard bodyWords > 0 ? bodyWords >= payloadBlocks : payloadBlocks <= 1 else { throw .badField("body words") }
    }
}
