// Brings one copy of one object up to date from a complete one: only the chunks that differ move. Closed generations
// first, in ascending order; then, with the object paused for a moment, the current one: from its begin on the copy
// takes every write, and what it missed is pulled chunk by chunk under the lock of that chunk's blocks.
//
//   begin (durable: syncing, pending bits)  ->  writes flow  ->  fills clear pending bits  ->  data synced  ->  complete
//
// A crash at any point leaves the copy syncing (or untouched): it is then compared again from the start.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Placement

enum SyncOutcome {
    case complete
    /// The source or the target failed, or the volume went; it is tried again when recovery comes by.
    case failed
    /// The source failed: nothing is said about the target.
    case sourceFailed
}

extension Gateway {
    func synchronise(
        _ volume: VolumeState, _ object: ObjectState, _ target: any CopyChannel, _ source: any CopyChannel,
        _ completion: @escaping (SyncOutcome) -> Void
    ) {
        ObjectSync(self, volume, object, target, source, completion).start()
    }
}

final class ObjectSync {
    private let gateway: Gateway
    private let volume: VolumeState
    private let object: ObjectState
    private let target: any CopyChannel
    private let source: any CopyChannel
    private let completion: (SyncOutcome) -> Void
    /// Closed generations that are equal by now.
    private var done: [Generation] = []
    /// Blocks that the target shows, and the source does not, at the view that is pulled.
    private var extra = BlockBitmap.empty
    private var holdsPause = false

    init(
        _ gateway: Gateway, _ volume: VolumeState, _ object: ObjectState, _ target: any CopyChannel,
        _ source: any CopyChannel, _ completion: @escaping (SyncOutcome) -> Void
    ) {
        self.gateway = gateway
        self.volume = volume
        self.object = object
        self.target = target
        self.source = source
        self.completion = completion
    }

    private var authority: Authority {
        Authority(epoch: gateway.catalog.state.map.epoch, term: volume.term)
    }

    private func finish(_ outcome: SyncOutcome) {
        unpause()
        object.users -= 1
        completion(outcome)
    }

    private func failed(_ channel: any CopyChannel, _ failure: CopyFailure) {
        if case .dead(let reason) = failure { gateway.reportFailure(channel.store, reason) }
        gateway.setStatus(volume, object.id.index, target.store, .unverified)
        finish(channel.store == source.store ? .sourceFailed : .failed)
    }

    // MARK: the steps

    func start() {
        object.users += 1
        nextClosed()
    }

    /// The view that writes go to; of a volume that is only kept for its clones, the newest that they see.
    private var lastPath: GenerationPath {
        guard gateway.catalog.state.volumes[volume.id]?.isHidden == true else { return volume.path }
        return gateway.catalog.state.reachableViews(of: volume.id).max { $0.top < $1.top } ?? volume.path
    }

    /// The views that can be reached besides the last one, ascending, that have not been compared.
    private func remainingClosed() -> [GenerationPath] {
        guard gateway.catalog.state.volumes[volume.id] != nil else { return [] }
        let last = lastPath.top
        return gateway.catalog.state.reachableViews(of: volume.id)
            .filter { $0.top < last && !done.contains($0.top) }
            .sorted { $0.top < $1.top }
    }

    private func nextClosed() {
        guard !volume.isRemoved else { return finish(.failed) }
        guard let path = remainingClosed().first else { return pauseAndCompareCurrent() }
        compare(path) { [self] chunks, sourceView in
            done.append(path.top)
            guard !chunks.isEmpty else { return nextClosed() }
            // Nothing of this copy may be believed while it is half filled.
            begin(path, chunks) { [self] in
                pull(path, chunkRuns(chunks), sourceView, isCurrent: false) { [self] in nextClosed() }
            }
        }
    }

    /// What differs is pending from here on, durably, and its chunks have no version any more: a copy may be ahead, with
    /// writes that nobody acknowledged.
    private func begin(_ path: GenerationPath, _ chunks: [Int], _ body: @escaping () -> Void) {
        var pending = BlockBitmap()
        for chunk in chunks { pending.insert(.chunk(chunk)) }
        target.beginSync(object.id, top: path.top, base: object.version, pending: pending, authority) {
            [self] failure in
            if let failure { return failed(target, failure) }
            body()
        }
    }

    private func pauseAndCompareCurrent() {
        pause { [self] in
            // A snapshot may have closed another generation meanwhile.
            guard remainingClosed().isEmpty else {
                unpause()
                return nextClosed()
            }
            let path = lastPath
            compare(path) { [self] chunks, sourceView in
                begin(path, chunks) { [self] in
                    gateway.setStatus(volume, object.id.index, target.store, .syncing)
                    unpause()
                    pull(path, chunkRuns(chunks), sourceView, isCurrent: true) { [self] in complete() }
                }
            }
        }
    }

    private func complete() {
        guard !volume.isRemoved else { return finish(.failed) }
        guard gateway.status(volume, object.id, target.store) == .syncing else { return finish(.failed) }
        target.completeSync(object.id, authority) { [self] failure in
            if let failure { return failed(target, failure) }
            // It may have missed a write since: then it is begun again, by whoever hears of that.
            guard gateway.status(volume, object.id, target.store) == .syncing else { return finish(.failed) }
            gateway.setStatus(volume, object.id.index, target.store, .complete)
            gateway.reconsider(volume, object)
            finish(.complete)
        }
    }

    // MARK: comparing

    /// Answers with the chunks whose versions differ at this view, and the source's view.
    private func compare(_ path: GenerationPath, _ body: @escaping ([Int], ComposedView) -> Void) {
        viewSource(path) { [self] ours in
            guard ours.corrupt.isEmpty else {
                gateway.onCorruptCopy(object.id, source.store)
                return failed(source, .behind)
            }
            target.view(object.id, path) { [self] result in
                guard case .success(let theirs) = result else { return failedView(target, result) }
                var chunks: [Int] = []
                for chunk in 0..<chunksPerObject {
                    let blocks = BlockRange.chunk(chunk)
                    let isUnknown = theirs.pending.containsAny(blocks) || theirs.corrupt.containsAny(blocks)
                    guard ours.chunkVersions[chunk] != theirs.chunkVersions[chunk] || isUnknown else { continue }
                    // Where nobody holds anything the versions may differ: merging drops them.
                    guard isUnknown || ours.held.containsAny(blocks) || theirs.held.containsAny(blocks) else {
                        continue
                    }
                    chunks.append(chunk)
                }
                // What the source has dropped goes from older generations, too: it would show through.
                extra = theirs.held
                extra.formUnion(theirs.pending)
                extra.subtract(ours.held)
                body(chunks, ours)
            }
        }
    }

    /// What the source shows. What it does not have counts as absent only while it is a copy to read from: one that was found
    /// damaged, or is no target any more, may have been emptied while it was asked.
    private func viewSource(_ path: GenerationPath, _ body: @escaping (ComposedView) -> Void) {
        source.view(object.id, path) { [self] result in
            guard case .success(let view) = result else { return failedView(source, result) }
            guard gateway.isCurrent(volume, object, source.store) else { return failed(source, .behind) }
            body(view)
        }
    }

    private func failedView(_ channel: any CopyChannel, _ result: Result<ComposedView, CopyFailure>) {
        if case .failure(let failure) = result { failed(channel, failure) }
    }

    // MARK: pulling

    private func pull(
        _ path: GenerationPath, _ runs: [Range<Int>], _ view: ComposedView, isCurrent: Bool,
        _ completion: @escaping () -> Void
    ) {
        guard !volume.isRemoved else { return finish(.failed) }
        guard let run = runs.first else { return completion() }
        let rest = Array(runs.dropFirst())
        let blocks = BlockRange(first: run.lowerBound * blocksPerChunk, count: run.count * blocksPerChunk)
        let next = { [self] in
            gateway.pace(blocks.byteCount) { [self] in
                pull(path, rest, view, isCurrent: isCurrent, completion)
            }
        }
        guard isCurrent else { return transfer(path, run, blocks, view, onlyPending: false, next) }
        // The block locks keep guest writes to these blocks, and only to these, out while they are pulled.
        acquire(blocks) { [self] ticket in
            source.view(object.id, path) { [self] result in
                guard case .success(let fresh) = result, gateway.isCurrent(volume, object, source.store) else {
                    release(ticket)
                    if case .failure(let failure) = result { return failed(source, failure) }
                    return failed(source, .behind)
                }
                transfer(path, run, blocks, fresh, onlyPending: true, released: { [self] in release(ticket) }, next)
            }
        }
    }

    private func acquire(_ blocks: BlockRange, _ body: @escaping (BlockLocks.Ticket) -> Void) {
        var ticket: BlockLocks.Ticket = 0
        let (given, isGranted) = object.locks.overtake(blocks) { body(ticket) }
        ticket = given
        if isGranted { body(ticket) }
    }

    private func release(_ ticket: BlockLocks.Ticket) {
        object.unlock(ticket)
    }

    private func transfer(
        _ path: GenerationPath, _ run: Range<Int>, _ blocks: BlockRange, _ view: ComposedView, onlyPending: Bool,
        released: @escaping () -> Void = {}, _ next: @escaping () -> Void
    ) {
        var transfer = ChunkTransfer(
            object: object.id, path: path, run: run, view: view, source: source, target: target,
            onlyPending: onlyPending)
        transfer.extra = extra
        gateway.transfer(transfer) { [self] outcome in
            released()
            switch outcome {
            case .done: next()
            case .failed(let channel, let failure): failed(channel, failure)
            case .sourceIsCorrupt:
                gateway.onCorruptCopy(object.id, source.store)
                failed(source, .behind)
            }
        }
    }

    // MARK: the pause

    /// Keeps new writes of this object back and waits until those on their way have been answered or parked.
    private func pause(_ action: @escaping () -> Void) {
        if object.isPaused {
            // Another copy of the same object begins right now.
            object.pausedWrites.append { [self] in pause(action) }
            return
        }
        object.isPaused = true
        holdsPause = true
        object.whenIdle.append(action)
        gateway.settled(object)
    }

    private func unpause() {
        guard holdsPause else { return }
        holdsPause = false
        object.isPaused = false
        let waiting = object.pausedWrites
        object.pausedWrites = []
        for action in waiting { action() }
    }
}
