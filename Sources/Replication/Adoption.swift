// What follows when an administrator accepts a loss: the remaining targets are in-sync by decree, with what they have.
// Half-filled copies are made whole as they are (what was still to come is absent), and what the gateway knew of the
// objects in use is learnt anew. Nothing here runs for any other reason: no other command adds to S in a new epoch.
import Catalog
import Model
import ObjectStore
import OrderedCollections

struct RunningAdoption {
    let store: StoreId
    let ranges: InSyncSets
}

extension Gateway {
    /// Begins what the catalog says is still to be adopted by stores of this node: after the loss was accepted, and again
    /// after a restart, should this process not come to the end of it. Of objects in these ranges nobody has what was
    /// acknowledged last: writes on their way end with EIO, and everything else waits until the copies that are left have
    /// been looked at again.
    func adoptWhatIsDue() {
        adoptElsewhere()
        for record in catalog.state.map.stores where record.status == .up {
            guard let adoption = record.adoption, !runningAdoptions.contains(where: { $0.store == record.id }),
                let copy = localCopies().first(where: { $0.store == record.id })
            else { continue }
            runningAdoptions.append(RunningAdoption(store: record.id, ranges: adoption.ranges))
            forgetAll(record.id, adoption.ranges)
            copy.adopt(adoption.ranges) { [self] failure in
                if case .dead(let reason)? = failure { reportFailure(record.id, reason) }
                guard failure == nil else { return adoptionEnded(record.id) }
                catalog.propose(.adopted(record.id, since: adoption.since), request: nil) { [self] answer in
                    adoptionEnded(record.id)
                    // Another loss was accepted meanwhile.
                    if case .done = answer { adoptWhatIsDue() }
                }
            }
        }
    }

    /// Stores of other nodes adopt for themselves; the catalog says when they have.
    private func adoptElsewhere() {
        guard leases != nil else { return }
        let local = localCopies()
        for record in catalog.state.map.stores where !local.contains(where: { $0.store == record.id }) {
            let isRunning = runningAdoptions.contains { $0.store == record.id }
            if let adoption = record.adoption, record.status == .up {
                if isRunning { continue }
                runningAdoptions.append(RunningAdoption(store: record.id, ranges: adoption.ranges))
                forgetAll(record.id, adoption.ranges)
            } else if isRunning {
                adoptionEnded(record.id)
            }
        }
    }

    private func adoptionEnded(_ store: StoreId) {
        runningAdoptions.removeAll { $0.store == store }
        guard runningAdoptions.isEmpty else { return }
        for id in volumeOrder { volumes[id]?.learntEpoch = nil }
        let waiting = adoptionWaiters
        adoptionWaiters = []
        for action in waiting { action() }
        wakeWaiters()
    }

    /// Whether a copy of an object in `range` is being adopted.
    func isAdopting(_ volume: VolumeState, _ range: RangeIndex) -> Bool {
        runningAdoptions.contains { $0.ranges[range, copies: volume.sureCopies] }
    }

    private func forgetAll(_ store: StoreId, _ ranges: InSyncSets) {
        for id in volumeOrder {
            guard let volume = volumes[id], volume.phase == .ready else { continue }
            for index in volume.indices() where ranges[ObjectId(id, index).range, copies: volume.sureCopies] {
                guard volume.exceptions[index]?[store] != .complete else { continue }
                forget(volume, index, store)
            }
        }
    }

    private func forget(_ volume: VolumeState, _ index: UInt32, _ store: StoreId) {
        volume.exceptions[index, default: [:]][store] = .unverified
        volume.summaries[index]?.isUniform = false
        guard let object = volume.objects[index] else { return }
        object.isPrepared = false
        object.slotsEpoch = .max
        endWrites(volume, object, .inputOutput)
    }
}

extension Copy {
    /// Makes what is not believed here whole as it is: pending blocks are absent from now on. Durable when it ends.
    func adopt(_ ranges: InSyncSets, _ completion: @escaping (CopyFailure?) -> Void) {
        var work: [CopyEntry] = []
        for volume in objects.volumes() {
            let copies = catalog.state.volumes[volume]?.copies ?? 1
            work += objects.objects(of: volume).filter {
                ranges[$0.object.range, copies: copies] && !($0.state == .complete && $0.isVerified)
            }
        }
        func next(_ rest: ArraySlice<CopyEntry>) {
            guard let entry = rest.first else { return completion(nil) }
            settle(entry, entry.generations.map(\.generation)[...]) { failure in
                if let failure { return completion(failure) }
                next(rest.dropFirst())
            }
        }
        next(work[...])
    }

    private func settle(
        _ entry: CopyEntry, _ generations: ArraySlice<Generation>, _ completion: @escaping (CopyFailure?) -> Void
    ) {
        guard let generation = generations.first else {
            return objects.setState(object: entry.object, .complete, durable: true) { completion($0.failure) }
        }
        // A damaged header becomes one that has everything pending.
        objects.begin(sync: entry.object, generation: generation, base: entry.version, pending: .empty) {
            [self] result in
            if let failure = result.failure { return completion(failure) }
            objects.fill(
                object: entry.object, generation: generation, firstBlock: 0, blockCount: blocksPerObject, payload: nil,
                held: .empty, zero: .empty, chunkVersion: .zero, onlyPending: true
            ) { [self] result in
                if let failure = result.failure { return completion(failure) }
                settle(entry, generations.dropFirst(), completion)
            }
        }
    }
}
