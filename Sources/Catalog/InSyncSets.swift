// The ranges that a store is in-sync for (a member of S), for volumes with one copy, with two, and so on: the second
// target of a range has every write of volumes with two copies and more, and nothing of those with one. So being in-sync
// is a matter of a range and a number of copies. It must never say more than was verified.
import Model

package struct InSyncSets: Hashable, Sendable {
    /// For volumes with 1, 2, ... copies; the last one holds for all with more. Never empty.
    package private(set) var levels: [RangeSet]

    package init(levels: [RangeSet]) {
        precondition(!levels.isEmpty, "at least one number of copies")
        self.levels = levels
    }
    package init(levelCount: Int) { self.init(levels: Array(repeating: RangeSet(), count: max(1, levelCount))) }

    private func level(_ copies: Int) -> Int { min(max(1, copies), levels.count) - 1 }
    package subscript(copies copies: Int) -> RangeSet {
        get { levels[level(copies)] }
        set { levels[level(copies)] = newValue }
    }
    package subscript(range: RangeIndex, copies copies: Int) -> Bool { levels[level(copies)][range] }

    /// In-sync for nothing at all.
    package var isEmpty: Bool { levels.allSatisfy(\.isEmpty) }
    /// Ranges where it is in-sync for some number of copies.
    package var any: RangeSet {
        var all = RangeSet()
        for level in levels { all.formUnion(level) }
        return all
    }
    package mutating func subtract(_ other: InSyncSets) {
        for i in levels.indices { levels[i].subtract(other[copies: i + 1]) }
    }
    package mutating func formUnion(_ other: InSyncSets) {
        for i in levels.indices { levels[i].formUnion(other[copies: i + 1]) }
    }
    package mutating func formIntersection(_ other: InSyncSets) {
        for i in levels.indices { levels[i].formIntersection(other[copies: i + 1]) }
    }
    /// More copies may be asked for from now on, or fewer.
    mutating func setLevelCount(_ count: Int) {
        while levels.count < count { levels.append(levels.last!) }
        if levels.count > max(1, count) { levels.removeSubrange(max(1, count)...) }
    }
}
