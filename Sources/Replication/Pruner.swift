// Gives back what deleted snapshots held: each store, for itself and idempotently, drops generations that no reachable
// view looks through, and merges a generation into the next one when no view ends between the two.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Placement

package final class Pruner {
    private let catalog: any CatalogProposer
    private let clock: any Clock
    var copies: () -> [Copy] = { [] }
    /// A copy of the object is being synchronised: what its source has must stay where it is.
    var isBusy: (ObjectId) -> Bool = { _ in false }
    /// The copy cannot be pruned as it is: it is suspect, or a header cannot be read. Perhaps nobody uses the volume: of a
    /// removed one only what its clones look through is read.
    var onUnfit: (ObjectId, StoreId) -> Void = { _, _ in }
    /// In a cluster: whether all who may read have the catalog up to here.
    var mayPrune: (UInt64) -> Bool = { _ in true }
    /// Where the catalog was when a volume was to be looked at.
    private var queuedAt: [VolumeId: UInt64] = [:]
    /// Copies that are not complete, or busy, are looked at again after this while.
    private let patienceMilliseconds: UInt64 = 5_000
    private var mustLookAgain = false
    /// Volumes that are looked at again in a while: something is still to be given back.
    private var postponed: [VolumeId] = []
    /// The volume that is looked at.
    private var lastVolume: VolumeId?
    private var queue: [VolumeId] = []
    private var isRunning = false

    package init(catalog: any CatalogProposer, clock: any Clock) {
        self.catalog = catalog
        self.clock = clock
    }

    var pendingVolumes: Int { queue.count + postponed.count + (isRunning ? 1 : 0) }

    /// Looks at a volume (again).
    package func prune(_ volume: VolumeId) {
        queuedAt[volume] = catalog.state.index
        enqueue(volume)
    }

    private func enqueue(_ volume: VolumeId) {
        if !queue.contains(volume) { queue.append(volume) }
        guard !isRunning else { return }
        isRunning = true
        clock.after(milliseconds: 0) { [weak self] in self?.next() }
    }

    private func next() {
        guard !queue.isEmpty else {
            isRunning = false
            return
        }
        let id = queue.removeFirst()
        lastVolume = id
        guard catalog.state.volumes[id] != nil else { return next() }
        guard mayPrune(queuedAt[id] ?? 0) else {
            postpone(id, milliseconds: 1_000)
            return next()
        }
        var work: [(Copy, ObjectId)] = []
        let views = catalog.state.reachableViews(of: id)
        let newest = catalog.state.volumes[id]?.generation ?? .first
        for copy in copies() {
            copy.objects.forEach(in: id) { entry in
                if action(for: entry, views, newest) != nil { work.append((copy, entry.object)) }
            }
        }
        run(work[...])
    }

    private func postpone(_ id: VolumeId, milliseconds: UInt64) {
        postponed.append(id)
        clock.after(milliseconds: milliseconds) { [weak self] in
            guard let self else { return }
            enqueue(id)
            if let position = postponed.firstIndex(of: id) { postponed.remove(at: position) }
        }
    }

    private enum Action {
        case remove(Generation)
        case merge(from: Generation, into: Generation)
    }

    /// The first thing to do for a copy, or nil.
    ///
    /// A generation beyond the newest one was opened by a snapshot that this node has not heard of yet.
    private func action(for entry: CopyEntry, _ views: [GenerationPath], _ newest: Generation) -> Action? {
        if let only = entry.onlyGeneration {
            return only > newest || views.contains { $0.contains(only) } ? nil : .remove(only)
        }
        let generations = entry.generations.map(\.generation)
        for (position, generation) in generations.enumerated() {
            if generation > newest { return nil }
            let through = views.filter { $0.contains(generation) }
            if through.isEmpty { return .remove(generation) }
            guard position + 1 < generations.count else { continue }
            let above = generations[position + 1]
            if through.allSatisfy({ $0.contains(above) }) || Saboteur.isOn(.pruneReachable) {
                return .merge(from: generation, into: above)
            }
        }
        return nil
    }

    private func run(_ work: ArraySlice<(Copy, ObjectId)>) {
        guard let (copy, object) = work.first else {
            if mustLookAgain, let id = lastVolume {
                mustLookAgain = false
                postpone(id, milliseconds: patienceMilliseconds)
            }
            return next()
        }
        let goOn = { [self] in clock.after(milliseconds: 0) { [weak self] in self?.run(work.dropFirst()) } }
        let views = catalog.state.reachableViews(of: object.volume)
        guard catalog.state.volumes[object.volume] != nil, let entry = copy.objects.entry(object),
            let action = action(for: entry, views, catalog.state.volumes[object.volume]?.generation ?? .first)
        else { return goOn() }
        guard entry.state == .complete && !isBusy(object) || Saboteur.isOn(.pruneWhilePending),
            mayPrune(queuedAt[object.volume] ?? 0)
        else {
            mustLookAgain = true
            if entry.state == .damaged || entry.state == .suspect { onUnfit(object, copy.store) }
            return goOn()
        }
        // The same copy again until nothing is left to do for it; a failed store is noticed by its own path.
        let again: StoreCompletion = { [self] result in
            if case .failure(let error) = result {
                mustLookAgain = true
                if case .damaged = error { onUnfit(object, copy.store) }
                return goOn()
            }
            clock.after(milliseconds: 0) { [weak self] in self?.run(work) }
        }
        switch action {
        case .remove(let generation):
            copy.objects.remove(object: object, generations: [generation], completion: again)
        case .merge(let from, let into):
            copy.objects.merge(object: object, from: from, into: into, completion: again)
        }
    }
}
