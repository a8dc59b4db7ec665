// The order of things in an event loop, and its doors for other threads, timers and signals.
import CSheep
import Glibc
import Model
import Testing

@testable import Runtime

struct EventLoopTests {
    @Test func queuedWorkRunsInOrderAndNeverInsideEnqueue() throws {
        let loop = try EventLoop()
        var order: [Int] = []
        loop.enqueue {
            loop.enqueue { order.append(3) }
            order.append(1)
        }
        loop.enqueue { order.append(2) }
        #expect(order == [])
        loop.runOnce()
        #expect(order == [1, 2, 3])
    }

    @Test func endOfBatchHookRunsOnceAfterAllQueuedWork() throws {
        let loop = try EventLoop()
        var order: [String] = []
        loop.onEndOfBatch { order.append("hook") }
        loop.enqueue {
            order.append("a")
            loop.enqueue { order.append("b") }
        }
        loop.runOnce()
        #expect(order == ["a", "b", "hook"])
    }

    @Test func workFromAHookRunsBeforeTheLoopSleeps() throws {
        let loop = try EventLoop()
        var order: [String] = []
        var left = 2
        loop.onEndOfBatch {
            order.append("hook")
            guard left > 0 else { return }
            left -= 1
            loop.enqueue { order.append("more") }
        }
        loop.runOnce()
        #expect(order == ["hook", "more", "hook", "more", "hook"])
    }

    @Test func endlessWorkDoesNotKeepPostsWaiting() throws {
        let loop = try EventLoop()
        final class Flag { var isSet = false }
        let flag = Flag()
        loop.onEndOfBatch { if !flag.isSet { loop.enqueue {} } }
        let box = LoopBound(flag)
        let thread = DiskThread(name: "post", poster: loop.poster)
        thread.submit({ box }, completion: { $0.value.isSet = true })
        loop.run(until: { flag.isSet })
        #expect(flag.isSet)
    }

    @Test func timersFireByDeadlineThenByOrderOfCalls() throws {
        let loop = try EventLoop()
        var order: [Int] = []
        loop.after(milliseconds: 200) { order.append(3) }
        loop.after(milliseconds: 1) { order.append(1) }
        loop.after(milliseconds: 1) { order.append(2) }
        let cancelled = loop.timer(afterMilliseconds: 5) { order.append(99) }
        loop.cancel(cancelled)
        loop.cancel(cancelled)
        loop.after(milliseconds: 250) { order.append(4) }
        let start = loop.now
        loop.run(until: { order.count == 4 })
        #expect(order == [1, 2, 3, 4])
        #expect(loop.now.milliseconds(since: start) >= 250)
        #expect(!cancelled.isPending)
    }

    @Test func aTimerNeverFiresInsideAfter() throws {
        let loop = try EventLoop()
        var fired = false
        loop.after(milliseconds: 0) { fired = true }
        #expect(!fired)
        loop.run(until: { fired })
    }

    @Test func aTimerSetByATimerWaitsForTheNextTurn() throws {
        let loop = try EventLoop()
        var fired = 0
        func again() {
            loop.after(milliseconds: 0) {
                fired += 1
                again()
            }
        }
        again()
        loop.runOnce()
        #expect(fired == 1)
        loop.runOnce()
        #expect(fired == 2)
    }

    @Test func cancellingManyTimersLeavesTheOthersInOrder() throws {
        let loop = try EventLoop()
        var fired: [Int] = []
        let timers = (0..<500).map { number in
            loop.timer(afterMilliseconds: UInt64(number * 7919 % 50)) { fired.append(number) }
        }
        for number in stride(from: 0, to: 500, by: 3) { loop.cancel(timers[number]) }
        let left = (0..<500).filter { $0 % 3 != 0 }
        let expected = left.sorted { (timers[$0].deadline, $0) < (timers[$1].deadline, $1) }
        loop.run(until: { fired.count >= expected.count })
        #expect(fired == expected)
    }

    @Test func everyPostFromOtherThreadsArrivesInTheOrderOfItsThread() throws {
        let loop = try EventLoop()
        final class Seen { var last = [0, 0, 0, 0]; var count = 0; var isOrdered = true }
        let seen = Seen()
        let threads = (0..<4).map { DiskThread(name: "post-\($0)", poster: loop.poster) }
        let each = 5000
        for (number, thread) in threads.enumerated() {
            let box = LoopBound(seen)
            let poster = loop.poster
            thread.submit(
                {
                    for step in 1...each {
                        poster.post {
                            let seen = box.value
                            if seen.last[number] != step - 1 { seen.isOrdered = false }
                            seen.last[number] = step
                            seen.count += 1
                        }
                        // Let the loop fall asleep now and then: wake-ups must not get lost.
                        if step % 500 == 0 { usleep(1000) }
                    }
                }, completion: {})
        }
        loop.run(until: { seen.count == 4 * each })
        #expect(seen.count == 4 * each)
        #expect(seen.isOrdered)
    }

    @Test func anUnregisteredDescriptorGetsNoEventThatWaits() throws {
        let loop = try EventLoop()
        let pairs = try (0..<2).map { _ in try UnixSocket.pair(.stream) }
        var calls = 0
        for pair in pairs {
            try loop.register(descriptor: pair.first.raw, interest: .readable) { _ in
                calls += 1
                // Whichever comes first takes the other away.
                for pair in pairs { loop.unregister(descriptor: pair.first.raw) }
            }
            #expect(write(pair.second.raw, "x", 1) == 1)
        }
        loop.runOnce()
        loop.runOnce()
        #expect(calls == 1)
    }

    @Test func levelTriggeredDescriptorsAreToldUntilTheyAreRead() throws {
        let loop = try EventLoop()
        let pair = try UnixSocket.pair(.stream)
        var reads = 0
        try loop.register(descriptor: pair.first.raw, interest: .readable) { ready in
            #expect(ready.contains(.readable))
            var byte: UInt8 = 0
            reads += read(pair.first.raw, &byte, 1)
        }
        #expect(write(pair.second.raw, "abc", 3) == 3)
        loop.run(until: { reads == 3 })
        try loop.modify(descriptor: pair.first.raw, interest: [])
        #expect(write(pair.second.raw, "abc", 3) == 3)
        loop.runOnce()
        #expect(reads == 3)
        loop.unregister(descriptor: pair.first.raw)
    }

    @Test func signalsBecomeEvents() throws {
        let loop = try EventLoop()
        var seen: [Int32] = []
        try loop.onSignal([SIGUSR1, SIGHUP]) { seen.append($0) }
        kill(getpid(), SIGUSR1)
        loop.run(until: { seen.count == 1 })
        kill(getpid(), SIGHUP)
        loop.run(until: { seen.count == 2 })
        #expect(seen == [SIGUSR1, SIGHUP])
    }
}
