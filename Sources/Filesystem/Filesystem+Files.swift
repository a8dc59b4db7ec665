// Opening and closing files, and making what was written durable. A handle is with the keeper before its number is
// answered; one that is unknown all the same is made anew from the node that each request names.
import Catalog
import Fuse
import Model
import Replication

extension Filesystem {
    private static let fileFlags: FuseOpenFlags = [.directIO, .parallelDirectWrites]

    func open(_ request: FuseRequest, _ open: FuseOpen, _ reply: FuseReply) {
        guard let node = node(request.node) else { return reply.error(.stale) }
        if request.isResend, let file = files.all.first(where: { $0.unique == request.unique && $0.view != nil }) {
            return reply.opened(handle: file.number, flags: Filesystem.fileFlags)
        }
        let writes = open.flags & OpenFile.accessMask != 0
        switch node {
        case .snapshot, .text: if writes { return reply.error(.readOnly) }
        case .volume: if writes && isReadOnly { return reply.error(.readOnly) }
        default: return reply.error(.isDirectory)
        }
        guard let file = makeFile(node, flags: open.flags, unique: request.unique) else {
            return reply.error(.stale)
        }
        // What the kernel believes of a file that nobody had open is no longer to be believed for long.
        if writes, case .volume(let use) = file.content { attributesChanged(use.id) }
        if case .text = file.content { return reply.opened(handle: file.number, flags: .directIO) }
        answerWhenKept { reply.opened(handle: file.number, flags: Filesystem.fileFlags) }
    }

    /// Opens a node. Nil: it does not exist any more.
    func makeFile(_ node: Node, flags: UInt32, unique: UInt64, comparesWrites: Bool = false) -> OpenFile? {
        guard let content = content(of: node) else { return nil }
        let file = OpenFile(
            number: files.nextNumber(), node: node, content: content, flags: flags, unique: unique,
            comparesWrites: comparesWrites)
        files.insert(file)
        count(file)
        return file
    }
    func content(of node: Node) -> OpenFile.Content? {
        switch node {
        case .volume(let id): service.catalog.state.visibleVolume(id).map { .volume(uses.use($0)) }
        case .snapshot(let id, let generation):
            namespace.snapshot(id, generation).map {
                .snapshot(SnapshotReference(volume: id, generation: generation), size: $0.size)
            }
        case .text(let file): .text(contents(of: file))
        default: nil
        }
    }
    func count(_ file: OpenFile) {
        switch file.content {
        case .volume(let use): uses.opened(use)
        case .snapshot(let reference, _): uses.opened(reference)
        case .text, .directory: break
        }
    }

    /// The file that a request means: by its handle, else (a handle of a process that could not keep it) by its node.
    func file(_ handle: UInt64, node number: UInt64, flags: UInt32) -> OpenFile? {
        if let file = files.file(handle) { return file }
        return adopt(handle, number, flags)
    }
    private func adopt(_ handle: UInt64, _ number: UInt64, _ flags: UInt32) -> OpenFile? {
        guard let node = node(number), let content = content(of: node) else { return nil }
        let file = OpenFile(number: handle, node: node, content: content, flags: flags, unique: 0)
        guard files.restore(file) else { return nil }
        count(file)
        stateChanged()
        return file
    }

    func created(_ request: FuseRequest, _ node: Node, flags: UInt32, comparesWrites: Bool, _ reply: FuseReply) {
        let again = request.isResend ? files.all.first { $0.unique == request.unique && $0.view != nil } : nil
        guard
            let file = again
                ?? makeFile(node, flags: flags, unique: request.unique, comparesWrites: comparesWrites)
        else { return reply.error(.stale) }
        entry(node, isCacheable: !comparesWrites) { [self] entry in
            guard let entry else {
                release(file.number, node: node)
                return reply.error(.stale)
            }
            answerWhenKept { reply.created(entry, handle: file.number, flags: Filesystem.fileFlags) }
        }
    }

    // MARK: Closing

    func flush(_ number: UInt64, _ flush: FuseFlush, _ reply: FuseReply) {
        if let node = node(number) {
            let dropped = uses.locks.drop(node, owner: LockOwner(mount: mountId, owner: flush.lockOwner))
            if dropped { stateChanged() }
        }
        guard let file = files.file(flush.handle), case .volume(let use) = file.content, !use.isSettled else {
            return answerKept { reply.success() }
        }
        use.settle { [self] error in
            if let error { reply.error(error) } else { answerKept { reply.success() } }
        }
    }

    func released(_ number: UInt64, _ release: FuseRelease, _ reply: FuseReply) {
        self.release(release.handle, node: node(number))
        // Not before the keeper knows: a file that a new process believed to be open could never be closed.
        answerWhenKept { reply.success() }
    }
    func release(_ handle: UInt64, node: Node?) {
        if let node { uses.locks.drop(node, mount: mountId, handle: handle) }
        guard let file = files.remove(handle) else { return }
        switch file.content {
        case .volume(let use): uses.closed(use)
        case .snapshot(let reference, _): uses.closed(reference)
        case .text, .directory: return
        }
        stateChanged()
    }

    // MARK: Durability

    /// fsync and fdatasync: data and size are durable. The time of the last write follows when the file is closed.
    func fsync(_ number: UInt64, _ sync: FuseSync, _ reply: FuseReply) {
        guard let file = file(sync.handle, node: number, flags: 2) else { return reply.error(.badDescriptor) }
        guard case .volume(let use) = file.content else { return reply.success() }
        use.settle { [service] error in
            if let error { return reply.error(error) }
            service.flush(use.id) { error in
                if let error { reply.error(error) } else { reply.success() }
            }
        }
    }
}
