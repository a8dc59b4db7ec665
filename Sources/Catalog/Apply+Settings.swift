// Commands for cluster-wide settings and for where the catalog itself is kept.
import Model
import OrderedCollections

extension CatalogState {
    mutating func changeSettings(
        _ new: Settings, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let day: UInt64 = 86_400_000
        guard (1...7).contains(new.copies), (0...new.copies).contains(new.minCopies),
            (1...365 * day).contains(new.downOutIntervalMilliseconds), (100...day).contains(new.leaseMilliseconds)
        else {
            throw SheepError(
                .invalid, what: "The settings were not changed.",
                why: "Copies are 1 to 7, min-copies 0 to copies, the down-out-interval 1 ms to a year, the lease "
                    + "100 ms to a day.", remedy: "Choose values in these limits.")
        }
        if new == settings { return .done }
        if new.copies != settings.copies { try requireNoMove("the number of copies") }
        let isNewEpoch = new.copies != settings.copies || new.minCopies != settings.minCopies
        settings = new
        changes.append(.settings)
        if isNewEpoch {
            map.joinedZones = map.onRing.zoneCount
            retarget()
            finishMapChange(&changes)
        }
        return .done
    }

    mutating func setCatalogStores(_ ids: [StoreId]) throws(SheepError) -> CommandAnswer {
        let sorted = ids.sorted()
        let isDistinct = zip(sorted, sorted.dropFirst()).allSatisfy { $0 < $1 }
        guard !sorted.isEmpty, sorted.count <= ClusterMap.maximumStores, isDistinct else {
            throw SheepError(
                .invalid, what: "The list of stores that hold the catalog was not changed.",
                why: "It is empty, too long, or names a store twice.", remedy: "Name each store once.")
        }
        if !unconfirmedCatalogStores.contains(catalogStores) { unconfirmedCatalogStores.append(catalogStores) }
        catalogStores = sorted
        return .done
    }
}
