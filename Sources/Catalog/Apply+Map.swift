// Commands for the cluster map. Each change of a store's status, of a ring, a weight, the copies or min-copies is a new
// epoch. The map has the ring the data is on and at most one that it is moving to; who is in-sync never shrinks to
// nothing unless an administrator accepts the loss.
import Model
import OrderedCollections
import Placement

extension CatalogState {
    // MARK: stores come and go

    mutating func addStore(
        _ description: StoreDescription, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        try requireNew(description)
        try requireNoMove("a store")
        insert(description, zone: description.zone, weight: description.weight)
        retarget()
        finishMapChange(&changes)
        return .done
    }

    mutating func replaceStore(
        _ id: StoreId, _ description: StoreDescription, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let index = try requireStore(id)
        try requireNew(description)
        let old = map.stores[index]
        // A store that is up is still read from while it is replaced; one that is not is given up.
        if old.status == .up { try requireNoMove("a store") } else { map.stores[index].status = .out }
        map.stores[index].isLeaving = true
        map.stores[index].reason = "replaced by \(description.id)"
        map.stores[index].changedWallClock = description.wallClock
        insert(description, zone: old.zone, weight: description.weight)
        retarget()
        finishMapChange(&changes)
        return .done
    }

    private func requireNew(_ description: StoreDescription) throws(SheepError) {
        if map.store(description.id) != nil {
            throw SheepError(
                .exists, what: "Store \(description.id) is part of this cluster already.",
                why: "A store joins once.", remedy: "Name an empty directory.")
        }
        let isSane =
            description.id.rawValue != 0 && (1...ClusterMap.maximumWeight).contains(description.weight)
            && description.path.utf8.count <= 4096 && map.stores.count < ClusterMap.maximumStores
        if isSane { return }
        throw SheepError(
            .invalid, what: "The store at \u{22}\(description.path)\u{22} was not added.",
            why: "Its id or weight is zero, its weight or path too large, or there are too many stores.",
            remedy: "Give it a weight between 1 byte and 1 EiB.")
    }

    private mutating func insert(_ description: StoreDescription, zone: UInt64, weight: UInt64) {
        let record = StoreRecord(
            id: description.id, node: description.node, path: description.path, weight: weight, zone: zone,
            status: .up, session: description.session, reason: "", changedWallClock: description.wallClock,
            inSync: InSyncSets(levelCount: map.levelCount))
        let index = map.stores.firstIndex { $0.id > record.id } ?? map.stores.count
        map.stores.insert(record, at: index)
    }

    /// It comes up with what it had: it stays in-sync where S did not lose it meanwhile. Another boot id than before
    /// means that its session broke (an unclean stop; a store that was stopped cleanly keeps its session).
    mutating func storeUp(
        _ id: StoreId, _ session: StoreSession, _ wallClock: UInt64, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let index = try requireStore(id)
        let old = map.stores[index]
        if old.status == .up, old.session == session { return .done }
        let isBroken = session.bootId != old.session.bootId
        map.stores[index].session = session
        if old.status != .up {
            map.stores[index].status = .up
            map.stores[index].reason = ""
            map.stores[index].changedWallClock = wallClock
        }
        if isBroken {
            map.stores[index].sessionBrokeAt = map.epoch.next
            map.breakSession(index)
        }
        // One that was out comes back into the ring; while a move runs that it has no part in, it waits for its end.
        let hasPart = map.onRing.members.contains { $0.store == id }
        if old.status == .out, hasPart || map.to == nil || mayReplaceMove { retarget() }
        finishMapChange(&changes)
        return .done
    }

    /// Members of S whose sessions broke leave it to these stores, where one of these is current.
    mutating func sessionsConfirmed(
        _ ids: [StoreId], _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        for id in ids { _ = try requireStore(id) }
        if map.leaveToUnbroken(ids) { finishMapChange(&changes) }
        return .done
    }

    mutating func storeDown(
        _ id: StoreId, _ reason: String, _ wallClock: UInt64, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let index = try requireStore(id)
        if map.stores[index].status != .up { return .done }
        setStatus(index, .down, reason, wallClock)
        finishMapChange(&changes)
        return .done
    }

    mutating func storeOut(
        _ id: StoreId, _ reason: String, _ wallClock: UInt64, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let index = try requireStore(id)
        if map.stores[index].status == .out { return .done }
        try requireRest(without: id)
        setStatus(index, .out, reason, wallClock)
        retarget()
        finishMapChange(&changes)
        return .done
    }

    private mutating func setStatus(_ index: Int, _ status: StoreStatus, _ reason: String, _ wallClock: UInt64) {
        map.stores[index].status = status
        map.stores[index].reason = reason
        map.stores[index].changedWallClock = wallClock
    }

    /// A store that is up is drained first; its record goes when the move ends. One that is out and needed for
    /// nothing any more goes at once.
    mutating func removeStore(
        _ id: StoreId, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let index = try requireStore(id)
        let store = map.stores[index]
        if store.isLeaving { return .done }
        try requireRest(without: id)
        if store.status == .up { try requireNoMove("the removal of a store") }
        if store.status == .down { map.stores[index].status = .out }
        map.stores[index].isLeaving = true
        retarget()
        forgetLeavers()
        map.joinedZones = min(map.joinedZones, (map.toRing ?? map.onRing).zoneCount)
        finishMapChange(&changes)
        return .done
    }

    mutating func setWeight(
        _ id: StoreId, _ weight: UInt64, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let index = try requireStore(id)
        let old = map.stores[index].weight
        if old == weight { return .done }
        if weight > ClusterMap.maximumWeight {
            throw SheepError(
                .invalid, what: "The weight of store \(id) was not changed.", why: "It is more than 1 EiB.",
                remedy: "Give its capacity in bytes.")
        }
        if weight == 0 { try requireRest(without: id) }
        // A store that is full may be relieved in the middle of a move.
        if weight > old { try requireNoMove("a weight") }
        map.stores[index].weight = weight
        retarget()
        finishMapChange(&changes)
        return .done
    }

    // MARK: a move

    mutating func inSync(
        _ id: StoreId, _ ranges: RangeSet, _ epoch: Epoch, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let index = try requireStore(id)
        try requireEpoch(epoch)
        guard map.stores[index].status == .up, map.targetRanges(of: id).isSuperset(of: ranges) else {
            throw SheepError(
                .invalid, what: "Store \(id) was not recorded as complete.",
                why: "It is not up, or these ranges do not belong to it.", remedy: "Look at the map of this epoch.")
        }
        let before = map.stores[index]
        for copies in 1...map.levelCount {
            // Of volumes for which it is no target it has nothing.
            var complete = map.ringRanges(of: id, copies: copies)
            complete.formIntersection(ranges)
            map.stores[index].inSync[copies: copies].formUnion(complete)
            map.stores[index].broken?[copies: copies].subtract(complete)
        }
        if map.stores[index] == before { return .done }
        // What was a member of S and waited for a successor may leave now.
        map.settleInSync(settings)
        changes.append(.map)
        return .done
    }

    mutating func dropOldRing(
        _ epoch: Epoch, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        try requireEpoch(epoch)
        guard let to = map.toRing, map.moveIsComplete else {
            throw SheepError(
                .busy, what: "The old ring was not dropped.", why: "The move is not complete, or there is none.",
                remedy: "Wait until every range is in-sync at its new targets.")
        }
        map.setOn(to)
        map.setTo(nil)
        map.joinedZones = max(map.joinedZones, map.onRing.zoneCount)
        map.moveIsReplaceable = false
        for i in map.stores.indices {
            for copies in 1...map.levelCount {
                map.stores[i].inSync[copies: copies].formIntersection(
                    map.ringRanges(of: map.stores[i].id, copies: copies))
            }
        }
        forgetLeavers()
        retarget()
        finishMapChange(&changes)
        return .done
    }

    mutating func acceptLoss(
        _ ids: [StoreId], _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        for id in ids where map.stores[try requireStore(id)].status == .up {
            throw SheepError(
                .busy, what: "Nothing was given up.", why: "Store \(id) is up: what it has is not lost.",
                remedy: "Name only stores that will not come back.")
        }
        var heirs: [(index: Int, copies: Int, ranges: RangeSet)] = []
        for copies in 1...map.levelCount {
            guard let found = self.heirs(of: ids, copies: copies) else {
                throw SheepError(
                    .busy, what: "Nothing was given up.", why: "No other store could serve what these stores have.",
                    remedy: "Add a store, or give them up first: dog node remove --force")
            }
            heirs += found.map { ($0.index, copies, $0.ranges) }
        }
        for heir in heirs {
            map.stores[heir.index].inSync[copies: heir.copies].formUnion(heir.ranges)
            var adoption =
                map.stores[heir.index].adoption
                ?? Adoption(ranges: InSyncSets(levelCount: map.levelCount), since: map.epoch)
            adoption.ranges[copies: heir.copies].formUnion(heir.ranges)
            adoption.since = map.epoch.next
            map.stores[heir.index].adoption = adoption
        }
        for id in ids { map.stores[try requireStore(id)].inSync = InSyncSets(levelCount: map.levelCount) }
        forgetLeavers()
        finishMapChange(&changes)
        return .done
    }

    mutating func adopted(
        _ id: StoreId, _ since: Epoch, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let index = try requireStore(id)
        // Another loss was accepted meanwhile: there is more to adopt.
        guard map.stores[index].adoption?.since == since else { return .done }
        map.stores[index].adoption = nil
        changes.append(.map)
        return .done
    }

    /// What only these stores have is served from what the remaining targets have: those that are up, else all. Nil:
    /// nobody could.
    private func heirs(of ids: [StoreId], copies: Int) -> [(index: Int, ranges: RangeSet)]? {
        var kept = RangeSet()
        var lost = RangeSet()
        for store in map.stores {
            let ranges = store.inSync[copies: copies]
            if ids.contains(store.id) { lost.formUnion(ranges) } else { kept.formUnion(ranges) }
        }
        lost.subtract(kept)
        var heirs: [(index: Int, ranges: RangeSet)] = []
        // Where no target for so few copies is left, one for more copies has to do, with nothing.
        for (level, wanted) in (copies...map.levelCount).flatMap({ [($0, true), ($0, false)] }) {
            var open = lost
            for heir in heirs { open.subtract(heir.ranges) }
            for i in map.stores.indices
            where (map.stores[i].status == .up) == wanted && !ids.contains(map.stores[i].id) {
                var ranges = map.ringRanges(of: map.stores[i].id, copies: level)
                ranges.formIntersection(open)
                if !ranges.isEmpty { heirs.append((i, ranges)) }
            }
        }
        for heir in heirs { lost.subtract(heir.ranges) }
        return lost.isEmpty ? heirs : nil
    }

    mutating func allowMoveReplacement(
        _ epoch: Epoch, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        try requireEpoch(epoch)
        if map.to == nil || map.moveIsReplaceable { return .done }
        map.moveIsReplaceable = true
        finishMapChange(&changes)
        return .done
    }

    // MARK: the parts

    /// Joins and changes of weight wait for a move to end, unless a store of the `to` ring failed or an
    /// administrator allowed it.
    func requireNoMove(_ what: String) throws(SheepError) {
        if map.to == nil || mayReplaceMove { return }
        throw SheepError(
            .busy, what: "A change of \(what) has to wait.", why: "Data is still moving after the last change.",
            remedy: "Wait until dog status shows no move, and try again.")
    }

    private var mayReplaceMove: Bool {
        guard let toRing = map.toRing else { return false }
        return map.moveIsReplaceable || toRing.members.contains { map.store($0.store)?.status != .up }
    }

    /// Refuses what would leave no store that data can be on.
    private func requireRest(without id: StoreId) throws(SheepError) {
        if ringMembers.contains(where: { $0.store != id && $0.weight > 0 }) { return }
        throw SheepError(
            .busy, what: "Store \(id) cannot go.", why: "No other store could take its data.",
            remedy: "Add a store first.")
    }

    /// Stores that data should be on, ascending.
    private var ringMembers: [RingMember] {
        map.stores.filter { $0.status != .out && !$0.isLeaving }
            .map { RingMember(store: $0.id, weight: $0.weight, zone: $0.zone) }
    }

    /// Whether nothing can have been written yet, so that a ring needs no move.
    private var isForming: Bool { nextVolumeId == 1 || map.onRing.members.isEmpty }

    /// Starts (or replaces) the move to the ring that the stores call for now. Who is in-sync stays so until that
    /// move ends. Before the first volume there is nothing to move, and every target is in-sync at once.
    mutating func retarget() {
        let wanted = RingDescription(members: ringMembers, copies: settings.copies)
        if isForming {
            map.setTo(nil)
            map.setOn(wanted)
            map.joinedZones = wanted.zoneCount
            for i in map.stores.indices {
                map.stores[i].inSync = InSyncSets(
                    levels: (1...map.levelCount).map { map.ringRanges(of: map.stores[i].id, copies: $0) })
                map.stores[i].broken = nil
            }
        } else if wanted != map.toRing ?? map.onRing {
            map.setTo(wanted)
            map.moveIsReplaceable = false
        }
    }

    /// Forgets drained stores that are in no ring and in-sync for nothing.
    private mutating func forgetLeavers() {
        let members = map.onRing.members + (map.toRing?.members ?? [])
        let gone = map.stores.filter { store in
            store.isLeaving && store.inSync.isEmpty && !members.contains { $0.store == store.id }
        }.map(\.id)
        if gone.isEmpty { return }
        map.stores.removeAll { gone.contains($0.id) }
        for (id, deleted) in deletedVolumes {
            let rest = deleted.stores.filter { !gone.contains($0) }
            deletedVolumes[id] = rest.isEmpty ? nil : DeletedVolume(id: id, stores: rest)
        }
    }

    /// The end of each change of the map: who may leave S leaves, and the epoch is a new one.
    mutating func finishMapChange(_ changes: inout [CatalogChange]) {
        map.settleInSync(settings)
        map.epoch = map.epoch.next
        changes.append(.map)
    }
}
