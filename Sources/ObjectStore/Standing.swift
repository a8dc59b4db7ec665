// Where a copy stands, for the check that every request passes.
import Model

/// Version and state of a copy; a copy that does not exist stands at version zero, complete.
package struct CopyStanding: Sendable {
    package let version: Version
    package let state: CopyState
    package let isVerified: Bool
}

extension ObjectStore {
    package func standing(_ object: ObjectId) -> CopyStanding {
        guard let entry = entry(object) else { return CopyStanding(version: .zero, state: .complete, isVerified: true) }
        return CopyStanding(version: entry.version, state: entry.state, isVerified: entry.isVerified)
    }
    /// Copies in the index, and those of them that are not complete and verified.
    package var copyCount: Int {
        var count = 0
        forEach { _ in count += 1 }
        return count
    }
    package var incompleteCount: Int {
        var count = 0
        forEach { if $0.state != .complete || !$0.isVerified { count += 1 } }
        return count
    }
    /// Whether writing these blocks needs no new space: an overwrite of what this generation holds with data.
    package func holdsAll(_ object: ObjectId, _ generation: Generation, _ blocks: BlockRange) -> Bool { false }
}
