// mv, and the renames with which `ln -f` and rsync end. What is replaced must not be in use.
import Catalog
import Fuse
import Model
import OrderedCollections
import Replication

extension Filesystem {
    func rename(_ request: FuseRequest, _ rename: FuseRename, _ reply: FuseReply) {
        if earlierAnswer(request, step: 3) == .done || earlierAnswer(request) == .done { return reply.success() }
        guard !isReadOnly else { return reply.error(.readOnly) }
        guard rename.flags & ~FuseRename.noReplace == 0 else { return reply.error(.invalid) }
        guard let from = node(request.node), let to = node(rename.newDirectory) else { return reply.error(.stale) }
        guard case .directory(let oldDirectory) = from, case .directory(let newDirectory) = to else {
            return reply.error(.notPermitted)
        }
        guard let source = namespace.lookup(from, rename.name) else { return reply.error(.noEntry) }
        let existing = namespace.lookup(to, rename.newName)
        if existing != nil, rename.flags & FuseRename.noReplace != 0 { return reply.error(.exists) }
        if existing == source, rename.name == rename.newName { return reply.success() }
        switch source {
        case .volume(let id): renameVolume(id, newDirectory, rename, existing, request, reply)
        case .directory(let id):
            guard case .plain = EntryName(rename.newName) else { return refuseBadName(rename.newName, reply) }
            switch existing {
            case nil, .directory?: break
            default: return reply.error(.notDirectory)
            }
            propose(.renameDirectory(id, parent: newDirectory, name: rename.newName), request, reply) { _ in
                reply.success()
            }
        case .snapshot(let id, let generation):
            renameSnapshot(id, generation, oldDirectory, newDirectory, rename, existing, request, reply)
        default: reply.error(.notPermitted)
        }
    }

    /// Nil: what stands there may be replaced, as far as its use goes.
    private func obstacle(_ existing: Node?) -> Errno? {
        switch existing {
        case nil: nil
        case .volume(let id)?: uses.isInUse(id) ? .busy : nil
        case .snapshot(let id, let generation)?:
            uses.isOpen(SnapshotReference(volume: id, generation: generation)) ? .busy : nil
        default: .isDirectory
        }
    }
    private func refuseBusy(_ name: String, _ errno: Errno, _ reply: FuseReply) {
        guard errno == .busy else { return reply.error(errno) }
        refuse(
            .busy, what: "'\(name)' was not replaced or removed", why: "it is open",
            remedy: "close it first (lsof tells who has it)", reply)
    }

    private func renameVolume(
        _ id: VolumeId, _ directory: DirectoryId, _ rename: FuseRename, _ existing: Node?, _ request: FuseRequest,
        _ reply: FuseReply
    ) {
        guard case .plain = EntryName(rename.newName) else {
            return refuse(
                .notPermitted, what: "'\(rename.name)' cannot be called '\(rename.newName)'",
                why: "a name with @ is a snapshot's", remedy: "make a snapshot with ln, or choose a name without @",
                reply)
        }
        whenFree(existing) { [self] errno in
            if let errno { return refuseBusy(rename.newName, errno, reply) }
            propose(
                .renameVolume(id, directory: directory, name: rename.newName, replacing: existing != nil), request,
                reply
            ) { _ in reply.success() }
        }
    }

    private func renameSnapshot(
        _ id: VolumeId, _ generation: Generation, _ oldDirectory: DirectoryId, _ newDirectory: DirectoryId,
        _ rename: FuseRename, _ existing: Node?, _ request: FuseRequest, _ reply: FuseReply
    ) {
        guard let volume = service.catalog.state.visibleVolume(id), let record = namespace.snapshot(id, generation)
        else { return reply.error(.stale) }
        if existing == .snapshot(id, generation) { return reply.success() }
        if let (named, tag) = snapshotName(rename.newName, in: newDirectory), named.id == id {
            return whenFree(existing) { [self] errno in
                if let errno { return refuseBusy(rename.newName, errno, reply) }
                propose(
                    .renameSnapshot(volume: id, from: record.tag, to: tag, replacing: existing != nil), request, reply
                ) { _ in reply.success() }
            }
        }
        // `ln -f vol.img existing.img`: the temporary snapshot becomes a clone that replaces the volume.
        if EntryName.isLinkTemporary(rename.name), case .plain = EntryName(rename.newName) {
            return whenFree(existing) { [self] errno in
                if let errno { return refuseBusy(rename.newName, errno, reply) }
                replaceByClone(volume, record, newDirectory, rename, request, reply)
            }
        }
        refuse(
            .notPermitted, what: "'\(rename.name)' cannot be called '\(rename.newName)'",
            why: "a snapshot stays with its volume; only its tag can change",
            remedy: "to make a volume of it, clone it: ln \(rename.name) NEW.img", reply)
    }

    private func replaceByClone(
        _ volume: VolumeRecord, _ snapshot: SnapshotRecord, _ directory: DirectoryId, _ rename: FuseRename,
        _ request: FuseRequest, _ reply: FuseReply
    ) {
        var attributes = cloneAttributes(of: snapshot.attributes)
        attributes.mode = volume.attributes.mode & 0o777
        makeClone(
            .snapshot(volume.id, snapshot.generation), directory: directory, name: "." + rename.name + ".clone",
            copies: nil, attributes, request, step: 1, reply
        ) { [self] clone in
            propose(
                .renameVolume(clone, directory: directory, name: rename.newName, replacing: true), request, step: 2,
                reply
            ) { [self] _ in
                propose(.removeSnapshot(volume: volume.id, tag: snapshot.tag), request, step: 3, reply) { _ in
                    reply.success()
                }
            }
        }
    }

    // MARK: Removing

    func unlink(_ request: FuseRequest, _ name: String, _ reply: FuseReply) {
        if earlierAnswer(request) == .done { return reply.success() }
        guard !isReadOnly else { return reply.error(.readOnly) }
        guard let parent = node(request.node) else { return reply.error(.stale) }
        guard let found = namespace.lookup(parent, name) else { return reply.error(.noEntry) }
        guard case .directory = parent else {
            return reply.error(found.isDirectory ? .isDirectory : .notPermitted)
        }
        switch found {
        case .volume(let id):
            whenFree(found) { [self] errno in
                if let errno { return refuseBusy(name, errno, reply) }
                propose(.removeVolume(id, recursive: false), request, reply) { _ in reply.success() }
            }
        case .snapshot(let id, let generation):
            whenFree(found) { [self] errno in
                if let errno { return refuseBusy(name, errno, reply) }
                guard let record = namespace.snapshot(id, generation) else { return reply.error(.noEntry) }
                propose(.removeSnapshot(volume: id, tag: record.tag), request, reply) { _ in reply.success() }
            }
        default: reply.error(.isDirectory)
        }
    }

    func rmdir(_ request: FuseRequest, _ name: String, _ reply: FuseReply) {
        if earlierAnswer(request) == .done { return reply.success() }
        guard !isReadOnly else { return reply.error(.readOnly) }
        guard let parent = node(request.node) else { return reply.error(.stale) }
        guard let found = namespace.lookup(parent, name) else { return reply.error(.noEntry) }
        switch (parent, found) {
        case (.directory, .directory(let id)):
            propose(.removeDirectory(id), request, reply) { _ in reply.success() }
        case (.snapshots(let id), .groupSnapshot):
            let members = service.catalog.state.directories[id]?.groupSnapshots[name]?.members ?? []
            guard !members.contains(where: { uses.isOpen($0) }) else { return refuseBusy(name, .busy, reply) }
            propose(.removeGroupSnapshot(directory: id, tag: name), request, reply) { _ in reply.success() }
        case (.lineageVolume, .lineageSnapshot(let id, let generation)):
            guard namespace.clones(of: id, generation).isEmpty else { return reply.error(.notEmpty) }
            whenFree(.snapshot(id, generation)) { [self] errno in
                if let errno { return refuseBusy(name, errno, reply) }
                propose(.removeSnapshot(volume: id, tag: name), request, reply) { _ in reply.success() }
            }
        default: reply.error(found.isDirectory ? .notPermitted : .notDirectory)
        }
    }

    /// Calls `action` with nil when nobody has what stands there open. The last close of a file reaches us a moment
    /// after it returned to its caller, so what is busy is asked once more a little later.
    private func whenFree(_ existing: Node?, _ action: @escaping (Errno?) -> Void) {
        guard obstacle(existing) == .busy else { return action(obstacle(existing)) }
        clock.after(milliseconds: 50) { [self] in action(obstacle(existing)) }
    }
}
