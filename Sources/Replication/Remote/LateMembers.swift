// Members of S that come to a volume in use, up in the map all the time or since a moment: what was written meanwhile they
// do not have. Before a write without them is acknowledged, they must not count as current for its object any more, durably.
import Catalog
import Model

extension Gateway {
    /// The stores have been fenced and compared just now. Objects in use that are not prepared anew, because somebody is
    /// at work on them, and that such a member lacks something of: the member is marked suspect, and recovery told, before the
    /// store counts as fenced. Until then the objects lack a member, and nothing is acknowledged.
    func distrustLateMembers(_ volume: VolumeState, _ stores: [StoreId], _ completion: @escaping () -> Void) {
        var work: [(object: ObjectId, channel: any CopyChannel)] = []
        for (index, object) in volume.objects.sorted(by: { $0.key < $1.key })
        where object.isPrepared || !object.isQuiet {
            for store in stores where volume.exceptions[index]?[store] == .unverified {
                guard volume.fenced.contains(store), isMember(volume, store, object.range), let channel = channel(store)
                else { continue }
                // Where nobody else has what was written, nothing can have been acknowledged: it is learnt anew.
                if leases != nil, !object.slots.contains(where: { $0.status == .complete && $0.channel.store != store })
                {
                    volume.learntEpoch = nil
                    continue
                }
                work.append((object.id, channel))
            }
        }
        guard !work.isEmpty else { return completion() }
        let late = stores.filter { store in work.contains { $0.channel.store == store } }
        volume.fenced.removeAll { late.contains($0) }
        var isSuspect = late.map { _ in true }
        let join = Join(work.count) { [self] _ in
            for (position, store) in late.enumerated() where isSuspect[position] {
                // The same channel still: one that was taken in since is fenced for itself.
                guard let channel = work.first(where: { $0.channel.store == store })?.channel,
                    self.channel(store) === channel, volumes[volume.id] === volume
                else { continue }
                if !volume.fenced.contains(store) { volume.fenced.append(store) }
                for item in work where item.channel.store == store { onCopyBehind(item.object, store) }
            }
            completion()
        }
        for item in work {
            item.channel.markSuspect(item.object) { [self] failure in
                if let failure {
                    isSuspect[late.firstIndex(of: item.channel.store)!] = false
                    if case .dead(let reason) = failure { reportFailure(item.channel.store, reason) }
                }
                join.arrive(nil)
            }
        }
    }
}
