// One machine in virtual time: its clock and its disks. One seed decides in which order disk operations and timers run.
// Nothing here looks at the real clock, and nothing runs by itself: a test steps it.
import Model

package final class VirtualMachine: Clock {
    package var random: Random
    package let queue = EventQueue()
    package private(set) var disks: [MemoryDisk] = []

    package init(seed: UInt64) { random = Random(seed) }

    package func makeDisk() -> MemoryDisk {
        let disk = MemoryDisk(seed: random.next())
        disks.append(disk)
        return disk
    }

    // MARK: Clock
    package var nanoseconds: UInt64 { queue.nanoseconds }
    package var now: Instant { queue.now }
    package var wallClock: UInt64 { queue.wallClock }
    package func after(milliseconds: UInt64, _ action: @escaping () -> Void) {
        queue.after(milliseconds: milliseconds, action)
    }

    // MARK: running
    package var hasOperations: Bool { disks.contains { $0.hasOperations } }

    /// Runs the timers that are due, or one disk operation, or moves time on to the next timer. False: nothing is left.
    package func step() -> Bool {
        if let first = queue.nextNanoseconds, first <= nanoseconds { return queue.runNext() }
        let busy = disks.filter(\.hasOperations)
        if busy.isEmpty { return queue.runNext() }
        queue.advance(by: UInt64(random.below(60_000)))
        busy[random.below(busy.count)].runOne()
        return true
    }

    // MARK: ends

    /// The process dies: operations on their way happen or not, the page caches stay.
    package func killProcess() {
        for disk in disks { disk.killProcess() }
        queue.removeAll()
    }
    /// The power goes: of what was not synced any part may have reached the disks.
    package func losePower() {
        for disk in disks { disk.losePower() }
        queue.removeAll()
    }
}

extension SimulatedProcess {
    package convenience init(machine: VirtualMachine, node: NodeId, incarnation: UInt64) {
        self.init(queue: machine.queue, node: node, incarnation: incarnation)
    }
}

extension SimulatedNetwork {
    package convenience init(machine: VirtualMachine, seed: UInt64) { self.init(queue: machine.queue, seed: seed) }
}
