// What changes volumes as a whole: snapshots, clones, rollbacks, sizes, removals. Each carries a request id and is sent
// again, by the same or another host, until it has an answer; what the catalog says in the end must be what was answered.
import Catalog
import Model
import OrderedCollections
import Replication

package final class Controls {
    final class Request {
        let id: RequestId
        let text: String
        let volumes: [GuestVolume]
        let needsQuiet: Bool
        let issue: (any VolumeService, RequestId, @escaping (CommandAnswer) -> Void) -> Void
        let done: (Request, CommandAnswer) -> Void
        /// When it was first sent.
        var begun = 0
        var powerLosses = 0
        var host: (any SimulatedHost)?
        var life: UInt64 = 0
        init(
            id: RequestId, text: String, volumes: [GuestVolume], needsQuiet: Bool,
            issue: @escaping (any VolumeService, RequestId, @escaping (CommandAnswer) -> Void) -> Void,
            done: @escaping (Request, CommandAnswer) -> Void
        ) {
            self.id = id
            self.text = text
            self.volumes = volumes
            self.needsQuiet = needsQuiet
            self.issue = issue
            self.done = done
        }
    }
    unowned let simulation: Simulation
    private let guests: Guests
    private var history: VolumeHistory { guests.history }
    private(set) var open: [Request] = []
    private var numbers: UInt64 = 0
    private var names = 0
    /// It is looked again in a while.
    private var isArmed = false
    private(set) var count = 0
    private static let attributes = FileAttributes(uid: 0, gid: 0, mode: 0o644, time: 0)

    init(_ simulation: Simulation, _ guests: Guests) {
        self.simulation = simulation
        self.guests = guests
    }
    var isIdle: Bool { open.isEmpty }

    private func name() -> String {
        names += 1
        return "n\(names)"
    }

    // MARK: asking

    private func ask(
        _ text: String, _ volumes: [GuestVolume], needsQuiet: Bool = false,
        _ issue: @escaping (any VolumeService, RequestId, @escaping (CommandAnswer) -> Void) -> Void,
        _ done: @escaping (Request, CommandAnswer) -> Void
    ) {
        numbers += 1
        count += 1
        let request = Request(
            id: RequestId(client: 7, number: numbers), text: text, volumes: volumes, needsQuiet: needsQuiet,
            issue: issue, done: done)
        for volume in volumes {
            volume.isControlled = true
            if needsQuiet { volume.isExclusive = true }
        }
        open.append(request)
        simulation.trace.note("control \(request.id.number) \(text)")
        goOn()
    }

    /// Sends what waits and can be sent.
    func goOn() {
        for request in open where request.host == nil {
            if request.needsQuiet, request.volumes.contains(where: { $0.inFlight > 0 }) { continue }
            if request.needsQuiet, simulation.mayHaveStragglers {
                if !isArmed {
                    isArmed = true
                    simulation.queue.after(nanoseconds: 5_000_000_000) { [self] in
                        isArmed = false
                        goOn()
                    }
                }
                continue
            }
            guard let host = simulation.anyServingHost else { return }
            request.host = host
            request.life = host.life
            if request.begun == 0 {
                request.begun = history.now()
                request.powerLosses = history.powerLosses
            }
            simulation.trace.note("\(host.id) control \(request.id.number) sent")
            host.enter { [self] in
                guard let service = host.service else { return }
                request.issue(service, request.id) { [self] answer in answered(request, answer) }
            }
        }
    }
    func hostEnded(_ host: any SimulatedHost) {
        for request in open where request.host === host { request.host = nil }
    }

    private func answered(_ request: Request, _ answer: CommandAnswer) {
        guard let at = open.firstIndex(where: { $0 === request }) else { return }
        if let host = request.host { simulation.checkAnswer(host) }
        open.remove(at: at)
        for volume in request.volumes {
            volume.isControlled = false
            volume.isExclusive = false
        }
        simulation.trace.note("control \(request.id.number) \(describe(answer))")
        request.done(request, answer)
        let index = simulation.newestState?.index ?? 0
        for volume in guests.volumes where volume.knownAt == 0 || request.volumes.contains(where: { $0 === volume }) {
            volume.knownAt = index
        }
        simulation.look()
    }
    private func describe(_ answer: CommandAnswer) -> String {
        switch answer {
        case .done: "done"
        case .volume(let id): "volume \(id)"
        case .directory: "directory"
        case .snapshot(let id, let generation): "snapshot \(id) \(generation)"
        case .term(let term): "term \(term)"
        case .refused(let error): "refused errno \(error.errno.code): \(error.why)"
        }
    }

    // MARK: kinds

    func act(_ kind: StepKind, _ random: inout Random) {
        if kind == .create { return create() }
        let free = guests.volumes.filter { !$0.isControlled }
        guard !free.isEmpty else { return }
        let volume = random.pick(free)
        switch kind {
        case .snapshot: snapshot([volume])
        case .groupSnapshot: if free.count > 1 { snapshot(free) }
        case .removeSnapshot:
            if !volume.snapshots.isEmpty { removeSnapshot(volume, random.below(volume.snapshots.count)) }
        case .clone: if !volume.snapshots.isEmpty { clone(volume, random.pick(volume.snapshots)) }
        case .cloneCurrent: cloneCurrent(volume)
        case .rollback: if !volume.snapshots.isEmpty { rollback(volume, random.pick(volume.snapshots)) }
        case .resize: resize(volume, &random)
        case .removeVolume: if guests.volumes.count > 1 { remove(volume) }
        case .flatten: flatten(volume)
        default: break
        }
    }

    func create() {
        guard guests.volumes.count < 6 else { return }
        let name = name()
        let sectors = simulation.knobs.objectsPerVolume * 8192
        ask("create \(name)", []) { service, id, answer in
            service.catalog.propose(
                .createVolume(
                    directory: .root, name: name, size: UInt64(sectors) * 512, copies: nil,
                    attributes: Controls.attributes), request: id, answer)
        } _: { [self] _, answer in
            guard case .volume(let id) = answer else { return }
            guests.volumes.append(GuestVolume(id, name, sectors, history.newVolume()))
        }
    }
    private func snapshot(_ volumes: [GuestVolume]) {
        let tag = name()
        let names = volumes.map(\.name).joined(separator: " ")
        ask("snapshot \(names) \(tag)", volumes) { service, id, answer in
            service.snapshot(
                volumes.map(\.id), tag: tag, group: nil, replaceExisting: false, request: id, answer)
        } _: { [self] request, answer in
            if case .refused = answer { return }
            for volume in volumes {
                guard let record = simulation.newestState?.volumes[volume.id]?.snapshot(tag) else {
                    return simulation.fail("catalog", "snapshot \(tag) of \(volume.name) was answered and is not there")
                }
                let shot = history.snapshot(
                    volume.lineage, begun: request.begun, powerLosses: request.powerLosses, sectors: volume.sectors)
                volume.snapshots.append(
                    GuestVolume.Snapshot(
                        tag: tag, generation: record.generation, shot: shot, sectors: volume.sectors))
            }
        }
    }
    private func removeSnapshot(_ volume: GuestVolume, _ at: Int) {
        let snapshot = volume.snapshots.remove(at: at)
        ask("remove \(volume.name)@\(snapshot.tag)", [volume]) { service, id, answer in
            service.catalog.propose(.removeSnapshot(volume: volume.id, tag: snapshot.tag), request: id, answer)
        } _: { [self] _, answer in
            if answer != .done { simulation.fail("catalog", "\(volume.name)@\(snapshot.tag) cannot be removed") }
        }
    }
    private func clone(_ volume: GuestVolume, _ snapshot: GuestVolume.Snapshot) {
        guard guests.volumes.count < 6 else { return }
        let name = name()
        let source = SnapshotReference(volume: volume.id, generation: snapshot.generation)
        ask("clone \(volume.name)@\(snapshot.tag) \(name)", [volume]) { service, id, answer in
            service.catalog.propose(
                .clone(
                    source: source, directory: .root, name: name, copies: nil, attributes: Controls.attributes),
                request: id, answer)
        } _: { [self] _, answer in
            guard case .volume(let id) = answer else { return }
            guests.volumes.append(
                GuestVolume(id, name, snapshot.sectors, history.newClone(of: snapshot.shot)))
        }
    }
    private func cloneCurrent(_ volume: GuestVolume) {
        guard guests.volumes.count < 6 else { return }
        let name = name()
        ask("clone \(volume.name) \(name)", [volume]) { service, id, answer in
            service.cloneCurrent(
                volume.id, directory: .root, name: name, attributes: Controls.attributes, request: id, answer)
        } _: { [self] request, answer in
            guard case .volume(let id) = answer else { return }
            let shot = history.snapshot(
                volume.lineage, begun: request.begun, powerLosses: request.powerLosses, sectors: volume.sectors)
            guests.volumes.append(GuestVolume(id, name, volume.sectors, history.newClone(of: shot)))
        }
    }
    private func rollback(_ volume: GuestVolume, _ snapshot: GuestVolume.Snapshot) {
        ask("rollback \(volume.name) to \(snapshot.tag)", [volume], needsQuiet: true) { service, id, answer in
            service.rollback(volume.id, tag: snapshot.tag, request: id, answer)
        } _: { [self] _, answer in
            guard answer == .done else { return }
            history.rolledBack(volume.lineage, to: snapshot.shot)
            volume.sectors = snapshot.sectors
        }
    }
    private func resize(_ volume: GuestVolume, _ random: inout Random) {
        let whole = simulation.knobs.objectsPerVolume * 8192
        let sizes = [whole, whole, whole / 2, 8192, 8192 - 20, 130, whole + 8192]
        let sectors = random.chance(percent: 30) ? random.pick(simulation.knobs.spots) + 5 : random.pick(sizes)
        var shrink: Int?
        var powerLosses = history.powerLosses
        ask("resize \(volume.name) to \(sectors)", [volume], needsQuiet: true) { [self] service, id, answer in
            if sectors < volume.sectors, shrink == nil || powerLosses != history.powerLosses {
                powerLosses = history.powerLosses
                shrink = history.shrinkBegan(volume.lineage.current, from: sectors)
            }
            service.resize(volume.id, size: UInt64(sectors) * 512, request: id, answer)
        } _: { [self] _, answer in
            guard answer == .done else { return }
            if let shrink { history.shrunk(volume.lineage.current, from: sectors, begun: shrink) }
            volume.sectors = sectors
        }
    }
    private func remove(_ volume: GuestVolume) {
        ask("remove \(volume.name)", [volume], needsQuiet: true) { service, id, answer in
            service.catalog.propose(.removeVolume(volume.id, recursive: true), request: id, answer)
        } _: { [self] _, answer in
            guard answer == .done else { return }
            guests.volumes.removeAll { $0 === volume }
        }
    }
    private func flatten(_ volume: GuestVolume) {
        ask("flatten \(volume.name)", [volume]) { service, _, answer in
            service.flatten(volume.id, progress: { _, _ in }, answer)
        } _: { _, _ in
        }
    }
}
