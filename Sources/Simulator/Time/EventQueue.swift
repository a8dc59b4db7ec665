// Virtual time: what is to happen, in order. It moves on only when the next thing is run; nothing here looks at a real
// clock, and things at the same time happen in the order in which they were asked for.
import Model

package final class EventQueue: Clock {
    private struct Event {
        let at: UInt64
        let order: UInt64
        let action: () -> Void
        func isBefore(_ other: Event) -> Bool { at < other.at || at == other.at && order < other.order }
    }
    /// A binary heap by time and order.
    private var heap: [Event] = []
    private var order: UInt64 = 0
    /// What there is to see when nothing of a run has happened yet.
    package private(set) var nanoseconds: UInt64

    package init(startNanoseconds: UInt64 = 1_000_000_000) { nanoseconds = startNanoseconds }

    // MARK: Clock
    package var now: Instant { Instant(nanoseconds: nanoseconds) }
    package var wallClock: UInt64 { 1_700_000_000_000_000_000 + nanoseconds }
    /// How far the wall clocks of some nodes have been set forward or back.
    package var wallClockSteps: [NodeId: Int64] = [:]
    package func after(milliseconds: UInt64, _ action: @escaping () -> Void) {
        after(nanoseconds: milliseconds * 1_000_000, action)
    }

    // MARK: events
    package func after(nanoseconds delay: UInt64, _ action: @escaping () -> Void) {
        order += 1
        heap.append(Event(at: nanoseconds + delay, order: order, action: action))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].isBefore(heap[parent]) else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }
    /// When the next thing happens.
    package var nextNanoseconds: UInt64? { heap.first?.at }
    package var count: Int { heap.count }

    /// Time moves on to the next thing, and it happens. False: there is none.
    @discardableResult package func runNext() -> Bool {
        guard let first = heap.first else { return false }
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            let left = 2 * parent + 1
            if left < heap.count, heap[left].isBefore(heap[least]) { least = left }
            if left + 1 < heap.count, heap[left + 1].isBefore(heap[least]) { least = left + 1 }
            if least == parent { break }
            heap.swapAt(parent, least)
            parent = least
        }
        nanoseconds = max(nanoseconds, first.at)
        first.action()
        return true
    }
    /// Time moves on without anything happening; what is due by then happens late.
    package func advance(by delay: UInt64) { nanoseconds += delay }
    package func advance(to time: UInt64) { nanoseconds = max(nanoseconds, time) }
    /// Nothing of what was asked for happens.
    package func removeAll() { heap = [] }
}
