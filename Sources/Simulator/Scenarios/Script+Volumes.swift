// What administrators do in a scenario: volumes, snapshots, clones, each with a request id, so that it can be sent again
// when its process has ended. What was answered is noted where the checkers compare it with the catalog.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

/// A change of volumes that a host was asked for.
final class Change {
    let text: String
    let id: RequestId
    let issue: (any VolumeService, RequestId, @escaping (CommandAnswer) -> Void) -> Void
    let done: (CommandAnswer) -> Void
    fileprivate(set) var host: any SimulatedHost
    fileprivate(set) var life: UInt64
    fileprivate(set) var answer: CommandAnswer?
    var isLost: Bool { host.life != life || !host.isRunning }
    fileprivate init(
        _ text: String, _ id: RequestId, _ host: any SimulatedHost,
        _ issue: @escaping (any VolumeService, RequestId, @escaping (CommandAnswer) -> Void) -> Void,
        _ done: @escaping (CommandAnswer) -> Void
    ) {
        self.text = text
        self.id = id
        self.host = host
        self.issue = issue
        self.done = done
        life = host.life
    }
}

extension Script {
    static let attributes = FileAttributes(uid: 0, gid: 0, mode: 0o644, time: 0)

    // MARK: sending

    func send(
        _ text: String, on number: Int,
        _ issue: @escaping (any VolumeService, RequestId, @escaping (CommandAnswer) -> Void) -> Void,
        _ done: @escaping (CommandAnswer) -> Void
    ) -> Change {
        requests += 1
        let change = Change(text, RequestId(client: 9, number: requests), host(number), issue, done)
        guard isGoing else { return change }
        expect(host(number).service != nil, "host \(number) is asked for \(text) and does not serve")
        send(change)
        return change
    }
    private func send(_ change: Change) {
        let (host, life) = (change.host, change.host.life)
        change.life = life
        host.enter { [self] in
            guard let service = host.service else { return }
            change.issue(service, change.id) { [self] answer in
                guard change.life == life, change.answer == nil, isGoing else { return }
                change.answer = answer
                world.checkAnswer(host)
                if case .refused(let error) = answer {
                    tell("host \(host.id): \(change.text) is refused with \(Script.name(error.errno)): \(error.why)")
                } else {
                    tell("host \(host.id): \(change.text) is done")
                    change.done(answer)
                }
                world.look()
            }
        }
    }
    /// The same request again, on the same host or another one, which knows it by its id.
    func again(_ change: Change, on number: Int) {
        guard isGoing, change.answer == nil else { return }
        change.host = host(number)
        tell("host \(number): \(change.text) comes again")
        send(change)
    }
    func wait(_ change: Change, seconds: UInt64 = 60) {
        waitSilently("an answer to \(change.text)", seconds: seconds) { change.answer != nil || change.isLost }
        guard isGoing, change.answer != nil else { return }
        // All that serve and are not cut off have heard of it.
        waitSilently("everybody knows of \(change.text)", seconds: seconds) {
            let index = change.host.state?.index ?? 0
            return world.hosts.allSatisfy {
                $0.service == nil || $0.isStopped || isAway($0) || ($0.state?.index ?? 0) >= index
            }
        }
    }
    private func isAway(_ host: any SimulatedHost) -> Bool {
        world.cluster.map { $0.hosts.first { $0.id == host.id }?.node?.catalog.isActive != true } ?? false
    }
    func expectDone(_ change: Change, seconds: UInt64 = 60) {
        wait(change, seconds: seconds)
        if case .refused = change.answer { fail("\(change.text) is done") }
        expect(change.answer != nil, "\(change.text) is answered")
    }

    // MARK: changes

    /// A volume of so many MiB.
    func createVolume(_ name: String = "vm", mib: Int = 64, copies: Int? = nil, on number: Int = 1) {
        expectDone(creation(name, mib: mib, copies: copies, on: number))
    }
    func creation(_ name: String, mib: Int = 64, copies: Int? = nil, on number: Int) -> Change {
        send("create \(name), \(mib) MiB", on: number) { service, id, answer in
            service.catalog.propose(
                .createVolume(
                    directory: .root, name: name, size: UInt64(mib) << 20, copies: copies,
                    attributes: Script.attributes), request: id, answer)
        } _: { [self] answer in
            guard case .volume(let id) = answer else { return }
            world.guests.volumes.append(GuestVolume(id, name, mib << 11, world.history.newVolume()))
        }
    }
    func snapshot(_ tag: String, of names: String..., on number: Int) {
        expectDone(snapshotting(names.isEmpty ? ["vm"] : names, tag, on: number))
    }
    func snapshotting(_ names: [String], _ tag: String, on number: Int) -> Change {
        let volumes = names.map(volume)
        let begun = world.history.now()
        let powerLosses = world.history.powerLosses
        return send("snapshot \(tag) of \(names.joined(separator: " and "))", on: number) { service, id, answer in
            service.snapshot(
                volumes.map(\.id), tag: tag, group: nil, replaceExisting: false, request: id, answer)
        } _: { [self] _ in
            for volume in volumes {
                guard let record = state?.volumes[volume.id]?.snapshot(tag) else {
                    return fail("\(volume.name)@\(tag) was answered and is there")
                }
                let shot = world.history.snapshot(
                    volume.lineage, begun: begun, powerLosses: powerLosses, sectors: volume.sectors)
                volume.snapshots.append(
                    GuestVolume.Snapshot(
                        tag: tag, generation: record.generation, shot: shot, sectors: volume.sectors))
            }
        }
    }
    func cloning(_ name: String, _ tag: String, as clone: String, on number: Int) -> Change {
        let volume = volume(name)
        let snapshot = volume.snapshots.first { $0.tag == tag }
        let source = SnapshotReference(volume: volume.id, generation: snapshot?.generation ?? Generation(0))
        return send("clone \(clone) of \(name)@\(tag)", on: number) { service, id, answer in
            service.catalog.propose(
                .clone(
                    source: source, directory: .root, name: clone, copies: nil, attributes: Script.attributes),
                request: id, answer)
        } _: { [self] answer in
            guard case .volume(let id) = answer, let snapshot else { return }
            world.guests.volumes.append(
                GuestVolume(id, clone, snapshot.sectors, world.history.newClone(of: snapshot.shot)))
        }
    }
    func rollingBack(_ name: String, to tag: String, on number: Int) -> Change {
        let volume = volume(name)
        return send("rollback of \(name) to \(tag)", on: number) { service, id, answer in
            service.rollback(volume.id, tag: tag, request: id, answer)
        } _: { [self] _ in
            guard let snapshot = volume.snapshots.first(where: { $0.tag == tag }) else { return }
            world.history.rolledBack(volume.lineage, to: snapshot.shot)
            volume.sectors = snapshot.sectors
        }
    }
    func removal(of name: String, on number: Int) -> Change {
        let volume = volume(name)
        return send("removal of \(name)", on: number) { service, id, answer in
            service.catalog.propose(.removeVolume(volume.id, recursive: true), request: id, answer)
        } _: { [self] _ in
            world.guests.volumes.removeAll { $0 === volume }
        }
    }
    func removal(of name: String, snapshot tag: String, on number: Int) -> Change {
        let volume = volume(name)
        return send("removal of \(name)@\(tag)", on: number) { service, id, answer in
            service.catalog.propose(.removeSnapshot(volume: volume.id, tag: tag), request: id, answer)
        } _: { _ in
            volume.snapshots.removeAll { $0.tag == tag }
        }
    }
}
