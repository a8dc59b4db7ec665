// Timers of an event loop: a binary heap ordered by deadline, then by the order of insertion, from which a
// cancelled timer is really taken out (most time-outs are cancelled). It never looks at anything but the clock.
import CSheep
import Model

/// A token for one pending action of an event loop.
package final class LoopTimer {
    let deadline: UInt64
    fileprivate var sequence: UInt64 = 0
    /// Place in the heap, -1 when it is in none.
    fileprivate var index = -1
    fileprivate var action: (() -> Void)?

    init(deadline: UInt64, action: @escaping () -> Void) {
        self.deadline = deadline
        self.action = action
    }
    package var isPending: Bool { index >= 0 }
}

struct TimerHeap {
    private var heap: [LoopTimer] = []
    private var sequence: UInt64 = 0

    mutating func insert(_ timer: LoopTimer) {
        sequence += 1
        timer.sequence = sequence
        timer.index = heap.count
        heap.append(timer)
        siftUp(heap.count - 1)
    }

    mutating func remove(_ timer: LoopTimer) {
        let index = timer.index
        guard index >= 0, index < heap.count, heap[index] === timer else { return }
        timer.index = -1
        timer.action = nil
        let last = heap.removeLast()
        guard index < heap.count else { return }
        heap[index] = last
        last.index = index
        siftUp(index)
        siftDown(last.index)
    }

    /// How long the loop may sleep: -1 for ever.
    func nanosecondsToNext() -> Int64 {
        guard let first = heap.first else { return -1 }
        let now = csheep_boottime()
        return first.deadline > now ? Int64(clamping: first.deadline - now) : 0
    }

    var isEmpty: Bool { heap.isEmpty }

    /// Takes the next action whose time has come at `now`.
    mutating func takeDue(_ now: UInt64) -> (() -> Void)? {
        guard let first = heap.first, first.deadline <= now else { return nil }
        let action = first.action
        remove(first)
        return action
    }

    private func isBefore(_ a: LoopTimer, _ b: LoopTimer) -> Bool {
        a.deadline != b.deadline ? a.deadline < b.deadline : a.sequence < b.sequence
    }
    private mutating func exchange(_ a: Int, _ b: Int) {
        heap.swapAt(a, b)
        heap[a].index = a
        heap[b].index = b
    }
    private mutating func siftUp(_ start: Int) {
        var index = start
        while index > 0, isBefore(heap[index], heap[(index - 1) / 2]) {
            exchange(index, (index - 1) / 2)
            index = (index - 1) / 2
        }
    }
    private mutating func siftDown(_ start: Int) {
        var index = start
        while true {
            var least = index
            for child in [2 * index + 1, 2 * index + 2] where child < heap.count && isBefore(heap[child], heap[least]) {
                least = child
            }
            if least == index { return }
            exchange(index, least)
            index = least
        }
    }
}
