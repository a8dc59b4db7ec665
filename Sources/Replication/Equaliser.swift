// Makes the copies in S of one object equal after a takeover. All of them have every acknowledged write; they differ in
// writes that nobody was told of. What the source has is rolled forward, chunk by chunk, into the copies themselves:
// at every moment each of them is complete, so that any one of them will do should the others be lost halfway.
//
//   source: stamp(final)       target: stamp(mark) -> chunks that differ -> stamp(final)
//
// Copies at the same version are equal: that is all that the next takeover looks at. So a target has a version of its own
// (its mark) from before the first chunk until after the last; and no stamp of a term is ever given twice.
import Catalog
import Model
import ObjectStore
import OrderedCollections

final class Equaliser {
    private let gateway: Gateway
    private let volume: VolumeState
    private let object: ObjectState
    private var source: any CopyChannel
    private let completion: (Bool) -> Void
    private var final = Version.zero
    private var marks: [(store: StoreId, version: Version)] = []
    private var marked: [StoreId] = []
    /// The source's chunks have changed: copies that were equal are looked at (again).
    private var hasRaised = false

    /// `completion`: false when the source has failed, or nobody is left to be one.
    init(
        _ gateway: Gateway, _ volume: VolumeState, _ object: ObjectState, _ source: any CopyChannel,
        _ completion: @escaping (Bool) -> Void
    ) {
        self.gateway = gateway
        self.volume = volume
        self.object = object
        self.source = source
        self.completion = completion
    }

    func start() {
        object.users += 1
        begin()
    }

    private func finish(_ isEqual: Bool) {
        object.users -= 1
        completion(isEqual)
    }

    private var lagging: [CopySlot] { object.slots.filter { $0.status == .lagging && isMeant($0) } }
    /// Copies that are as the source was, besides it.
    private var equals: [CopySlot] {
        object.slots.filter { $0.status == .complete && $0.channel.store != source.store && isMeant($0) }
    }
    /// Whether it was there at the beginning: what came later is not compared, and gets no stamp.
    private func isMeant(_ slot: CopySlot) -> Bool { marks.contains { $0.store == slot.channel.store } }

    private func begin() {
        // One that is here, and is not believed because its session broke, is as good as away.
        let members = gateway.catalog.state.map.insyncStores(object.range, copies: volume.sureCopies)
        let isAway = members.contains { id in
            !object.slots.contains { $0.channel.store == id && $0.isMember }
        }
        // Nothing to decide: all are here, and equal.
        let lags = object.slots.filter { $0.status == .lagging }
        let targets =
            lags + object.slots.filter { $0.status == .complete && $0.channel.store != source.store }
        guard isAway || !lags.isEmpty || volume.restamped.contains(object.id.index) else { return finish(true) }
        var sequence = max(object.version.sequence, volume.highestStamp)
        marks = targets.map { slot in
            sequence += 1
            return (slot.channel.store, Version(term: volume.term, sequence: sequence))
        }
        marked = []
        hasRaised = false
        final = Version(term: volume.term, sequence: sequence + 1)
        volume.highestStamp = final.sequence
        volume.restamped.insert(object.id.index)
        source.stamp(object.id, final) { [self] failure in
            if let failure { return sourceFailed(failure) }
            equalise()
        }
    }

    private func sourceFailed(_ failure: CopyFailure) {
        if case .dead(let reason) = failure { gateway.reportFailure(source.store, reason) }
        finish(false)
    }

    // MARK: one target after the other

    private func equalise() {
        let before = hasRaised
        next((lagging + (hasRaised ? equals : [])).map(\.channel)[...]) { [self] in
            // Whoever was compared before a chunk of the source was raised is compared again.
            if hasRaised, !before { equalise() } else { stampNext((lagging + equals).map(\.channel)[...]) }
        }
    }

    private func next(_ targets: ArraySlice<any CopyChannel>, _ done: @escaping () -> Void) {
        guard !volume.isRemoved else { return finish(false) }
        guard let target = targets.first else { return done() }
        let views = gateway.catalog.state.reachableViews(of: volume.id).sorted { $0.top < $1.top }
        compareNext(target, views[...]) { [self] in next(targets.dropFirst(), done) }
    }

    /// View after view, ascending: what an older one shows shines through the newer ones.
    private func compareNext(
        _ target: any CopyChannel, _ views: ArraySlice<GenerationPath>, _ done: @escaping () -> Void
    ) {
        guard let path = views.first else { return done() }
        source.view(object.id, path) { [self] result in
            guard case .success(let ours) = result else { return failed(source, result, done) }
            target.view(object.id, path) { [self] result in
                guard case .success(let theirs) = result else { return failed(target, result, done) }
                guard theirs.corrupt.isEmpty, theirs.pending.isEmpty else { return giveUp(target, done) }
                guard ours.corrupt.isEmpty, ours.pending.isEmpty else { return demoteSource() }
                var chunks: [Int] = []
                var ahead: [Int] = []
                for chunk in 0..<chunksPerObject {
                    let blocks = BlockRange.chunk(chunk)
                    let (mine, its) = (ours.chunkVersions[chunk], theirs.chunkVersions[chunk])
                    guard mine != its, ours.held.containsAny(blocks) || theirs.held.containsAny(blocks) else {
                        continue
                    }
                    chunks.append(chunk)
                    if its > mine { ahead.append(chunk) }
                }
                var extra = theirs.held
                extra.subtract(ours.held)
                let goOn = { [self] in compareNext(target, views.dropFirst(), done) }
                guard !chunks.isEmpty else { return goOn() }
                raise(path, chunkRuns(ahead)[...], ours) { [self] in
                    mark(target, done) { [self] in
                        move(path, chunkRuns(chunks)[...], ours, Set(ahead), extra, target, done, goOn)
                    }
                }
            }
        }
    }

    /// The target has newer versions of these chunks, of writes that are not rolled forward. Versions of chunks only rise:
    /// the source's go above.
    private func raise(
        _ path: GenerationPath, _ runs: ArraySlice<Range<Int>>, _ view: ComposedView, _ done: @escaping () -> Void
    ) {
        guard let run = runs.first else { return done() }
        hasRaised = true
        var transfer = ChunkTransfer(
            object: object.id, path: path, run: run, view: view, source: source, target: source, onlyPending: false)
        transfer.version = final
        gateway.transfer(transfer) { [self] outcome in
            switch outcome {
            case .done: raise(path, runs.dropFirst(), view, done)
            case .failed(_, let failure): sourceFailed(failure)
            case .sourceIsCorrupt: demoteSource()
            }
        }
    }

    private func mark(_ target: any CopyChannel, _ done: @escaping () -> Void, _ body: @escaping () -> Void) {
        guard !marked.contains(target.store), let mark = marks.first(where: { $0.store == target.store }) else {
            return body()
        }
        target.stamp(object.id, mark.version) { [self] failure in
            if let failure { return targetFailed(target, failure, done) }
            marked.append(target.store)
            body()
        }
    }

    private func move(
        _ path: GenerationPath, _ runs: ArraySlice<Range<Int>>, _ view: ComposedView, _ raised: Set<Int>,
        _ extra: BlockBitmap, _ target: any CopyChannel, _ done: @escaping () -> Void, _ goOn: @escaping () -> Void
    ) {
        guard !volume.isRemoved else { return finish(false) }
        guard let run = runs.first else { return goOn() }
        // Chunks that were raised one by one, for they have another version than the view says.
        let part = run.contains(where: raised.contains) ? run.lowerBound..<run.lowerBound + 1 : run
        let rest = part == run ? runs.dropFirst() : [part.upperBound..<run.upperBound] + runs.dropFirst()
        var transfer = ChunkTransfer(
            object: object.id, path: path, run: part, view: view, source: source, target: target, onlyPending: false)
        transfer.extra = extra
        if raised.contains(part.lowerBound) { transfer.version = final }
        gateway.transfer(transfer) { [self] outcome in
            switch outcome {
            case .done: move(path, rest.filter { !$0.isEmpty }[...], view, raised, extra, target, done, goOn)
            case .failed(let channel, let failure) where channel.store == source.store: sourceFailed(failure)
            case .failed(_, let failure): targetFailed(target, failure, done)
            case .sourceIsCorrupt: demoteSource()
            }
        }
    }

    /// All have what the source has: now they may say so.
    private func stampNext(_ targets: ArraySlice<any CopyChannel>) {
        guard !volume.isRemoved else { return finish(false) }
        guard let target = targets.first else {
            object.version = final
            if takeInLate() { return begin() }
            volume.restamped.remove(object.id.index)
            return finish(true)
        }
        target.stamp(object.id, final) { [self] failure in
            let goOn = { [self] in stampNext(targets.dropFirst()) }
            if let failure { return targetFailed(target, failure, goOn) }
            gateway.setStatus(volume, object.id.index, target.store, .complete)
            goOn()
        }
    }

    /// Copies that came meanwhile were compared with the version that the others had before: that says nothing now. Those of
    /// members are made equal, too; others are recovery's.
    private func takeInLate() -> Bool {
        let late = object.slots.filter {
            $0.status == .complete && $0.channel.store != source.store && !isMeant($0)
        }
        for slot in late {
            gateway.setStatus(volume, object.id.index, slot.channel.store, slot.isMember ? .lagging : .unverified)
        }
        return late.contains(where: \.isMember)
    }

    // MARK: what goes wrong

    private func failed(
        _ channel: any CopyChannel, _ result: Result<ComposedView, CopyFailure>, _ done: @escaping () -> Void
    ) {
        guard case .failure(let failure) = result else { return }
        if channel.store == source.store { sourceFailed(failure) } else { targetFailed(channel, failure, done) }
    }

    private func targetFailed(_ target: any CopyChannel, _ failure: CopyFailure, _ done: @escaping () -> Void) {
        if case .dead(let reason) = failure {
            gateway.reportFailure(target.store, reason)
            gateway.setStatus(volume, object.id.index, target.store, .unverified)
            return done()
        }
        giveUp(target, done)
    }

    /// It cannot be made equal here: suspect, durably, before anything is answered that it does not have.
    private func giveUp(_ copy: any CopyChannel, _ done: @escaping () -> Void) {
        gateway.setStatus(volume, object.id.index, copy.store, .unverified)
        gateway.onCopyBehind(object.id, copy.store)
        copy.markSuspect(object.id) { [self] failure in
            if case .dead(let reason)? = failure { gateway.reportFailure(copy.store, reason) }
            done()
        }
    }

    /// The source cannot be read where the others differ from it. What it alone has was never acknowledged: another one
    /// is rolled forward, and the source is made anew from that.
    private func demoteSource() {
        guard let heir = equals.first(where: \.isMember) ?? lagging.first else { return finish(false) }
        giveUp(source) { [self] in
            source = heir.channel
            gateway.setStatus(volume, object.id.index, source.store, .complete)
            begin()
        }
    }
}
