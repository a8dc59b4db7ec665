// Lookup, attributes and statfs. Access times do not move (noatime); a snapshot reports dense blocks, so that cp asks
// for the whole file to be copied at once.
import Catalog
import Fuse
import Logging
import Model
import OrderedCollections
import Replication

extension Filesystem {
    private static let directoryType: UInt32 = 0o040000
    private static let fileType: UInt32 = 0o100000
    /// What copying tools take as their buffer.
    private static let preferredSize: UInt32 = 262_144

    func lookup(_ request: FuseRequest, _ name: String, _ reply: FuseReply) {
        guard let parent = node(request.node) else { return reply.error(.stale) }
        guard let found = namespace.lookup(parent, name) else {
            return reply.error(name.utf8.count > Names.maximumNameBytes ? .nameTooLong : .noEntry)
        }
        answerEntry(found, parent: parent, reply)
    }

    /// Answers with `node` as what a name in `parent` means.
    func answerEntry(_ node: Node, parent: Node, _ reply: FuseReply) {
        entry(node, isCacheable: isCacheable(node, parent: parent)) { entry in
            guard let entry else { return reply.error(.noEntry) }
            reply.entry(entry)
        }
    }
    /// Whether the kernel may keep a name. Snapshots' names follow their volume's and mirrors follow everything: what
    /// changes beside the name that was asked for would be announced only after the answer, so they are not kept.
    func isCacheable(_ node: Node, parent: Node) -> Bool {
        guard case .directory = parent else { return false }
        switch node {
        case .volume, .directory: return true
        default: return false
        }
    }
    func entry(_ node: Node, isCacheable: Bool, _ completion: @escaping (FuseEntry?) -> Void) {
        attributes(node) { [self] attributes in
            guard let attributes else { return completion(nil) }
            completion(
                FuseEntry(
                    node: number(node), generation: 0,
                    entryValidMilliseconds: isCacheable ? Filesystem.validMilliseconds : 0,
                    attributesValidMilliseconds: validMilliseconds(node), attributes: attributes))
        }
    }
    private func validMilliseconds(_ node: Node) -> UInt64 {
        switch node {
        // Asynchronous writes (loop devices, qemu's aio) do not make the kernel ask again by themselves.
        case .volume(let id): (uses.existing(id)?.openCount ?? 0) > 0 ? 0 : Filesystem.validMilliseconds
        case .snapshot, .directory: Filesystem.validMilliseconds
        default: 0
        }
    }

    func getattr(_ request: FuseRequest, _ get: FuseGetAttributes, _ reply: FuseReply) {
        guard let node = node(request.node) else { return reply.error(.stale) }
        answerAttributes(node, reply)
    }
    private func answerAttributes(_ node: Node, _ reply: FuseReply) {
        attributes(node) { [self] attributes in
            guard let attributes else { return reply.error(.stale) }
            reply.attributes(attributes, validMilliseconds: validMilliseconds(node))
        }
    }

    /// Nil: there is no such node any more.
    func attributes(_ node: Node, _ completion: @escaping (FuseAttributes?) -> Void) {
        let state = service.catalog.state
        switch node {
        case .volume(let id):
            guard let record = state.visibleVolume(id) else { return completion(nil) }
            let use = uses.existing(id)
            let size = use?.size ?? record.size
            var attributes = record.attributes
            if let time = use?.modifyTime {
                attributes.modifyTime = time
                attributes.changeTime = max(time, attributes.changeTime)
            }
            if options.copyClones { return completion(file(node, attributes, size, blocks: dense(size))) }
            service.allocatedBytes(.current(id)) { [self] allocated in
                completion(file(node, attributes, uses.existing(id)?.size ?? size, blocks: allocated / 512))
            }
        case .snapshot(let id, let generation):
            guard let record = namespace.snapshot(id, generation) else { return completion(nil) }
            var attributes = record.attributes
            attributes.mode = attributes.mode & 0o7555 | 0o444
            completion(file(node, attributes, record.size, blocks: dense(record.size)))
        case .directory(let id):
            completion(state.directories[id].map { directory(node, $0.attributes, mode: $0.attributes.mode) })
        case .snapshots(let id):
            completion(state.directories[id].map { directory(node, $0.attributes, mode: $0.attributes.mode) })
        case .groupSnapshot(let id, let hash):
            guard let record = state.directories[id], let group = namespace.group(id, hash: hash) else {
                return completion(nil)
            }
            completion(directory(node, record.attributes, mode: 0o555, time: group.createdWallClock))
        case .lineageDirectory(let id):
            completion(state.directories[id].map { directory(node, $0.attributes, mode: 0o555) })
        case .lineageVolume(let id):
            completion(state.visibleVolume(id).map { directory(node, $0.attributes, mode: 0o755) })
        case .lineageSnapshot(let id, let generation):
            completion(
                namespace.snapshot(id, generation).map {
                    directory(node, $0.attributes, mode: 0o755, time: $0.createdWallClock)
                })
        case .control: completion(directory(node, systemAttributes, mode: 0o555))
        case .text(let file):
            let size = UInt64(contents(of: file).count)
            var attributes = systemAttributes
            attributes.mode = 0o444
            completion(self.file(node, attributes, size, blocks: 0))
        }
    }

    private var systemAttributes: FileAttributes { FileAttributes(uid: 0, gid: 0, mode: 0o555, time: clock.wallClock) }
    private func dense(_ size: UInt64) -> UInt64 { size / 512 + (size % 512 == 0 ? 0 : 1) }

    private func file(_ node: Node, _ attributes: FileAttributes, _ size: UInt64, blocks: UInt64) -> FuseAttributes {
        FuseAttributes(
            inode: number(node), size: size, blocks: blocks, mode: Filesystem.fileType | attributes.mode & 0o7777,
            uid: attributes.uid, gid: attributes.gid, accessTime: FuseTime(wallClock: attributes.accessTime),
            modificationTime: FuseTime(wallClock: attributes.modifyTime),
            changeTime: FuseTime(wallClock: attributes.changeTime), blockSize: Filesystem.preferredSize)
    }
    private func directory(
        _ node: Node, _ attributes: FileAttributes, mode: UInt32, time: UInt64? = nil
    ) -> FuseAttributes {
        FuseAttributes(
            inode: number(node), size: 0, blocks: 0, mode: Filesystem.directoryType | mode & 0o7777, linkCount: 1,
            uid: attributes.uid, gid: attributes.gid, accessTime: FuseTime(wallClock: time ?? attributes.accessTime),
            modificationTime: FuseTime(wallClock: time ?? attributes.modifyTime),
            changeTime: FuseTime(wallClock: time ?? attributes.changeTime))
    }

    // MARK: Setting

    func setattr(_ request: FuseRequest, _ set: FuseSetAttributes, _ reply: FuseReply) {
        guard let node = node(request.node) else { return reply.error(.stale) }
        guard !isReadOnly else { return reply.error(.readOnly) }
        let state = service.catalog.state
        switch node {
        case .volume(let id):
            guard let record = state.visibleVolume(id) else { return reply.error(.stale) }
            setVolume(record, request, set, reply)
        case .snapshot(let id, let generation):
            guard let record = namespace.snapshot(id, generation) else { return reply.error(.stale) }
            setSnapshot(id, record, request, set, reply)
        case .directory(let id), .snapshots(let id):
            guard let record = state.directories[id] else { return reply.error(.stale) }
            guard set.size == nil else { return reply.error(.isDirectory) }
            let changed = changed(record.attributes, by: set)
            propose(.setDirectoryAttributes(id, changed), request, reply) { [self] _ in
                answerAttributes(node, reply)
            }
        default: reply.error(.notPermitted)
        }
    }

    private func setVolume(
        _ record: VolumeRecord, _ request: FuseRequest, _ set: FuseSetAttributes, _ reply: FuseReply
    ) {
        let id = record.id
        if let size = set.size {
            let use = uses.use(record)
            use.setSize(size, request: requestId(request)) { [self] error in
                if let error {
                    if error == .fileTooBig { logTooLarge(record.name, size) }
                    uses.forgetIfIdle(id)
                    return reply.error(error)
                }
                use.modifyTime = clock.wallClock
                uses.attributesChanged(id, by: self)
                if use.openCount == 0 { uses.persist(use) { [uses] in uses.forgetIfIdle(id) } }
                answerKept { [self] in setVolumeAttributes(id, request, set, reply) }
            }
        } else {
            setVolumeAttributes(id, request, set, reply)
        }
    }
    func logTooLarge(_ name: String, _ size: UInt64) {
        logger.notice("\(name) cannot have \(size) bytes: the largest volume has \(maximumVolumeSize)")
    }

    private func setVolumeAttributes(
        _ id: VolumeId, _ request: FuseRequest, _ set: FuseSetAttributes, _ reply: FuseReply
    ) {
        guard
            set.mode != nil || set.uid != nil || set.gid != nil || set.accessTime != nil
                || set.modificationTime != nil
        else { return answerAttributes(.volume(id), reply) }
        guard let record = service.catalog.state.visibleVolume(id) else { return reply.error(.stale) }
        var attributes = record.attributes
        let use = uses.existing(id)
        let pending = use?.modifyTime
        if let pending { attributes.modifyTime = pending }
        use?.attributeChanges += 1
        let command = CatalogCommand.setAttributes(id, changed(attributes, by: set))
        service.catalog.propose(command, request: requestId(request, step: 1)) { [self] answer in
            use?.attributeChanges -= 1
            if let use, use.modifyTime == pending { use.modifyTime = nil }
            accepted(answer, reply) { [self] _ in answerAttributes(.volume(id), reply) }
            uses.forgetIfIdle(id)
        }
    }

    private func setSnapshot(
        _ id: VolumeId, _ record: SnapshotRecord, _ request: FuseRequest, _ set: FuseSetAttributes,
        _ reply: FuseReply
    ) {
        // What cp and rsync set on the snapshot they believe to be writing is taken as far as it can be.
        let isWriting = set.handle.flatMap { files.file($0)?.comparesWrites } ?? EntryName.isTemporaryTag(record.tag)
        if let size = set.size, !isWriting || size != record.size { return reply.error(.readOnly) }
        if let mode = set.mode, mode & 0o222 != 0, !isWriting { return reply.error(.readOnly) }
        var attributes = changed(record.attributes, by: set)
        attributes.mode &= ~0o222
        propose(.setSnapshotAttributes(volume: id, tag: record.tag, attributes), request, reply) { [self] _ in
            answerAttributes(.snapshot(id, record.generation), reply)
        }
    }

    private func changed(_ attributes: FileAttributes, by set: FuseSetAttributes) -> FileAttributes {
        var result = attributes
        let now = clock.wallClock
        func time(_ moment: FuseSetAttributes.Moment?) -> UInt64? {
            switch moment {
            case .now?: now
            case .at(let time)?: time.wallClock
            case nil: nil
            }
        }
        if let mode = set.mode { result.mode = mode & 0o7777 }
        if let uid = set.uid { result.uid = uid }
        if let gid = set.gid { result.gid = gid }
        if let access = time(set.accessTime) { result.accessTime = access }
        if let modification = time(set.modificationTime) { result.modifyTime = modification }
        result.changeTime = now
        return result
    }

    // MARK: The whole

    func statfs(_ reply: FuseReply) {
        let space = service.space
        let state = service.catalog.state
        let files = UInt64(state.volumes.count + state.directories.count)
        let left = UInt64(UInt32.max - state.nextVolumeId)
        reply.statistics(
            FuseStatistics(
                blocks: space.capacityBytes / 4096, freeBlocks: space.availableBytes / 4096,
                availableBlocks: space.availableBytes / 4096, files: files + left, freeFiles: left))
    }
}
