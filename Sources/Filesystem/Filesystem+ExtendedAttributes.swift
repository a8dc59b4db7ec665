// Extended attributes user.sheep.*: what a volume or snapshot is beyond a file. They are not listed, so that tools which
// copy all attributes do not stumble over them. All other names (security.capability comes before each buffered write)
// have no value.
import Catalog
import Fuse
import Model
import OrderedCollections
import Replication

extension Filesystem {
    private static let prefix = "user.sheep."

    func getxattr(_ number: UInt64, _ name: String, _ reply: FuseReply) {
        guard name.hasPrefix(Filesystem.prefix) else { return reply.error(.noData) }
        guard let node = node(number) else { return reply.error(.stale) }
        let key = name.dropFirst(Filesystem.prefix.count)
        let state = service.catalog.state
        func answer(_ text: String?) {
            guard let text else { return reply.error(.noData) }
            reply.extendedAttribute(Array(text.utf8))
        }
        let view: VolumeView
        let record: VolumeRecord
        var snapshot: SnapshotRecord?
        switch node {
        case .volume(let id):
            guard let found = state.visibleVolume(id) else { return reply.error(.stale) }
            record = found
            view = .current(id)
        case .snapshot(let id, let generation):
            guard let found = state.visibleVolume(id), let named = namespace.snapshot(id, generation) else {
                return reply.error(.stale)
            }
            record = found
            snapshot = named
            view = .snapshot(id, generation)
        default: return answer(nil)
        }
        switch key {
        case "id": answer(snapshot.map { "\(record.id).\($0.generation)" } ?? "\(record.id)")
        case "copies": answer(String(record.targetCopies))
        case "parent": answer(parent(of: record, snapshot))
        case "tag": answer(snapshot?.tag)
        case "health": answer(health(of: record.id))
        case "allocated": service.allocatedBytes(view) { answer(String($0)) }
        default: answer(nil)
        }
    }

    /// The path of what it came from: a snapshot's volume, or the snapshot that a volume was cloned from.
    private func parent(of record: VolumeRecord, _ snapshot: SnapshotRecord?) -> String? {
        let namespace = namespace
        func path(_ volume: VolumeRecord, _ name: String) -> String {
            "/" + (namespace.path(of: volume.directory) + [name]).joined(separator: "/")
        }
        if snapshot != nil { return path(record, record.name) }
        guard let parent = record.parent, parent.visibleBytes > 0, let source = namespace.state.volumes[parent.volume]
        else { return nil }
        guard let from = source.snapshot(parent.generation), !from.isHidden, !source.isHidden else {
            return "\(source.id).\(parent.generation) (removed)"
        }
        return path(source, Names.compose(volume: source.name, tag: from.tag))
    }

    /// Whether all stores that this volume may need are up.
    private func health(of volume: VolumeId) -> String {
        let stores = service.catalog.state.map.stores.filter { $0.status != .out }
        let up = stores.count { $0.status == .up }
        if up == stores.count { return "ok" }
        return up == 0 ? "unavailable" : "degraded"
    }

    func setxattr(_ request: FuseRequest, _ set: FuseSetExtendedAttribute, _ reply: FuseReply) {
        guard set.name.hasPrefix(Filesystem.prefix) else { return reply.error(.notSupported) }
        guard !isReadOnly else { return reply.error(.readOnly) }
        guard set.name == Filesystem.prefix + "copies" else { return reply.error(.notPermitted) }
        guard case .volume(let id)? = node(request.node) else { return reply.error(.notPermitted) }
        guard let text = String(validating: set.value, as: UTF8.self), let copies = Int(text) else {
            return refuse(
                .invalid, what: "user.sheep.copies was not set", why: "the value is not a number",
                remedy: "setfattr -n user.sheep.copies -v 2 FILE", reply)
        }
        propose(.setVolumeCopies(id, copies: copies), request, reply) { _ in reply.success() }
    }
}
