// Gives memory that the allocator keeps after a peak (a replay, a burst of writes) back to the system. Never while the
// process is busy, which would use it again at once, and never when it has not grown since the last time.
import CSheep
import Glibc
import Model

package final class KeptMemory {
    private let loop: EventLoop
    private var processorNanoseconds: UInt64
    /// What was left after the last time.
    private var leastBytes = 0

    private static let intervalMilliseconds: UInt64 = 10_000
    /// Less than this is not worth the walk through the heap.
    private static let worthwhileBytes = 4 << 20
    /// More processor time than this part of the interval: busy.
    private static let busyPart: UInt64 = 20

    /// Looks every ten seconds for as long as it lives.
    package init(_ loop: EventLoop) {
        self.loop = loop
        processorNanoseconds = Machine.processorNanoseconds
        lookLater()
    }

    private func lookLater() {
        loop.after(milliseconds: KeptMemory.intervalMilliseconds) { [weak self] in
            self?.look()
            self?.lookLater()
        }
    }

    private func look() {
        let now = Machine.processorNanoseconds
        let used = now - processorNanoseconds
        processorNanoseconds = now
        guard used < KeptMemory.intervalMilliseconds * 1_000_000 / KeptMemory.busyPart,
            let resident = Machine.residentBytes, resident >= leastBytes + KeptMemory.worthwhileBytes
        else { return }
        csheep_return_memory()
        leastBytes = Machine.residentBytes ?? resident
    }
}
