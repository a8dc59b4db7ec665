// One machine in virtual time: its clock and its disks. One seed decides in which order disk operations and timers run.
// Nothing here looks at the real clock, and nothing runs by itself: a test steps it.
import Model

package final class VirtualMachine: Clock {
    private struct Timer {
        let at: UInt64
        let id: UInt64
        let action: () -> Void
    }
    package var random: Random
    private var timers: [Timer] = []
    private var nextId: UInt64 = 0
    package private(set) var nanoseconds: UInt64 = 1_000_000_000
    package private(set) var disks: [MemoryDisk] = []

    package init(seed: UInt64) { random = Random(seed) }

    package func makeDisk() -> MemoryDisk {
        let disk = MemoryDisk(seed: random.next())
        disks.append(disk)
        return disk
    }

    // MARK: Clock
    package var now: Instant { Instant(nanoseconds: nanoseconds) }
    package var wallClock: UInt64 { 1_700_000_000_000_000_000 + nanoseconds }
    package func after(milliseconds: UInt64, _ action: @escaping () -> Void) {
        nextId += 1
        let timer = Timer(at: nanoseconds + milliseconds * 1_000_000, id: nextId, action: action)
        // Kept in order; most are for now or for much later.
        var position = timers.count
        while position > 0, timers[position - 1].at > timer.at { position -= 1 }
        timers.insert(timer, at: position)
    }

    // MARK: running
    package var hasOperations: Bool { disks.contains { $0.hasOperations } }

    /// Runs the timers that are due, or one disk operation, or moves time on to the next timer. False: nothing is left.
    package func step() -> Bool {
        if let first = timers.first, first.at <= nanoseconds {
            timers.removeFirst().action()
            return true
        }
        let busy = disks.filter(\.hasOperations)
        if busy.isEmpty {
            guard let first = timers.first else { return false }
            nanoseconds = max(nanoseconds, first.at)
            timers.removeFirst().action()
            return true
        }
        nanoseconds += UInt64(random.below(60_000))
        busy[random.below(busy.count)].runOne()
        return true
    }

    // MARK: ends

    /// The process dies: operations on their way happen or not, the page caches stay.
    package func killProcess() {
        for disk in disks { disk.killProcess() }
        timers = []
    }
    /// The power goes: of what was not synced any part may have reached the disks.
    package func losePower() {
        for disk in disks { disk.losePower() }
        timers = []
    }
}
