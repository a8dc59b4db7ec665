// From the cores' values to those that travel.
import Catalog
import Model
import Replication

extension StoreReport {
    init(_ report: StoreStatusReport) {
        let state =
            switch report.status {
            case .up: "up"
            case .down: "down"
            case .out: "out"
            }
        self.init(
            id: report.id.description, path: report.path, zone: report.zone, weight: report.weight, state: state,
            reason: report.reason, changed: TimeText.iso8601(nanoseconds: report.changedWallClock),
            capacityBytes: report.capacityBytes, availableBytes: report.availableBytes, spaceLevel: report.spaceLevel,
            copies: report.copies, incompleteCopies: report.incompleteCopies,
            inSyncShare: report.inSyncShare.isFinite ? report.inSyncShare : 0)
    }
}

extension RecoveryReport {
    init(_ status: RecoveryStatus) {
        self.init(
            phase: status.phase.rawValue, objectsDone: status.objectsDone, objectsTotal: status.objectsTotal,
            bytesMoved: status.bytesMoved, bytesTotal: status.bytesTotal, bytesPerSecond: status.bytesPerSecond,
            waitingFor: status.waitingFor)
    }
}

extension ScrubReport {
    init(_ status: ScrubStatus) {
        func time(_ nanoseconds: UInt64) -> String? {
            nanoseconds == 0 ? nil : TimeText.iso8601(nanoseconds: nanoseconds)
        }
        self.init(
            running: status.isRunning, deep: status.isDeep, objectsDone: status.objectsDone,
            objectsTotal: status.objectsTotal, blocksRepaired: status.blocksRepaired,
            copiesRepaired: status.copiesRepaired, alarms: status.alarms, started: time(status.startedWallClock),
            finished: time(status.finishedWallClock))
    }
}

extension SettingsReport {
    init(_ settings: Settings) {
        self.init(
            copies: settings.copies, minCopies: settings.minCopies, effectiveMinCopies: settings.effectiveMinCopies,
            downOutIntervalMilliseconds: settings.downOutIntervalMilliseconds,
            leaseMilliseconds: settings.leaseMilliseconds)
    }
}

extension CheckResult {
    init(_ report: CheckReport) {
        self.init(
            objects: report.objects, copies: report.copies, blocksBad: report.blocksBad,
            blocksRepaired: report.blocksRepaired, copiesMissing: report.copiesMissing,
            copiesDifferent: report.copiesDifferent)
    }
}

extension ObjectReport {
    init(_ placement: ObjectPlacement) {
        self.init(
            index: placement.index,
            copies: placement.copies.map { copy in
                Copy(
                    store: copy.store.description, version: copy.version.description, state: copy.state,
                    generations: copy.generations.map(\.rawValue),
                    allocatedBytes: UInt64(max(0, copy.allocatedBlocks)) * UInt64(blockSize))
            })
    }
}
