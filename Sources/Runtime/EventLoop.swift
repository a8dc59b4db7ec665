// The event loop: one thread, level-triggered epoll, callbacks. Everything that decides runs on it.
// A callback must never block; what blocks goes to a DiskThread. Only `poster` may be used by other threads.
// Order within a wake-up: ready events, posted work, timers, queued work, then the end-of-batch hooks; queued
// work and hooks alternate until nothing is left, only then does the thread sleep.
import CSheep
import Glibc
import Model

/// What a descriptor is waited for, or ready for.
package struct Interest: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let readable = Interest(rawValue: 0x001)  // EPOLLIN
    package static let writable = Interest(rawValue: 0x004)  // EPOLLOUT
    /// Reported whether asked for or not.
    package static let failed = Interest(rawValue: 0x008)  // EPOLLERR
    /// The other side is gone. Reported whether asked for or not.
    package static let hungUp = Interest(rawValue: 0x010)  // EPOLLHUP
}

package final class EventLoop: Clock {
    private struct Registration {
        let generation: UInt32
        let handler: (Interest) -> Void
    }
    private static let eventCapacity = 256
    /// Rounds of queued work and hooks after which descriptors are looked at again, whatever is left.
    private static let roundLimit = 1000

    /// Gives work to this loop from any thread.
    package let poster: LoopPoster

    private let epoll: FileDescriptor
    private let events: UnsafeMutablePointer<epoll_event>
    /// By descriptor number.
    private var registrations: [Registration?] = []
    private var generation: UInt32 = 0
    private var queue: [() -> Void] = []
    private var running: [() -> Void] = []
    private var posted: [@Sendable () -> Void] = []
    private var hooks: [() -> Void] = []
    private var timers = TimerHeap()
    private var isStopping = false
    private var signals: SignalPipe?

    /// Also makes the process ignore SIGPIPE. Fails when the process has no descriptors left.
    package init() throws(Errno) {
        _ = csheep_ignore_signal(SIGPIPE)
        epoll = try FileDescriptor(checking: epoll_create1(Int32(EPOLL_CLOEXEC)))
        poster = try LoopPoster()
        events = .allocate(capacity: EventLoop.eventCapacity)
        let poster = poster
        try register(descriptor: poster.wakeDescriptor, interest: .readable) { _ in poster.acknowledgeWake() }
    }

    deinit { events.deallocate() }

    // MARK: Running

    /// Runs until `stop()`. The calling thread becomes the loop's thread.
    package func run() {
        isStopping = false
        finishBatch()
        while !isStopping {
            turn(mayWait: queue.isEmpty)
        }
    }

    /// Ends `run()` after the current batch. From the loop's thread only; others post it.
    package func stop() { isStopping = true }

    /// Handles what is ready now and returns without waiting.
    package func runOnce() { turn(mayWait: false) }

    private func turn(mayWait: Bool) {
        let limit = mayWait ? timers.nanosecondsToNext() : 0
        var count: Int32
        if limit == 0 || poster.prepareToSleep() {
            count = csheep_epoll_wait(epoll.raw, events, Int32(EventLoop.eventCapacity), limit)
            if limit != 0 { poster.finishSleep() }
        } else {
            count = csheep_epoll_wait(epoll.raw, events, Int32(EventLoop.eventCapacity), 0)
        }
        if count < 0 {
            precondition(errno == EINTR, "epoll_wait failed: errno \(errno)")
            count = 0
        }
        for index in 0..<Int(count) {
            let event = events[index]
            let descriptor = Int(truncatingIfNeeded: event.data.u64 & 0xffff_ffff)
            // A handler before this one may have unregistered the descriptor, or reused its number.
            guard let registration = registrations[descriptor],
                registration.generation == UInt32(truncatingIfNeeded: event.data.u64 >> 32)
            else { continue }
            registration.handler(Interest(rawValue: event.events))
        }
        runPosted()
        if !timers.isEmpty {
            // One look at the clock: a timer set by an action waits for the next turn.
            let now = csheep_boottime()
            while let action = timers.takeDue(now) { action() }
        }
        finishBatch()
    }

    private func runPosted() {
        guard poster.take(into: &posted) else { return }
        let work = posted
        posted = []
        for action in work { action() }
    }

    private func finishBatch() {
        var rounds = 0
        repeat {
            drainQueue()
            for hook in hooks { hook() }
            rounds += 1
        } while !queue.isEmpty && rounds < EventLoop.roundLimit
    }

    private func drainQueue() {
        while !queue.isEmpty {
            swap(&queue, &running)
            var work = running
            running = []
            for action in work { action() }
            // Keep the memory for the next round.
            work.removeAll(keepingCapacity: work.count <= 4096)
            running = work
        }
    }

    // MARK: Work

    /// Runs `work` later in this batch, on the loop's thread, in order of the calls, and before the loop sleeps.
    package func enqueue(_ work: @escaping () -> Void) { queue.append(work) }

    /// Calls `hook` at the end of each batch, in order of the calls, for ever. It may enqueue more work, after which
    /// all hooks run again.
    package func onEndOfBatch(_ hook: @escaping () -> Void) { hooks.append(hook) }

    /// Runs `work` on the loop's thread; for other threads, which get at it by `poster`.
    package func post(_ work: @escaping @Sendable () -> Void) { poster.post(work) }

    // MARK: Descriptors

    /// Calls `handler` whenever `descriptor` is ready. The descriptor stays the caller's, who unregisters it before
    /// it is closed.
    package func register(
        descriptor: Int32, interest: Interest, handler: @escaping (Interest) -> Void
    ) throws(Errno) {
        precondition(descriptor >= 0)
        while registrations.count <= Int(descriptor) { registrations.append(nil) }
        precondition(registrations[Int(descriptor)] == nil, "descriptor \(descriptor) is registered already")
        generation &+= 1
        registrations[Int(descriptor)] = Registration(generation: generation, handler: handler)
        do {
            try control(EPOLL_CTL_ADD, descriptor, interest)
        } catch {
            registrations[Int(descriptor)] = nil
            throw error
        }
    }

    /// Changes what a registered descriptor is waited for. With an empty interest only failure and hang-up are told.
    package func modify(descriptor: Int32, interest: Interest) throws(Errno) {
        try control(EPOLL_CTL_MOD, descriptor, interest)
    }

    /// Forgets `descriptor`; its handler is not called again, not even for events that wait already.
    package func unregister(descriptor: Int32) {
        guard descriptor >= 0, Int(descriptor) < registrations.count, registrations[Int(descriptor)] != nil else {
            return
        }
        registrations[Int(descriptor)] = nil
        _ = epoll_ctl(epoll.raw, EPOLL_CTL_DEL, descriptor, nil)
    }

    private func control(_ operation: Int32, _ descriptor: Int32, _ interest: Interest) throws(Errno) {
        guard Int(descriptor) < registrations.count, let registration = registrations[Int(descriptor)] else {
            throw .badDescriptor
        }
        var event = epoll_event()
        event.events = interest.rawValue
        event.data.u64 = UInt64(registration.generation) << 32 | UInt64(UInt32(bitPattern: descriptor))
        guard epoll_ctl(epoll.raw, operation, descriptor, &event) == 0 else { throw .last }
    }

    // MARK: Time

    package var now: Instant { Instant(nanoseconds: csheep_boottime()) }
    package var wallClock: UInt64 { csheep_realtime() }

    package func after(milliseconds: UInt64, _ action: @escaping () -> Void) {
        timers.insert(LoopTimer(deadline: now.advanced(milliseconds: milliseconds).nanoseconds, action: action))
    }

    /// Like `after`, with a token by which it can be cancelled.
    package func timer(afterMilliseconds milliseconds: UInt64, _ action: @escaping () -> Void) -> LoopTimer {
        let timer = LoopTimer(deadline: now.advanced(milliseconds: milliseconds).nanoseconds, action: action)
        timers.insert(timer)
        return timer
    }

    /// Does nothing when the timer has fired or was cancelled.
    package func cancel(_ timer: LoopTimer) { timers.remove(timer) }

    // MARK: Signals

    /// Calls `handler` with the signal's number whenever one of `numbers` arrives. One loop of a process may do so.
    package func onSignal(_ numbers: [Int32], _ handler: @escaping (Int32) -> Void) throws(Errno) {
        if signals == nil {
            let pipe = try SignalPipe()
            try register(descriptor: pipe.readDescriptor, interest: .readable) { _ in pipe.deliver() }
            signals = pipe
        }
        for number in numbers { try signals!.add(number, handler) }
    }
}
