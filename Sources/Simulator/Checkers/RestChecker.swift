// What must hold when nothing is left to do: every copy that should be there is there and complete, all show the same in
// every view that can be reached, nothing is kept that cannot be, the catalog is consistent, the same everywhere, and says
// what was answered. It asks the copies themselves.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

struct RestChecker {
    private unowned let simulation: Simulation
    init(_ simulation: Simulation) { self.simulation = simulation }

    func run() {
        guard let state = simulation.hosts.compactMap(\.state).max(by: { $0.index < $1.index }) else {
            return simulation.fail("catalog", "nobody has one")
        }
        checkCatalog(state)
        checkNames(state)
        if let problem = unreachable() { simulation.fail(problem.checker, problem.text) }
        checkCopies(state)
    }

    private func checkCatalog(_ state: CatalogState) {
        if let problem = state.inconsistency() { return simulation.fail("catalog", problem) }
        let bytes = state.encoded()
        for host in simulation.hosts {
            guard let other = host.state else { continue }
            if other.index == state.index, other.encoded() != bytes {
                return simulation.fail("catalog", "host \(host.id) has another state at \(state.index)")
            }
        }
    }

    /// What was answered is what the catalog has.
    private func checkNames(_ state: CatalogState) {
        let known = simulation.guests.volumes.sorted { $0.id < $1.id }
        let visible = state.volumes.values.filter { !$0.isHidden }.sorted { $0.id < $1.id }
        guard known.map(\.id) == visible.map(\.id) else {
            return simulation.fail(
                "catalog", "volumes \(visible.map(\.name)) are there, \(known.map(\.name)) were answered")
        }
        for (volume, record) in zip(known, visible) {
            let tags = record.visibleSnapshots.map(\.tag).sorted()
            if record.size != UInt64(volume.sectors) * 512 {
                return simulation.fail(
                    "catalog", "\(volume.name) has \(record.size) bytes, not \(volume.sectors * 512)")
            }
            if tags != volume.snapshots.map(\.tag).sorted() {
                return simulation.fail("catalog", "\(volume.name) has snapshots \(tags), others were answered")
            }
        }
    }

    private var copies: [Copy] { simulation.hosts.flatMap(\.copies).sorted { $0.store < $1.store } }

    /// What is kept and should not be, or is not complete; nil: nothing.
    func unreachable() -> (checker: String, text: String)? {
        guard let state = simulation.newestState else { return ("reachability", "nobody has a catalog") }
        for copy in copies {
            for id in copy.objects.volumes() {
                let entries = copy.objects.objects(of: id)
                let views = state.reachableViews(of: id)
                guard let volume = state.volumes[id] else {
                    if entries.isEmpty { continue }
                    return ("reachability", "store \(copy.store) has objects of volume \(id), which is gone")
                }
                for entry in entries {
                    for item in entry.generations where !views.reach(item.generation) {
                        return (
                            "reachability",
                            "store \(copy.store) keeps generation \(item.generation) of object \(entry.object)"
                        )
                    }
                    if !state.map.targets(of: entry.object.range, copies: volume.targetCopies).contains(copy.store) {
                        return ("reachability", "store \(copy.store) has a surplus copy of \(entry.object)")
                    }
                    if entry.state != .complete {
                        return ("redundancy", "object \(entry.object) on \(copy.store) is \(entry.state)")
                    }
                }
            }
        }
        return nil
    }

    private func checkCopies(_ state: CatalogState) {
        for record in state.map.stores where record.status == .down {
            return simulation.fail("redundancy", "store \(record.id) is still down: \(record.reason)")
        }
        for (id, volume) in state.volumes {
            var objects: Set<ObjectId> = []
            for copy in copies { copy.objects.forEach(in: id) { objects.insert($0.object) } }
            for object in objects.sorted() {
                let targets = state.map.targets(of: object.range, copies: volume.targetCopies)
                let present = targets.filter { state.map.store($0)?.status == .up }
                for path in state.reachableViews(of: id) {
                    guard compare(object, path, present) else { return }
                }
            }
        }
    }
    private func compare(_ object: ObjectId, _ path: GenerationPath, _ stores: [StoreId]) -> Bool {
        var first: (StoreId, ComposedView)?
        for store in stores {
            guard let view = view(object, path, store) else { return false }
            if !view.pending.isEmpty || !view.corrupt.isEmpty {
                simulation.fail("redundancy", "object \(object) on \(store) is not whole")
                return false
            }
            if let first, let problem = difference(first.1, view) {
                simulation.fail("identical copies", "object \(object): \(first.0) and \(store) differ: \(problem)")
                return false
            }
            if first == nil { first = (store, view) }
        }
        return true
    }
    private func view(_ object: ObjectId, _ path: GenerationPath, _ store: StoreId) -> ComposedView? {
        guard let host = simulation.hosts.first(where: { $0.copies.contains { $0.store == store } }),
            let copy = host.copies.first(where: { $0.store == store })
        else {
            simulation.fail("redundancy", "store \(store) is up in the map, and nobody has it")
            return nil
        }
        var result: Result<ComposedView, StoreError>?
        host.enter { copy.objects.view(object: object, path: path) { result = $0 } }
        simulation.advance("a view of \(object)", milliseconds: 60_000) { result != nil }
        guard case .success(let view)? = result else { return nil }
        return view
    }
    private func difference(_ a: ComposedView, _ b: ComposedView) -> String? {
        for block in 0..<blocksPerObject {
            if a.held[block] != b.held[block] { return "block \(block) is held by one" }
            if a.held[block], a.checksums[block] != b.checksums[block] { return "block \(block)" }
        }
        for chunk in 0..<chunksPerObject
        where a.chunkVersions[chunk] != b.chunkVersions[chunk] && a.held.containsAny(.chunk(chunk)) {
            return "chunk \(chunk) is at \(a.chunkVersions[chunk]) and \(b.chunkVersions[chunk])"
        }
        return nil
    }
}
