// The guests: they read, write, flush and discard volumes, each sector that they write carrying the number of the write,
// and tell the history what they asked and what they were told. What a process left unanswered when it ended comes again
// from the kernel, or never. They know volumes through VolumeService alone.
import Catalog
import Glibc
import Model
import Replication

/// A volume as those know it who use it.
package final class GuestVolume {
    package struct Snapshot {
        let tag: String
        let generation: Generation
        let shot: Shot
        let sectors: Int
    }
    package let id: VolumeId
    package let name: String
    let lineage: Lineage
    var sectors: Int
    var snapshots: [Snapshot] = []
    /// Operations on their way.
    var inFlight = 0
    /// Nobody else may use it: a rollback or the like is on its way, or waits for the last operation.
    var isExclusive = false
    /// What changes it as a whole is on its way.
    var isControlled = false
    /// The entry of the catalog that a host must have before it is asked.
    var knownAt: UInt64 = 0

    init(_ id: VolumeId, _ name: String, _ sectors: Int, _ lineage: Lineage) {
        self.id = id
        self.name = name
        self.sectors = sectors
        self.lineage = lineage
    }
}

package final class Guests {
    enum Work {
        case write(id: SectorValue, durable: Bool)
        case discard
        case flush
        case read(Shot?)
    }
    final class Operation {
        let number: Int
        let volume: GuestVolume
        let branch: Branch
        let view: VolumeView
        let work: Work
        let sectors: Range<Int>
        let begun: Int
        let isAligned: Bool
        var host: any SimulatedHost
        var life: UInt64
        init(
            number: Int, volume: GuestVolume, view: VolumeView, work: Work, sectors: Range<Int>, begun: Int,
            isAligned: Bool, host: any SimulatedHost
        ) {
            self.number = number
            self.volume = volume
            branch = volume.lineage.current
            self.view = view
            self.work = work
            self.sectors = sectors
            self.begun = begun
            self.isAligned = isAligned
            self.host = host
            life = host.life
        }
    }
    unowned let simulation: Simulation
    let history: VolumeHistory
    var volumes: [GuestVolume] = []
    private(set) var inFlight: [Operation] = []
    /// What the kernel sends again when the host serves.
    private var unanswered: [Operation] = []
    private(set) var operations = 0
    private(set) var errors = 0
    private var knobs: Knobs { simulation.knobs }

    init(_ simulation: Simulation) {
        self.simulation = simulation
        history = simulation.history
    }
    var isIdle: Bool { inFlight.isEmpty && unanswered.isEmpty }

    // MARK: one operation

    func act(_ kind: StepKind, _ random: inout Random) {
        guard let host = simulation.servingHost(&random), inFlight.count < knobs.depth else { return }
        let index = host.state?.index ?? 0
        let usable = volumes.filter { !$0.isExclusive && $0.knownAt <= index }
        guard !usable.isEmpty else { return }
        let volume = random.pick(usable)
        switch kind {
        case .write: write(volume, host, &random)
        case .read: read(volume, .current(volume.id), nil, range(&random, volume.sectors), host)
        case .readSnapshot:
            guard !volume.snapshots.isEmpty else { return }
            let snapshot = random.pick(volume.snapshots)
            read(
                volume, .snapshot(volume.id, snapshot.generation), snapshot.shot, range(&random, snapshot.sectors), host
            )
        case .discard:
            var sectors = range(&random, volume.sectors)
            guard !sectors.isEmpty else { return }
            if random.chance(percent: 10) {
                sectors = sectors.lowerBound..<min(volume.sectors, sectors.lowerBound + 400)
            }
            let begun = history.discardBegan(volume.lineage.current, sectors)
            begin(volume, .current(volume.id), .discard, sectors, begun, host)
        case .flush: begin(volume, .current(volume.id), .flush, 0..<0, history.now(), host)
        default: break
        }
    }
    private func range(_ random: inout Random, _ limit: Int) -> Range<Int> {
        let start = random.pick(knobs.spots) + random.below(knobs.spread)
        let isLarge = random.chance(percent: knobs.largeWritesPercent)
        var count = 1 + random.below(isLarge ? 300 : 20)
        var first = start
        if random.chance(percent: knobs.alignedPercent) {
            first = start / 8 * 8
            count = (count + 7) / 8 * 8
        }
        return first..<max(first, min(first + count, limit))
    }
    private func write(_ volume: GuestVolume, _ host: any SimulatedHost, _ random: inout Random) {
        let sectors = range(&random, volume.sectors)
        let isDurable = random.chance(percent: knobs.durablePercent)
        guard !sectors.isEmpty else { return }
        let (id, begun) = history.writeBegan(volume.lineage.current, sectors)
        begin(volume, .current(volume.id), .write(id: id, durable: isDurable), sectors, begun, host)
    }
    func read(
        _ volume: GuestVolume, _ view: VolumeView, _ shot: Shot?, _ sectors: Range<Int>, _ host: any SimulatedHost
    ) {
        guard !sectors.isEmpty else { return }
        begin(volume, view, .read(shot), sectors, history.now(), host)
    }
    private func begin(
        _ volume: GuestVolume, _ view: VolumeView, _ work: Work, _ sectors: Range<Int>, _ begun: Int,
        _ host: any SimulatedHost
    ) {
        operations += 1
        let isAligned = sectors.lowerBound % 8 == 0 && sectors.count % 8 == 0
        let operation = Operation(
            number: operations, volume: volume, view: view, work: work, sectors: sectors, begun: begun,
            isAligned: isAligned, host: host)
        volume.inFlight += 1
        inFlight.append(operation)
        simulation.trace.note("\(host.id) ask \(operation.number) \(volume.name) \(describe(operation))")
        issue(operation)
    }
    private func describe(_ operation: Operation) -> String {
        let what =
            switch operation.work {
            case .write(let id, let durable): "write #\(id)\(durable ? " durable" : "")"
            case .discard: "discard"
            case .flush: "flush"
            case .read(let shot): shot == nil ? "read" : "read snapshot"
            }
        return "\(what) \(operation.sectors.lowerBound)+\(operation.sectors.count)"
    }

    private func issue(_ operation: Operation) {
        let host = operation.host
        host.enter { [self] in
            guard let service = host.service else { return }
            let volume = operation.volume.id
            let offset = UInt64(operation.sectors.lowerBound * 512)
            let count = operation.sectors.count * 512
            switch operation.work {
            case .write(let id, let durable):
                let shift = operation.isAligned ? 0 : 512
                let buffer = simulation.pool.buffer((count + shift + blockSize - 1) / blockSize * blockSize)
                let words = (buffer.bytes + shift).assumingMemoryBound(to: UInt64.self)
                for i in 0..<count / 8 { words[i] = id }
                service.write(
                    volume, offset: offset, count: count, from: buffer, bufferOffset: shift, durable: durable
                ) { [self] errno in ended(operation, errno, nil) }
            case .discard:
                service.discard(volume, offset: offset, count: UInt64(count)) { [self] errno in
                    ended(operation, errno, nil)
                }
            case .flush: service.flush(volume) { [self] errno in ended(operation, errno, nil) }
            case .read:
                let buffer = simulation.pool.buffer((count + blockSize - 1) / blockSize * blockSize)
                service.read(operation.view, offset: offset, count: count, into: buffer, bufferOffset: 0) {
                    [self] errno in ended(operation, errno, buffer)
                }
            }
        }
    }

    private func ended(_ operation: Operation, _ errno: Errno?, _ buffer: Buffer?) {
        guard let at = inFlight.firstIndex(where: { $0 === operation }) else { return }
        inFlight.remove(at: at)
        operation.volume.inFlight -= 1
        simulation.trace.note(
            "\(operation.host.id) done \(operation.number)\(errno.map { " errno \($0.code)" } ?? "")")
        simulation.checkAnswer(operation.host)
        if let errno {
            // A snapshot may be removed under those who read it.
            if case .read(let shot?) = operation.work,
                !operation.volume.snapshots.contains(where: { $0.shot === shot })
            {
                return simulation.look()
            }
            errors += 1
            simulation.guestFailed(errno, describe(operation))
        } else {
            succeeded(operation, buffer)
        }
        simulation.look()
    }
    private func succeeded(_ operation: Operation, _ buffer: Buffer?) {
        switch operation.work {
        case .write(_, let durable):
            history.ended(
                operation.branch, operation.sectors, begun: operation.begun,
                durable: durable || knobs.gatewayOptions.alwaysDurable)
        case .discard:
            history.ended(
                operation.branch, operation.sectors, begun: operation.begun,
                durable: knobs.gatewayOptions.alwaysDurable)
        case .flush: history.flushed(operation.volume.lineage, begun: operation.begun)
        case .read(let shot):
            let ended = history.now()
            for (i, sector) in operation.sectors.enumerated() {
                let start = buffer!.bytes + i * 512
                let value = start.load(as: UInt64.self)
                // Sixty-four times the same word.
                guard memcmp(start, start + 8, 504) == 0 else {
                    return simulation.fail("torn sector", "sector \(sector) of \(operation.volume.name) is torn")
                }
                if let shot {
                    history.read(shot, sector, value)
                } else {
                    history.read(operation.branch, sector, value, begun: operation.begun, ended: ended)
                }
                if history.violation != nil {
                    simulation.trace.note(
                        "wrong: sector \(sector) of \(operation.volume.name) in answer \(operation.number), \(operation.view)"
                    )
                    simulation.describeCopies(ObjectId(operation.volume.id, UInt32(sector / 8192)))
                    return
                }
            }
        }
    }

    // MARK: processes end and begin

    /// The host's process is gone. The guests are gone too when `withGuests`.
    func hostEnded(_ host: any SimulatedHost, withGuests: Bool, _ random: inout Random) {
        let lost = inFlight.filter { $0.host === host }
        inFlight.removeAll { $0.host === host }
        if withGuests {
            for operation in unanswered where operation.host === host { operation.volume.inFlight -= 1 }
            unanswered.removeAll { $0.host === host }
        }
        // Among several hosts another one may have held the volume since, and an operation belongs to the term of its first
        // issue: a process that has just begun cannot know that yet, so that nothing is sent again there.
        let resends = random.chance(percent: knobs.resendPercent) && simulation.hosts.count == 1
        for operation in lost {
            // Of overlapping ones the kernel promises no order, and neither does anybody here.
            let isAlone = !lost.contains {
                $0 !== operation && $0.volume === operation.volume && $0.sectors.overlaps(operation.sectors)
            }
            if resends, !withGuests, isAlone {
                unanswered.append(operation)
            } else {
                operation.volume.inFlight -= 1
            }
        }
    }
    /// The host serves: what came to no answer comes again, before anything else.
    func hostServes(_ host: any SimulatedHost) {
        let again = unanswered.filter { $0.host === host }
        unanswered.removeAll { $0.host === host }
        for operation in again {
            operation.life = host.life
            inFlight.append(operation)
            simulation.trace.note("\(host.id) again \(operation.number)")
            issue(operation)
        }
    }
}
