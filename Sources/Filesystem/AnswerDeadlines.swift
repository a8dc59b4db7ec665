// `on-unavailable=error`: I/O that has no answer in time, because no current copy can be reached or too few are up, ends
// in EIO. What the service answers later is dropped; a write that ended so is in doubt, as after any EIO.
import Model

final class AnswerDeadlines {
    private final class Pending {
        let due: Instant
        var answer: ((Errno?) -> Void)?
        init(due: Instant, answer: @escaping (Errno?) -> Void) {
            self.due = due
            self.answer = answer
        }
    }
    /// Longer than the detection of a failed copy takes.
    static let milliseconds: UInt64 = 10_000
    private static let stepMilliseconds: UInt64 = 500
    private let clock: any Clock
    /// In the order of their deadlines; those before `head` are done with.
    private var pending: [Pending] = []
    private var head = 0
    private var isTicking = false

    init(clock: any Clock) { self.clock = clock }

    /// The same answer, but given in time.
    func bounded(_ answer: @escaping (Errno?) -> Void) -> (Errno?) -> Void {
        let entry = Pending(due: clock.now.advanced(milliseconds: AnswerDeadlines.milliseconds), answer: answer)
        pending.append(entry)
        if !isTicking { tick() }
        return { error in
            let answer = entry.answer
            entry.answer = nil
            answer?(error)
        }
    }

    private func tick() {
        isTicking = true
        clock.after(milliseconds: AnswerDeadlines.stepMilliseconds) { [weak self] in self?.sweep() }
    }
    private func sweep() {
        let now = clock.now
        while head < pending.count, pending[head].answer == nil || pending[head].due < now {
            let answer = pending[head].answer
            pending[head].answer = nil
            head += 1
            answer?(.inputOutput)
        }
        pending.removeFirst(head)
        head = 0
        isTicking = false
        if !pending.isEmpty { tick() }
    }
}
