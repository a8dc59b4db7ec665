// What guests do in a scenario: they write, read, flush and discard parts of a volume, at once or while something else
// happens. Every write has a number that its sectors carry; the history checks every answer as in a random run, and the
// script says what it must be.
import Catalog
import Glibc
import Model
import ObjectStore
import OrderedCollections
import Replication

/// What a guest asked of a host.
final class Asked {
    enum Kind { case write, read, flush, discard }
    enum Outcome: Equatable { case done, failed(Errno) }
    let kind: Kind
    let text: String
    let volume: GuestVolume
    let view: VolumeView
    let shot: Shot?
    let sectors: Range<Int>
    /// The number of a write.
    let value: SectorValue
    let begun: Int
    let branch: Branch
    let isDurable: Bool
    let since: UInt64
    /// The history looks at its answer.
    fileprivate(set) var isChecked = true
    fileprivate(set) var host: any SimulatedHost
    fileprivate(set) var life: UInt64
    fileprivate(set) var outcome: Outcome?
    /// What a read showed, sector by sector.
    fileprivate(set) var values: [SectorValue] = []
    /// The process that was asked is gone.
    var isLost: Bool { host.life != life || !host.isRunning }

    fileprivate init(
        _ kind: Kind, _ text: String, _ volume: GuestVolume, _ view: VolumeView, _ shot: Shot?, _ sectors: Range<Int>,
        value: SectorValue, begun: Int, isDurable: Bool, since: UInt64, host: any SimulatedHost
    ) {
        self.kind = kind
        self.text = text
        self.volume = volume
        self.view = view
        self.shot = shot
        self.sectors = sectors
        self.value = value
        self.begun = begun
        branch = volume.lineage.current
        self.isDurable = isDurable
        self.since = since
        self.host = host
        life = host.life
    }
}

extension Script {
    /// The volume with that name.
    func volume(_ name: String) -> GuestVolume {
        world.guests.volumes.first { $0.name == name } ?? GuestVolume(VolumeId(0), name, 8, world.history.newVolume())
    }

    // MARK: asking, without waiting

    /// Offsets and counts are in KiB.
    func ask(
        _ kind: Asked.Kind, on number: Int, at offset: Int = 0, kib: Int = 8, of name: String = "vm",
        snapshot tag: String? = nil, durable: Bool = false, isChecked: Bool = true
    ) -> Asked {
        let volume = volume(name)
        let host = host(number)
        let sectors = kind == .flush ? 0..<0 : offset * 2..<(offset + kib) * 2
        let place = "\(kib) KiB at \(offset) KiB of \(name)\(tag.map { "@\($0)" } ?? "")"
        var (value, begun) = (SectorValue(0), 0)
        var text = ""
        if isGoing {
            switch kind {
            case .write:
                (value, begun) = world.history.writeBegan(volume.lineage.current, sectors)
                text = "write #\(value)\(durable ? ", durable" : "") (\(place))"
            case .discard:
                begun = world.history.discardBegan(volume.lineage.current, sectors)
                text = "discard (\(place))"
            case .flush:
                begun = world.history.now()
                text = "flush of \(name)"
            case .read:
                begun = world.history.now()
                text = "read (\(place))"
            }
        }
        var view = VolumeView.current(volume.id)
        var shot: Shot?
        if let tag, let snapshot = volume.snapshots.first(where: { $0.tag == tag }) {
            view = .snapshot(volume.id, snapshot.generation)
            shot = snapshot.shot
        }
        let asked = Asked(
            kind, text, volume, view, shot, sectors, value: value, begun: begun, isDurable: durable,
            since: world.queue.nanoseconds, host: host)
        asked.isChecked = isChecked
        guard isGoing else { return asked }
        expect(host.service != nil, "host \(number) is asked to \(text) and does not serve")
        self.asked.append(asked)
        issue(asked)
        return asked
    }
    /// Asked, and told: something else happens meanwhile.
    func begin(
        _ kind: Asked.Kind, on number: Int, at offset: Int = 0, kib: Int = 8, of name: String = "vm",
        durable: Bool = false
    ) -> Asked {
        let asked = ask(kind, on: number, at: offset, kib: kib, of: name, durable: durable)
        tell("host \(number): \(asked.text) is asked")
        return asked
    }
    /// What had no answer when its process ended comes again from the kernel, to the next process of that host.
    func again(_ asked: Asked) {
        guard isGoing, asked.outcome == nil else { return }
        asked.life = asked.host.life
        tell("host \(asked.host.id): \(asked.text) comes again")
        issue(asked)
    }

    private func issue(_ asked: Asked) {
        let host = asked.host
        host.enter { [self] in
            guard let service = host.service else { return }
            let offset = UInt64(asked.sectors.lowerBound * 512)
            let count = asked.sectors.count * 512
            let room = (count + blockSize - 1) / blockSize * blockSize
            let volume = asked.volume.id
            let life = asked.life
            let answered: (Errno?, Buffer?) -> Void = { [self] errno, buffer in
                if asked.life == life { ended(asked, errno, buffer) }
            }
            switch asked.kind {
            case .write:
                let buffer = world.pool.buffer(room)
                let words = buffer.bytes.assumingMemoryBound(to: UInt64.self)
                for i in 0..<count / 8 { words[i] = asked.value }
                service.write(
                    volume, offset: offset, count: count, from: buffer, bufferOffset: 0, durable: asked.isDurable
                ) { answered($0, nil) }
            case .discard: service.discard(volume, offset: offset, count: UInt64(count)) { answered($0, nil) }
            case .flush: service.flush(volume) { answered($0, nil) }
            case .read:
                let buffer = world.pool.buffer(room)
                service.read(asked.view, offset: offset, count: count, into: buffer, bufferOffset: 0) {
                    answered($0, buffer)
                }
            }
        }
    }

    private func ended(_ asked: Asked, _ errno: Errno?, _ buffer: Buffer?) {
        guard asked.outcome == nil, isGoing else { return }
        asked.outcome = errno.map { .failed($0) } ?? .done
        let tenths = (world.queue.nanoseconds - asked.since) / 100_000_000
        let late = tenths >= 2 ? " after \(tenths / 10).\(tenths % 10) s" : ""
        var result = errno.map { "fails with \(Script.name($0))" } ?? "is done"
        if errno == nil {
            switch asked.kind {
            case .write, .discard:
                world.history.ended(asked.branch, asked.sectors, begun: asked.begun, durable: asked.isDurable)
            case .flush: world.history.flushed(asked.volume.lineage, begun: asked.begun)
            case .read:
                take(asked, buffer!)
                result = "shows \(Script.describe(asked.values))"
            }
        }
        tell("host \(asked.host.id): \(asked.text) \(result)\(late)")
        world.checkAnswer(asked.host)
        world.look()
    }
    private func take(_ asked: Asked, _ buffer: Buffer) {
        let ended = world.history.now()
        for (i, sector) in asked.sectors.enumerated() {
            let start = buffer.bytes + i * 512
            let value = start.load(as: UInt64.self)
            if memcmp(start, start + 8, 504) != 0 { world.fail("torn sector", "sector \(sector) is torn") }
            asked.values.append(value)
            guard asked.isChecked else { continue }
            if let shot = asked.shot {
                world.history.read(shot, sector, value)
            } else {
                world.history.read(asked.branch, sector, value, begun: asked.begun, ended: ended)
            }
        }
    }
    private static func describe(_ values: [SectorValue]) -> String {
        var parts: [String] = []
        var last: SectorValue?
        for value in values where value != last {
            parts.append(value == 0 ? "zeros" : "#\(value)")
            last = value
        }
        return parts.joined(separator: ", ")
    }

    // MARK: answers

    /// Waits for its answer.
    func wait(_ asked: Asked, seconds: UInt64 = 60) {
        waitSilently("an answer to \(asked.text)", seconds: seconds) { asked.outcome != nil || asked.isLost }
    }
    func expectDone(_ asked: Asked, seconds: UInt64 = 60) {
        wait(asked, seconds: seconds)
        expect(asked.outcome == .done, "\(asked.text) is done")
    }
    func expectErrno(_ errno: Errno, _ asked: Asked, seconds: UInt64 = 60) {
        wait(asked, seconds: seconds)
        expect(asked.outcome == .failed(errno), "\(asked.text) fails with \(Script.name(errno))")
    }
    func expectUnanswered(_ asked: Asked) {
        expect(asked.outcome == nil, "\(asked.text) waits")
        tell("host \(asked.host.id): \(asked.text) waits")
    }
    /// Every block shows one of these writes (nil: zeros).
    func expectShows(_ asked: Asked, _ allowed: Asked?...) { expectShows(asked, allowed) }
    fileprivate func expectShows(_ asked: Asked, _ allowed: [Asked?]) {
        expectDone(asked)
        let values = allowed.map { $0?.value ?? 0 }
        expect(
            asked.values.allSatisfy { values.contains($0) },
            "\(asked.text) shows nothing but \(Script.describe(values))")
    }

    // MARK: asking, and waiting

    @discardableResult
    func write(
        on number: Int, at offset: Int = 0, kib: Int = 8, of name: String = "vm", durable: Bool = false,
        seconds: UInt64 = 60
    ) -> Asked {
        let asked = ask(.write, on: number, at: offset, kib: kib, of: name, durable: durable)
        expectDone(asked, seconds: seconds)
        return asked
    }
    func discard(on number: Int, at offset: Int = 0, kib: Int = 8, of name: String = "vm") {
        expectDone(ask(.discard, on: number, at: offset, kib: kib, of: name))
    }
    func flush(on number: Int, of name: String = "vm") { expectDone(ask(.flush, on: number, of: name)) }
    @discardableResult
    func expectRead(
        on number: Int, at offset: Int = 0, kib: Int = 8, of name: String = "vm", snapshot tag: String? = nil,
        shows allowed: Asked?...
    ) -> Asked {
        let asked = ask(.read, on: number, at: offset, kib: kib, of: name, snapshot: tag)
        expectShows(asked, allowed)
        return asked
    }
}
