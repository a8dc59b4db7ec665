// What the node says of itself: what is wrong, what is at risk, what happens next.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Placement

extension Node {
    package func report() -> NodeStatusReport {
        let state = catalog.state
        let stores = state.map.stores.map(storeReport)
        let volumes = state.volumes.values.filter { !$0.isHidden }
        var objects = 0
        for store in self.stores { objects = max(objects, store.copy.objects.copyCount) }
        return NodeStatusReport(
            clusterId: state.clusterId, epoch: state.map.epoch, catalogIndex: state.index, settings: state.settings,
            stores: stores, recovery: recovery.status, scrub: scrubber.status, volumeCount: volumes.count,
            snapshotCount: volumes.reduce(0) { $0 + $1.snapshots.filter { !$0.isHidden }.count },
            objectCount: objects, space: space, problems: problems(state, stores), risks: risks(state, stores),
            next: nextSteps(state, stores), statistics: gateway.statistics)
    }

    private func storeReport(_ record: StoreRecord) -> StoreStatusReport {
        let attached = stores.first { $0.id == record.id }
        let targets = state(targetsOf: record.id)
        let missing = catalog.state.map.missingRanges(of: record.id)
        let space = attached?.copy.objects.space
        return StoreStatusReport(
            id: record.id, path: record.path, zone: record.zone, weight: record.weight, status: record.status,
            reason: failed[record.id] ?? record.reason, changedWallClock: record.changedWallClock,
            capacityBytes: space?.capacityBytes ?? 0, availableBytes: space?.availableBytes ?? 0,
            spaceLevel: space.map { "\($0.level)" } ?? "unknown", copies: attached?.copy.objects.copyCount ?? 0,
            incompleteCopies: attached?.copy.objects.incompleteCount ?? 0,
            inSyncShare: targets.isEmpty ? 1 : 1 - Double(missing.count) / Double(targets.count))
    }

    private func state(targetsOf id: StoreId) -> RangeSet { catalog.state.map.ringRanges(of: id) }

    private func problems(_ state: CatalogState, _ stores: [StoreStatusReport]) -> [String] {
        var lines: [String] = []
        for store in stores where store.status != .up {
            lines.append("store \(store.id) at \(store.path) is \(store.status): \(store.reason)")
        }
        for store in stores where store.status == .up && store.spaceLevel == "full" {
            lines.append("store \(store.id) at \(store.path) is full: it takes no new data")
        }
        for store in stores where store.status == .up && store.inSyncShare < 1 {
            lines.append("store \(store.id) at \(store.path) does not have all of its data yet")
        }
        let behind = recovery.behindCount
        if behind > 0 { lines.append("\(behind) copies have missed writes and are being brought up to date") }
        let effective = state.map.on.effectiveCopies
        if effective < state.settings.copies {
            lines.append(
                "\(state.settings.copies) copies are wanted, but only \(effective) can be made: there are \(effective) zones"
            )
        }
        lines += scrubber.status.alarms
        return lines
    }

    private func risks(_ state: CatalogState, _ stores: [StoreStatusReport]) -> [String] {
        var lines: [String] = []
        let up = stores.filter { $0.status == .up }.count
        let degraded = stores.contains { $0.status != .up || $0.inSyncShare < 1 } || recovery.behindCount > 0
        if degraded {
            let needed = state.map.minimumCopies(state.settings)
            lines.append(
                up - 1 >= needed
                    ? "redundancy is reduced until recovery is done"
                    : "one more failed store stops writes: \(up) stores are up and a write needs \(needed) copies")
        }
        if state.map.on.effectiveCopies < 2 {
            lines.append("there is one copy of everything: a failed disk loses data")
        }
        for store in stores where store.status == .up && store.spaceLevel == "low" {
            lines.append("store \(store.id) at \(store.path) is filling up")
        }
        return lines
    }

    private func nextSteps(_ state: CatalogState, _ stores: [StoreStatusReport]) -> [String] {
        var lines: [String] = []
        let recovery = recovery.status
        switch recovery.phase {
        case .idle: break
        case .waiting: lines.append("recovery waits for \(recovery.waitingFor) and tries again every second")
        default:
            lines.append(
                "recovery is \(recovery.phase.rawValue): \(recovery.objectsDone) of \(recovery.objectsTotal) objects")
        }
        let interval = state.settings.downOutIntervalMilliseconds
        for store in stores where store.status == .down {
            let elapsed = downMilliseconds(store.id)
            let left = elapsed < interval ? (interval - elapsed) / 1_000 : 0
            lines.append(
                "store \(store.id) is given up in \(left) s unless it comes back (restart sheep with it mended), or is replaced: dog store replace \(store.id) DIR"
            )
        }
        if state.map.to != nil {
            lines.append("data is moving to a new placement; the old one is dropped when that is done")
        }
        if pruner.pendingVolumes > 0 { lines.append("space of deleted snapshots is being given back") }
        return lines
    }
}
