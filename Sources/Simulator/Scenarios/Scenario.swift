// A named scenario: a short script over the simulated world, what must be seen in it, and the trace that it leaves. The same
// scenario leaves the same bytes on every machine and in every build; a trace that changes is a change of behaviour that
// somebody must have looked at.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

package struct Scenario: Sendable {
    package let name: String
    /// What happens and what must come of it, in a sentence.
    package let summary: String
    let knobs: Knobs
    let play: @Sendable (Script) -> Void

    /// By default: three hosts with a store each, three copies, leases of three seconds, out after a minute.
    init(
        _ name: String, _ summary: String, _ change: (inout Knobs) -> Void = { _ in },
        _ play: @escaping @Sendable (Script) -> Void
    ) {
        self.name = name
        self.summary = summary
        var knobs = Knobs()
        knobs.hosts = 3
        knobs.storesPerHost = 1
        knobs.settings.leaseMilliseconds = 3_000
        knobs.settings.downOutIntervalMilliseconds = 60_000
        knobs.storeConfiguration.journalSegmentBytes = 512 * 4096
        knobs.storeConfiguration.journalMaximumSegments = 8
        knobs.storeConfiguration.memoryLimitBytes = 4 << 20
        knobs.storeConfiguration.reserveBytes = 0
        knobs.storeConfiguration.lowSpaceBytes = 0
        knobs.storeConfiguration.checkpointIntervalMilliseconds = 5_000
        knobs.storeConfiguration.sweepDelayMilliseconds = 1_000
        (knobs.volumes, knobs.operations, knobs.faults) = (0, 0, 0)
        knobs.networkMilliseconds = 1
        change(&knobs)
        self.knobs = knobs
        self.play = play
    }

    package struct Ending: Sendable {
        /// Compact lines with virtual time, from the moment at which the cluster serves.
        package var trace: String
        /// Nil: everything was seen that must be.
        package var failure: String?
    }
    /// `tell` gets each line as it comes.
    package func run(_ tell: @escaping (String) -> Void = { _ in }) -> Ending {
        let script = Script(knobs, tell)
        script.write("# \(name)")
        script.write("# \(summary)")
        script.begin()
        play(script)
        script.finish()
        return Ending(
            trace: script.lines.joined(separator: "\n") + "\n",
            failure: script.world.failure.map { "\($0.checker): \($0.text)" })
    }

    package static func named(_ name: String) -> Scenario? { all.first { $0.name == name } }
}
