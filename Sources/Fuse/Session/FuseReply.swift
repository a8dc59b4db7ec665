// The answer to one request: given exactly once, at any later time, on the session's thread. What is written must
// have been touched in memory already: a fault during the kernel's copy, in a process that is being killed, costs
// the client an EIO.
import Glibc
import Model

package final class FuseReply {
    private let session: FuseSession
    private let rawUnique: UInt64
    private let opcode: UInt32
    /// The largest answer that the request allows, for those with a size.
    private let limit: Int
    private var isPending: Bool

    init(session: FuseSession, header: FuseHeader, limit: Int) {
        self.session = session
        rawUnique = header.rawUnique
        opcode = header.rawOpcode
        self.limit = limit
        isPending = header.opcode?.expectsAnswer ?? true
        if isPending { session.pendingReplies += 1 }
    }
    deinit {
        guard isPending else { return }
        session.pendingReplies -= 1
        guard session.isOpen else { return }
        assertionFailure("a request of opcode \(opcode) was dropped without an answer")
        session.send(unique: rawUnique, error: 5)
    }

    /// The id that `FuseRequest.unique` has: for finding the reply that an interrupt means.
    package var unique: UInt64 { rawUnique & ~FuseHeader.resendBit }
    package var isAnswered: Bool { !isPending }

    private func finish() {
        precondition(isPending, "a request is answered once")
        isPending = false
        session.pendingReplies -= 1
    }
    private func send(_ byteCount: Int, _ encode: (inout FuseWriter) -> Void) {
        finish()
        session.send(unique: rawUnique, byteCount: byteCount, encode)
    }

    /// Nothing to answer (FORGET, INTERRUPT); allowed where an answer is due only after the session's end.
    package func none() {
        guard isPending else { return }
        precondition(!session.isOpen, "opcode \(opcode) wants an answer")
        finish()
    }
    package func error(_ errno: Errno) {
        finish()
        session.send(unique: rawUnique, error: errno.code == 0 ? 5 : errno.code)
    }
    /// Success without data: SETXATTR, UNLINK, FSYNC, FLUSH, RELEASE, SETLK, ACCESS, FALLOCATE, ...
    package func success() {
        finish()
        session.send(unique: rawUnique, error: 0)
    }
    /// LOOKUP, MKDIR, MKNOD, SYMLINK, LINK.
    package func entry(_ entry: FuseEntry) {
        send(FuseEntry.byteCount) { entry.encode(&$0) }
    }
    /// GETATTR, SETATTR.
    package func attributes(_ attributes: FuseAttributes, validMilliseconds: UInt64) {
        send(16 + FuseAttributes.byteCount) { out in
            out.put(validMilliseconds / 1000)
            out.put(UInt32(validMilliseconds % 1000) * 1_000_000)
            out.put(UInt32(0))
            attributes.encode(&out)
        }
    }
    /// OPEN, OPENDIR.
    package func opened(handle: UInt64, flags: FuseOpenFlags = []) {
        send(16) { FuseReply.encodeOpened(&$0, handle, flags) }
    }
    /// CREATE, TMPFILE.
    package func created(_ entry: FuseEntry, handle: UInt64, flags: FuseOpenFlags) {
        send(FuseEntry.byteCount + 16) { out in
            entry.encode(&out)
            FuseReply.encodeOpened(&out, handle, flags)
        }
    }
    private static func encodeOpened(_ out: inout FuseWriter, _ handle: UInt64, _ flags: FuseOpenFlags) {
        out.put(handle)
        out.put(flags.rawValue)
        out.put(UInt32(0))
    }
    /// READ: `count` bytes of `buffer` from `offset`, without a copy of ours. Fewer than asked is the end of the file.
    package func data(_ buffer: Buffer, offset: Int, count: Int) {
        precondition(offset >= 0 && count >= 0 && count <= limit && offset + count <= buffer.capacity, "bad answer")
        finish()
        session.send(unique: rawUnique, payload: UnsafeRawPointer(buffer.bytes + offset), count: count)
    }
    /// READ from several pieces of memory, in order; at most 64. They must stay until this returns.
    package func data(pieces: [UnsafeRawBufferPointer]) {
        let count = pieces.reduce(0) { $0 + $1.count }
        precondition(count <= limit && pieces.count <= 64, "bad answer")
        finish()
        session.send(unique: rawUnique, pieces: pieces, count: count)
    }
    /// READLINK, and READ of text that was made for the occasion.
    package func data(_ bytes: [UInt8]) {
        precondition(bytes.count <= limit, "bad answer")
        finish()
        bytes.withUnsafeBytes { session.send(unique: rawUnique, payload: $0.baseAddress, count: $0.count) }
    }
    /// WRITE and both COPY_FILE_RANGE. A narrow COPY_FILE_RANGE is cut at 32 bits, as is allowed.
    package func written(_ count: UInt64) {
        send(8) { out in
            if opcode == FuseOpcode.copyFileRange64.rawValue {
                out.put(count)
            } else {
                out.put(UInt32(min(count, 0xffff_f000)))
                out.put(UInt32(0))
            }
        }
    }
    /// READDIR, READDIRPLUS.
    package func listing(_ listing: FuseListing) {
        data(listing.buffer, offset: 0, count: listing.byteCount)
    }
    /// GETXATTR and LISTXATTR (names, each ended by a NUL): the value, its length, or ERANGE, as was asked.
    package func extendedAttribute(_ value: [UInt8]) {
        if limit == 0 {
            send(8) { out in
                out.put(UInt32(value.count))
                out.put(UInt32(0))
            }
        } else if value.count > limit {
            error(.outOfRange)
        } else {
            data(value)
        }
    }
    package func statistics(_ statistics: FuseStatistics) {
        send(FuseStatistics.byteCount) { statistics.encode(&$0) }
    }
    /// LSEEK.
    package func position(_ offset: UInt64) {
        send(8) { $0.put(offset) }
    }
    /// GETLK: the lock in the way, or one of kind `unlock`.
    package func lock(_ lock: FuseLock) {
        send(FuseLock.byteCount) { lock.encode(&$0) }
    }
    /// IOCTL with a result and no output.
    package func control(result: Int32) {
        send(16) { out in
            out.put(result)
            out.zeros(12)
        }
    }
    /// POLL: the events that are ready now.
    package func poll(events: UInt32) {
        send(8) { out in
            out.put(events)
            out.put(UInt32(0))
        }
    }
}
