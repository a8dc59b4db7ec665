// Rules of the cores that can be broken on purpose, to see that the simulator notices: a checker that catches none of
// them is no checker. Only builds with SABOTEURS can break one; in all others nothing of it is left.

/// A rule that is broken, named by what is done wrong.
package enum Saboteur: String, CaseIterable, Sendable {
    // the store
    case skipJournalSync = "skip-journal-sync"
    case applyBeforeDurable = "apply-before-durable"
    case suspectInMemory = "suspect-in-memory"
    case forgetPending = "forget-pending"
    case believePendingChunks = "believe-pending-chunks"
    // the copy
    case noTermCheck = "no-term-check"
    case noEpochCheck = "no-epoch-check"
    case termNotDurable = "term-not-durable"
    case completeBeforeSync = "complete-before-sync"
    case noVersionCheck = "no-version-check"
    // the gateway
    case noBlockLock = "no-block-lock"
    case ackEarly = "ack-early"
    case firstCopy = "first-copy"
    case discardDrops = "discard-drops"
    case flushForgetsStores = "flush-forgets-stores"
    case snapshotWithoutDrain = "snapshot-without-drain"
    // recovery and pruning
    case surplusEarly = "surplus-early"
    case pruneWhilePending = "prune-while-pending"
    case pruneReachable = "prune-reachable"
    case cloneWithoutLowest = "clone-without-lowest"

    #if SABOTEURS
        /// The one that is at work in this process: set once, before anything runs.
        nonisolated(unsafe) package static var atWork: Saboteur?
        @inlinable package static func isOn(_ saboteur: Saboteur) -> Bool { atWork == saboteur }
        package static let areBuilt = true
        package static func set(_ saboteur: Saboteur?) { atWork = saboteur }
    #else
        @inlinable package static func isOn(_ saboteur: Saboteur) -> Bool { false }
        package static let areBuilt = false
        package static func set(_ saboteur: Saboteur?) {}
    #endif
}
