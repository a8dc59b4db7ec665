// Why a store says no. Every error has a text for a person: what, why, and what to do.
import Model

package enum StoreError: Error, Hashable, Sendable {
    /// There is no store here, or it is another's.
    case foreign(String)
    /// A newer program wrote this store.
    case newerFormat(UInt32)
    /// What is on disk contradicts itself.
    case damaged(String)
    case io(Errno)
    /// Its files were there, and are not any more.
    case lost
    /// The disk is full: nothing was changed by this call, the store stays readable.
    case full
    /// The store failed earlier, or was closed.
    case dead

    package var sheepError: SheepError {
        switch self {
        case .foreign(let why):
            SheepError(
                .accessDenied, what: "this directory is not the store that was expected", why: why,
                remedy: "check the path; make a new store with `dog store add` only if this disk may be overwritten")
        case .newerFormat(let version):
            SheepError(
                .notSupported, what: "the store has format version \(version)",
                why: "this program reads up to version \(storeFormatVersion)",
                remedy: "run the newer program that wrote the store")
        case .damaged(let why):
            SheepError(
                .inputOutput, what: "the store is damaged", why: why,
                remedy: "check the disk; remove the store from the cluster and add it again, empty: it is rebuilt")
        case .io(let errno):
            SheepError(
                errno, what: "the store's disk failed", why: errno.description,
                remedy: "look at the kernel log; replace the disk: its copies are rebuilt on the others")
        case .lost:
            SheepError(
                .inputOutput, what: "the store is gone", why: "its files were deleted, or its disk was unmounted",
                remedy: "bring the disk back and restart, or replace the store with `dog store replace`")
        case .full:
            SheepError(
                .noSpace, what: "the store is full", why: "the disk has no space left",
                remedy: "add a store, or delete volumes or snapshots")
        case .dead:
            SheepError(
                .inputOutput, what: "the store is out of service", why: "its disk failed earlier, or it was closed",
                remedy: "look at the log for the first error; restart after the disk was mended")
        }
    }
}
