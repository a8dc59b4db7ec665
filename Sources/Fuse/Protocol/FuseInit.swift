// INIT: what the kernel offers, what we take, and the outcome as a value that outlives the process.
// A process that takes a mount over gets no INIT of its own: it goes on by the value that the keeper has.
import Model

/// The capability bits of INIT, both words as one.
package struct FuseInitFlags: OptionSet, Sendable, Hashable {
    package let rawValue: UInt64
    package init(rawValue: UInt64) { self.rawValue = rawValue }
    private init(bit: UInt64) { rawValue = 1 << bit }
    package static let asyncRead = FuseInitFlags(bit: 0)
    package static let posixLocks = FuseInitFlags(bit: 1)
    package static let atomicTruncate = FuseInitFlags(bit: 3)
    package static let exportSupport = FuseInitFlags(bit: 4)
    package static let bigWrites = FuseInitFlags(bit: 5)
    package static let dontMask = FuseInitFlags(bit: 6)
    package static let spliceWrite = FuseInitFlags(bit: 7)
    package static let spliceMove = FuseInitFlags(bit: 8)
    package static let spliceRead = FuseInitFlags(bit: 9)
    package static let flockLocks = FuseInitFlags(bit: 10)
    package static let ioctlOnDirectories = FuseInitFlags(bit: 11)
    package static let autoInvalidateData = FuseInitFlags(bit: 12)
    package static let readdirplus = FuseInitFlags(bit: 13)
    package static let readdirplusAuto = FuseInitFlags(bit: 14)
    package static let asyncDirectIO = FuseInitFlags(bit: 15)
    package static let writebackCache = FuseInitFlags(bit: 16)
    package static let noOpenSupport = FuseInitFlags(bit: 17)
    package static let parallelDirectoryOperations = FuseInitFlags(bit: 18)
    package static let handleKillPrivileges = FuseInitFlags(bit: 19)
    package static let posixACL = FuseInitFlags(bit: 20)
    package static let abortError = FuseInitFlags(bit: 21)
    package static let maxPages = FuseInitFlags(bit: 22)
    package static let cacheSymbolicLinks = FuseInitFlags(bit: 23)
    package static let noOpendirSupport = FuseInitFlags(bit: 24)
    package static let explicitInvalidateData = FuseInitFlags(bit: 25)
    package static let mapAlignment = FuseInitFlags(bit: 26)
    package static let submounts = FuseInitFlags(bit: 27)
    package static let handleKillPrivilegesV2 = FuseInitFlags(bit: 28)
    package static let setxattrExtended = FuseInitFlags(bit: 29)
    package static let extended = FuseInitFlags(bit: 30)
    package static let securityContext = FuseInitFlags(bit: 32)
    package static let inodeDAX = FuseInitFlags(bit: 33)
    package static let createSupplementaryGroup = FuseInitFlags(bit: 34)
    package static let expireOnly = FuseInitFlags(bit: 35)
    package static let directIOAllowMmap = FuseInitFlags(bit: 36)
    package static let passthrough = FuseInitFlags(bit: 37)
    package static let noExportSupport = FuseInitFlags(bit: 38)
    package static let resend = FuseInitFlags(bit: 39)
    package static let allowIdmap = FuseInitFlags(bit: 40)
    package static let overIOUring = FuseInitFlags(bit: 41)
    package static let requestTimeout = FuseInitFlags(bit: 42)
}

/// What we ask for in INIT.
package struct FuseSettings: Sendable, Hashable {
    /// Asynchronous requests that the kernel keeps in flight; its own default of 12 caps the whole mount.
    package var maximumBackground: UInt16 = 512
    package var congestionThreshold: UInt16 = 384
    /// The largest write and read, in bytes: at most 1 MiB.
    package var maximumWrite = FuseWrite.maximumSize
    /// Taken where the kernel offers them.
    package var wanted: FuseInitFlags = [
        .asyncRead, .posixLocks, .bigWrites, .readdirplus, .readdirplusAuto, .asyncDirectIO,
        .parallelDirectoryOperations, .maxPages, .extended, .directIOAllowMmap, .resend, .expireOnly,
    ]
    package init() {}
}

/// What the running kernel can do for us, by what it offered.
package struct FuseCapabilities: OptionSet, Sendable, Hashable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    /// A new process may take over with requests in flight (kernel 6.9). Without it a crash ends the mount.
    package static let resend = FuseCapabilities(rawValue: 1 << 0)
    /// Shared mappings of files opened for direct I/O (6.6).
    package static let mmapWithDirectIO = FuseCapabilities(rawValue: 1 << 1)
    /// Several direct writes to one file at once (6.2).
    package static let parallelDirectWrites = FuseCapabilities(rawValue: 1 << 2)
    /// copy_file_range beyond 4 GiB in one call (about 6.18).
    package static let wideCopyFileRange = FuseCapabilities(rawValue: 1 << 3)
    /// Entries can be expired without being dropped.
    package static let expireOnly = FuseCapabilities(rawValue: 1 << 4)
}

/// INIT as the kernel sends it.
struct FuseInitRequest {
    let major: UInt32
    let minor: UInt32
    let maximumReadahead: UInt32
    let flags: FuseInitFlags

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        major = try reader.u32()
        minor = try reader.u32()
        maximumReadahead = try reader.u32()
        let low = UInt64(try reader.u32())
        let high: UInt64
        if low >> 30 & 1 != 0 { high = UInt64(try reader.u32()) } else { high = 0 }
        flags = FuseInitFlags(rawValue: high << 32 | low)
    }
}

/// The settings that a session runs by, agreed with the kernel once in its life.
package struct FuseNegotiated: Sendable, Hashable {
    static let byteCount = 64
    package static let oldestMinor: UInt32 = 31
    package static let newestMinor: UInt32 = 45
    /// The key under which a keeper holds this value.
    package static let key = "init"

    package let minor: UInt32
    /// The kernel's own version, which may be newer than what we speak.
    package let kernelMinor: UInt32
    package let flags: FuseInitFlags
    package let maximumReadahead: UInt32
    package let maximumBackground: UInt16
    package let congestionThreshold: UInt16
    package let maximumWrite: UInt32
    package let maximumPages: UInt16

    /// Nil when the kernel speaks another protocol or one too old.
    init?(_ offer: FuseInitRequest, settings: FuseSettings) {
        guard offer.major == 7, offer.minor >= FuseNegotiated.oldestMinor else { return nil }
        minor = min(offer.minor, FuseNegotiated.newestMinor)
        kernelMinor = offer.minor
        var flags = offer.flags.intersection(settings.wanted)
        if !offer.flags.contains(.extended) { flags = FuseInitFlags(rawValue: flags.rawValue & 0xffff_ffff) }
        self.flags = flags
        maximumReadahead = offer.maximumReadahead
        maximumBackground = settings.maximumBackground
        congestionThreshold = settings.congestionThreshold
        let write = max(4096, min(settings.maximumWrite, FuseWrite.maximumSize))
        // Without MAX_PAGES the kernel sends at most 32 pages.
        maximumWrite = UInt32(flags.contains(.maxPages) ? write : min(write, 32 * 4096))
        maximumPages = UInt16((write + 4095) / 4096)
    }

    package var capabilities: FuseCapabilities {
        var result: FuseCapabilities = []
        if flags.contains(.resend) { result.insert(.resend) }
        if flags.contains(.directIOAllowMmap) { result.insert(.mmapWithDirectIO) }
        if flags.contains(.expireOnly) { result.insert(.expireOnly) }
        if kernelMinor >= 38 { result.insert(.parallelDirectWrites) }
        if kernelMinor >= 45 { result.insert(.wideCopyFileRange) }
        return result
    }

    /// fuse_init_out.
    func encode(_ out: inout FuseWriter) {
        out.put(UInt32(7))
        out.put(minor)
        out.put(maximumReadahead)
        out.put(UInt32(truncatingIfNeeded: flags.rawValue))
        out.put(maximumBackground)
        out.put(congestionThreshold)
        out.put(maximumWrite)
        out.put(UInt32(1))  // time_gran: nanoseconds
        out.put(maximumPages)
        out.put(UInt16(0))
        out.put(UInt32(truncatingIfNeeded: flags.rawValue >> 32))
        out.zeros(FuseNegotiated.byteCount - out.position)
    }

    /// For the keeper.
    package var serialized: [UInt8] {
        var writer = ByteWriter()
        writer.write(UInt32(1))
        writer.write(minor)
        writer.write(kernelMinor)
        writer.write(flags.rawValue)
        writer.write(maximumReadahead)
        writer.write(maximumBackground)
        writer.write(congestionThreshold)
        writer.write(maximumWrite)
        writer.write(maximumPages)
        return writer.bytes
    }
    package init(serialized: [UInt8]) throws(DecodeError) {
        var reader = ByteReader(serialized)
        guard try reader.read(UInt32.self) == 1 else { throw .badValue("version of the negotiated settings") }
        minor = try reader.read()
        kernelMinor = try reader.read()
        flags = FuseInitFlags(rawValue: try reader.read())
        maximumReadahead = try reader.read()
        maximumBackground = try reader.read()
        congestionThreshold = try reader.read()
        maximumWrite = try reader.read()
        maximumPages = try reader.read()
        guard maximumWrite <= FuseWrite.maximumSize else { throw .badValue("largest write") }
    }
}
