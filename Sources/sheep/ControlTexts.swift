// What the files of `.sheep` say.
import Admin
import Catalog
import Filesystem
import Glibc
import Logging
import Model
import ObjectStore
import Placement
import Replication

final class ControlTexts {
    private let node: Node
    private let service: AdminService

    init(node: Node, service: AdminService) {
        self.node = node
        self.service = service
    }

    func text(_ file: ControlFile) -> String {
        let report = node.report()
        switch file {
        case .status: return service.statusText
        case .statusJSON: return service.statusJSON
        case .nodes: return nodes(report)
        case .health: return report.problems.isEmpty ? "ok\n" : report.problems.joined(separator: "\n") + "\n"
        case .metrics: return metrics(report)
        case .config: return config(report.settings)
        }
    }

    private func nodes(_ report: NodeStatusReport) -> String {
        report.stores.map { "\($0.id) \($0.status) \($0.path)\n" }.joined()
    }

    private func config(_ settings: Settings) -> String {
        """
        copies \(settings.copies)
        min-copies \(settings.minCopies)
        down-out-interval-milliseconds \(settings.downOutIntervalMilliseconds)
        lease-milliseconds \(settings.leaseMilliseconds)

        """
    }

    /// The Prometheus text format.
    private func metrics(_ report: NodeStatusReport) -> String {
        var text = ""
        func metric(_ name: String, _ type: String, _ help: String, _ samples: [(String, String)]) {
            text += "# HELP sheep_\(name) \(help)\n# TYPE sheep_\(name) \(type)\n"
            for (labels, value) in samples { text += "sheep_\(name)\(labels) \(value)\n" }
        }
        let statistics = report.statistics
        metric("reads_total", "counter", "Reads of volumes.", [("", "\(statistics.reads)")])
        metric("writes_total", "counter", "Writes to volumes.", [("", "\(statistics.writes)")])
        metric("flushes_total", "counter", "Flushes of volumes.", [("", "\(statistics.flushes)")])
        metric("discards_total", "counter", "Discards on volumes.", [("", "\(statistics.discards)")])
        metric("read_bytes_total", "counter", "Bytes read from volumes.", [("", "\(statistics.bytesRead)")])
        metric("written_bytes_total", "counter", "Bytes written to volumes.", [("", "\(statistics.bytesWritten)")])
        metric(
            "read_repairs_total", "counter", "Reads that another copy had to serve.",
            [("", "\(statistics.readRepairs)")])
        metric("volumes", "gauge", "Volumes.", [("", "\(report.volumeCount)")])
        metric("snapshots", "gauge", "Snapshots.", [("", "\(report.snapshotCount)")])
        metric("epoch", "gauge", "The epoch of the cluster map.", [("", "\(report.epoch)")])
        metric("problems", "gauge", "Things that are wrong now.", [("", "\(report.problems.count)")])
        metric(
            "recovery_moved_bytes", "gauge", "Bytes moved by the current recovery.",
            [("", "\(report.recovery.bytesMoved)")])
        metric(
            "store_up", "gauge", "Whether a store is up.",
            report.stores.map { ("{store=\"\($0.id)\"}", $0.status == .up ? "1" : "0") })
        metric(
            "store_capacity_bytes", "gauge", "The size of a store's disk.",
            report.stores.map { ("{store=\"\($0.id)\"}", "\($0.capacityBytes)") })
        metric(
            "store_available_bytes", "gauge", "What a store can still take.",
            report.stores.map { ("{store=\"\($0.id)\"}", "\($0.availableBytes)") })
        return text
    }
}
