// Looks for rot: light (headers, versions and checksum tables of all copies agree) and deep (every block is read). What
// fails its own checksum is repaired from another copy. Two copies that are each consistent but differ at the same
// version are an alarm, never a vote.
import Catalog
import Model
import ObjectStore
import OrderedCollections

package final class Scrubber {
    private let gateway: Gateway
    private let catalog: any CatalogProposer
    private let clock: any Clock
    /// The whole copy is to be made anew.
    var onCopyLost: (ObjectId, StoreId) -> Void = { _, _ in }
    package private(set) var status = ScrubStatus()

    package init(gateway: Gateway, catalog: any CatalogProposer, clock: any Clock) {
        self.gateway = gateway
        self.catalog = catalog
        self.clock = clock
    }

    /// One scrub at a time; false when one is running.
    package func start(deep: Bool, volume: VolumeId?) -> Bool {
        guard !status.isRunning else { return false }
        status = ScrubStatus()
        status.isRunning = true
        status.isDeep = deep
        status.startedWallClock = clock.wallClock
        let volumes = volume.map { [$0] } ?? Array(catalog.state.volumes.keys)
        var total = CheckReport()
        func next(_ rest: ArraySlice<VolumeId>) {
            guard let id = rest.first else {
                status.isRunning = false
                status.finishedWallClock = clock.wallClock
                return
            }
            check(id, deep: deep, repair: true) { [self] done, all in
                status.objectsDone = total.objects + done
                status.objectsTotal = max(status.objectsTotal, total.objects + all)
            } _: { [self] report in
                total.objects += report.objects
                status.objectsDone = total.objects
                status.blocksRepaired += report.blocksRepaired
                status.copiesRepaired += report.copiesMissing
                next(rest.dropFirst())
            }
        }
        next(volumes[...])
        return true
    }

    /// In a cluster: has the volume's holder check it.
    var checkElsewhere: ((VolumeId, Bool, Bool, @escaping (CheckReport) -> Void) -> Void)?

    /// Checks all copies of a volume's objects, one object after the other.
    package func check(
        _ id: VolumeId, deep: Bool, repair: Bool, progress: @escaping (Int, Int) -> Void,
        _ completion: @escaping (CheckReport) -> Void
    ) {
        if let checkElsewhere { return checkElsewhere(id, deep, repair, completion) }
        checkHere(id, deep: deep, repair: repair, progress: progress, completion)
    }

    /// By this node's gateway.
    func checkHere(
        _ id: VolumeId, deep: Bool, repair: Bool, progress: @escaping (Int, Int) -> Void,
        _ completion: @escaping (CheckReport) -> Void
    ) {
        gateway.whenReady(id) { [self] volume, _ in
            guard let volume else { return completion(CheckReport()) }
            let indices = volume.indices()
            var report = CheckReport()
            volume.users += 1
            func next(_ position: Int) {
                guard position < indices.count, !volume.isRemoved else {
                    volume.users -= 1
                    return completion(report)
                }
                progress(position, indices.count)
                checkObject(volume, indices[position], deep: deep, repair: repair, report) { [self] updated in
                    report = updated
                    report.objects += 1
                    gateway.pace(deep ? objectSize : 65_536) { [self] in
                        clock.after(milliseconds: 0) { next(position + 1) }
                    }
                }
            }
            next(0)
        }
    }

    private func checkObject(
        _ volume: VolumeState, _ index: UInt32, deep: Bool, repair: Bool, _ report: CheckReport,
        _ completion: @escaping (CheckReport) -> Void
    ) {
        gateway.whenPrepared(volume, index, failed: { _ in completion(report) }) { [self] object in
            let slots = object.slots.filter { $0.status == .complete }
            var report = report
            report.copies += slots.count
            report.copiesMissing += max(0, gateway.targets(volume, object.range).count - slots.count)
            verifyNext(volume, object, slots[...], deep: deep, repair: repair, report) { [self] report in
                compare(volume, object, report, completion)
            }
        }
    }

    // MARK: each copy for itself

    private func verifyNext(
        _ volume: VolumeState, _ object: ObjectState, _ slots: ArraySlice<CopySlot>, deep: Bool, repair: Bool,
        _ report: CheckReport, _ completion: @escaping (CheckReport) -> Void
    ) {
        guard let slot = slots.first else { return completion(report) }
        slot.channel.verify(object.id, deep: deep) { [self] result in
            let goOn = { [self] (report: CheckReport) in
                verifyNext(
                    volume, object, slots.dropFirst(), deep: deep, repair: repair, report, completion)
            }
            guard case .success(let outcome) = result else {
                if case .failure(.dead(let reason)) = result { gateway.reportFailure(slot.channel.store, reason) }
                return goOn(report)
            }
            var report = report
            guard !outcome.isFine else { return goOn(report) }
            if outcome.generations.contains(where: { !$0.headerIsFine }) {
                report.copiesMissing += 1
                if repair { onCopyLost(object.id, slot.channel.store) }
                return goOn(report)
            }
            let bad = outcome.generations.reduce(0) { $0 + $1.corrupt.count }
            report.blocksBad += bad
            guard repair else { return goOn(report) }
            let updated = report
            self.repair(volume, object, slot, outcome) { repaired in
                var report = updated
                report.blocksRepaired += repaired
                goOn(report)
            }
        }
    }

    /// Mends one copy that had a bad block when it was read.
    package func repairCopy(_ id: ObjectId, _ store: StoreId) {
        gateway.whenReady(id.volume) { [self] volume, _ in
            guard let volume else { return }
            gateway.whenPrepared(volume, id.index, failed: { _ in }) { [self] object in
                guard let slot = object.slots.first(where: { $0.channel.store == store && $0.status == .complete })
                else { return }
                verifyNext(volume, object, [slot][...], deep: true, repair: true, CheckReport()) { [self] report in
                    status.blocksRepaired += report.blocksRepaired
                }
            }
        }
    }

    /// Takes each bad block from another copy, at a view that shows it on the bad one.
    private func repair(
        _ volume: VolumeState, _ object: ObjectState, _ bad: CopySlot, _ outcome: VerifyOutcome,
        _ completion: @escaping (Int) -> Void
    ) {
        var work: [(Generation, Int)] = []
        for finding in outcome.generations {
            var block = 0
            while let next = finding.corrupt.firstIndex(from: block, where: true) {
                work.append((finding.generation, next))
                block = next + 1
            }
        }
        var repaired = 0
        func next(_ position: Int) {
            guard position < work.count else { return completion(repaired) }
            repairBlock(volume, object, bad, work[position].0, work[position].1) { isDone in
                if isDone { repaired += 1 }
                next(position + 1)
            }
        }
        next(0)
    }

    private func repairBlock(
        _ volume: VolumeState, _ object: ObjectState, _ bad: CopySlot, _ generation: Generation, _ block: Int,
        _ completion: @escaping (Bool) -> Void
    ) {
        let blocks = BlockRange(first: block, count: 1)
        // The lock keeps the block from being overwritten between the read there and the fill here.
        gateway.lock(volume, object.id.index, blocks, exclusive: true, failed: { _ in completion(false) }) {
            [self] object, ticket in
            let finish = { (isDone: Bool) in
                object.unlock(ticket)
                completion(isDone)
            }
            let views = catalog.state.reachableViews(of: volume.id).filter { $0.contains(generation) }
            // Nobody can see it: pruning removes it.
            guard !views.isEmpty else { return finish(false) }
            // Something newer hides it from some views; a rollback may have brought it back for others. Headers say so, not
            // what can be read: another generation of a view may be bad, too, and a bad block may look fine the next time.
            func find(_ rest: ArraySlice<GenerationPath>) {
                guard let view = rest.first else { return dropHidden(object, bad, generation, blocks, finish) }
                guard let above = view.above(generation) else {
                    return refill(volume, object, bad, generation, view, blocks, finish)
                }
                bad.channel.view(object.id, above) { [self] result in
                    guard case .success(let newer) = result, !newer.corrupt[block] else { return finish(false) }
                    if newer.held[block] || newer.pending[block] { return find(rest.dropFirst()) }
                    refill(volume, object, bad, generation, view, blocks, finish)
                }
            }
            find(views[...])
        }
    }

    /// Takes the block from a copy that has it right.
    private func refill(
        _ volume: VolumeState, _ object: ObjectState, _ bad: CopySlot, _ generation: Generation, _ view: GenerationPath,
        _ blocks: BlockRange,
        _ completion: @escaping (Bool) -> Void
    ) {
        let others = object.slots.filter { $0.status == .complete && $0.channel.store != bad.channel.store }
        func attempt(_ rest: ArraySlice<CopySlot>) {
            guard let other = rest.first else { return completion(false) }
            let buffer = gateway.pool.buffer(blockSize)
            other.channel.view(object.id, view) { [self] result in
                // What it cannot say is not absent.
                guard case .success(let composed) = result, !composed.isUnknown(blocks) else {
                    return attempt(rest.dropFirst())
                }
                other.channel.read(object.id, view, blocks, into: buffer, bufferOffset: 0) { [self] result in
                    guard case .success(let read) = result, read.corrupt.isEmpty,
                        gateway.isCurrent(volume, object, other.channel.store)
                    else { return attempt(rest.dropFirst()) }
                    bad.channel.fill(
                        CopyFill(
                            object: object.id, generation: generation, blocks: blocks, held: composed.held,
                            zero: composed.zero, payload: Payload(buffer: buffer, firstBlock: 0, blockCount: 1),
                            chunkVersion: .zero, onlyPending: false)
                    ) { completion($0 == nil) }
                }
            }
        }
        attempt(others[...])
    }

    /// No view shows the block of this generation, and none will: views are only made from views. If it is still bad (a
    /// write may have mended it), zeros will do.
    private func dropHidden(
        _ object: ObjectState, _ bad: CopySlot, _ generation: Generation, _ blocks: BlockRange,
        _ completion: @escaping (Bool) -> Void
    ) {
        bad.channel.verify(object.id, deep: true) { result in
            guard case .success(let outcome) = result,
                outcome.generations.contains(where: { $0.generation == generation && $0.corrupt[blocks.first] })
            else { return completion(false) }
            var zero = BlockBitmap()
            zero[blocks.first] = true
            bad.channel.fill(
                CopyFill(
                    object: object.id, generation: generation, blocks: blocks, held: zero, zero: zero, payload: nil,
                    chunkVersion: .zero, onlyPending: false)
            ) { completion($0 == nil) }
        }
    }

    // MARK: the copies together

    /// Compares the composed views of all complete copies, with the object locked. A copy that was just given up,
    /// because its header is damaged, has no say.
    private func compare(
        _ volume: VolumeState, _ object: ObjectState, _ report: CheckReport,
        _ completion: @escaping (CheckReport) -> Void
    ) {
        let views = catalog.state.reachableViews(of: volume.id)
        gateway.lock(volume, object.id.index, .whole, exclusive: true, failed: { _ in completion(report) }) {
            [self] object, ticket in
            let slots = object.slots.filter { $0.status == .complete }
            var isDifferent = false
            func finish() {
                object.unlock(ticket)
                var report = report
                let isUnchanged = slots.allSatisfy { slot in
                    object.slots.contains { $0.channel.store == slot.channel.store && $0.status == .complete }
                }
                if isDifferent, isUnchanged {
                    report.copiesDifferent += 1
                    let text = "copies of object \(object.id) differ at version \(object.version)"
                    if !status.alarms.contains(text) { status.alarms.append(text) }
                }
                completion(report)
            }
            func next(_ rest: ArraySlice<GenerationPath>) {
                guard let path = rest.first else { return finish() }
                collect(object.id, path, slots[...], []) { composed in
                    if let first = composed.first, composed.contains(where: { !self.agree($0, first) }) {
                        isDifferent = true
                    }
                    next(rest.dropFirst())
                }
            }
            next(views[...])
        }
    }

    private func collect(
        _ object: ObjectId, _ path: GenerationPath, _ slots: ArraySlice<CopySlot>, _ views: [ComposedView],
        _ completion: @escaping ([ComposedView]) -> Void
    ) {
        guard let slot = slots.first else { return completion(views) }
        slot.channel.view(object, path) { [self] result in
            var views = views
            if case .success(let view) = result, view.corrupt.isEmpty { views.append(view) }
            collect(object, path, slots.dropFirst(), views, completion)
        }
    }

    private func agree(_ a: ComposedView, _ b: ComposedView) -> Bool {
        guard a.held == b.held else { return false }
        for chunk in 0..<chunksPerObject
        where a.chunkVersions[chunk] != b.chunkVersions[chunk] && a.held.containsAny(.chunk(chunk)) { return false }
        for block in 0..<blocksPerObject where a.held[block] && a.checksums[block] != b.checksums[block] {
            return false
        }
        return true
    }
}

extension GenerationPath {
    /// The part of the view above one of its generations: what hides that one's blocks. Nil: it is the newest.
    fileprivate func above(_ generation: Generation) -> GenerationPath? {
        guard generation < top else { return nil }
        return GenerationPath(
            top: top, hidden: [Generation.first...generation] + hidden.filter { $0.lowerBound > generation })
    }
}
