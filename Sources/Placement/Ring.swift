// The ring: which stores hold the copies of each of the 65,536 ranges. A pure function of its members and the number
// of copies: it must never depend on their order, on an earlier ring, or on a clock or random number.
import Model

/// A store's place in the ring.
package struct RingMember: Hashable, Sendable {
    package let store: StoreId
    /// Capacity in bytes; 0: the store is drained and gets nothing.
    package let weight: UInt64
    /// What fails together. A range has at most one copy in a zone. (The node's id, or the store's own on a single host.)
    package let zone: UInt64

    package init(store: StoreId, weight: UInt64, zone: UInt64) {
        self.store = store
        self.weight = weight
        self.zone = zone
    }
}

/// Targets of every range, computed once; equal members give an equal ring on every machine and in every build.
///
/// Each store gets its attainable share, but for binomial noise. Between zones of like weight a change moves what it
/// must and up to 5 % more; between few zones of very unequal weight, some near the cap, up to half as much again
/// (`sheep-bench placement` prints it): no rule that knows only the members can do without.
package struct Ring: Sendable {
    /// Ascending by store.
    package let members: [RingMember]
    /// The number of copies that was asked for.
    package let copies: Int
    /// The number of copies that a range gets: at most the number of zones that have a weight.
    package let effectiveCopies: Int
    /// For each range `effectiveCopies` indices into `members`, the primary first.
    private let table: [UInt16]
    private let attainable: [Double]

    package init(members unordered: [RingMember], copies: Int) {
        precondition(copies > 0, "a ring needs a copy")
        precondition(unordered.count <= Int(UInt16.max), "more stores than a ring can name")
        let members = unordered.sorted { $0.store < $1.store }
        for i in members.indices.dropFirst() {
            precondition(members[i].store != members[i - 1].store, "a store is in the ring twice")
        }
        self.members = members
        self.copies = copies
        let zones = ZoneTable(members)
        effectiveCopies = min(copies, zones.weights.count)
        let probabilities =
            effectiveCopies > 0 ? inclusionProbabilities(weights: zones.weights, copies: effectiveCopies) : []
        attainable = members.indices.map { i in
            guard let zone = zones.zoneOfMember[i] else { return 0 }
            return probabilities[zone] * Double(members[i].weight) / zones.weights[zone]
        }
        table = RingDraw(members: members, zones: zones, probabilities: probabilities, copies: effectiveCopies).table()
    }

    /// The stores that hold `range`, in distinct zones, the primary first.
    package func targets(of range: RangeIndex) -> [StoreId] {
        let start = Int(range.rawValue) * effectiveCopies
        return table[start..<start + effectiveCopies].map { members[Int($0)].store }
    }
    /// Copy `copy` (0: the primary) of `range`; no allocation.
    package func target(of range: RangeIndex, copy: Int) -> StoreId {
        precondition(copy >= 0 && copy < effectiveCopies, "a copy that the ring does not have")
        return members[Int(table[Int(range.rawValue) * effectiveCopies + copy])].store
    }
    /// Whether `store` is a target of `range`.
    package func isTarget(_ store: StoreId, of range: RangeIndex) -> Bool {
        for copy in 0..<effectiveCopies where target(of: range, copy: copy) == store { return true }
        return false
    }
    /// The ranges that have a copy on `store`; empty for one that is not a member.
    package func ranges(of store: StoreId) -> RangeSet {
        var ranges = RangeSet()
        guard let index = index(of: store) else { return ranges }
        for i in table.indices where table[i] == index {
            ranges[RangeIndex(UInt16(i / effectiveCopies))] = true
        }
        return ranges
    }
    /// For each of these stores the ranges that it is among the first 1, 2, ... `effectiveCopies` targets of.
    package func ranges(of stores: [StoreId]) -> [[RangeSet]] {
        let empty = [RangeSet](repeating: RangeSet(), count: effectiveCopies)
        var sets = [[RangeSet]](repeating: empty, count: members.count)
        for (entry, member) in table.enumerated() {
            sets[Int(member)][entry % effectiveCopies][RangeIndex(UInt16(entry / effectiveCopies))] = true
        }
        for member in sets.indices {
            for copy in sets[member].indices.dropFirst() { sets[member][copy].formUnion(sets[member][copy - 1]) }
        }
        return stores.map { store in index(of: store).map { sets[Int($0)] } ?? empty }
    }
    /// The part of all copies that `store` holds; 0 for one that is not a member. All together are 1.
    package func share(of store: StoreId) -> Double {
        guard let index = index(of: store), effectiveCopies > 0 else { return 0 }
        var count = 0
        for entry in table where entry == index { count += 1 }
        return Double(count) / Double(table.count)
    }
    /// The part of all copies that `store` should hold: by weight, no zone above one copy of each range.
    package func attainableShare(of store: StoreId) -> Double {
        guard let index = index(of: store), effectiveCopies > 0 else { return 0 }
        return attainable[Int(index)] / Double(effectiveCopies)
    }

    private func index(of store: StoreId) -> UInt16? {
        var low = 0
        var high = members.count
        while low < high {
            let middle = (low + high) / 2
            if members[middle].store < store { low = middle + 1 } else { high = middle }
        }
        return low < members.count && members[low].store == store ? UInt16(low) : nil
    }
}
