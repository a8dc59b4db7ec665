// Memory that is there: every page touched, and locked where we may. A read from /dev/fuse into memory that
// would have to be faulted in can fail with EIO.
import CSheep
import Glibc
import Model

package final class LockedMemory: @unchecked Sendable {
    package let bytes: UnsafeMutableRawPointer
    package let count: Int
    /// False where the limit (RLIMIT_MEMLOCK) does not allow it; the pages are there all the same.
    package let isLocked: Bool

    /// `count` bytes of zeros, aligned to a page.
    package init(count: Int) throws(Errno) {
        precondition(count > 0)
        guard let bytes = csheep_map_populated(count) else { throw .last }
        self.bytes = bytes
        self.count = count
        isLocked = mlock(bytes, count) == 0
    }
    deinit { munmap(bytes, count) }

    /// Touches every page of memory got elsewhere, without changing it, and tries to lock it.
    @discardableResult
    package static func prefault(_ bytes: UnsafeMutableRawPointer, count: Int) -> Bool {
        csheep_prefault(bytes, count)
        return mlock(bytes, count) == 0
    }
}
