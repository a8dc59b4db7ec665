// The ring's promises: distinct zones, attainable shares, little movement, and nothing but the members decides.
import Model
import Testing

@testable import Placement

private let terabyte: UInt64 = 1_000_000_000_000

/// One store in a zone of its own for each weight.
private func members(_ weights: [UInt64]) -> [RingMember] {
    weights.enumerated().map { i, weight in
        RingMember(store: StoreId(UInt64(i + 1) &* 0x9e37_79b9_7f4a_7c15), weight: weight * terabyte, zone: UInt64(i))
    }
}
private func ranges() -> some Sequence<RangeIndex> { (0..<rangeCount).lazy.map { RangeIndex(UInt16($0)) } }

/// How many copies are in a new place, and how many the change of the attainable shares needs.
private func movement(_ old: Ring, _ new: Ring) -> (moved: Int, minimum: Double) {
    var moved = 0
    for range in ranges() {
        for copy in 0..<new.effectiveCopies where !old.isTarget(new.target(of: range, copy: copy), of: range) {
            moved += 1
        }
    }
    var minimum = 0.0
    for member in new.members {
        minimum += max(0, new.attainableShare(of: member.store) - old.attainableShare(of: member.store))
    }
    return (moved, minimum * Double(rangeCount * new.effectiveCopies))
}

/// Every store within 3 % and four standard deviations of its attainable share.
private func expectBalance(_ ring: Ring, sourceLocation: SourceLocation = #_sourceLocation) {
    for member in ring.members {
        let wanted = ring.attainableShare(of: member.store)
        let probability = wanted * Double(ring.effectiveCopies)
        let noise = 4 * (max(0, probability * (1 - probability)) / Double(rangeCount)).squareRoot()
        let allowed = (0.03 * probability + noise) / Double(ring.effectiveCopies)
        #expect(
            abs(ring.share(of: member.store) - wanted) <= allowed, "weight \(member.weight)",
            sourceLocation: sourceLocation)
    }
}

@Suite struct RingTests {
    @Test func copiesAreInDistinctZones() {
        // Ten stores in four zones of very unequal size.
        let zones: [UInt64] = [1, 1, 1, 1, 1, 2, 2, 3, 3, 4]
        let members = zones.enumerated().map { i, zone in
            RingMember(store: StoreId(UInt64(100 + i)), weight: UInt64(1 + i % 3) * terabyte, zone: zone)
        }
        let ring = Ring(members: members, copies: 3)
        #expect(ring.effectiveCopies == 3)
        for range in ranges() {
            let targets = ring.targets(of: range)
            let used = Set(targets.map { target in members.first { $0.store == target }?.zone })
            #expect(targets.count == 3 && used.count == 3)
        }
        expectBalance(ring)
    }

    @Test(arguments: [
        [4, 4, 4, 4, 4], [1, 2, 4, 8, 1, 2, 4, 8, 1, 2], [1, 1, 1, 9], [1, 1, 16, 3, 5], [1, 1, 1, 50, 60],
    ])
    func storesAreFilledToTheirAttainableShare(weights: [UInt64]) {
        expectBalance(Ring(members: members(weights), copies: 3))
        expectBalance(Ring(members: members(weights), copies: 2))
        expectBalance(Ring(members: members(weights), copies: 1))
    }

    @Test func aHundredStoresAreFilledToTheirAttainableShare() {
        expectBalance(Ring(members: members((0..<100).map { [1, 2, 4, 8][$0 % 4] }), copies: 3))
    }

    @Test func aZoneHeavierThanOneCopyIsCapped() {
        let stores = members([100, 1, 1, 2])
        let ring = Ring(members: stores, copies: 3)
        #expect(ring.share(of: stores[0].store) == 1.0 / 3)
        #expect(ring.ranges(of: stores[0].store) == RangeSet.full)
        // The rest shares two copies 1 : 1 : 2, where the last is capped in its turn.
        #expect(ring.attainableShare(of: stores[1].store) == 0.5 / 3)
        #expect(ring.attainableShare(of: stores[3].store) == 1.0 / 3)
    }

    @Test func aChangeBetweenEqualStoresMovesTheMinimum() {
        for count in [4, 10, 40] {
            let old = Ring(members: members(Array(repeating: 4, count: count)), copies: 3)
            let added = Ring(members: members(Array(repeating: 4, count: count + 1)), copies: 3)
            let adding = movement(old, added)
            // Noise of the new store's own draw, three standard deviations, comes on top of the 5 %.
            #expect(Double(adding.moved) <= adding.minimum * 1.05 + 3 * adding.minimum.squareRoot())
            let removing = movement(added, old)
            #expect(Double(removing.moved) <= removing.minimum * 1.05 + 3 * removing.minimum.squareRoot())
        }
    }

    @Test func aChangeBetweenUnequalStoresMovesLittleMore() {
        let weights = (0..<40).map { UInt64([1, 2, 4, 8][$0 % 4]) }
        let old = Ring(members: members(weights), copies: 3)
        let added = movement(old, Ring(members: members(weights + [4]), copies: 3))
        #expect(Double(added.moved) <= added.minimum * 1.05 + 3 * added.minimum.squareRoot())
        let reweighted = movement(old, Ring(members: members([2] + weights.dropFirst()), copies: 3))
        #expect(Double(reweighted.moved) <= reweighted.minimum * 1.05 + 3 * reweighted.minimum.squareRoot())
    }

    @Test func aNewStoreTakesOnlyForItself() {
        let old = Ring(members: members([4, 4, 4, 4]), copies: 3)
        let newMembers = members([4, 4, 4, 4, 4])
        let new = Ring(members: newMembers, copies: 3)
        for range in ranges() {
            for target in new.targets(of: range) where target != newMembers[4].store {
                #expect(old.isTarget(target, of: range))
            }
        }
    }

    @Test func aStoreAddedToAZoneTakesFromItsNeighboursAndTheOtherZones() {
        var stores = (0..<9).map {
            RingMember(store: StoreId(UInt64($0 + 1)), weight: terabyte, zone: UInt64($0 / 3))
        }
        let old = Ring(members: stores, copies: 2)
        stores.append(RingMember(store: StoreId(77), weight: terabyte, zone: 0))
        let new = Ring(members: stores, copies: 2)
        expectBalance(new)
        let change = movement(old, new)
        #expect(Double(change.moved) <= change.minimum * 1.25)
    }

    @Test func theOrderOfTheMembersDoesNotMatter() {
        let stores = members([1, 2, 4, 8, 3, 3, 7])
        let ring = Ring(members: stores, copies: 3)
        let reversed = Ring(members: stores.reversed(), copies: 3)
        for range in ranges() { #expect(ring.targets(of: range) == reversed.targets(of: range)) }
    }

    /// A ring that came out differently in another build would send data astray: these values may never change
    /// without a new version of the placement in the catalog's format.
    @Test func theRingIsTheSameInEveryBuild() {
        let stores = (0..<12).map { (i: UInt64) in
            RingMember(store: StoreId(1000 + i), weight: (1 + i % 5) * terabyte, zone: i % 6)
        }
        let ring = Ring(members: stores, copies: 3)
        var digest: UInt64 = 0
        for range in ranges() {
            for target in ring.targets(of: range) { digest = mixed(digest &+ target.rawValue) }
        }
        #expect(digest == 11_456_016_424_528_022_585)
    }

    @Test func fewerZonesThanCopiesGiveFewerCopies() {
        let ring = Ring(members: members([1, 5]), copies: 3)
        #expect(ring.copies == 3)
        #expect(ring.effectiveCopies == 2)
        for range in ranges() { #expect(Set(ring.targets(of: range)).count == 2) }
    }

    @Test func threeStoresHoldEveryRange() {
        let stores = members([1, 2, 40])
        let ring = Ring(members: stores, copies: 3)
        for store in stores { #expect(ring.ranges(of: store.store) == RangeSet.full) }
    }

    @Test func aDrainedStoreHoldsNothing() {
        let stores = members([4, 0, 4, 4])
        let ring = Ring(members: stores, copies: 3)
        #expect(ring.effectiveCopies == 3)
        #expect(ring.share(of: stores[1].store) == 0)
        #expect(ring.ranges(of: stores[1].store).isEmpty)
        #expect(Ring(members: members([4, 0, 0]), copies: 3).effectiveCopies == 1)
    }

    @Test func oneStoreHoldsAll() {
        let stores = members([4])
        let ring = Ring(members: stores, copies: 3)
        #expect(ring.effectiveCopies == 1)
        #expect(ring.targets(of: RangeIndex(65_535)) == [stores[0].store])
        #expect(ring.share(of: stores[0].store) == 1)
    }

    @Test func withoutStoresThereAreNoTargets() {
        for ring in [Ring(members: [], copies: 3), Ring(members: members([0, 0]), copies: 3)] {
            #expect(ring.effectiveCopies == 0)
            #expect(ring.targets(of: RangeIndex(7)).isEmpty)
            #expect(ring.share(of: StoreId(1)) == 0)
        }
    }

    @Test func sharesAndRangesAgree() {
        let stores = members([1, 2, 4, 8, 3])
        let ring = Ring(members: stores, copies: 2)
        var total = 0
        for store in stores {
            let count = ring.ranges(of: store.store).count
            #expect(ring.share(of: store.store) == Double(count) / Double(2 * rangeCount))
            total += count
        }
        #expect(total == 2 * rangeCount)
    }

    @Test func thePrimariesAreSpread() {
        let stores = members(Array(repeating: 4, count: 3))
        let ring = Ring(members: stores, copies: 3)
        for store in stores {
            let primaries = ranges().reduce(0) { $0 + (ring.target(of: $1, copy: 0) == store.store ? 1 : 0) }
            #expect(abs(Double(primaries) / Double(rangeCount) - 1.0 / 3) < 0.01)
        }
    }
}

@Suite struct DeterministicMathTests {
    @Test func logarithmAndExponentialAreInverse() {
        for i in 1..<2000 {
            let x = Double(i) / 100
            #expect(abs(naturalLogarithm(negativeExponential(x)) + x) < 1e-13 * max(1, x))
        }
        #expect(naturalLogarithm(1) == 0)
        #expect(abs(naturalLogarithm(2) - 0.6931471805599453) < 1e-16)
        #expect(negativeExponential(0) == 1)
        #expect(negativeExponential(1000) == 0)
    }
}
