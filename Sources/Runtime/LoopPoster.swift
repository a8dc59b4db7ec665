// How other threads reach an event loop: a queue behind a mutex, and an eventfd that is written only when the
// loop may be asleep. It must never run work on the thread that posts it.
import CSheep
import Glibc
import Model
import Synchronization

package final class LoopPoster: Sendable {
    private let queue = Locked<[@Sendable () -> Void]>([])
    private let hasWork = Atomic<Bool>(false)
    private let mayBeAsleep = Atomic<Bool>(false)
    private let wake: FileDescriptor

    init() throws(Errno) {
        wake = try FileDescriptor(checking: eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)))
    }

    /// Runs `work` on the loop's thread, in the order of one thread's calls. From any thread.
    package func post(_ work: @escaping @Sendable () -> Void) {
        queue.withLock { $0.append(work) }
        // The order of these two and of the two in `prepareToSleep` is what keeps a wake-up from being lost.
        hasWork.store(true, ordering: .sequentiallyConsistent)
        if mayBeAsleep.exchange(false, ordering: .sequentiallyConsistent) {
            var one: UInt64 = 1
            _ = write(wake.raw, &one, 8)
        }
    }

    var wakeDescriptor: Int32 { wake.raw }

    func acknowledgeWake() {
        var count: UInt64 = 0
        _ = read(wake.raw, &count, 8)
    }

    /// False when there is work already and the loop must not sleep.
    func prepareToSleep() -> Bool {
        mayBeAsleep.store(true, ordering: .sequentiallyConsistent)
        if hasWork.load(ordering: .sequentiallyConsistent) {
            mayBeAsleep.store(false, ordering: .sequentiallyConsistent)
            return false
        }
        return true
    }

    func finishSleep() { mayBeAsleep.store(false, ordering: .relaxed) }

    /// Moves what was posted into `work`, which must be empty. False if there is nothing.
    func take(into work: inout [@Sendable () -> Void]) -> Bool {
        guard hasWork.exchange(false, ordering: .sequentiallyConsistent) else { return false }
        queue.withLock { swap(&$0, &work) }
        return !work.isEmpty
    }
}

/// A value that belongs to a loop's thread, carried through other threads untouched. Only the loop's thread may
/// look at `value`.
package struct LoopBound<Value>: @unchecked Sendable {
    package let value: Value
    package init(_ value: Value) { self.value = value }
}
