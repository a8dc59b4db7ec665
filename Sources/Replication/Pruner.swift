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
    private var queue: [VolumeId] = []
    private var isRunning = false

    package init(catalog: any CatalogProposer, clock: any Clock) {
        self.catalog = catalog
        self.clock = clock
    }

    var pendingVolumes: Int { queue.count + (isRunning ? 1 : 0) }

    /// Looks at a volume (again).
    package func prune(_ volume: VolumeId) {
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
        guard catalog.state.volumes[id] != nil else { return next() }
        var work: [(Copy, ObjectId)] = []
        for copy in copies() {
            for entry in copy.objects.objects(of: id) where needsWork(entry) { work.append((copy, entry.object)) }
        }
        run(work[...])
    }

    private func needsWork(_ entry: CopyEntry) -> Bool { entry.state == .complete && action(for: entry) != nil }

    private enum Action {
        case remove(Generation)
        case merge(from: Generation, into: Generation)
    }

    /// The first thing to do for a copy, or nil.
    private func action(for entry: CopyEntry) -> Action? {
        guard catalog.state.volumes[entry.object.volume] != nil else { return nil }
        let views = catalog.state.reachableViews(of: entry.object.volume)
        let generations = entry.generations.map(\.generation)
        for (position, generation) in generations.enumerated() {
            let through = views.filter { $0.contains(generation) }
            if through.isEmpty { return .remove(generation) }
            guard position + 1 < generations.count else { continue }
            let above = generations[position + 1]
            if through.allSatisfy({ $0.contains(above) }) { return .merge(from: generation, into: above) }
        }
        return nil
    }

    private func run(_ work: ArraySlice<(Copy, ObjectId)>) {
        guard let (copy, object) = work.first else { return next() }
        let goOn = { [self] in clock.after(milliseconds: 0) { [weak self] in self?.run(work.dropFirst()) } }
        guard let entry = copy.objects.entry(object), entry.state == .complete, let action = action(for: entry) else {
            return goOn()
        }
        // The same copy again until nothing is left to do for it; a failed store is noticed by its own path.
        let again: StoreCompletion = { [self] result in
            if case .failure = result { return goOn() }
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
