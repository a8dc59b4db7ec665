// Each request and each error of the administrator's protocol, against the real catalog and fakes of the rest.
import Catalog
import Model
import OrderedCollections
import TestSupport
import Testing

@testable import Admin
@testable import Replication

/// A service with three stores, and lines in and out of it.
final class Conversation {
    let node = FakeNode()
    let service: AdminService
    private var nextId: UInt64 = 1

    init() {
        node.stores = [
            storeReport(0xa1, path: "/srv/a"), storeReport(0xa2, path: "/srv/b"),
            storeReport(0xb3, path: "/srv/c", status: .down),
        ]
        service = AdminService(volumes: node, node: node, mounts: node, clock: node)
    }

    /// All answers to one line.
    func say(_ line: String) -> [AdminAnswer] {
        var answers: [AdminAnswer] = []
        service.handle(Array(line.utf8), from: AdminPeer(uid: 1000, gid: 100)) { bytes in
            #expect(bytes.last == UInt8(ascii: "\n"))
            answers.append((try? AdminCoding.decodeAnswer(bytes)) ?? AdminAnswer(id: 999))
        }
        node.settle()
        return answers
    }

    func all(_ operation: AdminOperation) -> [AdminAnswer] {
        let request = AdminRequest(id: nextId, operation)
        nextId += 1
        let answers = say(String(decoding: AdminCoding.encode(request), as: UTF8.self))
        #expect(answers.allSatisfy { $0.id == request.id && $0.version == 1 })
        #expect(answers.filter(\.isFinal).count <= 1)
        return answers
    }

    /// The whole result; fails the test when there is none.
    func ask(_ operation: AdminOperation) throws -> AdminResult {
        var result = AdminResult()
        let answers = all(operation)
        for answer in answers {
            if let part = answer.part { result.merge(part) }
            if let error = answer.error { throw error }
        }
        result.merge(try #require(answers.last?.result))
        return result
    }

    func errno(_ operation: AdminOperation) -> Errno? {
        let error = all(operation).last?.error
        if let error {
            #expect(!error.what.isEmpty && !error.why.isEmpty && !error.remedy.isEmpty)
            #expect(![error.what, error.why, error.remedy].contains { $0.contains("\n") })
        }
        return error.map { Errno($0.errno) }
    }

    func directory(_ name: String, in parent: DirectoryId = .root) -> DirectoryId {
        let (answer, _) = node.state.apply(
            .createDirectory(
                parent: parent, name: name, attributes: FileAttributes(uid: 0, gid: 0, mode: 0o755, time: 0)),
            request: nil)
        guard case .directory(let id) = answer else { fatalError("no directory \(name)") }
        return id
    }
}

@Suite struct RequestLines {
    @Test(arguments: [
        "", "x", "[]", "17", "{\"version\":1}", "{\"id\":3}", "{\"version\":1,\"id\":2,\"operation\":{}}",
    ])
    func malformedOnesGetAClearError(_ line: String) throws {
        let answers = Conversation().say(line)
        let error = try #require(answers.first?.error)
        #expect(answers.count == 1 && Errno(error.errno) == .invalid && !error.why.isEmpty)
    }

    @Test func theIdComesBackAsFarAsItCanBeRead() {
        let answers = Conversation().say(#"{"version":1,"id":42,"operation":{"fly":{}}}"#)
        #expect(answers.first?.id == 42 && answers.first?.error != nil)
    }

    @Test func aMissingArgumentIsNamed() {
        let answers = Conversation().say(#"{"version":1,"id":1,"operation":{"volumeCreate":{"path":"a"}}}"#)
        #expect(answers.first?.error?.why.contains("size is missing") == true)
    }

    @Test func anotherVersionIsRefusedWithBothNumbers() {
        let answers = Conversation().say(#"{"version":7,"id":1,"operation":{"later":{}}}"#)
        #expect(answers.first?.error?.errno == Errno.notSupported.code)
        #expect(answers.first?.error?.what.contains("7") == true && answers.first?.error?.why.contains("1") == true)
    }

    @Test func oneThatIsTooLongIsRefusedUnparsed() {
        let answers = Conversation().say(String(repeating: "[", count: maximumAdminRequestSize + 1))
        #expect(answers.first?.error?.errno == Errno.tooBig.code)
    }

    @Test func argumentsThatAreNotKnownYetAreIgnored() {
        let answers = Conversation().say(#"{"version":1,"id":1,"operation":{"status":{"colour":"red"}},"more":1}"#)
        #expect(answers.first?.result?.status != nil)
    }
}

@Suite struct VolumeRequests {
    @Test func aVolumeIsMadeListedAndDescribed() throws {
        let talk = Conversation()
        let images = talk.directory("images")
        _ = talk.directory("100", in: images)
        let made = try talk.ask(.volumeCreate(path: "/images/100/vol.img", size: 10 << 30, copies: 2))
        #expect(made.volume?.path == "images/100/vol.img" && made.volume?.size == 10 << 30 && made.volume?.copies == 2)
        #expect(made.volume?.uid == 1000 && made.volume?.mode == "600")
        #expect(try talk.ask(.volumeList(path: nil, allocated: false)).volumes?.map(\.path) == ["images/100/vol.img"])
        #expect(try talk.ask(.volumeList(path: "images", allocated: true)).volumes?[0].allocatedBytes == 4096)
        _ = try talk.ask(.volumeSnapshot(paths: ["images/100/vol.img"], tag: "monday"))
        let info = try #require(try talk.ask(.volumeInfo(path: "images/100/vol.img")).volume)
        #expect(info.allocatedBytes == 4096 && info.snapshots?.map(\.path) == ["images/100/vol@monday.img"])
        #expect(info.snapshots?[0].allocatedBytes == 1_048_576)
        #expect(try talk.ask(.volumeInfo(path: "images/100/vol@monday.img")).snapshots?.map(\.tag) == ["monday"])
    }

    @Test func fullPathsBelowAMountpointMeanTheSame() throws {
        let talk = Conversation()
        _ = talk.directory("images")
        talk.node.mounts = [
            MountReport(mountpoint: "/mnt/sheep"), MountReport(mountpoint: "/mnt/sheep/deep", subdirectory: "images"),
        ]
        _ = try talk.ask(.volumeCreate(path: "/mnt/sheep/a.img", size: 512, copies: nil))
        _ = try talk.ask(.volumeCreate(path: "/mnt/sheep/deep/b.img", size: 512, copies: nil))
        #expect(
            try talk.ask(.volumeList(path: nil, allocated: false)).volumes?.map(\.path) == ["a.img", "images/b.img"])
        #expect(talk.errno(.volumeInfo(path: "/mnt/sheepish/a.img")) == .noEntry)
    }

    private static let impossibleSizes: [(UInt64, Errno)] = [
        (100, .invalid), (UInt64.max, .invalid), (maximumVolumeSize + 512, .fileTooBig),
    ]
    private static let impossibleNames: [(String, Errno)] = [
        ("a@b.img", .invalid), ("..", .invalid), (".", .invalid), ("", .invalid), (".snap", .invalid),
        ("x/../y", .invalid), ("none/y", .noEntry), (String(repeating: "n", count: 300), .nameTooLong),
    ]

    @Test(arguments: impossibleSizes)
    func sizesThatNoVolumeCanHaveAreRefused(_ size: UInt64, _ errno: Errno) {
        #expect(Conversation().errno(.volumeCreate(path: "v", size: size, copies: nil)) == errno)
    }

    @Test(arguments: impossibleNames)
    func namesThatNoVolumeCanHaveAreRefused(_ name: String, _ errno: Errno) {
        #expect(Conversation().errno(.volumeCreate(path: name, size: 512, copies: nil)) == errno)
    }

    @Test func whatExistsIsNotMadeAgain() throws {
        let talk = Conversation()
        _ = try talk.ask(.volumeCreate(path: "v", size: 512, copies: nil))
        #expect(talk.errno(.volumeCreate(path: "v", size: 512, copies: nil)) == .exists)
        _ = try talk.ask(.volumeSnapshot(paths: ["v"], tag: "t"))
        #expect(talk.errno(.volumeSnapshot(paths: ["v"], tag: "t")) == .exists)
        #expect(talk.errno(.volumeClone(source: "v@t", path: "v")) == .exists)
        #expect(talk.errno(.volumeCreate(path: "w", size: 512, copies: 9)) == .invalid)
    }

    @Test func severalVolumesAndDirectoriesAreSnapshottedAtOnce() throws {
        let talk = Conversation()
        let images = talk.directory("images")
        for name in ["images/a.img", "images/b.img", "c.img"] {
            _ = try talk.ask(.volumeCreate(path: name, size: 512, copies: nil))
        }
        let two = try talk.ask(.volumeSnapshot(paths: ["c.img", "images/a.img", "c.img"], tag: "both"))
        #expect(two.paths == ["c@both.img", "images/a@both.img"])
        let group = try talk.ask(.volumeSnapshot(paths: ["images"], tag: "all"))
        #expect(group.paths == ["images/a@all.img", "images/b@all.img"])
        #expect(talk.node.calls == ["snapshot [3, 1] both group false", "snapshot [1, 2] all group true"])
        #expect(talk.node.state.directories[images]?.groupSnapshots["all"] != nil)
        #expect(try talk.ask(.snapshotList(path: "images/.snap/all", allocated: false)).snapshots?.count == 2)
        _ = try talk.ask(.volumeDelete(path: "images/.snap/all", recursive: false))
        #expect(try talk.ask(.snapshotList(path: "images", allocated: false)).snapshots?.map(\.tag) == ["both"])
        #expect(talk.errno(.volumeSnapshot(paths: ["c.img"], tag: "a/b")) == .invalid)
        #expect(talk.errno(.volumeSnapshot(paths: ["c@both.img"], tag: "x")) == .invalid)
        #expect(talk.errno(.volumeSnapshot(paths: [], tag: "x")) == .invalid)
    }

    @Test func clonesOfSnapshotsAndOfNowKnowTheirParents() throws {
        let talk = Conversation()
        _ = try talk.ask(.volumeCreate(path: "base.img", size: 1 << 20, copies: nil))
        _ = try talk.ask(.volumeSnapshot(paths: ["base.img"], tag: "gold"))
        let web = try talk.ask(.volumeClone(source: "base@gold.img", path: "web.img"))
        #expect(web.volume?.parent == "base@gold.img" && web.volume?.size == 1 << 20)
        let now = try talk.ask(.volumeClone(source: "base.img", path: "now.img"))
        #expect(now.volume?.parent == "base.img")
        let snapshots = try talk.ask(.snapshotList(path: nil, allocated: true)).snapshots
        #expect(snapshots?.map(\.clones) == [["web.img"]] && snapshots?[0].allocatedBytes != nil)
        _ = talk.directory("dir")
        #expect(talk.errno(.volumeClone(source: "dir", path: "x.img")) == .isDirectory)
        #expect(talk.errno(.volumeClone(source: "base@none.img", path: "x.img")) == .noEntry)
    }

    @Test func aVolumeInUseIsNotDeletedRolledBackOrShrunk() throws {
        let talk = Conversation()
        _ = try talk.ask(.volumeCreate(path: "v", size: 1 << 20, copies: nil))
        _ = try talk.ask(.volumeSnapshot(paths: ["v"], tag: "t"))
        talk.node.opened(VolumeId(1))
        #expect(talk.errno(.volumeDelete(path: "v", recursive: true)) == .busy)
        #expect(talk.errno(.volumeRollback(path: "v", tag: "t")) == .busy)
        #expect(talk.errno(.volumeResize(path: "v", size: 512, shrink: true)) == .busy)
        #expect(try talk.ask(.volumeResize(path: "v", size: 2 << 20, shrink: false)).volume?.size == 2 << 20)
        talk.node.closed(VolumeId(1))
        #expect(talk.errno(.volumeResize(path: "v", size: 512, shrink: false)) == .invalid)
        #expect(try talk.ask(.volumeResize(path: "v", size: 512, shrink: true)).volume?.size == 512)
        #expect(try talk.ask(.volumeRollback(path: "v", tag: "t")).volume?.size == 1 << 20)
        #expect(talk.errno(.volumeRollback(path: "v", tag: "none")) == .noEntry)
        #expect(talk.errno(.volumeDelete(path: "v", recursive: false)) == .notEmpty)
        #expect(try talk.ask(.volumeDelete(path: "v", recursive: true)).paths == ["v"])
        #expect(talk.errno(.volumeInfo(path: "v")) == .noEntry)
    }

    @Test func directoriesAreNotVolumes() {
        let talk = Conversation()
        _ = talk.directory("d")
        #expect(talk.errno(.volumeDelete(path: "d", recursive: true)) == .isDirectory)
        #expect(talk.errno(.volumeInfo(path: "d")) == .invalid)
        #expect(talk.errno(.volumeMap(path: "/")) == .invalid)
    }

    @Test func flatteningTellsItsProgressAFewTimesASecond() throws {
        let talk = Conversation()
        _ = try talk.ask(.volumeCreate(path: "v", size: 512, copies: nil))
        _ = try talk.ask(.volumeClone(source: "v", path: "c"))
        let answers = talk.all(.volumeFlatten(path: "c"))
        #expect(answers.compactMap(\.progress?.done) == [0, 20, 40, 60, 80])
        #expect(answers.last?.result?.volume?.parent == nil)
        #expect(talk.errno(.volumeFlatten(path: "c")) == .invalid)
    }

    @Test func checkReportsWhatItFound() throws {
        let talk = Conversation()
        _ = try talk.ask(.volumeCreate(path: "v", size: 512, copies: nil))
        talk.node.checkReport.blocksBad = 3
        talk.node.checkReport.blocksRepaired = 3
        let answers = talk.all(.volumeCheck(path: "v", repair: true))
        #expect(answers.first?.progress == AdminProgress(done: 1, total: 2, unit: "objects"))
        #expect(answers.last?.result?.check?.blocksBad == 3 && answers.last?.result?.check?.isClean == true)
        talk.node.failure = SheepError(.inputOutput, what: "a", why: "b", remedy: "c")
        #expect(talk.errno(.volumeCheck(path: "v", repair: false)) == .inputOutput)
        #expect(talk.node.calls == ["check 1 true", "check 1 false"])
    }

    @Test func longListsComeInPartsInOrder() throws {
        let talk = Conversation()
        _ = try talk.ask(.volumeCreate(path: "v", size: 512, copies: nil))
        talk.node.placements = (0..<1201).map { index in
            ObjectPlacement(
                index: UInt32(index),
                copies: [
                    .init(
                        store: StoreId(0xa1), version: Version(term: Term(1), sequence: 5), state: "complete",
                        generations: [.first], allocatedBlocks: 2)
                ])
        }
        #expect(talk.all(.volumeMap(path: "v")).map { $0.part?.objects?.count } == [500, 500, nil])
        let objects = try #require(try talk.ask(.volumeMap(path: "v")).objects)
        #expect(objects.map(\.index) == (0..<1201).map { UInt32($0) } && objects[0].copies[0].allocatedBytes == 8192)
        #expect(objects[0].copies[0].store == "00000000000000a1" && objects[0].copies[0].version == "1.5")
    }

    @Test func theFamilyIsATreeThatKeepsWhatIsDeletedButNeeded() throws {
        let talk = Conversation()
        _ = try talk.ask(.volumeCreate(path: "base.img", size: 512, copies: nil))
        _ = try talk.ask(.volumeSnapshot(paths: ["base.img"], tag: "one"))
        _ = try talk.ask(.volumeSnapshot(paths: ["base.img"], tag: "two"))
        _ = try talk.ask(.volumeClone(source: "base@one.img", path: "x.img"))
        _ = try talk.ask(.volumeSnapshot(paths: ["x.img"], tag: "deep"))
        _ = try talk.ask(.volumeClone(source: "x@deep.img", path: "y.img"))
        _ = try talk.ask(.volumeDelete(path: "base@one.img", recursive: false))
        let tree = try #require(try talk.ask(.volumeTree(path: nil)).tree)
        #expect(tree.count == 1 && tree[0].children.map(\.kind) == ["deleted-snapshot", "snapshot"])
        #expect(tree[0].children[0].children[0].children[0].children.map(\.name) == ["y.img"])
        let below = try #require(try talk.ask(.volumeTree(path: "x.img")).tree)
        #expect(below.map(\.name) == ["x.img"] && below[0].children.map(\.name) == ["deep"])
    }
}

@Suite struct NodeRequests {
    @Test func storesAreNamedByIdPrefixOrDirectory() throws {
        let talk = Conversation()
        #expect(try talk.ask(.storeList).stores?.map(\.state) == ["up", "up", "down"])
        for name in ["00000000000000a1", "00000000000000A1", "/srv/a"] {
            #expect(try talk.ask(.storeReweight(store: name, weight: 5)).storeIds == ["00000000000000a1"])
        }
        #expect(talk.errno(.storeReweight(store: "0000", weight: 5)) == .invalid)
        #expect(talk.errno(.storeReweight(store: "", weight: 5)) == .noEntry)
        #expect(talk.errno(.storeReweight(store: "ffff", weight: 5)) == .noEntry)
        #expect(talk.errno(.storeReweight(store: "/srv/a", weight: 0)) == .invalid)
        #expect(talk.node.calls.count == 3)
    }

    @Test func storesAreAddedAndReplaced() throws {
        let talk = Conversation()
        #expect(try talk.ask(.storeAdd(path: "/srv/d", zone: 4, weight: 9)).storeIds == ["0000000000000add"])
        #expect(try talk.ask(.storeReplace(store: "/srv/c", path: "/srv/e")).storeIds == ["0000000000000eef"])
        #expect(talk.node.calls == ["addStore /srv/d 4 9", "replaceStore 00000000000000b3 /srv/e"])
        talk.node.mounts = [MountReport(mountpoint: "/mnt/sheep")]
        #expect(talk.errno(.storeAdd(path: "/mnt/sheep/d", zone: nil, weight: nil)) == .invalid)
        #expect(talk.errno(.storeAdd(path: "srv/d", zone: nil, weight: nil)) == .invalid)
        #expect(talk.errno(.storeAdd(path: "/srv/../d", zone: nil, weight: nil)) == .invalid)
        talk.node.failure = SheepError(.notEmpty, what: "a", why: "b", remedy: "c")
        #expect(talk.errno(.storeAdd(path: "/srv/d", zone: nil, weight: nil)) == .notEmpty)
    }

    @Test func removingTellsHowFarDataHasMoved() throws {
        let talk = Conversation()
        talk.node.recoveryNow.bytesMoved = 10
        talk.node.recoveryNow.bytesTotal = 40
        var answers: [AdminAnswer] = []
        let line = AdminCoding.encode(AdminRequest(id: 5, .storeRemove(store: "/srv/a", force: false)))
        talk.service.handle(line, from: AdminPeer(uid: 0, gid: 0)) { bytes in
            if let answer = try? AdminCoding.decodeAnswer(bytes) { answers.append(answer) }
        }
        for _ in 0..<6 { talk.node.advance(1000) }
        #expect(answers.compactMap(\.progress?.done) == [10, 10, 10] && answers.last?.result?.storeIds != nil)
        #expect(answers.count == 4)
    }

    @Test func theLastStoreIsNotRemovedUnlessForced() {
        let talk = Conversation()
        talk.node.stores = [storeReport(1, path: "/srv/a"), storeReport(2, path: "/srv/b", status: .down)]
        #expect(talk.errno(.storeRemove(store: "/srv/a", force: false)) == .busy)
        #expect(talk.node.calls.isEmpty)
        _ = talk.all(.storeRemove(store: "/srv/a", force: true))
        #expect(talk.node.calls == ["removeStore 0000000000000001 true"])
    }

    @Test func lossIsAcceptedOnlyOfStoresThatAreNotUp() throws {
        let talk = Conversation()
        #expect(talk.errno(.acceptLoss(stores: [])) == .invalid)
        #expect(talk.errno(.acceptLoss(stores: ["/srv/c", "/srv/a"])) == .busy)
        #expect(try talk.ask(.acceptLoss(stores: ["/srv/c"])).storeIds == ["00000000000000b3"])
    }

    @Test func settingsAreChangedTogetherOrNotAtAll() throws {
        let talk = Conversation()
        #expect(try talk.ask(.settingsShow).settings?.effectiveMinCopies == 2)
        let changed = try talk.ask(.settingsChange(copies: 4, minCopies: 3, downOutIntervalMilliseconds: 5000))
        #expect(changed.settings?.copies == 4 && changed.settings?.minCopies == 3)
        #expect(changed.settings?.downOutIntervalMilliseconds == 5000)
        #expect(talk.errno(.settingsChange(copies: 2, minCopies: nil, downOutIntervalMilliseconds: nil)) == .invalid)
        #expect(talk.errno(.settingsChange(copies: 8, minCopies: nil, downOutIntervalMilliseconds: nil)) == .invalid)
        #expect(talk.errno(.settingsChange(copies: nil, minCopies: -1, downOutIntervalMilliseconds: nil)) == .invalid)
        #expect(talk.errno(.settingsChange(copies: nil, minCopies: nil, downOutIntervalMilliseconds: 1)) == .invalid)
        #expect(try talk.ask(.settingsShow).settings == changed.settings)
    }

    @Test func statusTellsHealthByWhatIsWrong() throws {
        let talk = Conversation()
        #expect(try talk.ask(.status).status?.health == "healthy")
        talk.node.problems = ["store a is down"]
        let status = try #require(try talk.ask(.status).status)
        #expect(status.health == "degraded" && status.problems == ["store a is down"] && status.stores.count == 3)
        #expect(status.clusterId == "0000000000000abc0000000000000001" && status.epoch == 7)
    }

    @Test func scrubAndRecoveryAreToldAsTheyAre() throws {
        let talk = Conversation()
        #expect(try talk.ask(.scrubStatus).scrub?.started == nil)
        #expect(try talk.ask(.scrubStart(deep: true, path: nil)).scrub?.deep == true)
        #expect(talk.errno(.scrubStart(deep: true, path: "none")) == .noEntry)
        #expect(try talk.ask(.recoveryStatus).recovery?.phase == "idle")
    }

    @Test func mountsAreMadeAndTakenAway() throws {
        let talk = Conversation()
        #expect(talk.errno(.unmount(mountpoint: nil, lazy: false)) == .noEntry)
        #expect(try talk.ask(.mount(mountpoint: "/mnt/x", options: "rw,cp=clone,dev")).paths == ["/mnt/x"])
        talk.node.mounts = [MountReport(mountpoint: "/mnt/x")]
        #expect(try talk.ask(.unmount(mountpoint: nil, lazy: true)).paths == ["/mnt/x"])
        #expect(talk.node.calls == ["mount /mnt/x rw,cp=clone,dev uid 1000", "unmount /mnt/x true"])
        #expect(talk.errno(.mount(mountpoint: "/mnt/x", options: "")) == .exists)
        #expect(talk.errno(.mount(mountpoint: "mnt", options: "")) == .invalid)
        #expect(talk.errno(.mount(mountpoint: "/mnt/y", options: "fly")) == .invalid)
        #expect(talk.errno(.unmount(mountpoint: "/mnt/z", lazy: false)) == .noEntry)
        talk.node.mounts.append(MountReport(mountpoint: "/mnt/y"))
        #expect(talk.errno(.unmount(mountpoint: nil, lazy: false)) == .invalid)
    }
}
