// Where a copy stands, for the checks that every request passes: answers from memory that allocate nothing.
import Model

/// Version and state of a copy; a copy that does not exist stands at version zero, complete.
package struct CopyStanding: Sendable {
    package let version: Version
    package let state: CopyState
    package let isVerified: Bool
}

extension ObjectStore {
    /// With everything that was accepted.
    package func standing(_ object: ObjectId) -> CopyStanding {
        var version: UInt64 = 0
        if !queues.isEmpty, let queue = queues[object] { version = queue.version }
        guard let entry = index[object] else {
            return CopyStanding(version: Version(rawValue: version), state: .complete, isVerified: true)
        }
        return CopyStanding(
            version: Version(rawValue: max(version, entry.version)), state: entry.state,
            isVerified: entry.trust == index.trustGeneration)
    }
    /// Copies in the index.
    package var copyCount: Int { index.count }
    /// Those of them that are not complete and verified.
    package var incompleteCount: Int { index.count - index.soundCount }

    /// Whether writing these blocks needs no new space: an overwrite of what this generation holds with data. False
    /// also where the header is not in memory.
    package func holdsAll(_ object: ObjectId, _ generation: Generation, _ blocks: BlockRange) -> Bool {
        guard let file = index[object]?.file(of: generation),
            let sheet = sheets[FileKey(object: object, file: file)], !sheet.isDamaged
        else { return false }
        return blocks.indices.allSatisfy { sheet.hasData($0) }
    }
}
