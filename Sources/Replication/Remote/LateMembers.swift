// Members of S that come to a volume in use, up in the map all the time or since a moment: what was written meanwhile they
// do not have. Before a write without them is acknowledged, they must not count as current for its object any more, durably.
import Catalog
import Model

extension Gateway {
    /// The stores have been fenced and compared just now. Objects in use that are not prepared anew, because somebody is
    /// at work on them, and that such a member lacks something of: the member is marked suspect, and recovery told, before the
    /// store counts as fenced. Until then the objects lack a member, and nothing is acknowledged.
    func distrustLateMembers(_ volume: VolumeState, _ stores: [StoreId], _ completion: @escaping () -> Void) {
        let channels = stores.filter(volume.fenced.contains).compactMap { channel($0) }
        distrust(LateMembers(volume, channels), completion)
    }

    /// Again and again, until nothing is left to be marked: while it is, others are prepared without these members.
    private func distrust(_ late: LateMembers, _ completion: @escaping () -> Void) {
        let volume = late.volume
        let work = unmarked(late)
        guard !work.isEmpty else {
            for channel in late.waiting {
                // The same channel still: one that was taken in since is fenced for itself.
                guard self.channel(channel.store) === channel, volumes[volume.id] === volume else { continue }
                if !volume.fenced.contains(channel.store) { volume.fenced.append(channel.store) }
                for (object, store) in late.marked where store == channel.store { onCopyBehind(object, store) }
            }
            return completion()
        }
        for (_, channel) in work where !late.waiting.contains(where: { $0 === channel }) {
            late.waiting.append(channel)
        }
        volume.fenced.removeAll { store in late.waiting.contains { $0.store == store } }
        let join = Join(work.count) { [self] _ in distrust(late, completion) }
        for (object, channel) in work {
            channel.markSuspect(object) { [self] failure in
                if let failure {
                    late.giveUp(channel)
                    if case .dead(let reason) = failure { reportFailure(channel.store, reason) }
                } else {
                    late.marked.append((object, channel.store))
                }
                join.arrive(nil)
            }
        }
    }

    private func unmarked(_ late: LateMembers) -> [(object: ObjectId, channel: any CopyChannel)] {
        let volume = late.volume
        var work: [(object: ObjectId, channel: any CopyChannel)] = []
        for (index, object) in volume.objects.sorted(by: { $0.key < $1.key })
        where object.isPrepared || !object.isQuiet {
            for channel in late.channels where volume.exceptions[index]?[channel.store] == .unverified {
                let store = channel.store
                guard isMember(volume, store, object.range), self.channel(store) === channel,
                    !late.marked.contains(where: { $0 == object.id && $1 == store })
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
        return work
    }
}

/// Members that came late to one volume.
private final class LateMembers {
    let volume: VolumeState
    private(set) var channels: [any CopyChannel]
    /// They do not count as fenced until all that they lack is marked.
    var waiting: [any CopyChannel] = []
    var marked: [(ObjectId, StoreId)] = []
    init(_ volume: VolumeState, _ channels: [any CopyChannel]) {
        self.volume = volume
        self.channels = channels
    }
    /// It could not be marked: it is not fenced.
    func giveUp(_ channel: any CopyChannel) {
        channels.removeAll { $0 === channel }
        waiting.removeAll { $0 === channel }
    }
}
