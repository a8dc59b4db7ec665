// Themes of random runs: guests at work, and one thing that goes wrong at a known moment, as DESIGN's table of failures has it.
// What guests do still comes from the seed; what must hold is what always must.
import Catalog
import Model

package struct Theme: Sendable {
    package struct Fault: Sendable {
        let kind: StepKind
        /// Of the time that guests work, in percent.
        let atPercent: Int
    }
    package let name: String
    package let text: String
    package let kind: HostKind
    private let faults: [Fault]
    /// Relative frequency of what changes volumes as a whole, in a thousand.
    private let familyPerMille: Int

    private init(
        _ name: String, _ kind: HostKind, family: Int = 60, _ text: String, _ faults: [(StepKind, Int)]
    ) {
        self.name = name
        self.text = text
        self.kind = kind
        familyPerMille = family
        self.faults = faults.map { Fault(kind: $0.0, atPercent: $0.1) }
    }

    /// What a seed is like with this theme.
    package func knobs(seed: UInt64) -> Knobs {
        var random = Random(seed)
        var drawing = Random(random.next())
        var knobs = Knobs(drawing: &drawing, kind: kind)
        knobs.faults = 0
        knobs.forced = faults
        knobs.familyPerMille = familyPerMille
        if kind == .single { knobs.settings.copies = 3 }
        return knobs
    }
    package static func named(_ name: String) -> Theme? { all.first { $0.name == name } }

    package static let all: [Theme] = [
        Theme(
            "gateway-killed", .single, "the process is killed while guests write, and starts again on the same host",
            [(.kill, 40), (.kill, 70)]),
        Theme(
            "power-loss", .single, "everything loses power, twice: what was flushed is there",
            [(.powerLoss, 40), (.powerLoss, 80)]),
        Theme(
            "killed-while-volumes-change", .single, family: 400,
            "kills while snapshots, clones, rollbacks and removals are on their way",
            [(.kill, 30), (.kill, 60), (.kill, 90)]),
        Theme(
            "power-loss-while-volumes-change", .single, family: 400,
            "power goes while snapshots, clones, rollbacks and removals are on their way",
            [(.powerLoss, 30), (.powerLoss, 70)]),
        Theme("store-fails", .single, "a disk answers EIO from now on", [(.failStore, 40)]),
        Theme(
            "store-fails-then-power", .single, "a disk fails, and then everything loses power",
            [(.failStore, 40), (.powerLoss, 45)]),
        Theme("bit-rot", .single, "bits turn over on one disk", [(.rot, 30), (.rot, 60)]),
        Theme("stray-writes", .single, "a disk loses writes, or puts them elsewhere", [(.strayWrites, 30)]),
        Theme("read-errors", .single, "a disk cannot read, now and then", [(.readErrors, 30)]),
        Theme("stopped", .single, "the process stands still for a while", [(.stop, 40)]),
        Theme("holder-dies", .cluster, "a host's process dies; another takes over", [(.kill, 40)]),
        Theme("host-stopped", .cluster, "a process stands still for longer than its lease", [(.stop, 30)]),
        Theme("partition", .cluster, "the hosts cannot reach each other", [(.groupPartition, 40)]),
        Theme("data-cut", .cluster, "one host's connections are cut, the group is not", [(.cut, 40)]),
        Theme("corosync-stopped", .cluster, "Corosync stands still on one host", [(.stopCorosync, 40)]),
        Theme(
            "connections-break", .cluster, "all connections break, again and again",
            [(.breakConnections, 20), (.breakConnections, 40), (.breakConnections, 60)]),
        Theme("cluster-power-loss", .cluster, "power is lost", [(.powerLoss, 50)]),
        Theme("host-store-fails", .cluster, "a disk of one host fails", [(.failStore, 40)]),
    ]
}
