// Which stores must be there for the catalog to go on or to start. Pure decisions, checked exhaustively by a model test.
//
// One process holds the locks of all stores of the host, so a list of stores may shrink further at run time than a
// vote among strangers could: an entry is committed when every store of the list has synced it, and when stores fail,
// the list becomes what is left, if that is at least HALF of it. At start the stores that are present must be MORE than
// half of the list in the newest catalog among them. Any half and any more-than-half of a list have a store in common,
// so a start either finds the newest committed catalog or is refused: one bad disk is harmless, and an old disk alone
// is never believed.
//
// Three details make that hold through crashes at any moment:
// - A change of the list may have reached some stores only. As long as no entry follows it, earlier lists (the state
//   keeps them as unconfirmed) count too: both rules must hold for each of them. Nothing is appended behind a change
//   of the list before that is committed.
// - Entries that reached some stores only may be passed over by a start that does not see these stores, so the newest is
//   told by (view, index), view first. Each start has a view of its own:
// - Before a start writes anything under its new view, it makes the number durable (a promise) on the stores present,
//   and the start rule must hold for those that promised. A later start sees one of them, and takes a higher number.
import Model

/// How new a store's catalog is. Compared by view first.
package struct CatalogPosition: Hashable, Comparable, Sendable {
    package var view: UInt64
    package var index: UInt64
    package init(view: UInt64, index: UInt64) {
        self.view = view
        self.index = index
    }
    package static func < (a: Self, b: Self) -> Bool { (a.view, a.index) < (b.view, b.index) }
}

/// The lists that have a say: the newest, and those it may not have replaced yet.
package struct StoreQuorum: Hashable, Sendable {
    package var lists: [[StoreId]]

    package init(lists: [[StoreId]]) { self.lists = lists }
    init(_ state: some LoggedState) { lists = [state.catalogStores] + state.unconfirmedCatalogStores }

    /// Whether the catalog may go on with these stores: at least half of each list. Stores that an administrator
    /// `accepted` as missing do not count, unless they are there.
    package func allowsGoingOn(with stores: [StoreId], accepted: [StoreId] = []) -> Bool {
        !stores.isEmpty
            && shares(of: stores, accepted).allSatisfy { present, counted in 2 * present >= counted }
    }
    /// Whether a start may believe these stores: more than half of each list.
    package func allowsStart(with stores: [StoreId], accepted: [StoreId] = []) -> Bool {
        !stores.isEmpty
            && shares(of: stores, accepted).allSatisfy { present, counted in 2 * present > counted || counted == 0 }
    }
    private func shares(of stores: [StoreId], _ accepted: [StoreId]) -> [(present: Int, counted: Int)] {
        lists.map { list in
            let counted = list.filter { !accepted.contains($0) || stores.contains($0) }
            return (counted.count { stores.contains($0) }, counted.count)
        }
    }
    /// Stores of the lists that are not among these, ascending.
    package func missing(from stores: [StoreId]) -> [StoreId] {
        var missing: [StoreId] = []
        for list in lists {
            for store in list where !stores.contains(store) && !missing.contains(store) { missing.append(store) }
        }
        return missing.sorted()
    }
}
