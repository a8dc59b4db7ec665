// Recovery among several nodes: each store's passes are led by its own node; the objects of a volume are brought up to date
// by the volume's holder, who alone knows what is current. What the holders have said counts only as long as none of them
// has been followed by another: the command that makes a store in-sync is void when a lease was given since.
import Catalog
import Model
import ObjectStore
import OrderedCollections

protocol RecoveryPeers: AnyObject {
    /// This node's gateway has the volume's lease.
    func isHeldHere(_ volume: VolumeId) -> Bool
    /// Whether this node is the one that sees to the volume's copies.
    func mayRaise(_ volume: VolumeId) -> Bool
    /// One node of all proposes what concerns all; this is it.
    var leads: Bool { get }
    /// Has the volume's holder make everything in these ranges complete on the store.
    func bringUpToDate(
        _ volume: VolumeId, _ store: StoreId, _ ranges: RangeSet, _ epoch: Epoch,
        _ completion: @escaping (_ isDone: Bool, _ bytes: UInt64) -> Void)
    /// Has the volume's holder say which of these objects' copies the store may remove.
    func removable(
        _ volume: VolumeId, _ store: StoreId, _ epoch: Epoch, _ indices: [UInt32],
        _ completion: @escaping ([Bool]) -> Void)
    /// Whether all nodes that may read have the catalog up to here.
    func allHaveSeen(_ index: UInt64) -> Bool
    /// Void when any lease was given since the digest was taken.
    func propose(_ command: CatalogCommand, digest: UInt64, _ completion: @escaping (CommandAnswer) -> Void)
}

extension Recovery {
    // MARK: the node of the store

    /// Asks the holders of all volumes, one after the other.
    func pass(_ store: StoreId, _ ranges: RangeSet, _ peers: any RecoveryPeers) {
        let epoch = catalog.state.map.epoch
        let volumes = Array(catalog.state.volumes.keys)
        status.phase = .copying
        askNext(volumes[...], store, ranges, epoch, peers) { [self] isDone in
            guard isDone else {
                skipped.append(store)
                return stepSoon()
            }
            // Leases may have been taken for it. Now nothing but looking is left to do.
            let digest = catalog.state.termsDigest
            askNext(volumes[...], store, ranges, epoch, peers) { [self] isDone in
                guard isDone, catalog.state.termsDigest == digest,
                    let copy = copies().first(where: { $0.store == store })
                else {
                    skipped.append(store)
                    return stepSoon()
                }
                copy.flush { [self] failure in
                    if case .dead(let reason)? = failure { gateway.reportFailure(store, reason) }
                    guard failure == nil else {
                        skipped.append(store)
                        return stepSoon()
                    }
                    peers.propose(.inSync(store, ranges, epoch: epoch), digest: digest) { [self] answer in
                        if case .refused = answer { skipped.append(store) }
                        stepSoon()
                    }
                }
            }
        }
    }

    private func askNext(
        _ volumes: ArraySlice<VolumeId>, _ store: StoreId, _ ranges: RangeSet, _ epoch: Epoch,
        _ peers: any RecoveryPeers, _ completion: @escaping (Bool) -> Void
    ) {
        guard catalog.state.map.epoch == epoch else { return completion(false) }
        guard let id = volumes.first else { return completion(true) }
        peers.bringUpToDate(id, store, ranges, epoch) { [self] isDone, bytes in
            status.bytesMoved += bytes
            guard isDone else { return completion(false) }
            askNext(volumes.dropFirst(), store, ranges, epoch, peers, completion)
        }
    }

    /// Copies that this node's stores need not have any more, volume by volume.
    func removeSurplus(
        _ work: [(Copy, ObjectId)], _ peers: any RecoveryPeers, _ completion: @escaping () -> Void
    ) {
        guard let (copy, first) = work.first else { return completion() }
        status.phase = .removing
        let batch = work.prefix(512).prefix { $0.0 === copy && $0.1.volume == first.volume }
        let epoch = catalog.state.map.epoch
        let next = { [self] in
            clock.after(milliseconds: 0) { [self] in
                removeSurplus(Array(work.dropFirst(batch.count)), peers, completion)
            }
        }
        peers.removable(first.volume, copy.store, epoch, batch.map(\.1.index)) { [self] answers in
            guard answers.count == batch.count, catalog.state.map.epoch == epoch else { return completion() }
            let gone = zip(batch, answers).filter(\.1).map(\.0.1)
            let join = Join(gone.count + 1) { _ in next() }
            join.arrive(nil)
            for object in gone { copy.remove(object) { _ in join.arrive(nil) } }
        }
    }

    // MARK: the holder

    /// Brings the volume's objects up to date on one store. `completion`: whether all of them are complete there, in that
    /// epoch: from then on the store gets every write, or is marked, or is waited for.
    func bringUpToDate(
        _ id: VolumeId, _ store: StoreId, _ ranges: RangeSet, _ epoch: Epoch,
        _ completion: @escaping (Bool, UInt64) -> Void
    ) {
        whenEpoch(epoch) { [self] in
            guard catalog.state.map.epoch == epoch else { return completion(false, 0) }
            gateway.whenReady(id) { [self] volume, _ in
                guard let volume, volume.fenced.contains(store), knowsAll(volume, store, ranges) else {
                    return completion(false, 0)
                }
                let before = gateway.bytesPulled
                let wanted = { [self] in
                    volume.indices().map { ObjectId(id, $0) }.filter {
                        ranges[$0.range] && gateway.targets(volume, $0.range).contains(store)
                    }
                }
                run(wanted().map { ($0, store) }) { [self] isDone in
                    let isComplete =
                        isDone && !volume.isRemoved && catalog.state.map.epoch == epoch
                        && knowsAll(volume, store, ranges)
                        && wanted().allSatisfy { gateway.isComplete($0, on: store) }
                    completion(isComplete, gateway.bytesPulled - before)
                }
            }
        }
    }

    /// The one who asks may know of a newer map. A second at most.
    private func whenEpoch(_ epoch: Epoch, attempts: Int = 50, _ action: @escaping () -> Void) {
        guard catalog.state.map.epoch < epoch, attempts > 0 else { return action() }
        clock.after(milliseconds: 20) { [weak self] in self?.whenEpoch(epoch, attempts: attempts - 1, action) }
    }

    /// Which of these objects' copies on a store that shall not have them may go: those whose targets are all complete.
    func removable(
        _ id: VolumeId, _ store: StoreId, _ epoch: Epoch, _ indices: [UInt32],
        _ completion: @escaping ([Bool]) -> Void
    ) {
        let none = indices.map { _ in false }
        whenEpoch(epoch) { [self] in
            guard catalog.state.map.epoch == epoch else { return completion(none) }
            gateway.whenReady(id) { [self] volume, _ in
                guard let volume else { return completion(none) }
                var answers = none
                let join = Join(indices.count + 1) { [self] _ in
                    completion(catalog.state.map.epoch == epoch && !volume.isRemoved ? answers : none)
                }
                join.arrive(nil)
                for (position, index) in indices.enumerated() {
                    gateway.whenPrepared(volume, index, failed: { _ in join.arrive(nil) }) { [self] state in
                        let targets = gateway.targets(volume, state.range)
                        let complete = state.slots.count { $0.status == .complete }
                        answers[position] = complete == targets.count && !targets.contains(store)
                        join.arrive(nil)
                    }
                }
            }
        }
    }
}
