// An owned file descriptor: closed exactly once, system calls with typed errors, EINTR retried.
// It must never be copied; `raw` lends the number for the time of a call.
import CSheep
import Glibc
import Model

extension Errno {
    /// The calling thread's errno.
    package static var last: Errno { Errno(errno) }
}

package struct FileDescriptor: ~Copyable, Sendable {
    package let raw: Int32

    /// Takes over an open descriptor.
    package init(owning raw: Int32) {
        precondition(raw >= 0)
        self.raw = raw
    }
    /// Takes over the result of a system call that returns a descriptor or -1.
    package init(checking result: Int32) throws(Errno) {
        guard result >= 0 else { throw .last }
        raw = result
    }
    deinit { _ = Glibc.close(raw) }

    /// Gives the number away; the caller closes it.
    package consuming func release() -> Int32 {
        let number = raw
        discard self
        return number
    }

    /// Opens `path`, relative to the directory `directory` if that is given; always close-on-exec.
    package static func open(
        _ path: String, _ flags: Int32, mode: UInt32 = 0o600, in directory: Int32 = AT_FDCWD
    ) throws(Errno) -> FileDescriptor {
        FileDescriptor(
            owning: try retrying { csheep_open_at(directory, path, flags | O_CLOEXEC, mode) })
    }

    package func duplicate() throws(Errno) -> FileDescriptor {
        try FileDescriptor(checking: fcntl(raw, F_DUPFD_CLOEXEC, 3))
    }

    package func setNonBlocking() throws(Errno) {
        let flags = fcntl(raw, F_GETFL)
        guard flags >= 0, fcntl(raw, F_SETFL, flags | O_NONBLOCK) == 0 else { throw .last }
    }

    package func status() throws(Errno) -> stat {
        var state = stat()
        guard fstat(raw, &state) == 0 else { throw .last }
        return state
    }

    /// Reads up to `count` bytes at `offset`; fewer only at the end of the file.
    package func readFully(_ bytes: UnsafeMutableRawPointer, _ count: Int, at offset: UInt64) throws(Errno) -> Int {
        try Runtime.readFully(raw, bytes, count, at: offset)
    }
    package func writeFully(_ bytes: UnsafeRawPointer, _ count: Int, at offset: UInt64) throws(Errno) {
        try Runtime.writeFully(raw, bytes, count, at: offset, limit: count)
    }
    package func writeFully(_ text: String, at offset: UInt64) throws(Errno) {
        var text = text
        var failure: Errno?
        text.withUTF8 { bytes in
            guard let base = bytes.baseAddress else { return }
            do throws(Errno) { try writeFully(base, bytes.count, at: offset) } catch { failure = error }
        }
        if let failure { throw failure }
    }
    package func synchronize() throws(Errno) { _ = try retrying { fsync(raw) } }
    package func synchronizeData() throws(Errno) { _ = try retrying { fdatasync(raw) } }
    package func truncate(_ size: UInt64) throws(Errno) {
        _ = try retrying { ftruncate(raw, off_t(size)) }
    }
    /// False when another open file description has it.
    package func tryLock() throws(Errno) -> Bool {
        while flock(raw, LOCK_EX | LOCK_NB) != 0 {
            if errno == EWOULDBLOCK { return false }
            guard errno == EINTR else { throw .last }
        }
        return true
    }
}

/// Calls `body` again as long as it is interrupted.
@inline(__always)
func retrying(_ body: () -> Int32) throws(Errno) -> Int32 {
    while true {
        let result = body()
        if result >= 0 { return result }
        guard errno == EINTR else { throw .last }
    }
}

func readFully(_ file: Int32, _ bytes: UnsafeMutableRawPointer, _ count: Int, at offset: UInt64) throws(Errno) -> Int {
    var done = 0
    while done < count {
        let got = pread(file, bytes + done, count - done, off_t(offset) + off_t(done))
        if got > 0 {
            done += got
        } else if got == 0 {
            break
        } else if errno != EINTR {
            throw .last
        }
    }
    return done
}

/// Writes all of it, with at most `limit` bytes a call.
func writeFully(
    _ file: Int32, _ bytes: UnsafeRawPointer, _ count: Int, at offset: UInt64, limit: Int
) throws(Errno) {
    var done = 0
    while done < count {
        let put = pwrite(file, bytes + done, min(limit, count - done), off_t(offset) + off_t(done))
        if put > 0 {
            done += put
        } else if put == 0 {
            throw .inputOutput
        } else if errno != EINTR {
            throw .last
        }
    }
}
