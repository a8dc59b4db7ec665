// The gateway: one writer's side of the volumes of this node. It keeps leases, locks blocks, gives versions, sends every
// write to all targets, and answers only when the contract (ack at every target, enough complete copies) holds.
// Pure: what it needs of the world comes in as calls, channels and a clock.
import Catalog
import Model
import OrderedCollections
import Placement

package struct GatewayOptions: Sendable {
    /// Every acknowledged write is durable.
    package var alwaysDurable = false
    /// An operation that would wait for copies gets EIO instead.
    package var errorWhenUnavailable = false
    package init() {}
}

package final class Gateway {
    let catalog: any CatalogProposer
    let clock: any Clock
    let pool: BufferPool
    let node: NodeId
    let incarnation: UInt64
    package var options: GatewayOptions
    /// Channels of the stores that are attached, ascending by store.
    var channels: [any CopyChannel] = []
    var volumes: [VolumeId: VolumeState] = [:]
    /// The same volumes, in order of first use, for deterministic iteration.
    var volumeOrder: [VolumeId] = []
    /// Told once for each store that fails; the node excludes it.
    var onStoreFailure: (StoreId, String) -> Void = { _, _ in }
    /// Told when a copy is no longer complete, so that recovery looks at it.
    var onCopyBehind: (ObjectId, StoreId) -> Void = { _, _ in }
    /// Flushes that wait for a failed store to be excluded.
    var exclusionWaiters: [(StoreId, () -> Void)] = []
    /// Operations that wait for a current copy to come up.
    var mapWaiters: [() -> Void] = []
    /// How often they were woken: who was about to wait looks again instead, if that was meanwhile.
    private(set) var wakeUps: UInt64 = 0
    /// Told when a copy had a bad block: it is repaired.
    var onCorruptCopy: (ObjectId, StoreId) -> Void = { _, _ in }
    /// The map's epoch and the usual number of copies that a write needs: kept here, because asking the catalog's state
    /// for them on every request would copy it.
    private(set) var epoch: Epoch
    /// Losses were accepted, and these stores' copies are being adopted: nobody is asked what he has before that is over.
    var runningAdoptions: [RunningAdoption] = []
    var adoptionWaiters: [() -> Void] = []
    private var usualMinimum = 1
    private var isMinimumSet = false
    /// In a cluster: what this gateway may use. Nil: everything.
    package weak var leases: (any GatewayLeases)?
    /// Earlier uses of volumes that have not come to rest.
    var abandoned: [VolumeState] = []
    /// The copies of this node's stores, ascending by store.
    var localCopies: () -> [Copy] = { [] }
    /// Bytes that recovery has moved, since the start.
    package var bytesPulled: UInt64 = 0
    var pacer = Pacer()
    package var statistics = GatewayStatistics()

    package init(
        catalog: any CatalogProposer, clock: any Clock, pool: BufferPool, node: NodeId, incarnation: UInt64,
        options: GatewayOptions
    ) {
        self.catalog = catalog
        self.clock = clock
        self.pool = pool
        self.node = node
        self.incarnation = incarnation
        self.options = options
        epoch = catalog.state.map.epoch
        readMap()
    }

    /// Copies what every request needs out of the catalog.
    private func readMap() {
        let state = catalog.state
        epoch = state.map.epoch
        usualMinimum = state.map.minimumCopies(state.settings)
        isMinimumSet = state.settings.minCopies > 0
    }

    func channel(_ store: StoreId) -> (any CopyChannel)? { channels.first { $0.store == store } }

    package func attach(_ channel: any CopyChannel) {
        detach(channel.store)
        channels.append(channel)
        channels.sort { $0.store < $1.store }
    }

    package func detach(_ store: StoreId) {
        channels.removeAll { $0.store == store }
        for id in volumeOrder {
            guard let volume = volumes[id] else { continue }
            volume.fenced.removeAll { $0 == store }
        }
    }

    /// The state of a volume, made at first use. Nil when the catalog does not know it (any more).
    func volume(_ id: VolumeId) -> VolumeState? {
        if let volume = volumes[id] { return volume }
        guard let record = catalog.state.volumes[id] else { return nil }
        let volume = VolumeState(record: record)
        volume.lastUse = clock.now
        volumes[id] = volume
        volumeOrder.append(id)
        return volume
    }

    /// Complete copies that a write of this volume needs.
    func minimumCopies(_ volume: VolumeState) -> Int {
        // Of those that it has: more may be wanted, but not there yet.
        isMinimumSet ? min(usualMinimum, volume.sureCopies) : min(usualMinimum, max(1, volume.sureCopies - 1))
    }

    /// The state of an object, with slots for the current map.
    func object(_ volume: VolumeState, _ index: UInt32) -> ObjectState {
        let object: ObjectState
        if let known = volume.objects[index] {
            object = known
        } else {
            let summary = volume.summaries[index]
            object = ObjectState(
                id: ObjectId(volume.id, index), version: summary?.version ?? .zero,
                isPrepared: summary?.isUniform ?? !isUndecided(volume, index))
            volume.objects[index] = object
            if volume.objects.count > 16_384 { forgetQuietObjects(volume, except: index) }
        }
        if object.slotsEpoch != epoch.rawValue { refreshSlots(volume, object) }
        return object
    }

    func refreshSlots(_ volume: VolumeState, _ object: ObjectState) {
        let map = catalog.state.map
        let exceptions = volume.exceptions[object.id.index]
        let exists = volume.summaries[object.id.index] != nil
        object.slots.removeAll(keepingCapacity: true)
        object.lacksMember = false
        for id in targets(volume, object.range) {
            guard let record = map.store(id), record.status == .up else { continue }
            let isMember = record.isCurrent(object.range, copies: volume.sureCopies)
            let isInSync = record.inSync[object.range, copies: volume.sureCopies]
            // Nor is anything acknowledged without one whose session broke before it has left S.
            if isInSync, !isMember { object.lacksMember = true }
            guard let channel = channel(id), volume.fenced.contains(id) else {
                // In a cluster, what comes up in S later is decided by others: nothing is acknowledged without a store that
                // is up, unless it is known to lack something.
                let known = exceptions?[id]
                if isInSync || leases != nil && (known == .complete || known == nil && !exists) {
                    object.lacksMember = true
                }
                continue
            }
            // A store outside S is believed only after recovery has looked at this object in this term.
            var status = exceptions?[id] ?? (isMember || !exists ? .complete : .unverified)
            if status == .lagging, !isMember { status = .unverified }
            object.slots.append(CopySlot(channel: channel, status: status, isMember: isMember))
        }
        if !object.slots.contains(where: { $0.isMember && $0.status == .complete }), !exists {
            // Only a member of S may say that an object does not exist.
            for i in object.slots.indices { object.slots[i].status = .unverified }
        }
        object.slotsEpoch = epoch.rawValue
    }

    /// The stores that a write must reach: the first of each ring, as many as the volume shall have copies, and members of
    /// S that are in no ring any more.
    func targets(_ volume: VolumeState, _ range: RangeIndex) -> [StoreId] {
        targets(range, copies: volume.copies, sure: volume.sureCopies)
    }
    private func targets(_ range: RangeIndex, copies: Int, sure: Int) -> [StoreId] {
        let map = catalog.state.map
        var all = map.targets(of: range, copies: copies)
        if sure != copies {
            for store in map.insyncStores(range, copies: sure) where !all.contains(store) { all.append(store) }
        }
        return all
    }
    /// Whether the store is a member of S for this volume.
    func isMember(_ volume: VolumeState, _ store: StoreId, _ range: RangeIndex) -> Bool {
        catalog.state.map.isMember(store, range, copies: volume.sureCopies)
    }

    /// Whether the store's copy has every acknowledged write.
    func isComplete(_ object: ObjectId, on store: StoreId) -> Bool {
        guard let volume = volumes[object.volume], volume.phase == .ready, volume.fenced.contains(store) else {
            return false
        }
        return status(volume, object, store) == .complete
    }
    func status(_ volume: VolumeState, _ object: ObjectId, _ store: StoreId) -> SlotStatus {
        if let known = volume.exceptions[object.index]?[store] { return known }
        let isMissing = volume.summaries[object.index] == nil
        return isMissing || isMember(volume, store, object.range) ? .complete : .unverified
    }
    /// Whether a sync of the object is under way: its generations must stay as they are.
    func isSynchronising(_ object: ObjectId) -> Bool { (volumes[object.volume]?.objects[object.index]?.users ?? 0) > 0 }

    /// Notes how a copy stands; `.complete` is the rule and needs no entry.
    func setStatus(_ volume: VolumeState, _ index: UInt32, _ store: StoreId, _ status: SlotStatus) {
        var known = volume.exceptions[index] ?? [:]
        let isMember = isMember(volume, store, ObjectId(volume.id, index).range)
        if status == .complete && isMember { known[store] = nil } else { known[store] = status }
        volume.exceptions[index] = known.isEmpty ? nil : known
        if let object = volume.objects[index] {
            for i in object.slots.indices where object.slots[i].channel.store == store {
                object.slots[i].status = status
            }
        }
    }

    private func forgetQuietObjects(_ volume: VolumeState, except index: UInt32) {
        for (key, object) in volume.objects.sorted(by: { $0.key < $1.key }) where key != index && object.isQuiet {
            guard object.isPrepared || volume.summaries[key] != nil else { continue }
            volume.objects[key] = nil
        }
    }

    /// The map has changed: slots are made anew, newly attached stores are fenced, and writes that waited for an
    /// exclusion are looked at again.
    package func mapChanged() {
        readMap()
        adoptWhatIsDue()
        let waiters = exclusionWaiters
        exclusionWaiters = []
        for (store, action) in waiters { whenExcluded(store, action) }
        defer { wakeWaiters() }
        for id in volumeOrder {
            guard let volume = volumes[id], volume.phase == .ready else { continue }
            forgetFormerTargets(volume)
            mapSettled(volume)
            fenceMissing(volume)
            learnFromCleared(volume)
        }
    }

    /// What waits for a current copy looks again.
    func wakeWaiters() {
        wakeUps += 1
        let waiting = mapWaiters
        mapWaiters = []
        for action in waiting { action() }
    }

    /// A store that is no target of an object any more gets none of its writes, and its copy goes: what was known of it
    /// must not be believed when it becomes a target again.
    private func forgetFormerTargets(_ volume: VolumeState) {
        for index in volume.exceptions.keys.sorted() {
            let targets = targets(volume, ObjectId(volume.id, index).range)
            let known = volume.exceptions[index]!.filter { targets.contains($0.key) }
            volume.exceptions[index] = known.isEmpty ? nil : known
        }
    }

    func mapSettled(_ volume: VolumeState) {
        for (_, object) in volume.objects.sorted(by: { $0.key < $1.key }) {
            refreshSlots(volume, object)
            reconsider(volume, object)
        }
    }

    package func volumeChanged(_ id: VolumeId) {
        guard let volume = volumes[id] else { return }
        guard let record = catalog.state.volumes[id] else { return volumeRemoved(id) }
        let (copies, sure) = (volume.copies, volume.sureCopies)
        volume.update(from: record)
        guard volume.copies != copies || volume.sureCopies != sure, volume.phase == .ready else { return }
        forgetFormerTargets(volume)
        // New targets have nothing of what exists: they are begun like copies that fell behind, and writes reach them
        // from then on.
        for index in volume.copies == copies ? [] : volume.indices() {
            let object = ObjectId(id, index)
            let past = targets(object.range, copies: copies, sure: sure)
            for store in targets(volume, object.range) where !past.contains(store) {
                setStatus(volume, index, store, .unverified)
                onCopyBehind(object, store)
            }
        }
        for (_, object) in volume.objects.sorted(by: { $0.key < $1.key }) {
            refreshSlots(volume, object)
            reconsider(volume, object)
        }
    }

    package func volumeRemoved(_ id: VolumeId) {
        guard let volume = volumes.removeValue(forKey: id) else { return }
        volumeOrder.removeAll { $0 == id }
        volume.isRemoved = true
        for (_, object) in volume.objects.sorted(by: { $0.key < $1.key }) { reconsider(volume, object) }
        wakeWaiters()
        let waiting = volume.waitingForReady
        volume.waitingForReady = []
        for action in waiting { action(.stale) }
    }

    func reportFailure(_ store: StoreId, _ reason: String) { onStoreFailure(store, reason) }
}

// MARK: use

extension Gateway {
    package func opened(_ id: VolumeId) {
        guard let volume = volume(id) else { return }
        volume.openCount += 1
        volume.lastUse = clock.now
    }

    package func closed(_ id: VolumeId) {
        guard let volume = volumes[id], volume.openCount > 0 else { return }
        volume.openCount -= 1
        volume.lastUse = clock.now
    }

    /// Volumes that nobody has open and that have nothing on its way let go of what they know; the lease goes back.
    func forgetIdleVolumes(olderThanMilliseconds age: UInt64) {
        for id in volumeOrder {
            guard let volume = volumes[id], volume.openCount == 0, volume.phase == .ready,
                volume.users == 0, volume.writesInFlight == 0, !volume.gateClosed, !volume.controlBusy,
                clock.now.milliseconds(since: volume.lastUse) >= age,
                volume.exceptions.isEmpty, volume.stores.allSatisfy({ $0.applied == $0.flushed })
            else { continue }
            guard !volume.objects.contains(where: { !$0.value.isQuiet }) else { continue }
            volumes[id] = nil
            volumeOrder.removeAll { $0 == id }
            release(volume) { _ in }
        }
    }
}
