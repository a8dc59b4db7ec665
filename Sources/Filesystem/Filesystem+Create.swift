// Making volumes, directories, snapshots by creating or mkdir'ing their name.
import Catalog
import Fuse
import Model
import OrderedCollections
import Replication

extension Filesystem {
    private static let typeMask: UInt32 = 0o170000
    private static let regular: UInt32 = 0o100000
    private static let exclusive: UInt32 = 0o200

    func newAttributes(_ request: FuseRequest, mode: UInt32, in directory: DirectoryId?) -> FileAttributes {
        var attributes = FileAttributes(
            uid: request.uid, gid: request.gid, mode: mode & 0o7777, time: clock.wallClock)
        // Set-group-id on the directory: what is made in it belongs to its group.
        if let directory, let record = service.catalog.state.directories[directory],
            record.attributes.mode & 0o2000 != 0
        {
            attributes.gid = record.attributes.gid
        }
        return attributes
    }

    func create(_ request: FuseRequest, _ create: FuseCreate, _ reply: FuseReply) {
        make(request, create.name, mode: create.mode, isExclusive: create.flags & Filesystem.exclusive != 0, reply) {
            [self] node, comparesWrites in
            created(request, node, flags: create.flags, comparesWrites: comparesWrites, reply)
        }
    }
    func mknod(_ request: FuseRequest, _ make: FuseMakeNode, _ reply: FuseReply) {
        guard make.mode & Filesystem.typeMask == Filesystem.regular || make.mode & Filesystem.typeMask == 0 else {
            return reply.error(.notPermitted)
        }
        self.make(request, make.name, mode: make.mode, isExclusive: true, reply) { [self] node, _ in
            guard let parent = self.node(request.node) else { return reply.error(.stale) }
            answerEntry(node, parent: parent, reply)
        }
    }

    /// Makes the file that `name` means: a volume, or a snapshot of the volume in it.
    private func make(
        _ request: FuseRequest, _ name: String, mode: UInt32, isExclusive: Bool, _ reply: FuseReply,
        _ done: @escaping (Node, _ comparesWrites: Bool) -> Void
    ) {
        switch earlierAnswer(request) {
        case .volume(let id)?: return done(.volume(id), false)
        case .snapshot(let id, let generation)?: return done(.snapshot(id, generation), true)
        default: break
        }
        guard !isReadOnly else { return reply.error(.readOnly) }
        guard case .directory(let directory)? = node(request.node) else {
            return refuseMaking(request.node, reply)
        }
        if let existing = namespace.lookup(.directory(directory), name) {
            // The kernel looked before us; another mount was faster.
            guard !isExclusive else { return reply.error(.exists) }
            switch existing {
            case .volume: return done(existing, false)
            case .snapshot: return reply.error(.readOnly)
            default: return reply.error(.isDirectory)
            }
        }
        if let (volume, tag) = snapshotName(name, in: directory) {
            return snapshot(volume, tag: tag, request, reply) { done($0, true) }
        }
        switch EntryName(name) {
        case .invalid: refuseBadName(name, reply)
        case .snapshot(let volume, _):
            refuse(
                .noEntry, what: "'\(name)' cannot be made", why: "there is no volume '\(volume)' to be snapshotted",
                remedy: "create the volume first, or correct the name", reply)
        case .plain:
            // A volume that nobody may write is what cp of a snapshot asks for: it passes the snapshot's mode on.
            let mode = mode & 0o222 == 0 ? mode | 0o200 : mode
            propose(
                .createVolume(
                    directory: directory, name: name, size: 0, copies: nil,
                    attributes: newAttributes(request, mode: mode, in: directory)), request, reply
            ) { answer in
                guard case .volume(let id) = answer else { return reply.error(.inputOutput) }
                done(.volume(id), false)
            }
        }
    }

    /// The volume and tag that a new name asks to snapshot: `vol@tag.img`, or rsync's temporary form of it.
    func snapshotName(_ name: String, in directory: DirectoryId) -> (VolumeRecord, tag: String)? {
        if case .snapshot(let volume, let tag) = EntryName(name), let record = namespace.volume(directory, volume) {
            return (record, tag)
        }
        if let (volume, tag) = EntryName.writtenTemporary(name), let record = namespace.volume(directory, volume) {
            return (record, tag)
        }
        return nil
    }

    /// Takes a snapshot of one volume.
    func snapshot(
        _ volume: VolumeRecord, tag: String, _ request: FuseRequest, _ reply: FuseReply,
        _ done: @escaping (Node) -> Void
    ) {
        guard volume.generation.rawValue < Node.maximumGeneration else { return reply.error(.overflow) }
        uses.settle([volume.id]) { [self] error in
            if let error { return reply.error(error) }
            service.snapshot(
                [volume.id], tag: tag, group: nil, replaceExisting: false, request: requestId(request)
            ) { [self] answer in
                accepted(answer, reply) { [self] answer in
                    if case .snapshot(let id, let generation) = answer {
                        done(.snapshot(id, generation))
                    } else if let made = service.catalog.state.visibleVolume(volume.id)?.snapshot(tag) {
                        done(.snapshot(volume.id, made.generation))
                    } else {
                        reply.error(.inputOutput)
                    }
                }
            }
        }
    }

    /// Nothing can be made in what is not a directory of volumes.
    func refuseMaking(_ number: UInt64, _ reply: FuseReply) {
        switch node(number) {
        case nil: reply.error(.stale)
        case .groupSnapshot?: reply.error(.readOnly)
        default: reply.error(.notPermitted)
        }
    }

    // MARK: Directories

    func mkdir(_ request: FuseRequest, _ make: FuseMakeDirectory, _ reply: FuseReply) {
        guard !isReadOnly else { return reply.error(.readOnly) }
        guard let parent = node(request.node) else { return reply.error(.stale) }
        if earlierAnswer(request) == nil, namespace.lookup(parent, make.name) != nil { return reply.error(.exists) }
        switch parent {
        case .directory(let id):
            guard case .plain = EntryName(make.name) else { return refuseBadName(make.name, reply) }
            propose(
                .createDirectory(
                    parent: id, name: make.name, attributes: newAttributes(request, mode: make.mode, in: id)), request,
                reply
            ) { [self] answer in
                guard case .directory(let made) = answer else { return reply.error(.inputOutput) }
                answerEntry(.directory(made), parent: parent, reply)
            }
        case .snapshots(let id): snapshotGroup(id, make.name, request, reply)
        case .lineageVolume(let id):
            guard let record = service.catalog.state.visibleVolume(id) else { return reply.error(.stale) }
            snapshot(record, tag: make.name, request, reply) { [self] made in
                guard case .snapshot(_, let generation) = made else { return reply.error(.inputOutput) }
                answerEntry(.lineageSnapshot(id, generation), parent: parent, reply)
            }
        case .lineageSnapshot(let id, let generation):
            guard let source = service.catalog.state.visibleVolume(id), let record = namespace.snapshot(id, generation)
            else { return reply.error(.stale) }
            makeClone(
                .snapshot(id, generation), directory: source.directory, name: make.name, copies: nil,
                cloneAttributes(of: record.attributes), request, step: 0, reply
            ) { [self] clone in answerEntry(.lineageVolume(clone), parent: parent, reply) }
        default: refuseMaking(request.node, reply)
        }
    }

    /// A clone belongs to whom its source belongs, who may write it.
    func cloneAttributes(of source: FileAttributes) -> FileAttributes {
        FileAttributes(uid: source.uid, gid: source.gid, mode: source.mode & 0o777 | 0o600, time: clock.wallClock)
    }

    /// `mkdir dir/.snap/tag`: all volumes of the directory at one instant.
    private func snapshotGroup(_ id: DirectoryId, _ tag: String, _ request: FuseRequest, _ reply: FuseReply) {
        if let problem = Names.problem(withTag: tag) { return refuse(problem, reply) }
        let node = Node.groupSnapshot(id, tagHash: Node.hash(ofTag: tag))
        if let other = namespace.group(id, hash: Node.hash(ofTag: tag)), other.tag != tag {
            return refuse(
                .exists, what: "the snapshot '\(tag)' cannot be made", why: "its tag has the hash of '\(other.tag)'",
                remedy: "choose another tag", reply)
        }
        let volumes = namespace.list(.directory(id)).compactMap { entry -> VolumeId? in
            if case .volume(let volume) = entry.node { volume } else { nil }
        }
        uses.settle(volumes) { [self] error in
            if let error { return reply.error(error) }
            service.snapshot(volumes, tag: tag, group: id, replaceExisting: false, request: requestId(request)) {
                [self] answer in
                accepted(answer, reply) { [self] _ in
                    answerEntry(node, parent: .snapshots(id), reply)
                }
            }
        }
    }
}
