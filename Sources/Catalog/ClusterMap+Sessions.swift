// What becomes of members of S whose sessions broke (an unclean stop with another boot id): they have everything that was
// flushed, and may lack what was acknowledged besides. Until it is decided they stay in S, and are not current.
//
//   a member that did not break is seen to be up      ->  those that broke leave S: it has more
//   all members broke, and all are up                 ->  nobody has more: all are current, and are made equal before use
//   S is within one node                              ->  the same at once: its stores broke together, missing ones too
//   else (one is missing, the rest broke)             ->  the range waits
//
// Up in the map is not enough for the first: after a power loss of all the map has everybody up, in sessions that are no
// more. So somebody who sees the stores says which of them are there in the sessions that the map names. It must never
// make S empty.
import Model
import OrderedCollections

extension ClusterMap {
    /// A session broke: all that the store is in-sync for is in question.
    mutating func breakSession(_ index: Int) {
        let all = stores[index].inSync
        stores[index].broken = all
    }

    /// Where one of these stores, which are up in the sessions that the map names, is current, the members that broke
    /// leave S. Answers whether any did.
    mutating func leaveToUnbroken(_ confirmed: [StoreId]) -> Bool {
        guard stores.contains(where: { $0.broken != nil }) else { return false }
        var hasChanged = false
        for copies in 1...levelCount {
            var kept = RangeSet()
            for store in stores where store.status == .up && confirmed.contains(store.id) {
                kept.formUnion(store.current(copies: copies))
            }
            for i in stores.indices {
                guard var leaves = stores[i].broken?[copies: copies] else { continue }
                leaves.formIntersection(kept)
                guard !leaves.isEmpty else { continue }
                stores[i].inSync[copies: copies].subtract(leaves)
                stores[i].broken![copies: copies].subtract(leaves)
                hasChanged = true
            }
        }
        return hasChanged
    }

    /// Where nobody can have more than those that broke, they are current again.
    mutating func settleSessions() {
        guard stores.contains(where: { $0.broken != nil }) else { return }
        trimBroken()
        for copies in 1...levelCount {
            var once = RangeSet()
            var twice = RangeSet()
            for node in Set(stores.map(\.node)).sorted() {
                var ranges = RangeSet()
                for store in stores where store.node == node { ranges.formUnion(store.inSync[copies: copies]) }
                var both = once
                both.formIntersection(ranges)
                twice.formUnion(both)
                once.formUnion(ranges)
            }
            // Of one node only.
            var decided = once
            decided.subtract(twice)
            // Or: no member is down, and none did not break.
            var open = RangeSet()
            var all = RangeSet()
            for store in stores {
                all.formUnion(store.inSync[copies: copies])
                open.formUnion(store.status == .up ? store.current(copies: copies) : store.inSync[copies: copies])
            }
            all.subtract(open)
            decided.formUnion(all)
            for i in stores.indices { stores[i].broken?[copies: copies].subtract(decided) }
        }
        forgetEmpty()
    }

    /// Nobody is in question for what he is not in-sync for.
    mutating func trimBroken() {
        let count = levelCount
        for i in stores.indices {
            guard var broken = stores[i].broken else { continue }
            broken.setLevelCount(count)
            broken.formIntersection(stores[i].inSync)
            stores[i].broken = broken
        }
        forgetEmpty()
    }
    private mutating func forgetEmpty() {
        for i in stores.indices where stores[i].broken?.isEmpty ?? false { stores[i].broken = nil }
    }
}
