// Which stores of other nodes the gateway of this node uses: those that are up in the map, each in the session that the map
// names. A store that does not answer leaves the gateway at once, and is reported until the map says that it is down;
// nothing is acknowledged without it before that (an object that lacks a member of S waits).
import Catalog
import Model
import OrderedCollections

package final class RemoteStores {
    private struct Entry {
        let store: StoreId
        let session: StoreSession
        let since: Instant
        /// Nil: it has been silent in this session, and the map does not say so yet; or it is tried again soon.
        var copy: RemoteCopy?
        var isReported = false
        var silentSince = Instant(nanoseconds: 0)
    }
    private let gateway: Gateway
    private let recovery: Recovery
    private let catalog: any CatalogProposer
    private let clock: any Clock
    private let node: NodeId
    private let patienceMilliseconds: UInt64
    private var peers: [RemotePeer] = []
    /// Ascending by store.
    private var entries: [Entry] = []
    private var isStopped = false
    private let isClustered: Bool
    /// A store does not answer, for this reason: its exclusion is asked for. Called again every while until it is down.
    package var report: (StoreId, String) -> Void

    /// For the gateway and the recovery of this node. To be made after it, so that it hears of the map first.
    /// `isClustered`: its node reports what it does not reach, and all nodes judge.
    package init(node: Node, limits: RemoteLimits = RemoteLimits(), isClustered: Bool = false) {
        self.isClustered = isClustered
        gateway = node.gateway
        recovery = node.recovery
        catalog = node.catalog
        clock = node.clock
        self.node = node.id
        patienceMilliseconds = limits.dataTimeoutMilliseconds
        report = { [unowned catalog = node.catalog, unowned clock = node.clock] store, reason in
            catalog.propose(.storeDown(store, reason: reason, wallClock: clock.wallClock), request: nil) { _ in }
        }
        // What a copy on another node answers of its store's death is that store's, not one of this node's.
        let local = gateway.onStoreFailure
        gateway.onStoreFailure = { [weak self] store, reason in
            guard let self, let record = catalog.state.map.store(store), record.node != self.node else {
                return local(store, reason)
            }
            failed(store, reason)
        }
        catalog.observe { [weak self] changes in
            guard let self, changes.contains(where: { if case .map = $0 { true } else { false } }) else { return }
            mapChanged()
        }
        tick()
    }

    package func add(_ peer: RemotePeer) {
        peers.append(peer)
        peers.sort { $0.node < $1.node }
        peer.mapChanged(catalog.state.map.epoch)
        mapChanged()
    }
    package func stop() {
        isStopped = true
        for peer in peers { peer.stop() }
    }

    private func mapChanged() {
        guard !isStopped else { return }
        let map = catalog.state.map
        for peer in peers { peer.mapChanged(map.epoch) }
        for entry in entries {
            let record = map.store(entry.store)
            if record?.status != .up || record?.session != entry.session { forget(entry.store, "the map has changed") }
        }
        for record in map.stores where record.node != node && record.status == .up {
            guard !entries.contains(where: { $0.store == record.id }) else { continue }
            entries.append(Entry(store: record.id, session: record.session, since: clock.now))
            entries.sort { $0.store < $1.store }
            connect(record.id)
        }
    }

    /// Every store of another node that is up in the map has been taken in, or found not to answer. Whoever starts to serve
    /// volumes before that makes the copies of those that come later fall behind.
    package var isSettled: Bool {
        entries.allSatisfy { $0.isReported || $0.copy != nil && gateway.channel($0.store) === $0.copy }
    }

    /// It was asked, and has not answered since; the map has it up.
    func isSilent(_ store: StoreId) -> Bool {
        entries.contains { $0.store == store && $0.isReported && $0.copy == nil }
    }

    private func forget(_ store: StoreId, _ reason: String) {
        guard let position = entries.firstIndex(where: { $0.store == store }) else { return }
        let copy = entries.remove(at: position).copy
        gateway.letGo(store)
        copy?.silence(reason, isReported: false)
    }

    private func connect(_ store: StoreId) {
        guard let position = entries.firstIndex(where: { $0.store == store }), entries[position].copy == nil,
            let node = catalog.state.map.store(store)?.node, let peer = peers.first(where: { $0.node == node })
        else { return }
        let copy = RemoteCopy(store: store, session: entries[position].session, peer: peer) { [weak self] copy in
            self?.opened(copy)
        } onSilent: { [weak self] copy, reason in
            self?.becameSilent(copy, reason)
        }
        entries[position].copy = copy
    }

    private func opened(_ copy: RemoteCopy) {
        guard entries.contains(where: { $0.copy === copy }), gateway.channel(copy.store) !== copy else { return }
        if let position = entries.firstIndex(where: { $0.copy === copy }) { entries[position].isReported = false }
        gateway.takeIn(copy)
        recovery.wake()
    }

    private func becameSilent(_ copy: RemoteCopy, _ reason: String) {
        guard let position = entries.firstIndex(where: { $0.copy === copy }) else { return }
        entries[position].copy = nil
        let wasUsed = gateway.channel(copy.store) === copy
        gateway.letGo(copy.store)
        // Its own node says what has become of it.
        if isClustered, copy.isRefused { return }
        // One that was never there may be about to be: this node's map, or the other node, may be late.
        if wasUsed || clock.now.milliseconds(since: entries[position].since) >= patienceMilliseconds {
            ask(position, reason)
        }
    }

    /// The store itself has failed, as its node says.
    private func failed(_ store: StoreId, _ reason: String) {
        guard let position = entries.firstIndex(where: { $0.store == store }) else { return }
        let copy = entries[position].copy
        entries[position].copy = nil
        gateway.letGo(store)
        ask(position, reason)
        clock.after(milliseconds: 0) { copy?.silence(reason, isReported: false) }
    }

    private func ask(_ position: Int, _ reason: String) {
        entries[position].isReported = true
        entries[position].silentSince = clock.now
        report(entries[position].store, reason)
    }

    /// A store that is up in the map and not reported is tried again; one that is reported, and still up, is reported again.
    private func tick() {
        guard !isStopped else { return }
        for (position, entry) in entries.enumerated() where entry.copy == nil {
            if entry.isReported {
                report(entry.store, "it does not answer")
                // The others may reach it, and this node may be the one that is wrong.
                guard isClustered, clock.now.milliseconds(since: entry.silentSince) >= 4 * patienceMilliseconds else {
                    continue
                }
                entries[position].silentSince = clock.now
            }
            connect(entry.store)
        }
        // What failed with a store that has gone may begin to wait for a change of the map some steps after that change.
        if !gateway.mapWaiters.isEmpty { gateway.lookAgain() } else if isClustered { gateway.sendParked() }
        clock.after(milliseconds: patienceMilliseconds / 4) { [weak self] in self?.tick() }
    }
}

extension Gateway {
    /// A store that the map has as up is there, some time after the map said so.
    func takeIn(_ channel: any CopyChannel) {
        attach(channel)
        lookAgain()
    }
    /// As after a change of the map. What the stores have was perhaps compared in this epoch already, with others.
    func lookAgain() {
        for id in volumeOrder { volumes[id]?.learntEpoch = nil }
        mapChanged()
    }

    /// Writes that wait, perhaps for a store that has come back before they began to.
    func sendParked() {
        for id in volumeOrder {
            guard let volume = volumes[id], volume.phase == .ready else { continue }
            for (_, object) in volume.objects.sorted(by: { $0.key < $1.key })
            where object.inFlight.contains(where: \.isParked) {
                refreshSlots(volume, object)
                reconsider(volume, object)
            }
        }
    }

    /// The store has gone, and the map does not say so yet: objects look anew who is there, so that what lacks a member of S
    /// waits until the map has changed.
    func letGo(_ store: StoreId) {
        guard channel(store) != nil else { return }
        detach(store)
        for id in volumeOrder {
            guard let volume = volumes[id] else { continue }
            for (_, object) in volume.objects.sorted(by: { $0.key < $1.key })
            where object.slots.contains(where: { $0.channel.store == store }) {
                refreshSlots(volume, object)
            }
        }
    }
}
