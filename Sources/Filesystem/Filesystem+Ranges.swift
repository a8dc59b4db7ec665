// Operations on ranges of a file without its data coming by: fallocate, SEEK_DATA and SEEK_HOLE, copy_file_range.
import Catalog
import Fuse
import Model
import Replication

extension Filesystem {
    private static let keepSize: UInt32 = 1
    private static let punchHole: UInt32 = 2
    private static let zeroRange: UInt32 = 16

    /// Mode 0 extends the size and reserves nothing; holes and zeros give space back; nothing else is offered.
    func fallocate(_ request: FuseRequest, _ allocate: FuseAllocate, _ reply: FuseReply) {
        guard let file = file(allocate.handle, node: request.node, flags: 2) else {
            return reply.error(.badDescriptor)
        }
        guard case .volume(let use) = file.content, !isReadOnly else { return reply.error(.readOnly) }
        let (end, isTooFar) = allocate.offset.addingReportingOverflow(allocate.length)
        guard allocate.length > 0, !isTooFar else { return reply.error(isTooFar ? .fileTooBig : .invalid) }
        switch allocate.mode {
        case 0:
            use.grow(to: end, request: requestId(request)) { [self] error in finishRange(use, error, reply) }
        case Filesystem.punchHole | Filesystem.keepSize, Filesystem.zeroRange | Filesystem.keepSize:
            discard(use, allocate.offset, end) { [self] error in finishRange(use, error, reply) }
        case Filesystem.zeroRange:
            use.grow(to: end, request: requestId(request)) { [self] error in
                if let error { return reply.error(error) }
                discard(use, allocate.offset, end) { [self] error in finishRange(use, error, reply) }
            }
        default: reply.error(.notSupported)
        }
    }
    private func discard(
        _ use: VolumeUse, _ offset: UInt64, _ end: UInt64, _ completion: @escaping (Errno?) -> Void
    ) {
        let end = min(end, use.size)
        guard offset < end else { return completion(nil) }
        service.discard(use.id, offset: offset, count: end - offset, completion)
    }
    private func finishRange(_ use: VolumeUse, _ error: Errno?, _ reply: FuseReply) {
        if let error { return reply.error(error) }
        wrote(use)
        answerKept { reply.success() }
    }

    func seek(_ number: UInt64, _ seek: FuseSeek, _ reply: FuseReply) {
        guard let file = file(seek.handle, node: number, flags: 0) else { return reply.error(.badDescriptor) }
        let size = file.size
        guard seek.whence == FuseSeek.data || seek.whence == FuseSeek.hole else { return reply.error(.invalid) }
        guard seek.offset < size else { return reply.error(.noPosition) }
        let data = seek.whence == FuseSeek.data
        guard let view = file.view else { return reply.position(data ? seek.offset : size) }
        service.seek(view, offset: seek.offset, data: data) { result in
            switch result {
            case .failure(let error): reply.error(error)
            // The catalog's size may be ahead of the true one.
            case .success(let offset) where offset < size: reply.position(offset)
            case .success: if data { reply.error(.noPosition) } else { reply.position(size) }
            }
        }
    }

    // MARK: Copying

    func copyFileRange(_ request: FuseRequest, _ copy: FuseCopyRange, _ reply: FuseReply) {
        if case .volume(let clone)? = earlierAnswer(request) { return resumeClone(clone, copy, request, reply) }
        guard let source = file(copy.handle, node: request.node, flags: 0),
            let target = file(copy.targetHandle, node: copy.targetNode, flags: 2), let view = source.view
        else { return reply.error(.badDescriptor) }
        guard copy.offset < source.size, copy.length > 0 else { return reply.written(0) }
        let count = min(copy.length, source.size - copy.offset)
        guard case .volume(let use) = target.content else {
            // The snapshot that was made by creating this name holds what its volume held then.
            guard target.comparesWrites, let made = target.view, made.volume == view.volume,
                copy.offset == copy.targetOffset, view == made || view == .current(made.volume),
                copy.offset <= target.size, count <= target.size - copy.offset
            else { return reply.error(.readOnly) }
            return reply.written(count)
        }
        guard !isReadOnly else { return reply.error(.readOnly) }
        if isWhole(copy, source), canBecomeClone(use) {
            return cloneInto(use, from: view, request, copy, reply)
        }
        let (end, isTooFar) = copy.targetOffset.addingReportingOverflow(count)
        guard !isTooFar else { return reply.error(.fileTooBig) }
        use.extend(to: end) { [self] error in
            if let error { return reply.error(error) }
            service.copy(from: view, offset: copy.offset, to: use.id, at: copy.targetOffset, count: count) {
                [self] result in
                switch result {
                case .failure(let error):
                    use.finishExtending(to: nil)
                    reply.error(error)
                case .success(let copied):
                    use.finishExtending(to: copied > 0 ? copy.targetOffset + min(copied, count) : nil)
                    wrote(use)
                    answerKept { reply.written(min(copied, count)) }
                }
            }
        }
    }

    private func isWhole(_ copy: FuseCopyRange, _ source: OpenFile) -> Bool {
        copy.offset == 0 && copy.targetOffset == 0 && copy.length >= source.size
    }
    /// A volume that nobody has written to and only this caller has open.
    private func canBecomeClone(_ use: VolumeUse) -> Bool {
        guard use.size == 0, !use.isReserved, service.openCount(use.id) == 1,
            let record = service.catalog.state.visibleVolume(use.id)
        else { return false }
        return record.size == 0 && record.generation == .first && record.parent == nil && record.snapshots.isEmpty
            && record.trimFrom == nil
    }

    /// The empty file becomes a clone: a clone is made beside it under a temporary name and takes its place, and the
    /// open file (and the node that the kernel knows) goes on as the clone.
    private func cloneInto(
        _ use: VolumeUse, from view: VolumeView, _ request: FuseRequest, _ copy: FuseCopyRange, _ reply: FuseReply
    ) {
        guard let record = service.catalog.state.visibleVolume(use.id) else { return reply.error(.stale) }
        let temporary = ".clone-" + hexadecimal(mountId ^ request.unique, digits: 16)
        var attributes = record.attributes
        attributes.modifyTime = clock.wallClock
        attributes.changeTime = clock.wallClock
        makeClone(
            view, directory: record.directory, name: temporary, copies: record.targetCopies, attributes, request,
            step: 0,
            reply
        ) { [self] clone in replace(use.id, by: clone, request, copy, reply) }
    }
    private func replace(
        _ old: VolumeId, by clone: VolumeId, _ request: FuseRequest, _ copy: FuseCopyRange, _ reply: FuseReply
    ) {
        guard let record = service.catalog.state.visibleVolume(old) else { return reply.error(.stale) }
        propose(
            .renameVolume(clone, directory: record.directory, name: record.name, replacing: true), request, step: 1,
            reply
        ) { [self] _ in replaced(old, by: clone, copy, reply) }
    }
    private func replaced(_ old: VolumeId, by clone: VolumeId, _ copy: FuseCopyRange, _ reply: FuseReply) {
        guard let made = service.catalog.state.visibleVolume(clone) else { return reply.error(.stale) }
        aliases[old] = clone
        if let target = files.file(copy.targetHandle), case .volume(let use) = target.content, use.id == old {
            let new = uses.use(made)
            uses.opened(new)
            target.content = .volume(new)
            uses.closed(use)
        }
        notify?(.invalidateEntry(parent: number(.directory(made.directory)), name: made.name, expireOnly: true))
        answerWhenKept { reply.written(made.size) }
    }
    /// The request comes again, from a process that died after it had made the clone.
    private func resumeClone(
        _ clone: VolumeId, _ copy: FuseCopyRange, _ request: FuseRequest, _ reply: FuseReply
    ) {
        guard case .volume(let old)? = Node(number: copy.targetNode, root: root) else { return reply.error(.stale) }
        if earlierAnswer(request, step: 1) != nil { return replaced(old, by: clone, copy, reply) }
        replace(old, by: clone, request, copy, reply)
    }

    /// A clone of a snapshot, or of a volume as it is now. A refusal answers the request.
    func makeClone(
        _ view: VolumeView, directory: DirectoryId, name: String, copies: Int?, _ attributes: FileAttributes,
        _ request: FuseRequest, step: UInt64, _ reply: FuseReply, _ done: @escaping (VolumeId) -> Void
    ) {
        let finish: (CommandAnswer) -> Void = { [self] answer in
            accepted(answer, reply) { answer in
                guard case .volume(let id) = answer else { return reply.error(.inputOutput) }
                done(id)
            }
        }
        switch view {
        case .snapshot(let id, let generation):
            service.catalog.propose(
                .clone(
                    source: SnapshotReference(volume: id, generation: generation), directory: directory, name: name,
                    copies: copies, attributes: attributes), request: requestId(request, step: step), finish)
        case .current(let id):
            uses.settle([id]) { [self] error in
                if let error { return reply.error(error) }
                service.cloneCurrent(
                    id, directory: directory, name: name, attributes: attributes,
                    request: requestId(request, step: step), finish)
            }
        }
    }
}
