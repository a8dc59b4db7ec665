// Snapshots, rollback and clones: what each closes, hides, keeps and lets go.
import Model
import OrderedCollections
import Testing

@testable import Catalog

private func generations(_ range: ClosedRange<UInt32>) -> ClosedRange<Generation> {
    Generation(range.lowerBound)...Generation(range.upperBound)
}

struct SnapshotTests {
    @Test func aSnapshotClosesTheGeneration() {
        var m = Machine()
        let a = m.volume("a.img")
        #expect(m.snapshot(a, "t") == Generation(1))
        #expect(m.state.volumes[a]?.generation == Generation(2))
        #expect(m.changes.contains(.snapshotCreated(a, Generation(1))) && m.changes.contains(.name(.root, "a@t.img")))
        func take(_ tag: String, _ term: Term = .none, replace: Bool = false) -> CatalogCommand {
            .snapshot(
                members: [SnapshotRequest(volume: a, term: term, replaceExisting: replace)], tag: tag, group: nil,
                wallClock: 1)
        }
        #expect(m.refusal(take("t")) == .exists)
        #expect(m.refusal(take("u", Term(1))) == .tryAgain)
        #expect(m.refusal(take("a b")) == .invalid)
        #expect(m.refusal(.snapshot(members: [], tag: "u", group: nil, wallClock: 1)) == .invalid)
        #expect(m.refusal(take("t", replace: true)) == nil)
        #expect(m.state.volumes[a]?.snapshot("t")?.generation == Generation(2))
        #expect(m.state.volumes[a]?.snapshots.count == 1)
        _ = m.clone(a, Generation(2), "c")
        #expect(m.refusal(take("t", replace: true)) == .busy)
        m.state.volumes[a]?.generation = Generation(VolumeRecord.maximumGeneration)
        #expect(m.refusal(take("z")) == .overflow)
    }

    @Test func aGroupIsOneCommand() {
        var m = Machine()
        let d = m.directory("d")
        let a = m.volume("a", in: d)
        let b = m.volume("b", in: d)
        let other = m.volume("c")
        func take(_ volumes: [VolumeId], _ term: Term = .none) -> CatalogCommand {
            .snapshot(
                members: volumes.map { SnapshotRequest(volume: $0, term: $0 == b ? term : .none) }, tag: "t", group: d,
                wallClock: 1)
        }
        #expect(m.refusal(take([a, other])) == .invalid)
        #expect(m.refusal(take([a, a])) == .invalid)
        #expect(m.refusal(take([a, b], Term(3))) == .tryAgain)
        #expect(m.state.volumes[a]?.snapshots.isEmpty == true)
        #expect(m.refusal(take([a, b])) == nil)
        #expect(m.refusal(take([])) == .exists)
        m.apply(.renameSnapshot(volume: b, from: "t", to: "kept", replacing: false))
        m.apply(.removeSnapshot(volume: a, tag: "t"))
        #expect(m.state.directories[d]?.groupSnapshots["t"]?.members.count == 1)
        m.apply(.renameVolume(a, directory: .root, name: "a", replacing: false))
        m.apply(.renameVolume(b, directory: .root, name: "b", replacing: false))
        #expect(m.refusal(.removeDirectory(d)) == .notEmpty)
        #expect(m.refusal(.removeGroupSnapshot(directory: d, tag: "t")) == nil)
        #expect(m.refusal(.removeGroupSnapshot(directory: d, tag: "t")) == .noEntry)
        #expect(m.state.volumes[b]?.snapshots.isEmpty == true)
        #expect(m.refusal(.removeDirectory(d)) == nil)
    }

    @Test func tagsAreRenamed() {
        var m = Machine()
        let a = m.volume("a")
        m.snapshot(a, "x")
        m.snapshot(a, "y")
        _ = m.clone(a, Generation(2), "c")
        #expect(m.refusal(.renameSnapshot(volume: a, from: "x", to: "y", replacing: false)) == .exists)
        #expect(m.refusal(.renameSnapshot(volume: a, from: "x", to: "y", replacing: true)) == .busy)
        #expect(m.refusal(.renameSnapshot(volume: a, from: "z", to: "w", replacing: true)) == .noEntry)
        #expect(m.refusal(.renameSnapshot(volume: a, from: "x", to: "#", replacing: true)) == .invalid)
        #expect(m.refusal(.renameSnapshot(volume: a, from: "y", to: "x", replacing: true)) == nil)
        #expect(m.state.volumes[a]?.snapshots.map(\.generation) == [Generation(2)])
    }

    @Test func aRollbackHidesWhatCameAfter() {
        var m = Machine()
        let a = m.volume("a", size: 100)
        m.snapshot(a, "one")
        m.apply(.resize(a, size: 50))
        m.snapshot(a, "two")
        #expect(m.refusal(.rollback(volume: a, term: Term(9), tag: "one")) == .tryAgain)
        #expect(m.refusal(.rollback(volume: a, term: .none, tag: "none")) == .noEntry)
        m.apply(.rollback(volume: a, term: .none, tag: "one"))
        let volume = m.state.volumes[a]!
        #expect(volume.generation == Generation(4) && volume.hidden == [generations(2...3)])
        #expect(volume.size == 100 && volume.trimFrom == nil)
        m.snapshot(a, "three")
        m.apply(.rollback(volume: a, term: .none, tag: "two"))
        #expect(m.state.volumes[a]?.hidden == [generations(3...5)])
        // What was cut off when "two" was made is not zeros in its layers yet.
        #expect(m.state.volumes[a]?.trimFrom == 50)
        m.apply(.rollback(volume: a, term: .none, tag: "three"))
        #expect(m.state.volumes[a]?.hidden == [generations(2...3), generations(5...6)])
        #expect(m.state.reachableViews(of: a).map(\.top).map(\.rawValue) == [7, 1, 2, 4])
    }

    @Test func mergingNeverCrossesAView() {
        var m = Machine()
        let a = m.volume("a")
        m.snapshot(a, "one")
        m.snapshot(a, "two")
        m.apply(.rollback(volume: a, term: .none, tag: "one"))
        // Views: current 4 without 2...3; snapshots 1 and 2.
        var views = m.state.reachableViews(of: a)
        #expect(!views.allowMerge(Generation(1), into: Generation(2)))
        #expect(!views.reach(Generation(3)) && views.reach(Generation(2)))
        m.apply(.removeSnapshot(volume: a, tag: "one"))
        m.apply(.removeSnapshot(volume: a, tag: "two"))
        views = m.state.reachableViews(of: a)
        // No top is in between, but the current view hides 2.
        #expect(!views.allowMerge(Generation(1), into: Generation(2)))
        #expect(views.allowMerge(Generation(1), into: Generation(4)))
        #expect(!views.reach(Generation(2)))
    }

    @Test func aSnapshotWithClonesIsHiddenUntilTheLastGoes() {
        var m = Machine(stores: 1)
        let a = m.volume("a.img", size: 100)
        m.snapshot(a, "t")
        let c = m.clone(a, Generation(1), "c")
        let d = m.clone(a, Generation(1), "d")
        #expect(m.state.volumes[c]?.size == 100 && m.state.volumes[c]?.parent?.visibleBytes == 100)
        #expect(m.refusal(.removeSnapshot(volume: a, tag: "t")) == nil)
        #expect(m.refusal(.removeSnapshot(volume: a, tag: "t")) == .noEntry)
        #expect(m.state.volumes[a]?.snapshots.first?.isHidden == true)
        m.snapshot(a, "t")
        #expect(
            m.refusal(
                .clone(
                    source: SnapshotReference(volume: a, generation: Generation(1)), directory: .root, name: "e",
                    copies: nil, attributes: someAttributes)) == .noEntry)
        m.apply(.removeVolume(c, recursive: false))
        #expect(m.state.volumes[a]?.snapshot(Generation(1))?.cloneCount == 1)
        m.apply(.flattened(volume: d, term: .none))
        #expect(m.state.volumes[a]?.snapshot(Generation(1)) == nil)
        #expect(m.state.volumes[d]?.parent == nil)
        #expect(m.changes.contains(.snapshotRemoved(a, Generation(1))))
    }

    @Test func aRemovedVolumeIsKeptForItsClones() {
        var m = Machine(stores: 1)
        let a = m.volume("a")
        m.snapshot(a, "s")
        m.snapshot(a, "t")
        let b = m.clone(a, Generation(2), "b")
        m.snapshot(b, "u")
        let c = m.clone(b, Generation(1), "c")
        #expect(m.refusal(.removeVolume(a, recursive: true)) == nil)
        #expect(m.refusal(.removeVolume(b, recursive: true)) == nil)
        #expect(m.state.entry(.root, "a") == nil && m.state.visibleVolume(a) == nil)
        #expect(m.state.reachableViews(of: a).map(\.top) == [Generation(2)])
        #expect(m.refusal(.resize(a, size: 1)) == .noEntry)
        #expect(m.volume("a") != a)
        m.apply(.removeVolume(c, recursive: false))
        #expect(m.state.volumes[a] == nil && m.state.volumes[b] == nil)
        #expect(m.state.deletedVolumes.keys.map(\.rawValue).sorted() == [a, b, c].map(\.rawValue).sorted())
    }

    @Test func aLongFamilyGoesWithoutTrapping() {
        var m = CatalogState(clusterId: boot, settings: Settings(), rootAttributes: someAttributes)
        func volume(_ answer: CommandAnswer) -> VolumeId {
            if case .volume(let id) = answer { id } else { VolumeId(0) }
        }
        var last = volume(
            m.apply(
                .createVolume(directory: .root, name: "0", size: 1, copies: nil, attributes: someAttributes),
                request: nil
            ).0)
        for number in 1...20_000 {
            let clone = volume(
                m.apply(
                    .cloneCurrent(
                        source: last, term: .none, directory: .root, name: "\(number)", attributes: someAttributes,
                        wallClock: 0), request: nil
                ).0)
            m.volumes[last]?.isHidden = true
            last = clone
        }
        #expect(m.volumes.count == 20_001)
        _ = m.apply(.removeVolume(last, recursive: true), request: nil)
        #expect(m.volumes.isEmpty)
    }

    @Test func flatteningKeepsTheLinkForOlderSnapshots() {
        var m = Machine(stores: 1)
        let a = m.volume("a", size: 100)
        m.snapshot(a, "t")
        let b = m.clone(a, Generation(1), "b")
        m.snapshot(b, "before")
        m.apply(.acquireLease(b, node: NodeId(1), incarnation: 1))
        #expect(m.refusal(.flattened(volume: b, term: .none)) == .tryAgain)
        #expect(m.refusal(.flattened(volume: b, term: Term(1))) == nil)
        #expect(m.state.volumes[b]?.parent?.visibleBytes == 0)
        m.snapshot(b, "after")
        m.apply(.rollback(volume: b, term: Term(1), tag: "before"))
        #expect(m.state.volumes[b]?.parent?.visibleBytes == 100)
        m.apply(.rollback(volume: b, term: Term(1), tag: "after"))
        #expect(m.state.volumes[b]?.parent?.visibleBytes == 0)
        m.apply(.removeSnapshot(volume: b, tag: "before"))
        #expect(m.state.volumes[b]?.parent == nil)
        #expect(m.state.volumes[a]?.snapshots.first?.cloneCount == 0)
    }

    @Test func shrinkingACloneCutsWhatItShowsOfItsParent() {
        var m = Machine()
        let a = m.volume("a", size: 100)
        m.snapshot(a, "t")
        let b = m.clone(a, Generation(1), "b")
        m.apply(.resize(b, size: 30))
        m.apply(.trimmed(b))
        m.apply(.resize(b, size: 80))
        #expect(m.state.volumes[b]?.parent?.visibleBytes == 30)
        m.apply(.resize(b, size: 0))
        #expect(m.state.volumes[b]?.parent == nil)
    }

    @Test func aCloneOfNowComesFromAHiddenSnapshot() {
        var m = Machine()
        let a = m.volume("a", size: 7)
        func clone(_ name: String, _ term: Term) -> CatalogCommand {
            .cloneCurrent(
                source: a, term: term, directory: .root, name: name, attributes: someAttributes, wallClock: 3)
        }
        #expect(m.refusal(clone("b", Term(1))) == .tryAgain)
        #expect(m.refusal(clone("a", .none)) == .exists)
        #expect(m.state.volumes[a]?.generation == .first)
        guard case .volume(let b) = m.apply(clone("b", .none)) else { return }
        #expect(m.state.volumes[a]?.generation == Generation(2))
        #expect(m.state.volumes[a]?.visibleSnapshots.isEmpty == true)
        #expect(m.state.volumes[a]?.snapshots.first?.tag == "#1")
        #expect(m.state.volumes[b]?.parent == ParentReference(volume: a, generation: .first, visibleBytes: 7))
        m.apply(.removeVolume(b, recursive: false))
        #expect(m.state.volumes[a]?.snapshots.isEmpty == true)
    }
}
