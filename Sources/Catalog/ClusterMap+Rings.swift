// What can be asked of the cluster map about ranges: who holds a current copy, what a store is a target of, whether a
// move is over. Works on whole range sets, 64 ranges at a time. Changes only what is computed from the rings.
import Model
import OrderedCollections
import Placement

extension ClusterMap {
    /// The most stores that a cluster has.
    package static let maximumStores = 4096
    /// The largest weight, in bytes.
    package static let maximumWeight: UInt64 = 1 << 60

    init(copies: Int) {
        let none = RingDescription(members: [], copies: copies)
        self.init(
            epoch: Epoch(1), stores: [], onRing: none, toRing: nil, on: Ring(members: [], copies: copies), to: nil)
    }

    /// The ring is computed only when its description is new.
    mutating func setOn(_ description: RingDescription) {
        if description == onRing { return }
        if description == toRing, let to {
            on = to
            onRanges = toRanges
        } else {
            let computed = ComputedRing.of(description)
            (on, onRanges) = (computed.ring, computed.ranges)
        }
        onRing = description
    }

    mutating func setTo(_ description: RingDescription?) {
        if description == toRing { return }
        if let description {
            let computed = ComputedRing.of(description)
            (to, toRanges) = (computed.ring, computed.ranges)
        } else {
            to = nil
            toRanges = []
        }
        toRing = description
    }

    /// Numbers of copies that are told apart: as many as the rings have.
    package var levelCount: Int { max(1, onRing.copies, toRing?.copies ?? 1) }

    /// The ranges that the rings give to this store for volumes with so many copies.
    package func ringRanges(of id: StoreId, copies: Int) -> RangeSet {
        var ranges = RangeSet()
        func add(_ members: [RingMember], _ sets: [[RangeSet]]) {
            guard let i = members.firstIndex(where: { $0.store == id }), !sets[i].isEmpty else { return }
            ranges.formUnion(sets[i][min(copies, sets[i].count) - 1])
        }
        add(onRing.members, onRanges)
        if let toRing { add(toRing.members, toRanges) }
        return ranges
    }
    /// For some number of copies: for the largest.
    package func ringRanges(of id: StoreId) -> RangeSet { ringRanges(of: id, copies: levelCount) }

    /// The ranges that this store is a target of for volumes with so many copies: those of `targets(of:copies:)`.
    package func targetRanges(of id: StoreId, copies: Int) -> RangeSet {
        var ranges = ringRanges(of: id, copies: copies)
        if let store = store(id) { ranges.formUnion(store.inSync[copies: copies]) }
        return ranges
    }
    /// For some number of copies.
    package func targetRanges(of id: StoreId) -> RangeSet {
        var ranges = ringRanges(of: id)
        if let store = store(id) { ranges.formUnion(store.inSync.any) }
        return ranges
    }
    /// The ranges that the rings give to this store and for which it is not in-sync, for some number of copies.
    package func missingRanges(of id: StoreId) -> RangeSet {
        var all = RangeSet()
        for copies in 1...levelCount {
            var missing = ringRanges(of: id, copies: copies)
            if let store = store(id) { missing.subtract(store.inSync[copies: copies]) }
            all.formUnion(missing)
        }
        return all
    }

    /// The ranges of which a current member of S is up, for volumes with so many copies: of others nobody can say what
    /// there is.
    package func servedRanges(copies: Int) -> RangeSet {
        var all = RangeSet()
        for store in stores where store.status == .up { all.formUnion(store.current(copies: copies)) }
        return all
    }

    /// S of the range: the stores that are in-sync for it, up or not, ascending.
    package func insyncStores(_ range: RangeIndex, copies: Int) -> [StoreId] {
        stores.filter { $0.inSync[range, copies: copies] }.map(\.id)
    }

    /// Whether the store is in-sync for the range (a member of S) as far as volumes with so many copies go, and current:
    /// not one whose session broke while it is not decided who has more.
    package func isMember(_ id: StoreId, _ range: RangeIndex, copies: Int) -> Bool {
        store(id)?.isCurrent(range, copies: copies) ?? false
    }

    /// Whether every range of `to` is in-sync at all its targets, so that the old ring can be dropped.
    package var moveIsComplete: Bool {
        guard let toRing else { return false }
        return toRing.members.indices.allSatisfy { i in
            guard let store = store(toRing.members[i].store) else { return false }
            return toRanges[i].isEmpty
                || (1...levelCount).allSatisfy { copies in
                    store.current(copies: copies).isSuperset(of: toRanges[i][min(copies, toRanges[i].count) - 1])
                }
        }
    }

    /// Complete copies that a write needs: as set, but at most the zones that have joined. Joins raise it, and only a
    /// command lowers it: zones that fail do not.
    package func minimumCopies(_ settings: Settings) -> Int {
        let copies = max(1, min(settings.copies, joinedZones))
        return settings.minCopies > 0 ? min(settings.minCopies, copies) : max(1, copies - 1)
    }

    /// The same for a volume with so many copies.
    package func minimumCopies(_ settings: Settings, volumeCopies: Int) -> Int {
        let usual = minimumCopies(settings)
        return settings.minCopies > 0 ? min(usual, volumeCopies) : min(usual, max(1, volumeCopies - 1))
    }

    /// The ranges with at least `count` targets that are up. `count` is small: copies are at most 7.
    func ranges(withUpTargets count: Int, copies: Int) -> RangeSet {
        var reached = [[UInt64]](repeating: [UInt64](repeating: 0, count: rangeCount / 64), count: max(1, count) + 1)
        reached[0] = [UInt64](repeating: .max, count: rangeCount / 64)
        for store in stores where store.status == .up {
            let words = targetRanges(of: store.id, copies: copies).words
            for level in (1...max(1, count)).reversed() {
                for i in words.indices { reached[level][i] |= reached[level - 1][i] & words[i] }
            }
        }
        return RangeSet(words: reached[max(1, count)])
    }

    /// Who may leave S (DESIGN 7): stores that are not up leave it where at least min-copies of the range's targets
    /// are up, syncing ones included, and one of them is a current member of S; elsewhere they stay. S never becomes
    /// empty. Whose session broke: see ClusterMap+Sessions.
    mutating func settleInSync(_ settings: Settings) {
        defer {
            trimBroken()
            settleAdoptions()
        }
        for i in stores.indices where stores[i].inSync.levels.count != levelCount {
            stores[i].inSync.setLevelCount(levelCount)
        }
        settleSessions()
        guard stores.contains(where: { $0.status != .up && !$0.inSync.isEmpty }) else { return }
        for copies in 1...levelCount {
            var free = servedRanges(copies: copies)
            free.formIntersection(
                ranges(withUpTargets: minimumCopies(settings, volumeCopies: copies), copies: copies))
            for i in stores.indices where stores[i].status != .up { stores[i].inSync[copies: copies].subtract(free) }
        }
    }

    /// Who has left S gets everything anew, so there is nothing to adopt: its copies must not be believed later.
    private mutating func settleAdoptions() {
        for i in stores.indices {
            guard var adoption = stores[i].adoption else { continue }
            adoption.ranges.setLevelCount(levelCount)
            adoption.ranges.formIntersection(stores[i].inSync)
            stores[i].adoption = adoption.ranges.isEmpty ? nil : adoption
        }
    }
}

extension RingDescription {
    /// Zones that have a weight.
    package var zoneCount: Int { Set(members.filter { $0.weight > 0 }.map(\.zone)).count }
}
