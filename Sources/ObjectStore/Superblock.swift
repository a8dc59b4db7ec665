// The store's identity and session on disk: written whole and atomically, at format, open and close.
import Model

struct Superblock {
    static let magic: UInt64 = 0x4f54_5350_4545_4853  // "SHEEPSTO"
    static let bytes = 112
    /// A chunk that is merged must fit into half a segment.
    static let smallestSegmentBytes = 256 << 10
    var identity: StoreIdentity
    var segmentBytes: UInt64
    var session: StoreSession
    /// The boot in which the store was last opened.
    var lastBootId: ClusterId
    var isClean: Bool
    /// How often the store was opened. Sequences of journal segments begin with it: a segment that was begun and lost
    /// its header with the power must never have the number of a later one, or its records would pass for that one's.
    var openings: UInt64 = 0

    func encode() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(Superblock.magic)
        writer.write(identity.formatVersion)
        writer.write(UInt32(isClean ? 1 : 0))
        writer.write(identity.clusterId.high)
        writer.write(identity.clusterId.low)
        writer.write(identity.storeId.rawValue)
        writer.write(identity.createdWallClock)
        writer.write(segmentBytes)
        writer.write(session.bootId.high)
        writer.write(session.bootId.low)
        writer.write(session.incarnation)
        writer.write(lastBootId.high)
        writer.write(lastBootId.low)
        writer.write(openings)
        writer.write(UInt32(0))
        writer.write(crc32c(writer.bytes))
        return writer.bytes
    }

    static func decode(_ bytes: [UInt8]) -> Result<Superblock, StoreError> {
        var reader = ByteReader(bytes)
        do throws(DecodeError) {
            guard try reader.read(UInt64.self) == magic else {
                return .failure(.foreign("the superblock does not belong to a store"))
            }
            let version = try reader.read(UInt32.self)
            guard version <= storeFormatVersion else { return .failure(.newerFormat(version)) }
            guard version > 0, bytes.count == Superblock.bytes,
                crc32c(Array(bytes.dropLast(4)))
                    == UInt32(bytes[108]) | UInt32(bytes[109]) << 8 | UInt32(bytes[110]) << 16 | UInt32(bytes[111])
                    << 24
            else { return .failure(.damaged("the superblock's checksum does not match")) }
            let clean = try reader.read(UInt32.self)
            let cluster = ClusterId(high: try reader.read(), low: try reader.read())
            let store = StoreId(try reader.read())
            let created = try reader.read(UInt64.self)
            let segmentBytes = try reader.read(UInt64.self)
            let boot = ClusterId(high: try reader.read(), low: try reader.read())
            let incarnation = try reader.read(UInt64.self)
            let last = ClusterId(high: try reader.read(), low: try reader.read())
            let openings = try reader.read(UInt64.self)
            guard segmentBytes % UInt64(blockSize) == 0, segmentBytes >= UInt64(smallestSegmentBytes),
                segmentBytes <= 1 << 30
            else {
                return .failure(.damaged("the superblock names an impossible journal segment size"))
            }
            guard Sane.isNumber(incarnation) else {
                return .failure(.damaged("the superblock names an impossible session"))
            }
            return .success(
                Superblock(
                    identity: StoreIdentity(
                        clusterId: cluster, storeId: store, formatVersion: version, createdWallClock: created),
                    segmentBytes: segmentBytes, session: StoreSession(bootId: boot, incarnation: incarnation),
                    lastBootId: last, isClean: clean == 1, openings: openings))
        } catch {
            return .failure(.foreign("the superblock is too short"))
        }
    }
}
