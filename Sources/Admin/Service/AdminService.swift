// The administrator's requests, served: a line of JSON in, lines of JSON out, one final answer to each request.
// Knows no socket. Runs on the core thread; it must never block and never leave a request without an answer.
import Catalog
import Model
import Replication

/// Who asks, as the kernel says.
package struct AdminPeer: Hashable, Sendable {
    package let uid: UInt32
    package let gid: UInt32
    package init(uid: UInt32, gid: UInt32) {
        self.uid = uid
        self.gid = gid
    }
}

package final class AdminService {
    let volumes: any VolumeService
    let node: any NodeAdministration
    let mounts: any MountAdministration
    let clock: any Clock

    package init(
        volumes: any VolumeService, node: any NodeAdministration, mounts: any MountAdministration, clock: any Clock
    ) {
        self.volumes = volumes
        self.node = node
        self.mounts = mounts
        self.clock = clock
    }

    var names: NamePaths { NamePaths(state: volumes.catalog.state, mounts: mounts.mounts) }

    /// Serves one request. `emit` gets whole lines; the first may come from inside this call.
    package func handle(_ line: [UInt8], from peer: AdminPeer, emit: @escaping ([UInt8]) -> Void) {
        let request: AdminRequest
        do {
            request = try AdminCoding.decodeRequest(line)
        } catch {
            return emit(AdminCoding.encode(AdminAnswer(id: error.id, error: AdminFailure(error.error))))
        }
        let reply = AdminReply(id: request.id, peer: peer) { emit(AdminCoding.encode($0)) }
        do throws(SheepError) {
            try serve(request.operation, reply)
        } catch {
            reply.fail(error)
        }
    }

    private func serve(_ operation: AdminOperation, _ reply: AdminReply) throws(SheepError) {
        switch operation {
        case .status: reply.finish { $0.status = statusReport() }
        case .volumeList(let path, let allocated): try listVolumes(path, allocated: allocated, reply)
        case .volumeCreate(let path, let size, let copies):
            try createVolume(path, size: size, copies: copies, reply)
        case .volumeInfo(let path): try describeVolume(path, reply)
        case .volumeTree(let path):
            let forest = try FamilyForest(names, size: mounts.size).nodes(below: path)
            reply.finish { $0.tree = forest }
        case .volumeSnapshot(let paths, let tag): try snapshot(paths, tag: tag, reply)
        case .volumeClone(let source, let path): try clone(source, to: path, reply)
        case .volumeRollback(let path, let tag): try rollback(path, tag: tag, reply)
        case .volumeResize(let path, let size, let shrink): try resize(path, size: size, shrink: shrink, reply)
        case .volumeDelete(let path, let recursive): try delete(path, recursive: recursive, reply)
        case .volumeCheck(let path, let repair): try check(path, repair: repair, reply)
        case .volumeFlatten(let path): try flatten(path, reply)
        case .volumeMap(let path): try map(path, reply)
        case .snapshotList(let path, let allocated): try listSnapshots(path, allocated: allocated, reply)
        case .storeList: reply.finish { $0.stores = node.report().stores.map(StoreReport.init) }
        case .storeAdd(let path, let zone, let weight): try addStore(path, zone: zone, weight: weight, reply)
        case .storeRemove(let store, let force): try removeStore(store, force: force, reply)
        case .storeReplace(let store, let path): try replaceStore(store, by: path, reply)
        case .storeReweight(let store, let weight): try reweight(store, weight: weight, reply)
        case .recoveryStatus: reply.finish { $0.recovery = RecoveryReport(node.report().recovery) }
        case .scrubStart(let deep, let path): try startScrub(deep: deep, path, reply)
        case .scrubStatus: reply.finish { $0.scrub = ScrubReport(node.report().scrub) }
        case .settingsShow: reply.finish { $0.settings = SettingsReport(volumes.catalog.state.settings) }
        case .settingsChange(let copies, let minCopies, let interval):
            try changeSettings(copies: copies, minCopies: minCopies, downOutIntervalMilliseconds: interval, reply)
        case .acceptLoss(let stores): try acceptLoss(stores, reply)
        case .mount(let mountpoint, let options): try mount(mountpoint, options: options, reply)
        case .unmount(let mountpoint, let lazy): try unmount(mountpoint, lazy: lazy, reply)
        }
    }
}

/// Answers to one request. The final answer is given once; whatever comes after it is dropped.
final class AdminReply {
    let id: UInt64
    let peer: AdminPeer
    private(set) var isFinished = false
    private let emit: (AdminAnswer) -> Void

    init(id: UInt64, peer: AdminPeer, emit: @escaping (AdminAnswer) -> Void) {
        self.id = id
        self.peer = peer
        self.emit = emit
    }

    func progress(_ done: UInt64, of total: UInt64, _ unit: String, note: String = "") {
        if isFinished { return }
        emit(AdminAnswer(id: id, progress: AdminProgress(done: done, total: total, unit: unit, note: note)))
    }

    func part(_ fill: (inout AdminResult) -> Void) {
        if isFinished { return }
        var result = AdminResult()
        fill(&result)
        emit(AdminAnswer(id: id, part: result))
    }

    func finish(_ fill: (inout AdminResult) -> Void = { _ in }) {
        if isFinished { return }
        isFinished = true
        var result = AdminResult()
        fill(&result)
        emit(AdminAnswer(id: id, result: result))
    }

    func fail(_ error: SheepError) {
        if isFinished { return }
        isFinished = true
        emit(AdminAnswer(id: id, error: AdminFailure(error)))
    }

    /// Ends the request with what the operation came to.
    func end(_ error: SheepError?, _ fill: (inout AdminResult) -> Void = { _ in }) {
        if let error { fail(error) } else { finish(fill) }
    }

    func end(_ answer: CommandAnswer, _ fill: (inout AdminResult) -> Void = { _ in }) {
        if case .refused(let error) = answer { fail(error) } else { finish(fill) }
    }
}
