// A model check of the rules for lists of stores (whole for up to two, the first histories for more): starts, appends, joins, failures and crashes of up to
// four stores, with each write reaching any subset of them. A start that is allowed always has the newest committed
// entry. Positions are kept as ranks, so that histories of any length come back to states already seen.
import Model
import Testing

@testable import Catalog

private struct Copy: Hashable {
    var promised = 0
    var view = 0
    var index = 0
    var list: UInt8 = 0
    /// Unconfirmed earlier lists, as a set of sets of stores.
    var earlier: UInt16 = 0
    /// Whether it has the newest committed entry.
    var isNewest = true
}

private typealias World = [Copy]

private func ids(_ set: UInt8) -> [StoreId] { (0..<4).filter { set >> $0 & 1 == 1 }.map { StoreId(UInt64($0 + 1)) } }

private func quorum(_ copy: Copy) -> StoreQuorum {
    StoreQuorum(lists: [ids(copy.list)] + (1..<16).filter { copy.earlier >> $0 & 1 == 1 }.map { ids(UInt8($0)) })
}

/// All non-strict subsets of a set.
private func subsets(_ set: UInt8) -> [UInt8] { (0...set).filter { $0 & ~set == 0 } }

private struct Explorer {
    var seen: Set<World> = []
    var open: [World] = []
    var violations = 0
    var starts = 0
    let useEarlierLists: Bool
    let usePromises: Bool

    /// Numbers become ranks, which is all that decisions look at.
    mutating func add(_ world: World) {
        var world = world
        let views = Set(world.flatMap { [$0.promised, $0.view] }).sorted()
        let indices = Set(world.map(\.index)).sorted()
        for i in world.indices {
            world[i].promised = views.firstIndex(of: world[i].promised)!
            world[i].view = views.firstIndex(of: world[i].view)!
            world[i].index = indices.firstIndex(of: world[i].index)!
        }
        if seen.insert(world).inserted { open.append(world) }
    }

    /// An entry (a list, or the confirmation of one) reaches `reached`; on `all`, it is committed.
    private func written(_ world: World, _ copy: Copy, on reached: UInt8, of all: UInt8) -> World {
        var world = world
        if reached == all { for i in world.indices { world[i].isNewest = false } }
        for i in world.indices where reached >> i & 1 == 1 {
            let promised = max(world[i].promised, copy.view)
            world[i] = copy
            world[i].promised = promised
        }
        return world
    }

    /// A process that has opened `copy` on all of its list: it goes on until it crashes.
    mutating func serve(_ world: World, _ copy: Copy) {
        // Anything may be a crash, after which only the disks count.
        add(world)
        var next = copy
        next.index += 1
        next.earlier = 0
        next.isNewest = true
        for reached in subsets(copy.list) {
            let after = written(world, next, on: reached, of: copy.list)
            add(after)
            // Stores that did not take it failed: the list shrinks to the others, or to fewer.
            if reached != copy.list {
                for left in subsets(reached) { changeList(after, next, committed: copy, to: left) }
            }
        }
        // A join, after the store got what is committed.
        for i in world.indices where copy.list >> i & 1 == 0 {
            var joined = world
            joined[i] = copy
            joined[i].promised = max(world[i].promised, copy.view)
            add(joined)
            changeList(joined, copy, committed: copy, to: copy.list | 1 << i)
        }
    }

    mutating func changeList(_ world: World, _ copy: Copy, committed: Copy, to list: UInt8) {
        guard quorum(committed).allowsGoingOn(with: ids(list)) else { return }
        var next = copy
        next.index += 1
        if useEarlierLists { next.earlier |= committed.earlier | 1 << UInt16(committed.list) }
        next.list = list
        next.isNewest = true
        for reached in subsets(list) {
            let after = written(world, next, on: reached, of: list)
            add(after)
            if reached == list {
                var confirmed = next
                confirmed.index += 1
                confirmed.earlier = 0
                for some in subsets(list) { add(written(after, confirmed, on: some, of: list)) }
            } else {
                // One failed in the middle of the change.
                for left in subsets(reached) where left != 0 && left != list {
                    var again = next
                    again.index += 1
                    if useEarlierLists { again.earlier |= 1 << UInt16(list) }
                    again.list = left
                    var rule = quorum(committed)
                    rule.lists.append(ids(list))
                    if rule.allowsGoingOn(with: ids(left)) {
                        for some in subsets(left) { add(written(after, again, on: some, of: left)) }
                    }
                }
            }
        }
    }

    mutating func start(_ world: World, present: UInt8) {
        let here = world.indices.filter { present >> $0 & 1 == 1 }
        guard let newest = here.map({ world[$0] }).max(by: { ($0.view, $0.index) < ($1.view, $1.index) }) else {
            return
        }
        let rule = quorum(newest)
        guard rule.allowsStart(with: ids(present)) else { return }
        starts += 1
        if !newest.isNewest {
            violations += 1
            return
        }
        let view = here.map { max(world[$0].promised, world[$0].view) }.max()! + 1
        for promised in subsets(present) {
            var after = world
            if usePromises {
                for i in here where promised >> i & 1 == 1 { after[i].promised = view }
                add(after)
                guard rule.allowsStart(with: ids(promised)) else { continue }
            }
            var next = newest
            next.view = view
            next.index += 1
            next.promised = view
            if useEarlierLists { next.earlier |= 1 << UInt16(newest.list) }
            next.list = usePromises ? promised : present
            for reached in subsets(next.list) {
                let installed = written(after, next, on: reached, of: next.list)
                add(installed)
                guard reached == next.list else { continue }
                var confirmed = next
                confirmed.index += 1
                confirmed.earlier = 0
                for some in subsets(next.list) {
                    let world = written(installed, confirmed, on: some, of: next.list)
                    if some == next.list { serve(world, confirmed) } else { add(world) }
                }
            }
            if !usePromises { break }
        }
    }

    mutating func explore(stores: Int, limit: Int) {
        let all = UInt8(1 << stores - 1)
        for first in 1...all {
            var world = World(repeating: Copy(isNewest: false), count: stores)
            var copy = Copy()
            copy.promised = 1
            copy.view = 1
            copy.list = first
            for i in world.indices where first >> i & 1 == 1 { world[i] = copy }
            for i in world.indices where first >> i & 1 == 0 { world[i].list = 1 << UInt8(i) }
            // Only stores that ever held the catalog have one.
            if first == all { serve(world, copy) }
        }
        var position = 0
        while position < open.count, position < limit, violations == 0 {
            let world = open[position]
            position += 1
            for present in 1...all { start(world, present: present) }
        }
    }
}

struct QuorumModelTests {
    @Test(arguments: [1, 2]) func everyAllowedStartHasTheNewestCommittedState(_ stores: Int) {
        var explorer = Explorer(useEarlierLists: true, usePromises: true)
        explorer.explore(stores: stores, limit: .max)
        #expect(explorer.violations == 0)
        #expect(explorer.starts > 0)
    }

    @Test(arguments: [(3, 60), (4, 3)]) func theFirstHistoriesOfMoreStoresToo(_ stores: Int, _ limit: Int) {
        var explorer = Explorer(useEarlierLists: true, usePromises: true)
        explorer.explore(stores: stores, limit: limit)
        #expect(explorer.violations == 0)
        #expect(explorer.starts > 0)
    }

    @Test func halfMayGoOnAndMoreThanHalfMayStart() {
        let rule = StoreQuorum(lists: [ids(0b1111)])
        #expect(rule.allowsGoingOn(with: ids(0b0011)))
        #expect(!rule.allowsGoingOn(with: ids(0b0001)))
        #expect(!rule.allowsStart(with: ids(0b0011)))
        #expect(rule.allowsStart(with: ids(0b0111)))
        #expect(rule.allowsStart(with: ids(0b0011), accepted: ids(0b1000)))
        #expect(rule.missing(from: ids(0b0011)) == ids(0b1100))
    }

    /// Every half and every more-than-half of a list have a store in common.
    @Test func theTwoThresholdsIntersect() {
        for list in 1..<UInt8(16) {
            let rule = StoreQuorum(lists: [ids(list)])
            for left in subsets(list) where rule.allowsGoingOn(with: ids(left)) {
                for present in subsets(15) where rule.allowsStart(with: ids(present)) { #expect(left & present != 0) }
            }
        }
    }
}
