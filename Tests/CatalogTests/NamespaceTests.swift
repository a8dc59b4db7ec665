// Volumes and directories: each command's success and each of its refusals.
import Model
import OrderedCollections
import Testing

@testable import Catalog

struct NamespaceTests {
    @Test func volumesAreMadeOncePerName() {
        var m = Machine()
        let a = m.volume("a.img")
        #expect(m.state.volumes[a]?.generation == .first)
        #expect(m.state.volumes[a]?.copies == 3)
        #expect(m.changes == [.volumeCreated(a), .name(.root, "a.img")])
        func create(
            _ name: String, _ size: UInt64 = 1, copies: Int? = nil, in directory: DirectoryId = .root
        ) -> CatalogCommand {
            .createVolume(directory: directory, name: name, size: size, copies: copies, attributes: someAttributes)
        }
        #expect(m.refusal(create("a.img")) == .exists)
        #expect(m.refusal(create("a@b")) == .invalid)
        #expect(m.refusal(create(String(repeating: "x", count: 200))) == .nameTooLong)
        #expect(m.refusal(create("b", maximumVolumeSize + 1)) == .fileTooBig)
        #expect(m.refusal(create("b", copies: 4)) == .invalid)
        #expect(m.refusal(create("b", copies: 0)) == .invalid)
        #expect(m.refusal(create("b", in: DirectoryId(9))) == .noEntry)
        #expect(m.refusal(create("b", maximumVolumeSize, copies: 1)) == nil)
    }

    @Test func idsAreNeverReused() {
        var m = Machine(stores: 1)
        let a = m.volume("a")
        m.apply(.removeVolume(a, recursive: false))
        let b = m.volume("a")
        #expect(b > a)
        let d = m.directory("d")
        m.apply(.removeDirectory(d))
        #expect(m.directory("d") > d)
    }

    @Test func aRemovedVolumeIsPrunedByEveryStore() {
        var m = Machine(stores: 2)
        let a = m.volume("a")
        #expect(m.refusal(.removeVolume(VolumeId(99), recursive: true)) == .noEntry)
        m.apply(.removeVolume(a, recursive: false))
        #expect(m.state.deletedVolumes[a]?.stores == [StoreId(1), StoreId(2)])
        #expect(m.state.reachableViews(of: a).isEmpty)
        m.apply(.pruned(a, StoreId(1)))
        m.apply(.pruned(a, StoreId(1)))
        #expect(m.state.deletedVolumes[a]?.stores == [StoreId(2)])
        m.apply(.pruned(a, StoreId(2)))
        #expect(m.state.deletedVolumes.isEmpty)
    }

    @Test func snapshotsKeepTheirVolumeUnlessRemovedWithIt() {
        var m = Machine(stores: 1)
        let a = m.volume("a.img")
        m.snapshot(a, "t")
        #expect(m.refusal(.removeVolume(a, recursive: false)) == .notEmpty)
        #expect(m.refusal(.removeVolume(a, recursive: true)) == nil)
        #expect(m.changes.contains(.name(.root, "a@t.img")))
        #expect(m.state.volumes.isEmpty)
    }

    @Test func directoriesAreRemovedWhenEmpty() {
        var m = Machine()
        let d = m.directory("d")
        let a = m.volume("a", in: d)
        #expect(m.refusal(.createDirectory(parent: .root, name: "d", attributes: someAttributes)) == .exists)
        #expect(m.refusal(.createDirectory(parent: d, name: ".snap", attributes: someAttributes)) == .invalid)
        #expect(m.refusal(.createDirectory(parent: DirectoryId(9), name: "x", attributes: someAttributes)) == .noEntry)
        #expect(m.refusal(.removeDirectory(d)) == .notEmpty)
        #expect(m.refusal(.removeDirectory(.root)) == .busy)
        m.apply(.removeVolume(a, recursive: false))
        #expect(m.refusal(.removeDirectory(d)) == nil)
        #expect(m.refusal(.removeDirectory(d)) == .noEntry)
    }

    @Test func directoriesMoveButNotIntoThemselves() {
        var m = Machine()
        let a = m.directory("a")
        let b = m.directory("b", in: a)
        let full = m.directory("full")
        _ = m.volume("v", in: full)
        _ = m.volume("file")
        #expect(m.refusal(.renameDirectory(a, parent: b, name: "x")) == .invalid)
        #expect(m.refusal(.renameDirectory(a, parent: a, name: "x")) == .invalid)
        #expect(m.refusal(.renameDirectory(.root, parent: a, name: "x")) == .busy)
        #expect(m.refusal(.renameDirectory(a, parent: .root, name: "full")) == .notEmpty)
        #expect(m.refusal(.renameDirectory(a, parent: .root, name: "file")) == .notDirectory)
        #expect(m.refusal(.renameDirectory(b, parent: .root, name: "b")) == nil)
        #expect(m.refusal(.renameDirectory(a, parent: .root, name: "b")) == nil)
        #expect(m.state.directories[b] == nil)
        #expect(m.state.entry(.root, "b") == .directory(a))
        #expect(m.refusal(.renameDirectory(a, parent: .root, name: "b")) == nil)
    }

    @Test func snapshotsFollowTheirVolume() {
        var m = Machine()
        let a = m.volume("a.img")
        m.snapshot(a, "t")
        let d = m.directory("d")
        #expect(m.refusal(.renameVolume(a, directory: d, name: "b.img", replacing: false)) == nil)
        #expect(m.changes.contains(.name(.root, "a@t.img")) && m.changes.contains(.name(d, "b@t.img")))
        #expect(m.state.volumes[a]?.snapshot("t") != nil)
        #expect(m.refusal(.renameVolume(a, directory: d, name: "b.img", replacing: false)) == nil)
    }

    @Test func renamingReplacesOnlyWhatHasNoSnapshots() {
        var m = Machine(stores: 1)
        let a = m.volume("a")
        let b = m.volume("b")
        _ = m.directory("d")
        #expect(m.refusal(.renameVolume(a, directory: .root, name: "b", replacing: false)) == .exists)
        #expect(m.refusal(.renameVolume(a, directory: .root, name: "d", replacing: true)) == .isDirectory)
        #expect(m.refusal(.renameVolume(a, directory: .root, name: "x@y", replacing: true)) == .invalid)
        m.snapshot(b, "t")
        #expect(m.refusal(.renameVolume(a, directory: .root, name: "b", replacing: true)) == .notEmpty)
        m.apply(.removeSnapshot(volume: b, tag: "t"))
        #expect(m.refusal(.renameVolume(a, directory: .root, name: "b", replacing: true)) == nil)
        #expect(m.state.volumes[b] == nil)
        #expect(m.state.entry(.root, "b") == .volume(a) && m.state.entry(.root, "a") == nil)
    }

    @Test func shrinkingIsTrimmedBeforeGrowing() {
        var m = Machine()
        let a = m.volume("a", size: 100)
        #expect(m.refusal(.resize(a, size: 40)) == nil)
        #expect(m.state.volumes[a]?.trimFrom == 40)
        #expect(m.refusal(.resize(a, size: 41)) == .busy)
        #expect(m.refusal(.resize(a, size: 30)) == nil)
        #expect(m.state.volumes[a]?.trimFrom == 30)
        #expect(m.refusal(.trimmed(a)) == nil)
        #expect(m.refusal(.resize(a, size: maximumVolumeSize)) == nil)
        #expect(m.refusal(.resize(a, size: maximumVolumeSize + 1)) == .fileTooBig)
        #expect(m.refusal(.resize(VolumeId(9), size: 1)) == .noEntry)
    }

    @Test func attributesAreKept() {
        var m = Machine()
        let a = m.volume("a")
        var attributes = someAttributes
        attributes.mode = 0o100600
        m.apply(.setAttributes(a, attributes))
        #expect(m.state.volumes[a]?.attributes.mode == 0o600)
        m.apply(.setDirectoryAttributes(.root, attributes))
        #expect(m.state.directories[.root]?.attributes.mode == 0o600)
        #expect(m.refusal(.setVolumeCopies(a, copies: 2)) == nil)
        #expect(m.refusal(.setVolumeCopies(a, copies: 8)) == .invalid)
        m.snapshot(a, "t")
        #expect(m.state.volumes[a]?.snapshot("t")?.attributes.mode == 0o400)
        #expect(m.refusal(.setSnapshotAttributes(volume: a, tag: "t", attributes)) == .readOnly)
        attributes.mode = 0o440
        #expect(m.refusal(.setSnapshotAttributes(volume: a, tag: "t", attributes)) == nil)
        #expect(m.refusal(.setSnapshotAttributes(volume: a, tag: "u", attributes)) == .noEntry)
    }

    @Test func aRepeatedRequestGetsTheFirstAnswer() {
        var m = Machine()
        let command = CatalogCommand.createVolume(
            directory: .root, name: "a", size: 1, copies: nil, attributes: someAttributes)
        let request = RequestId(client: 4, number: 5)
        let first = m.apply(command, request: request)
        #expect(m.apply(command, request: request) == first)
        #expect(m.changes.isEmpty)
        // EAGAIN invites to repeat, so it is not remembered.
        let again = RequestId(client: 4, number: 6)
        let rollback = CatalogCommand.flattened(volume: VolumeId(1), term: Term(1))
        guard case .refused(let error) = m.apply(rollback, request: again) else { return }
        #expect(error.errno == .tryAgain)
        m.apply(.acquireLease(VolumeId(1), node: NodeId(1), incarnation: 1))
        #expect(m.apply(rollback, request: again) == .done)
    }

    @Test func rememberedRequestsAreBounded() {
        var m = CatalogState(clusterId: boot, settings: Settings(), rootAttributes: someAttributes)
        let limit = CatalogState.answeredLimit
        for number in 0..<UInt64(limit + limit / 4) {
            _ = m.apply(.none, request: RequestId(client: 1, number: number))
        }
        #expect(m.answered.count >= limit && m.answered.count <= limit + limit / 8)
        #expect(m.answered.keys.last?.number == UInt64(limit + limit / 4 - 1))
    }

    @Test func leasesCountTerms() {
        var m = Machine()
        let a = m.volume("a")
        #expect(m.apply(.acquireLease(a, node: NodeId(1), incarnation: 1)) == .term(Term(1)))
        #expect(m.apply(.acquireLease(a, node: NodeId(1), incarnation: 2)) == .term(Term(2)))
        #expect(m.refusal(.acquireLease(a, node: NodeId(2), incarnation: 1)) == .busy)
        #expect(m.refusal(.releaseLease(a, term: Term(1))) == .tryAgain)
        #expect(m.refusal(.releaseLease(a, term: Term(2))) == nil)
        #expect(m.state.volumes[a]?.lease == nil)
        #expect(m.apply(.acquireLease(a, node: NodeId(2), incarnation: 1)) == .term(Term(3)))
        m.state.volumes[a]?.term = Term(Term.maximum)
        #expect(m.refusal(.acquireLease(a, node: NodeId(2), incarnation: 1)) == .overflow)
    }
}
