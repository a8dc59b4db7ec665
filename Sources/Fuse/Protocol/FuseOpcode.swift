// The operations of the kernel's FUSE protocol (7.31 to 7.45). Our own statement of the ABI: nothing here may depend
// on the distribution's linux/fuse.h, which is often older than the kernel that runs.

/// What a request asks for; the raw values are the kernel's.
package enum FuseOpcode: UInt32, Sendable {
    case lookup = 1
    case forget = 2
    case getattr = 3
    case setattr = 4
    case readlink = 5
    case symlink = 6
    case mknod = 8
    case mkdir = 9
    case unlink = 10
    case rmdir = 11
    case rename = 12
    case link = 13
    case open = 14
    case read = 15
    case write = 16
    case statfs = 17
    case release = 18
    case fsync = 20
    case setxattr = 21
    case getxattr = 22
    case listxattr = 23
    case removexattr = 24
    case flush = 25
    case initialize = 26
    case opendir = 27
    case readdir = 28
    case releasedir = 29
    case fsyncdir = 30
    case getlk = 31
    case setlk = 32
    case setlkw = 33
    case access = 34
    case create = 35
    case interrupt = 36
    case bmap = 37
    case destroy = 38
    case ioctl = 39
    case poll = 40
    case notifyReply = 41
    case batchForget = 42
    case fallocate = 43
    case readdirplus = 44
    case rename2 = 45
    case lseek = 46
    case copyFileRange = 47
    case setupMapping = 48
    case removeMapping = 49
    case syncfs = 50
    case tmpfile = 51
    case statx = 52
    case copyFileRange64 = 53

    /// Whether the kernel waits for an answer. Answering one that expects none is an error to the kernel.
    package var expectsAnswer: Bool {
        switch self {
        case .forget, .batchForget, .interrupt, .notifyReply: false
        default: true
        }
    }
}

/// The header of every request: 40 bytes.
package struct FuseHeader: Sendable, Equatable {
    package static let byteCount = 40
    /// Set in `unique` when the kernel sends a request for a second time.
    package static let resendBit: UInt64 = 1 << 63

    /// Bytes of the whole request, this header included.
    package let length: Int
    package let rawOpcode: UInt32
    /// As received, with the resend bit: what the answer must carry.
    package let rawUnique: UInt64
    package let node: UInt64
    package let uid: UInt32
    package let gid: UInt32
    package let pid: UInt32
    /// Bytes of extensions at the end of the request.
    package let extensionLength: Int

    package var opcode: FuseOpcode? { FuseOpcode(rawValue: rawOpcode) }
    /// The request's id, the same when it is sent again.
    package var unique: UInt64 { rawUnique & ~FuseHeader.resendBit }
    package var isResend: Bool { rawUnique & FuseHeader.resendBit != 0 }

    package init(
        length: Int, rawOpcode: UInt32, rawUnique: UInt64, node: UInt64, uid: UInt32, gid: UInt32, pid: UInt32,
        extensionLength: Int = 0
    ) {
        self.length = length
        self.rawOpcode = rawOpcode
        self.rawUnique = rawUnique
        self.node = node
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.extensionLength = extensionLength
    }

    init(_ reader: inout FuseReader) throws(FuseDecodeError) {
        length = Int(try reader.u32())
        rawOpcode = try reader.u32()
        rawUnique = try reader.u64()
        node = try reader.u64()
        uid = try reader.u32()
        gid = try reader.u32()
        pid = try reader.u32()
        extensionLength = Int(try reader.u16()) * 8
        try reader.skip(2)
    }
}
