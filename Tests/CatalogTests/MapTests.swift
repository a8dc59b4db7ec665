// The cluster map: formation, failures, moves, and who may leave the in-sync set.
import Model
import OrderedCollections
import Placement
import Testing

@testable import Catalog

private let two = Generation(2)
private func session(_ boot: UInt64, _ incarnation: UInt64 = 1) -> StoreSession {
    StoreSession(bootId: ClusterId(high: boot, low: 0), incarnation: incarnation)
}

extension Machine {
    fileprivate func store(_ id: UInt64) -> StoreRecord { state.map.store(StoreId(id))! }
    fileprivate mutating func finishMove() {
        guard let to = state.map.toRing else { return }
        for member in to.members {
            apply(
                .inSync(
                    member.store, state.map.targetRanges(of: member.store), epoch: state.map.epoch))
        }
        apply(.dropOldRing(epoch: state.map.epoch))
    }
}

struct MapTests {
    @Test func storesOfANewClusterAreInSyncAtOnceAndLaterOnesAreNot() {
        var m = Machine(stores: 2)
        #expect(m.state.map.to == nil && m.store(1).inSync[copies: 7] == .full && m.store(2).inSync[copies: 7] == .full)
        #expect(m.state.map.joinedZones == 2 && m.state.map.minimumCopies(m.state.settings) == 1)
        #expect(m.refusal(.addStore(description(2))) == .exists)
        #expect(m.refusal(.addStore(description(3, weight: 0))) == .invalid)
        _ = m.volume("a")
        let epoch = m.state.map.epoch
        #expect(m.refusal(.addStore(description(3))) == nil)
        #expect(m.state.map.epoch == epoch.next && m.changes == [.map])
        #expect(m.store(3).inSync.isEmpty && m.state.map.toRing?.members.count == 3)
        #expect(m.state.map.targets(of: RangeIndex(0), copies: 7).count == 3)
        #expect(m.refusal(.addStore(description(4))) == .busy)
        #expect(m.refusal(.dropOldRing(epoch: epoch)) == .tryAgain)
        #expect(m.refusal(.dropOldRing(epoch: m.state.map.epoch)) == .busy)
        #expect(m.refusal(.inSync(StoreId(3), .full, epoch: epoch)) == .tryAgain)
        m.finishMove()
        #expect(m.state.map.to == nil && m.state.map.onRing.members.count == 3)
        #expect(m.store(3).inSync[copies: 7] == .full)
        // The third zone raises min-copies only now that its copies are complete.
        #expect(m.state.map.minimumCopies(m.state.settings) == 2)
    }

    @Test func aDownStoreLeavesSWhereEnoughOthersAreUp() {
        var m = Machine(stores: 2)
        _ = m.volume("a")
        m.apply(.storeDown(StoreId(1), reason: "test", wallClock: 1))
        #expect(m.store(1).status == .down && m.store(1).inSync[copies: 7].isEmpty)
        // The last one stays a member: nobody else has what it has.
        m.apply(.storeDown(StoreId(2), reason: "test", wallClock: 1))
        #expect(m.store(2).inSync[copies: 7] == .full)
        m.apply(.storeUp(StoreId(1), session: session(1, 2), wallClock: 2))
        #expect(m.store(1).inSync[copies: 7].isEmpty && m.store(2).inSync[copies: 7] == .full)
        #expect(m.state.map.insyncStores(RangeIndex(7), copies: 7) == [StoreId(2)])
        let epoch = m.state.map.epoch
        m.apply(.storeDown(StoreId(2), reason: "again", wallClock: 3))
        #expect(m.state.map.epoch == epoch)
        #expect(m.refusal(.storeDown(StoreId(9), reason: "", wallClock: 1)) == .noEntry)
    }

    @Test func aRebootOfTheOnlyHostBreaksAllSessionsAlike() {
        var m = Machine(stores: 2)
        _ = m.volume("a")
        m.apply(.storeUp(StoreId(1), session: session(99), wallClock: 1))
        #expect(m.store(1).inSync[copies: 7] == .full && m.store(1).sessionBrokeAt == m.state.map.epoch)
        m.apply(.storeUp(StoreId(1), session: session(99, 2), wallClock: 1))
        #expect(m.store(1).sessionBrokeAt != m.state.map.epoch)
        // The other never came back: who is up suffices.
        m.apply(.storeDown(StoreId(2), reason: "missing", wallClock: 1))
        #expect(m.store(2).inSync[copies: 7].isEmpty && m.store(1).inSync[copies: 7] == .full)
    }

    // MARK: sessions that broke, on several nodes

    /// Three nodes with a store each, and a volume.
    private func threeNodes() -> Machine {
        var m = Machine(stores: 3, perNode: 1)
        _ = m.volume("a")
        return m
    }
    private func current(_ m: Machine) -> [UInt64] {
        [1, 2, 3].filter { m.store($0).current(copies: 3) == .full }
    }
    private func inSync(_ m: Machine) -> [UInt64] { [1, 2, 3].filter { m.store($0).inSync[copies: 3] == .full } }

    @Test func aMemberWhoseSessionBrokeLeavesSOnceAnotherIsSeenThatDidNot() {
        var m = threeNodes()
        m.apply(.storeUp(StoreId(1), session: session(99), wallClock: 1))
        // The map says that the others are up; nobody has seen them yet.
        #expect(inSync(m) == [1, 2, 3] && current(m) == [2, 3])
        #expect(!m.state.map.isMember(StoreId(1), RangeIndex(5), copies: 3))
        #expect(m.state.map.insyncStores(RangeIndex(5), copies: 3).count == 3)
        m.apply(.sessionsConfirmed([StoreId(1)]))
        #expect(m.changes.isEmpty && inSync(m) == [1, 2, 3])
        let epoch = m.state.map.epoch
        m.apply(.sessionsConfirmed([StoreId(1), StoreId(3)]))
        #expect(inSync(m) == [2, 3] && current(m) == [2, 3])
        #expect(m.state.map.epoch == epoch.next && m.changes == [.map])
        // Where volumes have two copies, 2 may be the only other member.
        m.apply(.sessionsConfirmed([StoreId(2)]))
        #expect(m.store(1).broken == nil)
        // Recovery brings it back, and then it counts as before.
        m.apply(.inSync(StoreId(1), m.state.map.targetRanges(of: StoreId(1)), epoch: m.state.map.epoch))
        #expect(current(m) == [1, 2, 3])
        #expect(m.refusal(.sessionsConfirmed([StoreId(9)])) == .noEntry)
    }

    ///   all lose power, and come back one after the other, while the map has all of them up
    @Test func afterAPowerLossOfAllEveryMemberIsCurrentWhenTheLastIsBack() {
        for order in [[1, 2, 3], [3, 1, 2], [2, 3, 1]] as [[UInt64]] {
            var m = threeNodes()
            for (position, id) in order.enumerated() {
                m.apply(.storeUp(StoreId(id), session: session(90 + id), wallClock: 1))
                // Those that are back are all that is seen.
                m.apply(.sessionsConfirmed(order.prefix(position + 1).map { StoreId($0) }))
                #expect(inSync(m) == [1, 2, 3])
                #expect(current(m) == (position == 2 ? [1, 2, 3] : order.dropFirst(position + 1).sorted()))
            }
            #expect(m.state.map.stores.allSatisfy { $0.broken == nil })
        }
    }

    ///   1 and 2 broke, 3 is missing: nobody is current, and nobody leaves, until it is known what 3 has
    @Test func whileOneIsMissingAndTheRestBrokeTheRangeWaits() {
        for hasBroken in [false, true] {
            var m = threeNodes()
            m.apply(.storeUp(StoreId(1), session: session(91), wallClock: 1))
            m.apply(.storeUp(StoreId(2), session: session(92), wallClock: 1))
            m.apply(.storeDown(StoreId(3), reason: "missing", wallClock: 1))
            m.apply(.sessionsConfirmed([StoreId(1), StoreId(2)]))
            #expect(inSync(m) == [1, 2, 3])
            #expect(m.store(1).current(copies: 3).isEmpty && m.store(2).current(copies: 3).isEmpty)
            #expect((0..<8).allSatisfy { !m.state.map.isMember(StoreId(1), RangeIndex($0), copies: 3) })
            // It stays so in an image.
            #expect((try? CatalogState(decoding: m.state.encoded()))?.map.stores == m.state.map.stores)
            let same = StoreSession(bootId: boot, incarnation: 1)
            m.apply(.storeUp(StoreId(3), session: hasBroken ? session(93) : same, wallClock: 2))
            if !hasBroken {
                m.apply(.sessionsConfirmed([StoreId(1), StoreId(2), StoreId(3)]))
                #expect(inSync(m) == [3])
            } else {
                #expect(inSync(m) == [1, 2, 3])
            }
            #expect(current(m) == inSync(m))
        }
    }

    @Test func anAcceptedLossMakesThoseThatBrokeCurrent() {
        var m = threeNodes()
        m.apply(.storeUp(StoreId(1), session: session(91), wallClock: 1))
        m.apply(.storeUp(StoreId(2), session: session(92), wallClock: 1))
        m.apply(.storeDown(StoreId(3), reason: "missing", wallClock: 1))
        #expect(m.refusal(.acceptLoss([StoreId(3)])) == nil)
        #expect(inSync(m) == [1, 2] && current(m) == [1, 2])
    }

    @Test func oneThatIsDownDoesNotLeaveSToThoseThatBroke() {
        var m = threeNodes()
        m.apply(.storeUp(StoreId(1), session: session(91), wallClock: 1))
        m.apply(.storeUp(StoreId(2), session: session(92), wallClock: 1))
        m.apply(.storeDown(StoreId(3), reason: "missing", wallClock: 1))
        #expect(m.store(3).inSync[copies: 3] == .full)
        // Else it would: two of three are enough.
        var other = threeNodes()
        other.apply(.storeDown(StoreId(3), reason: "missing", wallClock: 1))
        #expect(other.store(3).inSync[copies: 3].isEmpty)
    }

    @Test func aLoneMemberThatBrokeIsCurrentAtOnce() {
        var m = threeNodes()
        m.apply(.storeDown(StoreId(1), reason: "r", wallClock: 1))
        // Below min-copies: 2 and 3 stay members, until 1 is back and follows.
        m.apply(.acceptLoss([StoreId(1)]))
        m.apply(.storeDown(StoreId(2), reason: "r", wallClock: 1))
        m.apply(.acceptLoss([StoreId(2)]))
        #expect(inSync(m) == [3])
        m.apply(.storeUp(StoreId(3), session: session(99), wallClock: 4))
        #expect(current(m) == [3] && m.store(3).broken == nil)
    }

    /// Two stores of one node are members, and none of another: they broke together, also the one that is missing.
    @Test func storesOfOneNodeBreakTogether() {
        var m = Machine(stores: 3, copies: 2, perNode: 2)
        _ = m.volume("a")
        m.apply(.storeDown(StoreId(3), reason: "r", wallClock: 1))
        m.apply(.storeUp(StoreId(1), session: session(99), wallClock: 1))
        m.apply(.storeDown(StoreId(2), reason: "missing", wallClock: 1))
        var within = m.store(1).inSync[copies: 2]
        within.subtract(m.store(3).inSync[copies: 2])
        #expect(!within.isEmpty && m.store(1).current(copies: 2).isSuperset(of: within))
    }

    /// A target of the new ring that is not current does not end a move.
    @Test func aMoveDoesNotEndOnThoseThatBroke() {
        var m = Machine(stores: 2, copies: 2, perNode: 1)
        _ = m.volume("a")
        m.apply(.addStore(description(3, node: NodeId(3))))
        for id in [1, 2, 3] as [UInt64] {
            m.apply(.inSync(StoreId(id), m.state.map.targetRanges(of: StoreId(id)), epoch: m.state.map.epoch))
        }
        #expect(m.state.map.moveIsComplete)
        m.apply(.storeUp(StoreId(3), session: session(99), wallClock: 1))
        #expect(!m.state.map.moveIsComplete)
        #expect(m.refusal(.dropOldRing(epoch: m.state.map.epoch)) == .busy)
        m.apply(.sessionsConfirmed([StoreId(1), StoreId(2)]))
        #expect(m.store(3).inSync.isEmpty && !m.state.map.moveIsComplete)
        m.apply(.inSync(StoreId(3), m.state.map.targetRanges(of: StoreId(3)), epoch: m.state.map.epoch))
        #expect(m.state.map.moveIsComplete)
    }

    @Test func anOutStoreIsReplacedByARingWithoutItAndComesBack() {
        var m = Machine(stores: 2)
        _ = m.volume("a")
        m.apply(.storeDown(StoreId(2), reason: "x", wallClock: 1))
        m.apply(.storeOut(StoreId(2), reason: "x", wallClock: 1))
        #expect(m.state.map.toRing?.members.map(\.store) == [StoreId(1)])
        #expect(m.refusal(.storeOut(StoreId(1), reason: "", wallClock: 1)) == .busy)
        #expect(m.refusal(.removeStore(StoreId(1))) == .busy)
        #expect(m.refusal(.setWeight(StoreId(1), 0)) == .busy)
        m.apply(.storeUp(StoreId(2), session: session(1, 2), wallClock: 2))
        #expect(m.state.map.toRing == m.state.map.onRing)
        m.finishMove()
        #expect(m.state.map.to == nil && m.store(2).inSync[copies: 7] == .full)
        // Only a command lowers min-copies' zones.
        #expect(m.state.map.joinedZones == 2)
    }

    @Test func aRemovedStoreIsDrainedThenForgotten() {
        var m = Machine(stores: 2)
        let a = m.volume("a")
        #expect(m.refusal(.removeStore(StoreId(2))) == nil)
        #expect(m.store(2).isLeaving && m.store(2).status == .up)
        m.apply(.removeVolume(a, recursive: false))
        m.finishMove()
        #expect(m.state.map.store(StoreId(2)) == nil)
        #expect(m.state.deletedVolumes[a]?.stores == [StoreId(1)])
        #expect(m.state.map.joinedZones == 1)
    }

    @Test func aDeadStoreIsReplaced() {
        var m = Machine(stores: 2)
        _ = m.volume("a")
        m.apply(.storeDown(StoreId(2), reason: "x", wallClock: 1))
        #expect(m.refusal(.replaceStore(StoreId(9), by: description(3))) == .noEntry)
        #expect(m.refusal(.replaceStore(StoreId(2), by: description(1))) == .exists)
        #expect(m.refusal(.replaceStore(StoreId(2), by: description(3, zone: 77))) == nil)
        #expect(m.store(3).zone == 2 && m.store(2).status == .out)
        #expect(m.state.map.toRing?.members.map(\.store) == [StoreId(1), StoreId(3)])
        m.finishMove()
        #expect(m.state.map.store(StoreId(2)) == nil && m.store(3).inSync[copies: 7] == .full)
    }

    @Test func aMoveIsReplacedWhenATargetFailsOrByLeave() {
        var m = Machine(stores: 1)
        _ = m.volume("a")
        m.apply(.addStore(description(2)))
        m.apply(.allowMoveReplacement(epoch: m.state.map.epoch))
        #expect(m.refusal(.setWeight(StoreId(2), 1 << 41)) == nil)
        #expect(m.refusal(.setWeight(StoreId(2), 1 << 42)) == .busy)
        #expect(m.refusal(.setWeight(StoreId(2), 1 << 40)) == nil)
        m.apply(.inSync(StoreId(2), m.state.map.targetRanges(of: StoreId(2)), epoch: m.state.map.epoch))
        m.apply(.storeDown(StoreId(1), reason: "x", wallClock: 1))
        // What the move made complete stays a target, though the new ring may not say so.
        m.apply(.addStore(description(3)))
        #expect(m.state.map.targets(of: RangeIndex(3), copies: 7).contains(StoreId(2)))
    }

    /// The first of two targets is the only one that has anything of volumes with one copy.
    @Test func whatTheSecondTargetHasSaysNothingAboutVolumesWithOneCopy() throws {
        var m = Machine(stores: 2, copies: 2)
        _ = m.volume("a")
        let primary = m.state.map.onRanges[0][0]
        #expect(m.store(1).inSync[copies: 1] == primary && m.store(1).inSync[copies: 2] == .full)
        m.apply(.storeDown(StoreId(1), reason: "", wallClock: 1))
        // Volumes with two copies go on with store 2; of those with one, store 1 still has the only ones.
        #expect(m.store(1).inSync[copies: 2].isEmpty && m.store(1).inSync[copies: 1] == primary)
        #expect(m.state.inconsistency() == nil)
        m.apply(.storeOut(StoreId(1), reason: "", wallClock: 2))
        // Store 2 becomes the first target of everything, but is complete only when it was looked at.
        let epoch = m.state.map.epoch
        #expect(!m.state.map.moveIsComplete && m.store(2).inSync[copies: 2] == .full)
        #expect(m.state.map.missingRanges(of: StoreId(2)) == primary)
        m.apply(.inSync(StoreId(2), primary, epoch: epoch))
        #expect(m.state.map.moveIsComplete && m.store(2).inSync[copies: 1] == .full)
    }
    @Test func moreCopiesOfAVolumeCountOnlyWhenTheyWereReached() throws {
        var m = Machine(stores: 2, copies: 2)
        let id = m.volume("a")
        m.apply(.setVolumeCopies(id, copies: 1))
        m.apply(.setVolumeCopies(id, copies: 2))
        #expect(m.state.volumes[id]?.copies == 1 && m.state.volumes[id]?.targetCopies == 2)
        let old = m.state.map.epoch
        m.apply(.setWeight(StoreId(2), 5 << 30))
        #expect(m.refusal(.copiesReached(id, copies: 2, epoch: old)) == .tryAgain)
        m.apply(.copiesReached(id, copies: 2, epoch: m.state.map.epoch))
        #expect(m.state.volumes[id]?.copies == 2 && m.state.volumes[id]?.wantedCopies == nil)
        m.apply(.setVolumeCopies(id, copies: 1))
        #expect(m.state.volumes[id]?.copies == 1 && m.state.volumes[id]?.wantedCopies == nil)
    }

    @Test func lossIsAcceptedOnlyForStoresThatAreGone() {
        var m = Machine(stores: 2)
        _ = m.volume("a")
        #expect(m.refusal(.acceptLoss([StoreId(1)])) == .busy)
        m.apply(.storeDown(StoreId(1), reason: "x", wallClock: 1))
        m.apply(.storeDown(StoreId(2), reason: "x", wallClock: 1))
        #expect(m.refusal(.acceptLoss([StoreId(1), StoreId(2)])) == .busy)
        m.apply(.storeUp(StoreId(1), session: session(1, 2), wallClock: 2))
        #expect(m.state.map.insyncStores(RangeIndex(0), copies: 7) == [StoreId(2)])
        #expect(m.refusal(.acceptLoss([StoreId(2)])) == nil)
        #expect(m.state.map.insyncStores(RangeIndex(0), copies: 7) == [StoreId(1)])
    }

    @Test func settingsAreChecked() {
        var m = Machine(stores: 1)
        _ = m.volume("a")
        var settings = m.state.settings
        settings.copies = 8
        #expect(m.refusal(.changeSettings(settings)) == .invalid)
        settings.copies = 2
        settings.minCopies = 3
        #expect(m.refusal(.changeSettings(settings)) == .invalid)
        settings.minCopies = 2
        #expect(m.refusal(.changeSettings(settings)) == nil)
        #expect(m.changes == [.settings, .map] && m.state.map.toRing?.copies == 2)
        settings.leaseMilliseconds = 7000
        #expect(m.refusal(.changeSettings(settings)) == nil)
        #expect(m.changes == [.settings])
        settings.copies = 3
        #expect(m.refusal(.changeSettings(settings)) == .busy)
        #expect(m.refusal(.setCatalogStores([])) == .invalid)
    }
}
