// A store directory belongs to one process at a time: a lock on the file `lock` in it, which also names the
// process. The kernel drops the lock when the process ends, however it ends.
import CSheep
import Glibc
import Model

/// Held as long as this object lives.
package final class StoreClaim: Sendable {
    package let path: String
    private let lock: FileDescriptor

    fileprivate init(path: String, lock: consuming FileDescriptor) {
        self.path = path
        self.lock = lock
    }
}

extension StoreDirectory {
    /// Takes the directory at `path` for this process; makes it (not its parents) if there is none.
    /// Refused when another process has it: the error names that process.
    package static func claim(_ path: String) throws(SheepError) -> StoreClaim {
        let refusal: SheepError
        do throws(Errno) {
            if try Directory.create(path) { try Directory.synchronize(parent(of: path)) }
            let lock = try FileDescriptor.open(path + "/lock", O_RDWR | O_CREAT | O_NOFOLLOW)
            if try lock.tryLock() {
                try lock.truncate(0)
                try lock.writeFully("\(getpid())\n", at: 0)
                return StoreClaim(path: path, lock: lock)
            }
            refusal = inUse(path, lock)
        } catch {
            refusal = SheepError(
                error, what: "cannot use \(path) as a store", why: error.message,
                remedy: "give a directory that this process may write to; its parent must exist")
        }
        throw refusal
    }

    private static func parent(of path: String) -> String {
        var parent = path[...]
        while parent.last == "/" { parent.removeLast() }
        return parent.lastIndex(of: "/").map { String(parent[...$0]) } ?? "."
    }

    private static func inUse(_ path: String, _ lock: borrowing FileDescriptor) -> SheepError {
        let bytes = [UInt8](unsafeUninitializedCapacity: 32) { buffer, count in
            count = (try? lock.readFully(buffer.baseAddress!, buffer.count, at: 0)) ?? 0
        }
        let digits = bytes.prefix { $0 >= 0x30 && $0 <= 0x39 }
        let holder = digits.isEmpty ? "another process" : "process \(String(decoding: digits, as: UTF8.self))"
        return SheepError(
            .busy, what: "the store \(path) is in use", why: "\(holder) has claimed it",
            remedy: "stop that process, or give another directory")
    }
}

extension Errno {
    /// The system's words for it.
    package var message: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { text in
            csheep_error_text(code, text.baseAddress!, text.count)
            return String(cString: text.baseAddress!)
        }
    }
}
