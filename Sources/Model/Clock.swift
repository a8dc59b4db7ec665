// Time as the cores see it: a number that comes in with events, never asked of the machine.

/// Nanoseconds of a monotonic clock that counts suspended time (CLOCK_BOOTTIME), or of virtual time.
package struct Instant: Hashable, Comparable, Sendable {
    package let nanoseconds: UInt64
    package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
    package static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
    package func advanced(milliseconds: UInt64) -> Instant {
        Instant(nanoseconds: nanoseconds + milliseconds * 1_000_000)
    }
    /// Milliseconds since `earlier`; 0 if it is later.
    package func milliseconds(since earlier: Instant) -> UInt64 {
        nanoseconds > earlier.nanoseconds ? (nanoseconds - earlier.nanoseconds) / 1_000_000 : 0
    }
}

/// Time and timers, given to a core by what runs it. Callbacks come on the core's own thread, never from inside `after`.
package protocol Clock: AnyObject {
    var now: Instant { get }
    /// Wall-clock nanoseconds since 1970, for time stamps shown to people only.
    var wallClock: UInt64 { get }
    func after(milliseconds: UInt64, _ action: @escaping () -> Void)
}
