// How long a session lasts without heartbeats, on both sides. A voter waits longer than a holder believes, by more than
// two clocks of two hosts can drift apart meanwhile.
import Model

package struct LeaseTimes: Hashable, Sendable {
    /// A holder believes for so long after it sent the last heartbeat that a majority acked.
    package let holderMilliseconds: UInt64
    package let heartbeatMilliseconds: UInt64
    /// A voter promises no sooner than so long after its last ack: a tenth more, which allows for clocks whose rates
    /// differ by up to 9 %.
    package var voterMilliseconds: UInt64 { holderMilliseconds + holderMilliseconds / 10 + 1 }

    package init(leaseMilliseconds: UInt64) {
        holderMilliseconds = leaseMilliseconds
        heartbeatMilliseconds = max(10, leaseMilliseconds / 12)
    }
}
