// Where no complete copy of an object is left: copies in S that have missed nothing, but had a header that could not be
// read, are looked at again. No other copy is ever believed for it.
import Catalog
import Model
import ObjectStore

extension Gateway {
    /// Members of S that are not believed are looked at again, when nobody else is left. `completion`: true when all members
    /// are here, some are damaged, and none could be read: waiting for the map to change would not help.
    func rereadMembers(_ volume: VolumeState, _ object: ObjectState, _ completion: @escaping (Bool) -> Void) {
        let members = object.slots.filter(\.isMember)
        guard !members.contains(where: { $0.status == .complete }) else { return completion(false) }
        reread(volume, object, members.map(\.channel)) { [self] isReadable in
            if isReadable { volume.learntEpoch = nil }
            let isAway = catalog.state.map.stores.contains { store in
                store.inSync[object.range, copies: volume.sureCopies]
                    && !members.contains { $0.channel.store == store.id }
            }
            let isDamaged = localCopies().contains { $0.objects.standing(object.id).state == .damaged }
            completion(!isReadable && !isAway && isDamaged)
        }
    }

    /// True when one of these copies is complete again.
    func reread(
        _ volume: VolumeState, _ object: ObjectState, _ channels: [any CopyChannel],
        _ completion: @escaping (Bool) -> Void
    ) {
        guard !channels.isEmpty else { return completion(false) }
        var isReadable = false
        let join = Join(channels.count) { _ in completion(isReadable) }
        for channel in channels {
            channel.reread(object.id) { [self] result in
                switch result {
                case .success(let isFine): isReadable = isReadable || isFine
                case .failure(.dead(let reason)): reportFailure(channel.store, reason)
                case .failure: break
                }
                join.arrive(nil)
            }
        }
    }
}
