// Views and findings that were made by another node's store and came over a connection.
import Model

extension ComposedView {
    /// `chunkVersions`: 64; `checksums`: 1024, that of zeros where a block is not held.
    package init(
        held: BlockBitmap, zero: BlockBitmap, pending: BlockBitmap, corrupt: BlockBitmap, chunkVersions: [Version],
        checksums: [UInt32]
    ) {
        precondition(chunkVersions.count == chunksPerObject && checksums.count == blocksPerObject)
        self.held = held
        self.zero = zero
        self.pending = pending
        self.corrupt = corrupt
        self.chunkVersions = chunkVersions
        self.checksums = checksums
    }
}

extension VerifyOutcome {
    package init(findings: [Finding]) { generations = findings }
}

extension VerifyOutcome.Finding {
    package init(of generation: Generation, headerIsFine: Bool, corrupt: BlockBitmap) {
        self.generation = generation
        self.headerIsFine = headerIsFine
        self.corrupt = corrupt
    }
}
