// Lists and descriptions of volumes and snapshots. Long lists go out in parts; what must be asked of the stores
// (allocated bytes) is asked one after the other, so that a list of a thousand volumes does not take the loop.
import Catalog
import Model
import OrderedCollections
import Replication

/// Elements of a list in one answer line.
private let partSize = 500

extension AdminService {
    func listVolumes(_ path: String?, allocated: Bool, _ reply: AdminReply) throws(SheepError) {
        let reports = try names.volumes(below: path).map { volumeReport($0.record) }
        let ids = try names.volumes(below: path).map(\.record.id)
        let send: ([VolumeReport]) -> Void = { all in
            sendInParts(all, reply, part: { $0.volumes = $1 })
        }
        guard allocated else { return send(reports) }
        fillAllocated(ids.map { .current($0) }, reply) { bytes in
            send(zip(reports, bytes).map { report, bytes in with(report) { $0.allocatedBytes = bytes } })
        }
    }

    func listSnapshots(_ path: String?, allocated: Bool, _ reply: AdminReply) throws(SheepError) {
        let names = names
        var tagWanted: String?
        if let path {
            switch try names.find(path) {
            case .snapshot(_, let tag), .groupSnapshot(_, let tag): tagWanted = tag
            case .volume, .directory: break
            }
        }
        let clones = clonePaths(names)
        var reports: [SnapshotReport] = []
        var views: [VolumeView] = []
        for (_, record) in try names.volumes(below: path) {
            for snapshot in record.visibleSnapshots where (tagWanted ?? snapshot.tag) == snapshot.tag {
                reports.append(snapshotReport(snapshot, in: record, names, clones))
                views.append(.snapshot(record.id, snapshot.generation))
            }
        }
        let found = reports
        let send: ([SnapshotReport]) -> Void = { all in sendInParts(all, reply, part: { $0.snapshots = $1 }) }
        guard allocated else { return send(found) }
        fillAllocated(views, reply) { bytes in
            send(zip(found, bytes).map { report, bytes in with(report) { $0.allocatedBytes = bytes } })
        }
    }

    func describeVolume(_ path: String, _ reply: AdminReply) throws(SheepError) {
        let thing = try names.find(path)
        if case .snapshot = thing { return try listSnapshots(path, allocated: true, reply) }
        let record = try names.volume(path)
        let visible = record.visibleSnapshots
        let views = [.current(record.id)] + visible.map { VolumeView.snapshot(record.id, $0.generation) }
        let names = names
        let clones = clonePaths(names)
        fillAllocated(views, reply) { [self] bytes in
            var report = volumeReport(record)
            report.allocatedBytes = bytes[0]
            report.snapshots = zip(visible, bytes.dropFirst()).map { snapshot, bytes in
                with(snapshotReport(snapshot, in: record, names, clones)) { $0.allocatedBytes = bytes }
            }
            let complete = report
            reply.finish { $0.volume = complete }
        }
    }

    func map(_ path: String, _ reply: AdminReply) throws(SheepError) {
        let id = try names.volume(path).id
        node.map(id) { placements in
            sendInParts(placements.map(ObjectReport.init), reply, part: { $0.objects = $1 })
        }
    }

    func volumeReport(_ record: VolumeRecord) -> VolumeReport {
        let names = names
        var parent: String?
        if let reference = record.parent, let origin = volumes.catalog.state.volumes[reference.volume] {
            let snapshot = origin.snapshot(reference.generation)
            parent =
                if origin.isHidden { "(deleted)" } else if let snapshot, !snapshot.isHidden {
                    names.path(of: snapshot, in: origin)
                } else { names.path(of: origin) }
        }
        return VolumeReport(
            path: names.path(of: record), id: record.id.description, size: mounts.size(record),
            copies: record.targetCopies,
            generation: record.generation.rawValue, snapshotCount: record.visibleSnapshots.count,
            parent: parent, openCount: volumes.openCount(record.id), uid: record.attributes.uid,
            gid: record.attributes.gid, mode: String(record.attributes.mode, radix: 8),
            created: TimeText.iso8601(nanoseconds: record.createdWallClock))
    }

    private func snapshotReport(
        _ snapshot: SnapshotRecord, in record: VolumeRecord, _ names: NamePaths,
        _ clones: [SnapshotReference: [String]]
    ) -> SnapshotReport {
        let reference = SnapshotReference(volume: record.id, generation: snapshot.generation)
        return SnapshotReport(
            path: names.path(of: snapshot, in: record), volume: names.path(of: record), tag: snapshot.tag,
            generation: snapshot.generation.rawValue, size: snapshot.size,
            created: TimeText.iso8601(nanoseconds: snapshot.createdWallClock), clones: clones[reference] ?? [])
    }

    private func clonePaths(_ names: NamePaths) -> [SnapshotReference: [String]] {
        var clones: [SnapshotReference: [String]] = [:]
        for record in names.state.volumes.values {
            guard let parent = record.parent else { continue }
            let reference = SnapshotReference(volume: parent.volume, generation: parent.generation)
            clones[reference, default: []].append(names.path(of: record))
        }
        return clones.mapValues { $0.sorted() }
    }

    /// Asks for each view's allocated bytes in turn.
    private func fillAllocated(_ views: [VolumeView], _ reply: AdminReply, _ done: @escaping ([UInt64]) -> Void) {
        var bytes: [UInt64] = []
        func next() {
            guard bytes.count < views.count else { return done(bytes) }
            volumes.allocatedBytes(views[bytes.count]) { count in
                bytes.append(count)
                next()
            }
        }
        next()
    }
}

private func with<Value>(_ value: Value, _ change: (inout Value) -> Void) -> Value {
    var changed = value
    change(&changed)
    return changed
}

private func sendInParts<Element>(
    _ all: [Element], _ reply: AdminReply, part fill: (inout AdminResult, [Element]) -> Void
) {
    var start = 0
    while all.count - start > partSize {
        reply.part { fill(&$0, Array(all[start..<start + partSize])) }
        start += partSize
    }
    reply.finish { fill(&$0, Array(all[start...])) }
}
