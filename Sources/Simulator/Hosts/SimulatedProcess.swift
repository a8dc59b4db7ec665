// A process in virtual time: it dies, stands still and goes on. What it does never happens outside it.
import Model

/// A process in virtual time. When it dies its timers never fire.
package final class SimulatedProcess: Clock {
    package let queue: EventQueue
    package let node: NodeId
    package let incarnation: UInt64
    package private(set) var isAlive = true
    /// Called after everything that it does, inside it.
    package var afterEach: () -> Void = {}
    /// What it would have done meanwhile happens when it goes on.
    private var stopped: [() -> Void]?

    package init(queue: EventQueue, node: NodeId, incarnation: UInt64) {
        self.queue = queue
        self.node = node
        self.incarnation = incarnation
    }
    package var now: Instant { queue.now }
    package var wallClock: UInt64 { UInt64(Int64(queue.wallClock) + (queue.wallClockSteps[node] ?? 0)) }
    package func after(milliseconds: UInt64, _ action: @escaping () -> Void) {
        queue.after(milliseconds: milliseconds) { [self] in run(action) }
    }
    package func run(_ action: @escaping () -> Void) {
        guard isAlive else { return }
        if stopped != nil { return stopped!.append(action) }
        action()
        if isAlive { afterEach() }
    }
    package func kill() {
        isAlive = false
        stopped = nil
        afterEach = {}
    }
    /// Like SIGSTOP and SIGCONT.
    package func stop() { if stopped == nil { stopped = [] } }
    package var isStopped: Bool { stopped != nil }
    package func resume() {
        let actions = stopped ?? []
        stopped = nil
        for action in actions { run(action) }
    }
}
