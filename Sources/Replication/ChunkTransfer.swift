// Moves some chunks of one view of an object from one copy to another: one read there, one fill a chunk here.
// It knows nothing of why; the caller keeps writes away from these blocks, and judges what a failure means.
import Model
import ObjectStore

/// Neighbouring chunks together, up to 1 MiB. `chunks` is ascending.
func chunkRuns(_ chunks: [Int]) -> [Range<Int>] {
    var runs: [Range<Int>] = []
    for chunk in chunks {
        if let last = runs.last, last.upperBound == chunk, last.count < 16 {
            runs[runs.count - 1] = last.lowerBound..<chunk + 1
        } else {
            runs.append(chunk..<chunk + 1)
        }
    }
    return runs
}

struct ChunkTransfer {
    let object: ObjectId
    let path: GenerationPath
    /// Chunks.
    let run: Range<Int>
    /// The source's.
    let view: ComposedView
    let source: any CopyChannel
    let target: any CopyChannel
    /// Fill only blocks that are pending.
    let onlyPending: Bool
    /// Blocks that the target shows and the source does not.
    var extra = BlockBitmap.empty
    /// What the chunks are marked with there; nil: the version that they have at the source.
    var version: Version?

    enum Outcome {
        case done
        case failed(any CopyChannel, CopyFailure)
        /// The source has a block that does not match its checksum.
        case sourceIsCorrupt
    }
}

extension Gateway {
    func transfer(_ transfer: ChunkTransfer, _ completion: @escaping (ChunkTransfer.Outcome) -> Void) {
        let run = transfer.run
        let blocks = BlockRange(first: run.lowerBound * blocksPerChunk, count: run.count * blocksPerChunk)
        // What the source cannot say is not absent, and must not be dropped at the target.
        if transfer.view.isUnknown(blocks) { return clock.after(milliseconds: 0) { completion(.sourceIsCorrupt) } }
        var data = transfer.view.held
        data.subtract(transfer.view.zero)
        guard data.containsAny(blocks) else { return fill(transfer, data, nil, completion) }
        let buffer = pool.buffer(blocks.byteCount)
        transfer.source.read(transfer.object, transfer.path, blocks, into: buffer, bufferOffset: 0) { [self] result in
            switch result {
            // It was emptied meanwhile: these are no zeros.
            case .success(let outcome) where outcome.corrupt.isEmpty && outcome.absent.intersects(data):
                completion(.failed(transfer.source, .behind))
            case .success(let outcome) where outcome.isWhole || outcome.corrupt.isEmpty:
                fill(transfer, data, Payload(buffer: buffer, firstBlock: 0, blockCount: blocks.count), completion)
            case .success: completion(.sourceIsCorrupt)
            case .failure(let failure): completion(.failed(transfer.source, failure))
            }
        }
    }

    private func fill(
        _ transfer: ChunkTransfer, _ data: BlockBitmap, _ payload: Payload?,
        _ completion: @escaping (ChunkTransfer.Outcome) -> Void
    ) {
        var left = transfer.run.count
        var problem: CopyFailure?
        for chunk in transfer.run {
            let part = BlockRange.chunk(chunk)
            let offset = (chunk - transfer.run.lowerBound) * blocksPerChunk
            let hasData = data.containsAny(part)
            if hasData { bytesPulled += UInt64(chunkSize) }
            transfer.target.fill(
                CopyFill(
                    object: transfer.object, generation: transfer.path.top, blocks: part, held: transfer.view.held,
                    zero: transfer.view.zero, payload: hasData ? payload?.slice(offset..<offset + blocksPerChunk) : nil,
                    chunkVersion: transfer.version ?? transfer.view.chunkVersions[chunk],
                    extra: transfer.extra, extraPath: transfer.path, onlyPending: transfer.onlyPending)
            ) { failure in
                problem = problem ?? failure
                left -= 1
                guard left == 0 else { return }
                if let problem { completion(.failed(transfer.target, problem)) } else { completion(.done) }
            }
        }
    }
}

extension ComposedView {
    /// Whether it says nothing of some of these blocks: a header cannot be read, or they are still to come.
    func isUnknown(_ blocks: BlockRange) -> Bool { corrupt.containsAny(blocks) || pending.containsAny(blocks) }
}
