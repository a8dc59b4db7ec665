// A request, decoded. Whatever bytes come, the outcome is a request or an error, never a trap.
import Model

/// FORGET and BATCH_FORGET: the kernel drops `lookups` of its references to `node`.
package struct FuseForget: Sendable, Hashable {
    package let node: UInt64
    package let lookups: UInt64
}

package struct FuseRequest: Sendable {
    package enum Body: Sendable {
        case lookup(name: String)
        case forget([FuseForget])
        case getattr(FuseGetAttributes)
        case setattr(FuseSetAttributes)
        case readlink
        case symlink(FuseSymbolicLink)
        case mknod(FuseMakeNode)
        case mkdir(FuseMakeDirectory)
        case unlink(name: String)
        case rmdir(name: String)
        case rename(FuseRename)
        case link(FuseLink)
        case open(FuseOpen)
        case read(FuseRead)
        case write(FuseWrite)
        case statfs
        case release(FuseRelease)
        case fsync(FuseSync)
        case setxattr(FuseSetExtendedAttribute)
        /// `size` 0 asks for the length only.
        case getxattr(name: String, size: Int)
        case listxattr(size: Int)
        case removexattr(name: String)
        case flush(FuseFlush)
        case opendir(FuseOpen)
        case readdir(FuseReadDirectory)
        case readdirplus(FuseReadDirectory)
        case releasedir(FuseRelease)
        case fsyncdir(FuseSync)
        case getlk(FuseLockRequest)
        case setlk(FuseLockRequest)
        case setlkw(FuseLockRequest)
        case access(mask: UInt32)
        case create(FuseCreate)
        case tmpfile(FuseCreate)
        /// The caller of request `unique` got a signal. A waiting SETLKW is to be answered EINTR; everything
        /// else may finish, and one that has been answered already is no longer of interest.
        case interrupt(unique: UInt64)
        case destroy
        case ioctl(FuseControl)
        case poll(FusePoll)
        case fallocate(FuseAllocate)
        case lseek(FuseSeek)
        case copyFileRange(FuseCopyRange)
        case statx(FuseStatx)
        /// Nothing that we speak; answer ENOSYS.
        case unknown(opcode: UInt32)
    }

    package let header: FuseHeader
    package let body: Body

    /// The same when the kernel sends the request again to a new process.
    package var unique: UInt64 { header.unique }
    package var isResend: Bool { header.isResend }
    package var node: UInt64 { header.node }
    package var uid: UInt32 { header.uid }
    package var gid: UInt32 { header.gid }
    package var pid: UInt32 { header.pid }

    package init(header: FuseHeader, body: Body) {
        self.header = header
        self.body = body
    }

    /// Decodes all but WRITE and INIT. `reader` stands behind the header and ends before any extensions.
    static func decodeBody(_ header: FuseHeader, _ reader: inout FuseReader) throws(FuseDecodeError) -> Body {
        guard let opcode = header.opcode else { return .unknown(opcode: header.rawOpcode) }
        switch opcode {
        case .lookup: return .lookup(name: try reader.name())
        case .forget: return .forget([FuseForget(node: header.node, lookups: try reader.u64())])
        case .batchForget: return .forget(try decodeForgets(&reader))
        case .getattr: return .getattr(try FuseGetAttributes(&reader))
        case .setattr: return .setattr(try FuseSetAttributes(&reader))
        case .readlink: return .readlink
        case .symlink: return .symlink(try FuseSymbolicLink(&reader))
        case .mknod: return .mknod(try FuseMakeNode(&reader))
        case .mkdir: return .mkdir(try FuseMakeDirectory(&reader))
        case .unlink: return .unlink(name: try reader.name())
        case .rmdir: return .rmdir(name: try reader.name())
        case .rename: return .rename(try FuseRename(&reader, hasFlags: false))
        case .rename2: return .rename(try FuseRename(&reader, hasFlags: true))
        case .link: return .link(try FuseLink(&reader))
        case .open: return .open(try FuseOpen(&reader))
        case .opendir: return .opendir(try FuseOpen(&reader))
        case .read: return .read(try FuseRead(&reader))
        case .statfs: return .statfs
        case .release: return .release(try FuseRelease(&reader))
        case .releasedir: return .releasedir(try FuseRelease(&reader))
        case .fsync: return .fsync(try FuseSync(&reader))
        case .fsyncdir: return .fsyncdir(try FuseSync(&reader))
        case .setxattr: return .setxattr(try FuseSetExtendedAttribute(&reader))
        case .getxattr:
            let size = try reader.u32()
            try reader.skip(4)
            return .getxattr(name: try reader.string(), size: Int(size))
        case .listxattr:
            let size = try reader.u32()
            try reader.skip(4)
            return .listxattr(size: Int(size))
        case .removexattr: return .removexattr(name: try reader.string())
        case .flush: return .flush(try FuseFlush(&reader))
        case .readdir: return .readdir(try FuseReadDirectory(&reader))
        case .readdirplus: return .readdirplus(try FuseReadDirectory(&reader))
        case .getlk: return .getlk(try FuseLockRequest(&reader))
        case .setlk: return .setlk(try FuseLockRequest(&reader))
        case .setlkw: return .setlkw(try FuseLockRequest(&reader))
        case .access: return .access(mask: try reader.u32())
        case .create: return .create(try FuseCreate(&reader))
        case .tmpfile: return .tmpfile(try FuseCreate(&reader))
        case .interrupt: return .interrupt(unique: try reader.u64() & ~FuseHeader.resendBit)
        case .destroy: return .destroy
        case .ioctl: return .ioctl(try FuseControl(&reader))
        case .poll: return .poll(try FusePoll(&reader))
        case .fallocate: return .fallocate(try FuseAllocate(&reader))
        case .lseek: return .lseek(try FuseSeek(&reader))
        case .copyFileRange: return .copyFileRange(try FuseCopyRange(&reader, isWide: false))
        case .copyFileRange64: return .copyFileRange(try FuseCopyRange(&reader, isWide: true))
        case .statx: return .statx(try FuseStatx(&reader))
        case .write, .initialize, .bmap, .notifyReply, .setupMapping, .removeMapping, .syncfs:
            return .unknown(opcode: header.rawOpcode)
        }
    }

    private static func decodeForgets(_ reader: inout FuseReader) throws(FuseDecodeError) -> [FuseForget] {
        let count = Int(try reader.u32())
        try reader.skip(4)
        guard count <= reader.remaining / 16 else { throw .truncated }
        var forgets: [FuseForget] = []
        forgets.reserveCapacity(count)
        for _ in 0..<count {
            forgets.append(FuseForget(node: try reader.u64(), lookups: try reader.u64()))
        }
        return forgets
    }
}

/// Answers the requests of a session. Called on the thread that runs the session.
package protocol FuseHandler: AnyObject {
    /// `reply` may be kept and answered later, exactly once, on the same thread.
    func handle(_ request: FuseRequest, reply: FuseReply)
}
