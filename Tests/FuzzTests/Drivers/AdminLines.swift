// Lines of the administrator's socket: a request is decoded or refused with words, and served with exactly one final
// answer, which the other end can read.
import Catalog
import Model
import OrderedCollections
import TestSupport

@testable import Admin
@testable import Replication

/// A node that does what it is told, without stores.
private final class FuzzNode: NodeAdministration, MountAdministration {
    let volumes: FuzzVolumes
    init(_ volumes: FuzzVolumes) { self.volumes = volumes }

    func report() -> NodeStatusReport {
        NodeStatusReport(
            clusterId: volumes.state.clusterId, epoch: volumes.state.map.epoch, catalogIndex: volumes.state.index,
            settings: volumes.state.settings, stores: [], recovery: RecoveryStatus(), scrub: ScrubStatus(),
            volumeCount: volumes.state.volumes.count, snapshotCount: 2, objectCount: 5, space: volumes.space,
            problems: [], risks: [], next: [], statistics: GatewayStatistics())
    }
    func addStore(
        path: String, zone: UInt64?, weight: UInt64?, _ completion: @escaping (Result<StoreId, SheepError>) -> Void
    ) { volumes.later { completion(.success(StoreId(9))) } }
    func removeStore(_ id: StoreId, force: Bool, _ completion: @escaping (SheepError?) -> Void) {
        volumes.propose(.removeStore(id), request: nil) { _ in completion(nil) }
    }
    func replaceStore(_ id: StoreId, path: String, _ completion: @escaping (Result<StoreId, SheepError>) -> Void) {
        volumes.later { completion(.success(StoreId(9))) }
    }
    func setWeight(_ id: StoreId, weight: UInt64, _ completion: @escaping (SheepError?) -> Void) {
        volumes.propose(.setWeight(id, weight), request: nil) { _ in completion(nil) }
    }
    func acceptLoss(_ ids: [StoreId], _ completion: @escaping (SheepError?) -> Void) {
        volumes.propose(.acceptLoss(ids), request: nil) { _ in completion(nil) }
    }
    func changeSettings(_ settings: Settings, _ completion: @escaping (SheepError?) -> Void) {
        volumes.propose(.changeSettings(settings), request: nil) { answer in
            if case .refused(let error) = answer { completion(error) } else { completion(nil) }
        }
    }
    func startScrub(deep: Bool, volume: VolumeId?, _ completion: @escaping (SheepError?) -> Void) {
        volumes.later { completion(nil) }
    }
    func check(
        _ volume: VolumeId, repair: Bool, progress: @escaping (Int, Int) -> Void,
        _ completion: @escaping (Result<CheckReport, SheepError>) -> Void
    ) { volumes.later { completion(.success(CheckReport())) } }
    func map(_ volume: VolumeId, _ completion: @escaping ([ObjectPlacement]) -> Void) {
        volumes.later { completion([]) }
    }
    func shutDown(_ completion: @escaping () -> Void) { volumes.later(completion) }

    var mounts: [MountReport] { [] }
    func size(_ record: VolumeRecord) -> UInt64 { record.size }
    func settle(_ ids: [VolumeId], _ completion: @escaping (Errno?) -> Void) { completion(nil) }
    func mount(_ mountpoint: String, options: MountOptions, uid: UInt32, _ completion: @escaping (SheepError?) -> Void)
    { volumes.later { completion(nil) } }
    func unmount(_ mountpoint: String, lazy: Bool, _ completion: @escaping (SheepError?) -> Void) {
        volumes.later { completion(nil) }
    }
}

extension FuzzTarget {
    /// Input: which (even: a request, odd: an answer), then the line.
    static let admin = FuzzTarget(
        name: "admin", summary: "lines of the administrator's socket", maximumBytes: 4096,
        seeds: {
            let operations: [AdminOperation] = [
                .status, .volumeList(path: nil, allocated: true), .volumeList(path: "images", allocated: false),
                .volumeCreate(path: "new.img", size: 1 << 30, copies: 2), .volumeInfo(path: "a.img"),
                .volumeTree(path: nil), .volumeSnapshot(paths: ["a.img", "b"], tag: "t1"),
                .volumeSnapshot(paths: ["images"], tag: "t1"), .volumeClone(source: "a@wednesday.img", path: "x.img"),
                .volumeClone(source: "b", path: "images/y.img"), .volumeRollback(path: "b", tag: "t"),
                .volumeResize(path: "a.img", size: 1 << 20, shrink: true),
                .volumeDelete(path: "a.img", recursive: true),
                .volumeDelete(path: "images/.snap/all", recursive: false),
                .volumeCheck(path: "b", repair: true), .volumeFlatten(path: "web2"), .volumeMap(path: "b"),
                .snapshotList(path: "a.img", allocated: true), .storeList,
                .storeAdd(path: "/x", zone: 1, weight: .max), .storeRemove(store: "01", force: true),
                .storeReplace(store: "01", path: "/y"), .storeReweight(store: "01", weight: 5), .recoveryStatus,
                .scrubStart(deep: true, path: "b"), .scrubStatus, .settingsShow,
                .settingsChange(copies: 2, minCopies: 1, downOutIntervalMilliseconds: 5), .acceptLoss(stores: ["01"]),
                .mount(mountpoint: "/mnt", options: "ro"), .unmount(mountpoint: nil, lazy: true),
            ]
            var result = AdminResult()
            result.paths = ["a"]
            let answers = [
                AdminAnswer(id: 1, progress: AdminProgress(done: 1, total: 2, unit: "bytes")),
                AdminAnswer(id: 2, result: result), AdminAnswer(id: 3, error: AdminFailure(AdminCoding.tooLong)),
            ]
            return operations.enumerated().map {
                [0] + AdminCoding.encode(AdminRequest(id: UInt64($0.offset), $0.element))
            }
                + answers.map { [1] + AdminCoding.encode($0) }
        }
    ) { input in
        var input = input
        let kind = input.byte()
        let line = input.rest()
        if kind % 2 == 1 {
            guard let answer = try? AdminCoding.decodeAnswer(line) else { return nil }
            guard (try? AdminCoding.decodeAnswer(AdminCoding.encode(answer))) == answer else { return "another answer" }
            return nil
        }
        if let request = try? AdminCoding.decodeRequest(line) {
            let again = AdminCoding.encode(request)
            guard again.firstIndex(of: 0x0a) == again.count - 1 else { return "a request of several lines" }
            guard (try? AdminCoding.decodeRequest(again)) == request else { return "another request" }
        }
        let volumes = FuzzVolumes(SampleCatalog.stateWithoutStores)
        let node = FuzzNode(volumes)
        let service = AdminService(volumes: volumes, node: node, mounts: node, clock: volumes)
        var answers: [[UInt8]] = []
        service.handle(line, from: AdminPeer(uid: 0, gid: 0)) { answers.append($0) }
        guard volumes.drain() else { return "a request whose work has no end" }
        var finals = 0
        for answer in answers {
            guard answer.firstIndex(of: 0x0a) == answer.count - 1 else { return "an answer of several lines" }
            guard let decoded = try? AdminCoding.decodeAnswer(answer) else { return "an answer that cannot be read" }
            if decoded.isFinal { finals += 1 }
            if let error = decoded.error, error.what.isEmpty || error.why.isEmpty { return "a refusal without words" }
        }
        return finals == 1 ? nil : "\(finals) final answers"
    }
}
