// ln: what is linked and the form of the new name say whether it is a snapshot or a clone.
//
//     vol.img     to vol@tag.img         a snapshot
//     vol.img     to new.img             a clone of now
//     vol@t.img   to new.img             a clone of the snapshot
//     vol.img     to CuXXXXXX            `ln -f` means to rename it onto an existing name of either kind. It is a snapshot
//                                        with this tag until then; the rename makes of it what the name asks for.
//     vol.img     to .vol@tag.img.XXXXXX a snapshot with the tag `tag:XXXXXX`, until it is renamed
import Catalog
import Fuse
import Model
import Replication

extension Filesystem {
    func link(_ request: FuseRequest, _ link: FuseLink, _ reply: FuseReply) {
        guard let parent = node(request.node), let source = node(link.node) else { return reply.error(.stale) }
        switch earlierAnswer(request) {
        case .volume(let id)?: return answerEntry(.volume(id), parent: parent, reply)
        case .snapshot(let id, let generation)?:
            return answerEntry(.snapshot(id, generation), parent: parent, reply)
        default: break
        }
        guard !isReadOnly else { return reply.error(.readOnly) }
        guard case .directory(let directory) = parent else { return refuseMaking(request.node, reply) }
        guard namespace.lookup(parent, link.name) == nil else { return reply.error(.exists) }
        switch source {
        case .volume(let id):
            guard let record = service.catalog.state.visibleVolume(id) else { return reply.error(.stale) }
            linkVolume(record, link.name, directory, parent, request, reply)
        case .snapshot(let id, let generation):
            guard let record = namespace.snapshot(id, generation) else { return reply.error(.stale) }
            guard case .plain = EntryName(link.name) else {
                return refuse(
                    .invalid, what: "'\(link.name)' cannot be made", why: "a snapshot of a snapshot would be the same",
                    remedy: "link to a name without @, which makes a clone", reply)
            }
            clone(.snapshot(id, generation), record.attributes, link.name, directory, parent, request, reply)
        default: reply.error(.notPermitted)
        }
    }

    private func linkVolume(
        _ volume: VolumeRecord, _ name: String, _ directory: DirectoryId, _ parent: Node, _ request: FuseRequest,
        _ reply: FuseReply
    ) {
        let tag: String
        if EntryName.isLinkTemporary(name), directory == volume.directory {
            tag = name
        } else if let (named, namedTag) = snapshotName(name, in: directory) {
            guard named.id == volume.id else { return refuseForeign(name, of: named.name, volume, reply) }
            tag = namedTag
        } else {
            switch EntryName(name) {
            case .plain:
                return clone(.current(volume.id), volume.attributes, name, directory, parent, request, reply)
            case .snapshot(let other, _): return refuseForeign(name, of: other, volume, reply)
            case .invalid: return refuseBadName(name, reply)
            }
        }
        snapshot(volume, tag: tag, request, reply) { [self] made in
            answerEntry(made, parent: parent, reply)
        }
    }

    private func refuseForeign(_ name: String, of named: String, _ volume: VolumeRecord, _ reply: FuseReply) {
        refuse(
            .crossDevice, what: "'\(name)' cannot be a snapshot of '\(volume.name)'",
            why: "the name says that it is one of '\(named)' in that directory",
            remedy: "name it \(Names.compose(volume: volume.name, tag: "TAG")), beside the volume", reply)
    }

    private func clone(
        _ view: VolumeView, _ source: FileAttributes, _ name: String, _ directory: DirectoryId, _ parent: Node,
        _ request: FuseRequest, _ reply: FuseReply
    ) {
        var attributes = cloneAttributes(of: source)
        if case .current = view { attributes.mode = source.mode & 0o777 }
        makeClone(view, directory: directory, name: name, copies: nil, attributes, request, step: 0, reply) {
            [self] clone in answerEntry(.volume(clone), parent: parent, reply)
        }
    }
}
