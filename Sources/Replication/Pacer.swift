// How fast recovery may move data while guests work: a plain allowance per second. With nobody to disturb it runs free.
import Model

struct Pacer {
    /// Bytes per second while guests do I/O.
    var busyBytesPerSecond: UInt64 = 96 << 20
    private var windowStart = Instant(nanoseconds: 0)
    private var windowBytes: UInt64 = 0
    private var lastGuestOperations: UInt64 = 0
    private var isBusy = false

    /// Milliseconds to wait before `bytes` more are moved.
    mutating func delay(_ bytes: Int, now: Instant, guestOperations: UInt64) -> UInt64 {
        if now.milliseconds(since: windowStart) >= 100 {
            isBusy = guestOperations > lastGuestOperations
            lastGuestOperations = guestOperations
            windowStart = now
            windowBytes = 0
        }
        windowBytes += UInt64(bytes)
        guard isBusy, windowBytes > busyBytesPerSecond / 10 else { return 0 }
        return 100 - min(99, now.milliseconds(since: windowStart))
    }
}

extension Gateway {
    /// Runs `action` when recovery may move on after it has moved `bytes`.
    func pace(_ bytes: Int, _ action: @escaping () -> Void) {
        let delay = pacer.delay(bytes, now: clock.now, guestOperations: statistics.reads + statistics.writes)
        if delay == 0 { action() } else { clock.after(milliseconds: delay, action) }
    }
}
