// Volumes, snapshots and clones for the administrator. What the catalog decides is left to the catalog; checked here
// is what only the proposer can know: names as typed, and whether a volume is in use.
import Catalog
import Model
import OrderedCollections
import Replication

extension AdminService {
    func createVolume(_ path: String, size: UInt64, copies: Int?, _ reply: AdminReply) throws(SheepError) {
        try checkSize(size)
        guard size > 0 else {
            throw SheepError(
                .invalid, what: "\(path) was not made", why: "its size would be 0", remedy: "give a size, such as 10G")
        }
        if let copies { try checkCopies(copies) }
        let (directory, name) = try names.place(path)
        volumes.catalog.propose(
            .createVolume(
                directory: directory, name: name, size: size, copies: copies, attributes: attributes(for: reply.peer)),
            request: nil
        ) { [self] answer in finish(answer, reply) }
    }

    func snapshot(_ paths: [String], tag: String, _ reply: AdminReply) throws(SheepError) {
        if let problem = Names.problem(withTag: tag) { throw problem }
        var members: [VolumeId] = []
        var group: DirectoryId?
        if paths.count == 1, case .directory(let id) = try names.find(paths[0]) {
            group = id
            members = volumes.catalog.state.volumes.values.filter { $0.directory == id && !$0.isHidden }.map(\.id)
                .sorted()
        } else {
            for path in paths {
                let id = try names.volume(path).id
                if !members.contains(id) { members.append(id) }
            }
        }
        guard !members.isEmpty else {
            throw SheepError(
                .invalid, what: "there is nothing to snapshot", why: "no volume was named, or the directory has none",
                remedy: "name one or several volumes: dog vdi list")
        }
        settled(members, "no snapshot was made", reply) { [self] in
            volumes.snapshot(members, tag: tag, group: group, replaceExisting: false, request: nil) { [self] answer in
                let made = members.compactMap { volumes.catalog.state.volumes[$0] }.map { record in
                    names.prefix(of: record.directory) + Names.compose(volume: record.name, tag: tag)
                }
                reply.end(answer) { $0.paths = made }
            }
        }
    }

    func clone(_ source: String, to path: String, _ reply: AdminReply) throws(SheepError) {
        let (directory, name) = try names.place(path)
        let done: (CommandAnswer) -> Void = { [self] answer in finish(answer, reply) }
        switch try names.find(source) {
        case .volume(let id):
            settled([id], "\(source) was not cloned", reply) { [self] in
                volumes.cloneCurrent(
                    id, directory: directory, name: name, attributes: attributes(for: reply.peer), request: nil, done)
            }
        case .snapshot(let id, let tag):
            guard let snapshot = names.snapshot(id, tag) else { return reply.fail(noSnapshot(source, tag)) }
            let reference = SnapshotReference(volume: id, generation: snapshot.generation)
            volumes.catalog.propose(
                .clone(
                    source: reference, directory: directory, name: name, copies: nil,
                    attributes: attributes(for: reply.peer)),
                request: nil, done)
        case .directory, .groupSnapshot:
            throw SheepError(
                .isDirectory, what: "\(source) cannot be cloned", why: "it is a directory",
                remedy: "clone the volumes in it one by one")
        }
    }

    func rollback(_ path: String, tag: String, _ reply: AdminReply) throws(SheepError) {
        let record = try names.volume(path)
        guard names.snapshot(record.id, tag) != nil else { throw noSnapshot(path, tag) }
        try checkUnused(record, path, "rolled back")
        volumes.rollback(record.id, tag: tag, request: nil) { [self] answer in finish(answer, reply, record.id) }
    }

    func resize(_ path: String, size: UInt64, shrink: Bool, _ reply: AdminReply) throws(SheepError) {
        let record = try names.volume(path)
        try checkSize(size)
        let old = mounts.size(record)
        if size < old {
            guard shrink else {
                throw SheepError(
                    .invalid, what: "\(path) was not resized",
                    why: "\(ByteSize.text(size)) is less than its \(ByteSize.text(old)): data would be cut off",
                    remedy: "shrink the file system in it first, then say --shrink")
            }
            try checkUnused(record, path, "shrunk")
        }
        settled([record.id], "\(path) was not resized", reply) { [self] in
            volumes.resize(record.id, size: size, request: nil) { [self] answer in finish(answer, reply, record.id) }
        }
    }

    func delete(_ path: String, recursive: Bool, _ reply: AdminReply) throws(SheepError) {
        let command: CatalogCommand
        switch try names.find(path) {
        case .volume(let id):
            let record = try names.volume(path)
            try checkUnused(record, path, "deleted")
            let visible = record.visibleSnapshots.count
            guard recursive || visible == 0 else {
                throw SheepError(
                    .notEmpty, what: "\(path) was not deleted",
                    why: "it has \(visible) snapshot\(visible == 1 ? "" : "s")",
                    remedy: "delete them first, or all at once: dog vdi delete --recursive \(path)")
            }
            command = .removeVolume(id, recursive: recursive)
        case .snapshot(let id, let tag): command = .removeSnapshot(volume: id, tag: tag)
        case .groupSnapshot(let id, let tag): command = .removeGroupSnapshot(directory: id, tag: tag)
        case .directory:
            throw SheepError(
                .isDirectory, what: "\(path) was not deleted", why: "it is a directory",
                remedy: "remove it on the mount when it is empty: rmdir")
        }
        volumes.catalog.propose(command, request: nil) { answer in reply.end(answer) { $0.paths = [path] } }
    }

    func flatten(_ path: String, _ reply: AdminReply) throws(SheepError) {
        let record = try names.volume(path)
        guard record.parent != nil else {
            throw SheepError(
                .invalid, what: "\(path) cannot be flattened", why: "it is not a clone, or was flattened before",
                remedy: "nothing needs to be done")
        }
        let limiter = ProgressLimiter(clock)
        volumes.flatten(
            record.id,
            progress: { done, total in if limiter.isDue { reply.progress(done, of: total, "bytes") } },
            { [self] answer in finish(answer, reply, record.id) })
    }

    func check(_ path: String, repair: Bool, _ reply: AdminReply) throws(SheepError) {
        let record = try names.volume(path)
        let limiter = ProgressLimiter(clock)
        node.check(
            record.id, repair: repair,
            progress: { done, total in
                if limiter.isDue { reply.progress(UInt64(max(0, done)), of: UInt64(max(0, total)), "objects") }
            },
            { outcome in
                switch outcome {
                case .success(let report): reply.finish { $0.check = CheckResult(report) }
                case .failure(let error): reply.fail(error)
                }
            })
    }

    // MARK: what may be asked for

    func checkSize(_ size: UInt64) throws(SheepError) {
        guard size % UInt64(sectorSize) == 0 else {
            throw SheepError(
                .invalid, what: "the size \(size) is refused",
                why: "it is not a multiple of the \(sectorSize)-byte sector",
                remedy: "use \(size - size % UInt64(sectorSize)) or the next multiple")
        }
        guard size <= maximumVolumeSize else {
            throw SheepError(
                .fileTooBig, what: "the size \(size) is refused",
                why: "a volume has at most \(maximumVolumeSize) bytes (16 PiB less 4 MiB)",
                remedy: "give a smaller size; several volumes can be joined in the guest")
        }
    }

    func checkCopies(_ copies: Int) throws(SheepError) {
        guard 1...7 ~= copies else {
            throw SheepError(
                .invalid, what: "\(copies) copies are refused", why: "a volume has 1 to 7 copies",
                remedy: "use 2 or 3; more costs as many writes")
        }
    }

    private func checkUnused(_ record: VolumeRecord, _ path: String, _ verb: String) throws(SheepError) {
        let users = volumes.openCount(record.id)
        guard users == 0 else {
            throw SheepError(
                .busy, what: "\(path) was not \(verb)", why: "it is open (\(users) time\(users == 1 ? "" : "s"))",
                remedy: "stop the guest that uses it (fuser -v on the file finds it)")
        }
    }

    private func noSnapshot(_ path: String, _ tag: String) -> SheepError {
        SheepError(
            .noEntry, what: "\(path) has no snapshot \(tag)", why: "it was never made, or is deleted",
            remedy: "see what there is: dog snapshot list \(path)")
    }

    /// Goes on with sizes in the catalog that are the ones users see.
    private func settled(_ ids: [VolumeId], _ what: String, _ reply: AdminReply, _ action: @escaping () -> Void) {
        mounts.settle(ids) { error in
            guard let error else { return action() }
            reply.fail(
                SheepError(
                    error, what: what, why: "the end of a file that is being appended to could not be recorded",
                    remedy: "see what is wrong: dog status; then try again"))
        }
    }

    // MARK: answers

    private func attributes(for peer: AdminPeer) -> FileAttributes {
        FileAttributes(uid: peer.uid, gid: peer.gid, mode: 0o600, time: clock.wallClock)
    }

    /// Ends with the report of the volume that the answer names, or of `known`.
    private func finish(_ answer: CommandAnswer, _ reply: AdminReply, _ known: VolumeId? = nil) {
        var id = known
        if case .volume(let made) = answer { id = made }
        let record = id.flatMap { volumes.catalog.state.volumes[$0] }
        reply.end(answer) { $0.volume = record.map { volumeReport($0) } }
    }
}

/// Lets progress through a few times a second, so that a fast operation does not flood its client.
final class ProgressLimiter {
    private let clock: any Clock
    private var last: Instant?
    init(_ clock: any Clock) { self.clock = clock }

    var isDue: Bool {
        let now = clock.now
        if let last, now.milliseconds(since: last) < 200 { return false }
        last = now
        return true
    }
}
