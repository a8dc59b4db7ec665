// What follows when an administrator accepts a loss: the remaining targets are in-sync by decree, with what they have.
// Half-filled copies are made whole as they are (what was still to come is absent), and what the gateway knew of the
// objects in use is learnt anew. Nothing here runs for any other reason: no other command adds to S in a new epoch.
import Catalog
import Model
import ObjectStore
import OrderedCollections

/// Ranges that a store is in-sync for since a loss was accepted.
struct Adoption {
    let store: StoreId
    let ranges: InSyncSets
}

extension Gateway {
    /// Of objects in these ranges nobody has what was acknowledged last: writes on their way end with EIO, and everything
    /// else waits until the copies that are left have been looked at again.
    func adopt(_ adoptions: [Adoption]) {
        for id in volumeOrder {
            guard let volume = volumes[id], volume.phase == .ready else { continue }
            for adoption in adoptions {
                for index in volume.indices()
                where adoption.ranges[ObjectId(id, index).range, copies: volume.sureCopies] {
                    guard volume.exceptions[index]?[adoption.store] != .complete else { continue }
                    forget(volume, index, adoption.store)
                }
            }
        }
        runningAdoptions += 1
        let join = Join(adoptions.count) { [self] _ in
            runningAdoptions -= 1
            guard runningAdoptions == 0 else { return }
            let waiting = adoptionWaiters
            adoptionWaiters = []
            for action in waiting { action() }
            for id in volumeOrder { volumes[id]?.learntEpoch = nil }
            wakeWaiters()
        }
        for adoption in adoptions {
            guard let copy = localCopies().first(where: { $0.store == adoption.store }) else {
                join.arrive(nil)
                continue
            }
            copy.adopt(adoption.ranges) { [self] failure in
                if case .dead(let reason)? = failure { reportFailure(adoption.store, reason) }
                join.arrive(nil)
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
