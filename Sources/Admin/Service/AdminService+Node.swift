// Stores, settings, recovery, scrub and mounts for the administrator.
import Catalog
import Model
import Replication

extension AdminService {
    /// What `dog status` prints.
    package var statusText: String { StatusText.status(statusReport(), size: ByteSize.text) }
    /// What `dog status --json` prints.
    package var statusJSON: String { AdminCoding.pretty(statusReport()) + "\n" }

    func statusReport() -> StatusReport {
        let report = node.report()
        let health = !report.problems.isEmpty ? "degraded" : !report.risks.isEmpty ? "at-risk" : "healthy"
        let statistics = report.statistics
        return StatusReport(
            clusterId: report.clusterId.description, health: health, epoch: report.epoch.rawValue,
            catalogIndex: report.catalogIndex, capacityBytes: report.space.capacityBytes,
            availableBytes: report.space.availableBytes, volumeCount: report.volumeCount,
            snapshotCount: report.snapshotCount, objectCount: report.objectCount,
            settings: SettingsReport(report.settings), stores: report.stores.map(StoreReport.init),
            mounts: mounts.mounts, recovery: RecoveryReport(report.recovery), scrub: ScrubReport(report.scrub),
            problems: report.problems, risks: report.risks, next: report.next,
            statistics: StatisticsReport(
                reads: statistics.reads, writes: statistics.writes, flushes: statistics.flushes,
                discards: statistics.discards, bytesRead: statistics.bytesRead, bytesWritten: statistics.bytesWritten,
                readRepairs: statistics.readRepairs))
    }

    // MARK: stores

    func addStore(_ path: String, zone: UInt64?, weight: UInt64?, _ reply: AdminReply) throws(SheepError) {
        try checkStorePath(path)
        if let weight { try checkWeight(weight) }
        node.addStore(path: path, zone: zone, weight: weight) { outcome in reply.end(outcome) }
    }

    func removeStore(_ name: String, force: Bool, _ reply: AdminReply) throws(SheepError) {
        let id = try store(name)
        let up = node.report().stores.filter { $0.status == .up }
        guard force || up.contains(where: { $0.id != id }) else {
            throw SheepError(
                .busy, what: "store \(name) was not removed", why: "it is the last one that is up",
                remedy: "add another store first: dog store add DIRECTORY")
        }
        watchRecovery(reply)
        node.removeStore(id, force: force) { error in reply.end(error) { $0.storeIds = [id.description] } }
    }

    func replaceStore(_ name: String, by path: String, _ reply: AdminReply) throws(SheepError) {
        let id = try store(name)
        try checkStorePath(path)
        watchRecovery(reply)
        node.replaceStore(id, path: path) { outcome in reply.end(outcome) }
    }

    func reweight(_ name: String, weight: UInt64, _ reply: AdminReply) throws(SheepError) {
        let id = try store(name)
        try checkWeight(weight)
        node.setWeight(id, weight: weight) { error in reply.end(error) { $0.storeIds = [id.description] } }
    }

    func acceptLoss(_ named: [String], _ reply: AdminReply) throws(SheepError) {
        guard !named.isEmpty else {
            throw SheepError(
                .invalid, what: "no loss was accepted", why: "no store was named",
                remedy: "name the stores that are gone for good: dog store list")
        }
        var ids: [StoreId] = []
        for name in named { ids.append(try store(name)) }
        for report in node.report().stores where ids.contains(report.id) && report.status == .up {
            throw SheepError(
                .busy, what: "no loss was accepted", why: "store \(report.id) is up: nothing is lost with it",
                remedy: "name only stores that are gone for good")
        }
        let accepted = ids
        node.acceptLoss(ids) { error in reply.end(error) { $0.storeIds = accepted.map(\.description) } }
    }

    /// The store with this id, this unique beginning of an id, or this directory.
    private func store(_ name: String) throws(SheepError) -> StoreId {
        let stores = node.report().stores
        let lowered = name.lowercased()
        let byPath = stores.filter { $0.path == name }
        let found = byPath.isEmpty ? stores.filter { $0.id.description.hasPrefix(lowered) } : byPath
        guard !name.isEmpty, !found.isEmpty else {
            throw SheepError(
                .noEntry, what: "there is no store \(name)", why: "no store has this id or directory",
                remedy: "see what there is: dog store list")
        }
        guard found.count == 1 else {
            throw SheepError(
                .invalid, what: "\(name) names \(found.count) stores", why: "their ids begin alike",
                remedy: "write more digits of the id")
        }
        return found[0].id
    }

    private func checkStorePath(_ path: String) throws(SheepError) {
        guard path.hasPrefix("/"), !path.split(separator: "/").contains("..") else {
            throw SheepError(
                .invalid, what: "the directory \(path) is refused", why: "it is not a full path without ..",
                remedy: "write it from / on")
        }
        for mount in mounts.mounts where path == mount.mountpoint || path.hasPrefix(mount.mountpoint + "/") {
            throw SheepError(
                .invalid, what: "the directory \(path) is refused",
                why: "it is below \(mount.mountpoint): the store would be kept in itself",
                remedy: "use a directory on a disk")
        }
    }

    private func checkWeight(_ weight: UInt64) throws(SheepError) {
        guard weight > 0, weight <= 1 << 60 else {
            throw SheepError(
                .invalid, what: "the weight \(weight) is refused", why: "a weight is the bytes that a store may hold",
                remedy: "give a size such as 4T; to empty a store use: dog store remove")
        }
    }

    /// While the request is not answered, tells once a second how far data has moved.
    private func watchRecovery(_ reply: AdminReply) {
        clock.after(milliseconds: 1000) { [weak self] in
            guard let self, !reply.isFinished else { return }
            let recovery = node.report().recovery
            reply.progress(recovery.bytesMoved, of: recovery.bytesTotal, "bytes", note: recovery.waitingFor)
            watchRecovery(reply)
        }
    }

    // MARK: scrub and settings

    func startScrub(deep: Bool, _ path: String?, _ reply: AdminReply) throws(SheepError) {
        let volume: VolumeId? = if let path { try names.volume(path).id } else { nil }
        node.startScrub(deep: deep, volume: volume) { [self] error in
            reply.end(error) { $0.scrub = ScrubReport(node.report().scrub) }
        }
    }

    func changeSettings(
        copies: Int?, minCopies: Int?, downOutIntervalMilliseconds: UInt64?, _ reply: AdminReply
    ) throws(SheepError) {
        var settings = volumes.catalog.state.settings
        if let copies {
            try checkCopies(copies)
            settings.copies = copies
        }
        if let minCopies { settings.minCopies = minCopies }
        guard 0...settings.copies ~= settings.minCopies else {
            throw SheepError(
                .invalid, what: "min-copies \(settings.minCopies) is refused",
                why: "it cannot be more than the copies, \(settings.copies)",
                remedy: "use at most \(settings.copies), or 0 for the rule (copies less one, at least one)")
        }
        if let interval = downOutIntervalMilliseconds {
            guard 1000...(30 * 86_400_000) ~= interval else {
                throw SheepError(
                    .invalid, what: "the down-out-interval is refused", why: "it must be between 1 s and 30 days",
                    remedy: "the default is 10 minutes: 600")
            }
            settings.downOutIntervalMilliseconds = interval
        }
        node.changeSettings(settings) { [self] error in
            reply.end(error) { $0.settings = SettingsReport(volumes.catalog.state.settings) }
        }
    }

    // MARK: mounts

    func mount(_ mountpoint: String, options: String, _ reply: AdminReply) throws(SheepError) {
        let parsed = try MountOptions(options)
        guard mountpoint.hasPrefix("/") else {
            throw SheepError(
                .invalid, what: "\(mountpoint) cannot be a mountpoint", why: "it is not a full path",
                remedy: "write it from / on")
        }
        guard !mounts.mounts.contains(where: { $0.mountpoint == mountpoint }) else {
            throw SheepError(
                .exists, what: "\(mountpoint) was not mounted", why: "the volumes are mounted there already",
                remedy: "nothing needs to be done")
        }
        mounts.mount(mountpoint, options: parsed, uid: reply.peer.uid) { error in
            reply.end(error) { $0.paths = [mountpoint] }
        }
    }

    func unmount(_ mountpoint: String?, lazy: Bool, _ reply: AdminReply) throws(SheepError) {
        let mounted = mounts.mounts.map(\.mountpoint)
        guard let target = mountpoint ?? (mounted.count == 1 ? mounted[0] : nil) else {
            throw SheepError(
                mounted.isEmpty ? .noEntry : .invalid, what: "nothing was unmounted",
                why: mounted.isEmpty ? "nothing is mounted" : "there are \(mounted.count) mounts",
                remedy: mounted.isEmpty
                    ? "nothing needs to be done" : "name one of \(mounted.joined(separator: ", "))")
        }
        guard mounted.contains(target) else {
            throw SheepError(
                .noEntry, what: "\(target) was not unmounted", why: "the volumes are not mounted there",
                remedy: mounted.isEmpty ? "nothing needs to be done" : "mounted is \(mounted.joined(separator: ", "))")
        }
        mounts.unmount(target, lazy: lazy) { error in reply.end(error) { $0.paths = [target] } }
    }
}

extension AdminReply {
    func end(_ outcome: Result<StoreId, SheepError>) {
        switch outcome {
        case .success(let id): finish { $0.storeIds = [id.description] }
        case .failure(let error): fail(error)
        }
    }
}
