// One run: a world made from one seed, a plan that is carried out in it, and everything that must hold checked, first
// while faults strike and then when all is mended: whatever can finish must finish. One thread, virtual time; the same seed
// is the same run, whatever the build.
//
// How faults are bounded, so that a correct cluster can always recover: data is damaged, or lost without a word, on the
// disks of one victim only, and no other disk fails before that one's data is elsewhere (`Nemesis`); power is lost by one
// host at a time, or by all; what is cut or stopped goes on in the end.
import Catalog
import Model
import ObjectStore
import Replication

package struct Failure: Hashable, Sendable {
    package let checker: String
    package let text: String
    package let atNanoseconds: UInt64
}

package struct Outcome: Sendable {
    package let seed: UInt64
    package var failure: Failure?
    package var traceHash: UInt64 = 0
    package var traceLines = 0
    package var simulatedNanoseconds: UInt64 = 0
    package var events = 0
    package var operations = 0
    package var controls = 0
    package var errors = 0
    package var faults: [StepKind: Int] = [:]
    package var story: [String] = []
}

package final class Simulation {
    package let seed: UInt64
    package let knobs: Knobs
    package let plan: Plan
    /// Steps that are carried out; nil: all.
    private let only: Set<Int>?
    let queue = EventQueue()
    package let trace: Trace
    let pool = BufferPool(limitBytes: 8 << 20)
    let history = VolumeHistory()
    private(set) var hosts: [any SimulatedHost] = []
    /// Nil: a single host.
    private(set) var cluster: Cluster?
    private(set) var guests: Guests!
    private(set) var controls: Controls!
    private(set) var nemesis: Nemesis!
    private(set) var leases = LeaseChecker()
    /// Draws what belongs to no step.
    var random: Random
    private(set) var failure: Failure?
    private(set) var events = 0
    private static let maximumEvents = 6_000_000

    /// `only`: indices of steps of the plan; the others are left out.
    package init(seed: UInt64, kind: HostKind? = nil, knobs given: Knobs? = nil, only: Set<Int>? = nil) {
        self.seed = seed
        self.only = only
        random = Random(seed)
        var knobsRandom = Random(random.next())
        knobs = given ?? Knobs(drawing: &knobsRandom, kind: kind)
        var planRandom = Random(random.next())
        plan = Plan(knobs, &planRandom)
        trace = Trace(queue: queue)
        guests = Guests(self)
        controls = Controls(self, guests)
        nemesis = Nemesis(self)
        let surroundings = HostSurroundings(
            queue: queue, trace: trace, pool: pool, knobs: knobs, clusterId: ClusterId(high: 0xc1, low: 0x05),
            random: Random(random.next()))
        if knobs.hosts == 1 {
            hosts = [SingleHost(surroundings)]
        } else {
            let cluster = Cluster(surroundings)
            self.cluster = cluster
            hosts = cluster.hosts
            for host in cluster.hosts { host.onEnded = { [unowned self, unowned host] in endedByItself(host) } }
        }
        for host in hosts { host.onServing = { [unowned self, unowned host] in served(host) } }
    }

    // MARK: running

    package func run() -> Outcome {
        trace.note("seed \(seed): \(knobs.description)")
        if let cluster {
            var isFounded = false
            cluster.found { isFounded = true }
            advance("foundation", milliseconds: 60_000) { isFounded }
        }
        for host in hosts { host.boot() }
        advance("start", milliseconds: 60_000) { hosts.allSatisfy { $0.service != nil } }
        for _ in 0..<knobs.volumes { controls.create() }
        advance("first volumes", milliseconds: 60_000) { controls.isIdle }
        let start = queue.nanoseconds
        for step in plan.steps where only?.contains(step.index) ?? true {
            queue.after(nanoseconds: step.atNanoseconds) { [self] in perform(step) }
        }
        pass(nanoseconds: start + plan.endNanoseconds)
        settle()
        return outcome()
    }
    private func outcome() -> Outcome {
        var outcome = Outcome(seed: seed)
        outcome.failure = failure
        outcome.traceHash = trace.hash
        outcome.traceLines = trace.lineCount
        outcome.simulatedNanoseconds = queue.nanoseconds
        outcome.events = events
        outcome.operations = guests.operations
        outcome.controls = controls.count
        outcome.errors = guests.errors
        outcome.faults = nemesis.struck
        outcome.story = trace.story
        return outcome
    }

    private func perform(_ step: Step) {
        guard failure == nil else { return }
        var random = Random(step.seed)
        switch step.kind {
        case .write, .read, .flush, .discard, .readSnapshot: guests.act(step.kind, &random)
        case .create, .snapshot, .groupSnapshot, .removeSnapshot, .clone, .cloneCurrent, .rollback, .resize,
            .removeVolume, .flatten:
            controls.act(step.kind, &random)
        case .addStore, .removeStore, .setWeight, .scrub: nemesis.administer(step, &random)
        default: nemesis.strike(step, &random)
        }
    }

    private func runNext() -> Bool {
        guard failure == nil, queue.runNext() else { return false }
        events += 1
        if events > Simulation.maximumEvents { fail("livelock", "\(events) events") }
        return true
    }
    func pass(nanoseconds end: UInt64) {
        while let next = queue.nextNanoseconds, next <= end, runNext() {}
        if failure == nil { queue.advance(to: end) }
    }
    /// Runs until it is so; a failure when that takes longer than it may.
    func advance(_ what: String, milliseconds: UInt64, until isDone: () -> Bool) {
        let end = queue.nanoseconds + milliseconds * 1_000_000
        while failure == nil, !isDone() {
            guard let next = queue.nextNanoseconds, next <= end, runNext() else {
                return fail("liveness", "after \(milliseconds) ms not done: \(what)")
            }
        }
    }
    package func fail(_ checker: String, _ text: String) {
        guard failure == nil else { return }
        failure = Failure(checker: checker, text: text, atNanoseconds: queue.nanoseconds)
        for host in hosts { trace.note("  host \(host.id): \(host.diagnosis)") }
        trace.note("FAILURE \(checker): \(text)")
    }
    /// Something has ended: what waited for it goes on, and what was seen is looked at.
    func look() {
        if let violation = history.violation { fail(violation.checker, violation.text) }
        controls.goOn()
    }

    // MARK: hosts

    func servingHost(_ random: inout Random) -> (any SimulatedHost)? {
        let serving = hosts.filter { $0.service != nil && !$0.isStopped }
        return serving.isEmpty ? nil : serving[random.below(serving.count)]
    }
    var anyServingHost: (any SimulatedHost)? { hosts.first { $0.service != nil && !$0.isStopped } }
    /// Of those who serve, the catalog that has most.
    var newestState: CatalogState? { hosts.compactMap(\.state).max { $0.index < $1.index } }
    private func served(_ host: any SimulatedHost) {
        guests.hostServes(host)
        controls.goOn()
    }
    private func endedByItself(_ host: any SimulatedHost) { hostEnded(host, withGuests: false, &random) }
    private(set) var lastEndNanoseconds: UInt64 = 0
    /// What a process sent before it ended may still arrive at others.
    var mayHaveStragglers: Bool { hosts.count > 1 && queue.nanoseconds < lastEndNanoseconds + 30_000_000_000 }
    func hostEnded(_ host: any SimulatedHost, withGuests: Bool, _ random: inout Random) {
        lastEndNanoseconds = queue.nanoseconds
        guests.hostEnded(host, withGuests: withGuests, &random)
        controls.hostEnded(host)
    }
    /// A host has answered a guest: it must have been allowed to.
    func checkAnswer(_ host: any SimulatedHost) {
        if let problem = leases.check(host) { fail("one writer", problem) }
    }
    /// A guest got an error. Within the bounds nobody does.
    func guestFailed(_ errno: Errno, _ what: String) {
        // An operation belongs to the term of its first issue: when the lease moved on, nobody knows whether it was done.
        if knobs.isBeyondBounds || hosts.count > 1 && errno == .inputOutput { return }
        fail("availability", "\(what) ended with errno \(errno.code)")
    }

    /// For whoever looks at a failure.
    func describeCopies(_ object: ObjectId) {
        for copy in hosts.flatMap(\.copies) {
            guard let entry = copy.objects.entry(object) else { continue }
            let generations = entry.generations.map { "\($0.generation): \($0.version) \($0.allocatedBlocks) blocks" }
            trace.note(
                "  copy of \(object) on \(copy.store): \(entry.version) \(entry.state)"
                    + "\(entry.isVerified ? "" : " not verified") [\(generations.joined(separator: ", "))]")
        }
    }

    // MARK: the end

    /// All is mended. Whatever can finish must, within ten times the down-out interval; then everything is read and compared.
    func settle() {
        guard failure == nil else { return }
        trace.note("heal")
        nemesis.heal()
        let limit = 10 * knobs.settings.downOutIntervalMilliseconds + 60_000
        advance("operations and recovery (\(describeWaiting()))", milliseconds: limit) {
            guests.isIdle && controls.isIdle && hosts.allSatisfy { $0.isAtRest }
        }
        guard failure == nil else { return }
        // A store that failed in a process is not used by it again; an administrator would start it anew.
        for host in hosts
        where host.state?.map.stores.contains(where: { $0.node == host.id && $0.status == .down }) ?? false {
            nemesis.restart(host)
        }
        advance("all stores", milliseconds: limit) {
            hosts.allSatisfy { $0.isAtRest } && newestState?.map.stores.contains { $0.status == .down } == false
        }
        // What has rotted and was not read is found by a scrub, once and for all.
        if nemesis.isVictimForLife { scrub(limit) }
        guard failure == nil else { return }
        readEverything()
        advance("reading everything", milliseconds: limit) { guests.isIdle }
        // What was just found may be looked at a little later.
        for _ in 0..<2 {
            pass(nanoseconds: queue.nanoseconds + 400_000_000)
            advance("rest", milliseconds: limit) { hosts.allSatisfy { $0.isAtRest } }
        }
        guard failure == nil else { return }
        // What nobody reaches goes when everybody is known to have heard of it.
        for _ in 0..<60 where failure == nil && RestChecker(self).unreachable() != nil {
            pass(nanoseconds: queue.nanoseconds + 1_000_000_000)
        }
        guard failure == nil else { return }
        RestChecker(self).run()
    }
    private func scrub(_ limit: UInt64) {
        for host in hosts {
            host.enter { host.administration?.startScrub(deep: true, volume: nil) { _ in } }
        }
        advance("a deep scrub", milliseconds: limit) { hosts.allSatisfy { $0.isAtRest } }
    }
    private func describeWaiting() -> String {
        "\(guests.inFlight.count) operations, \(controls.open.count) controls, "
            + "\(hosts.filter { !$0.isAtRest }.count) hosts not at rest"
    }
    private func readEverything() {
        guard let host = anyServingHost else { return }
        for volume in guests.volumes {
            for range in runs(history.touched(volume.lineage.current), limit: volume.sectors) {
                guests.read(volume, .current(volume.id), nil, range, host)
            }
            for snapshot in volume.snapshots {
                for range in runs(history.touched(snapshot.shot), limit: snapshot.sectors) {
                    guests.read(
                        volume, .snapshot(volume.id, snapshot.generation), snapshot.shot, range, host)
                }
            }
        }
    }
    /// Ranges that have all of them, of at most 1 MiB each.
    private func runs(_ sectors: [Int], limit: Int) -> [Range<Int>] {
        var ranges: [Range<Int>] = []
        for sector in sectors where sector < limit {
            if let last = ranges.last, sector <= last.upperBound + 64, sector - last.lowerBound < 2048 {
                ranges[ranges.count - 1] = last.lowerBound..<sector + 1
            } else {
                ranges.append(sector..<sector + 1)
            }
        }
        return ranges
    }
}
