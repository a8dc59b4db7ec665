// A node without stores: the real catalog's state machine behind fakes of what needs disks. Completions wait in a
// queue until the test lets them run, as the protocols promise.
import Catalog
import Model
import OrderedCollections
import TestSupport

@testable import Admin
@testable import Replication

final class FakeNode: CatalogVolumes, CatalogProposer, NodeAdministration, MountAdministration, Clock {
    var state = CatalogState(
        clusterId: ClusterId(high: 0xabc, low: 1), settings: Settings(),
        rootAttributes: FileAttributes(uid: 0, gid: 0, mode: 0o755, time: 0))
    var stores: [StoreStatusReport] = []
    var problems: [String] = []
    var recoveryNow = RecoveryStatus()
    var scrubNow = ScrubStatus()
    var opens: [VolumeId: Int] = [:]
    var placements: [ObjectPlacement] = []
    var checkReport = CheckReport()
    /// What the next operation on stores, settings, mounts or scrub comes to.
    var failure: SheepError?
    var mounts: [MountReport] = []
    /// Operations as they came, in words.
    var calls: [String] = []
    var milliseconds: UInt64 = 0
    private var queue: [() -> Void] = []
    private var timers: [(due: UInt64, action: () -> Void)] = []

    func settle() {
        while !queue.isEmpty { queue.removeFirst()() }
    }

    func advance(_ amount: UInt64) {
        milliseconds += amount
        let due = timers.filter { $0.due <= milliseconds }
        timers.removeAll { $0.due <= milliseconds }
        for timer in due { timer.action() }
        settle()
    }

    private func later(_ action: @escaping () -> Void) { queue.append(action) }

    // MARK: Clock
    var now: Instant { Instant(nanoseconds: milliseconds * 1_000_000) }
    var wallClock: UInt64 { 1_767_225_600_000_000_000 + milliseconds * 1_000_000 }
    func after(milliseconds: UInt64, _ action: @escaping () -> Void) {
        timers.append((self.milliseconds + milliseconds, action))
    }

    // MARK: CatalogProposer
    func propose(_ command: CatalogCommand, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void) {
        later { [self] in
            let (answer, _) = state.apply(command, request: request)
            completion(answer)
        }
    }
    func observe(_ observer: @escaping ([CatalogChange]) -> Void) {}

    // MARK: VolumeService
    var catalog: any CatalogProposer { self }
    func read(
        _ view: VolumeView, offset: UInt64, count: Int, into buffer: Buffer, bufferOffset: Int,
        _ completion: @escaping (Errno?) -> Void
    ) { later { completion(.notSupported) } }
    func write(
        _ volume: VolumeId, offset: UInt64, count: Int, from buffer: Buffer, bufferOffset: Int, durable: Bool,
        _ completion: @escaping (Errno?) -> Void
    ) { later { completion(.notSupported) } }
    func flush(_ volume: VolumeId, _ completion: @escaping (Errno?) -> Void) { later { completion(nil) } }
    func discard(_ volume: VolumeId, offset: UInt64, count: UInt64, _ completion: @escaping (Errno?) -> Void) {
        later { completion(nil) }
    }
    func resize(_ volume: VolumeId, size: UInt64, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void)
    { propose(.resize(volume, size: size), request: request, completion) }
    func copy(
        from source: VolumeView, offset: UInt64, to volume: VolumeId, at destination: UInt64, count: UInt64,
        _ completion: @escaping (Result<UInt64, Errno>) -> Void
    ) { later { completion(.failure(.notSupported)) } }
    func seek(_ view: VolumeView, offset: UInt64, data: Bool, _ completion: @escaping (Result<UInt64, Errno>) -> Void) {
        later { completion(.failure(.noPosition)) }
    }
    func allocatedBytes(_ view: VolumeView, _ completion: @escaping (UInt64) -> Void) {
        let bytes: UInt64 =
            switch view {
            case .current(let id): UInt64(id.rawValue) * 4096
            case .snapshot(_, let generation): UInt64(generation.rawValue) * 1_048_576
            }
        later { completion(bytes) }
    }
    func snapshot(
        _ volumes: [VolumeId], tag: String, group: DirectoryId?, replaceExisting: Bool, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        calls.append("snapshot \(volumes.map(\.rawValue)) \(tag) group \(group != nil)")
        proposeSnapshot(volumes, tag: tag, group: group, replaceExisting: replaceExisting, request: request, completion)
    }
    func flatten(
        _ volume: VolumeId, progress: @escaping (UInt64, UInt64) -> Void,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        for step in 0..<10 {
            later { [self] in
                milliseconds += 100
                progress(UInt64(step) * 10, 100)
            }
        }
        later { [self] in
            cutFromParent(volume, completion)
        }
    }

    // MARK: NodeAdministration
    func report() -> NodeStatusReport {
        NodeStatusReport(
            clusterId: state.clusterId, epoch: Epoch(7), catalogIndex: state.index, settings: state.settings,
            stores: stores, recovery: recoveryNow, scrub: scrubNow, volumeCount: state.volumes.count, snapshotCount: 2,
            objectCount: 5, space: space, problems: problems, risks: [], next: [], statistics: GatewayStatistics())
    }
    private func note(_ call: String, _ completion: @escaping (SheepError?) -> Void) {
        calls.append(call)
        later { [self] in completion(failure) }
    }
    private func note(_ call: String, _ id: StoreId, _ completion: @escaping (Result<StoreId, SheepError>) -> Void) {
        note(call) { completion($0.map { .failure($0) } ?? .success(id)) }
    }
    func addStore(
        path: String, zone: UInt64?, weight: UInt64?, _ completion: @escaping (Result<StoreId, SheepError>) -> Void
    ) { note("addStore \(path) \(zone ?? 0) \(weight ?? 0)", StoreId(0xadd), completion) }
    func removeStore(_ id: StoreId, force: Bool, _ completion: @escaping (SheepError?) -> Void) {
        calls.append("removeStore \(id) \(force)")
        after(milliseconds: 2500) { [self] in later { [self] in completion(failure) } }
    }
    func replaceStore(_ id: StoreId, path: String, _ completion: @escaping (Result<StoreId, SheepError>) -> Void) {
        note("replaceStore \(id) \(path)", StoreId(0xeef), completion)
    }
    func setWeight(_ id: StoreId, weight: UInt64, _ completion: @escaping (SheepError?) -> Void) {
        note("setWeight \(id) \(weight)", completion)
    }
    func acceptLoss(_ ids: [StoreId], _ completion: @escaping (SheepError?) -> Void) {
        note("acceptLoss \(ids)", completion)
    }
    func changeSettings(_ settings: Settings, _ completion: @escaping (SheepError?) -> Void) {
        propose(.changeSettings(settings), request: nil) { answer in
            if case .refused(let error) = answer { completion(error) } else { completion(nil) }
        }
    }
    func startScrub(deep: Bool, volume: VolumeId?, _ completion: @escaping (SheepError?) -> Void) {
        scrubNow.isRunning = failure == nil
        scrubNow.isDeep = deep
        note("startScrub \(deep) \(volume?.rawValue ?? 0)", completion)
    }
    func check(
        _ volume: VolumeId, repair: Bool, progress: @escaping (Int, Int) -> Void,
        _ completion: @escaping (Result<CheckReport, SheepError>) -> Void
    ) {
        calls.append("check \(volume.rawValue) \(repair)")
        later { progress(1, 2) }
        later { [self] in completion(failure.map { .failure($0) } ?? .success(checkReport)) }
    }
    func map(_ volume: VolumeId, _ completion: @escaping ([ObjectPlacement]) -> Void) {
        later { [self] in completion(placements) }
    }
    func shutDown(_ completion: @escaping () -> Void) { later(completion) }

    // MARK: MountAdministration
    /// Sizes that are not the catalog's, until they are settled.
    var trueSizes: [VolumeId: UInt64] = [:]
    func size(_ record: VolumeRecord) -> UInt64 { trueSizes[record.id] ?? record.size }
    func settle(_ volumes: [VolumeId], _ completion: @escaping (Errno?) -> Void) {
        for id in volumes {
            if let size = trueSizes.removeValue(forKey: id) { _ = state.apply(.resize(id, size: size), request: nil) }
        }
        completion(nil)
    }
    func mount(_ mountpoint: String, options: MountOptions, uid: UInt32, _ completion: @escaping (SheepError?) -> Void)
    { note("mount \(mountpoint) \(options.text) uid \(uid)", completion) }
    func unmount(_ mountpoint: String, lazy: Bool, _ completion: @escaping (SheepError?) -> Void) {
        note("unmount \(mountpoint) \(lazy)", completion)
    }
}

func storeReport(_ id: UInt64, path: String, status: StoreStatus = .up) -> StoreStatusReport {
    StoreStatusReport(
        id: StoreId(id), path: path, zone: id, weight: 100 << 30, status: status,
        reason: status == .up ? "" : "I/O error", changedWallClock: 1_767_225_600_000_000_000,
        capacityBytes: 100 << 30, availableBytes: 60 << 30, spaceLevel: "fine", copies: 10, incompleteCopies: 0,
        inSyncShare: status == .up ? 1 : 0)
}
