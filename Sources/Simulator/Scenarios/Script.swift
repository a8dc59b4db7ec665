// The steps that scenarios are made of: time, waiting, expectations, and the lines of the trace. After the first failure
// every step does nothing, so that a script needs no error handling of its own. What guests and administrators do is in
// Script+Guests and Script+Volumes, what befalls hosts in Script+Faults, what stores have in Script+Stores.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

package final class Script {
    let world: Simulation
    private(set) var lines: [String] = []
    private let output: (String) -> Void
    /// When the cluster began to serve; nil before.
    private var zero: UInt64?
    var asked: [Asked] = []
    var requests: UInt64 = 0
    var movedBefore: UInt64 = 0
    /// Disks that were damaged in this script stay so: the end is not checked beyond what the script expects.
    var endsHere = false

    init(_ knobs: Knobs, _ output: @escaping (String) -> Void) {
        self.output = output
        world = Simulation(seed: 1, knobs: knobs)
        world.trace.output = { [unowned self] in heard($0) }
    }
    var isGoing: Bool { world.failure == nil }

    // MARK: the trace

    func write(_ line: String) {
        lines.append(line)
        output(line)
    }
    func tell(_ text: String) {
        guard let zero else { return }
        let tenths = (world.queue.nanoseconds - zero) / 100_000_000
        let number = "\(tenths / 10).\(tenths % 10)"
        write(String(repeating: " ", count: max(0, 6 - number.count)) + number + "  " + text)
    }
    /// What hosts say of themselves is part of the trace.
    private func heard(_ line: String) {
        let words = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false).map(String.init)
        guard zero != nil, words.count == 4, words[1] == "host" else { return }
        switch words[3].split(separator: " ").first.map(String.init) {
        case "starts,": tell("host \(words[2]) starts")
        case "serves": tell("host \(words[2]) serves")
        case "says:", "does", "stops:": tell("host \(words[2]) \(words[3])")
        default: break
        }
    }
    func fail(_ what: String) {
        guard isGoing else { return }
        tell("NOT SEEN: \(what)")
        world.fail("expectation", what)
    }
    func expect(_ isSo: Bool, _ what: @autoclosure () -> String) {
        if isGoing, !isSo { fail(what()) }
    }

    // MARK: beginning and end

    func begin() {
        if let cluster = world.cluster {
            var isFounded = false
            cluster.found { isFounded = true }
            world.advance("foundation", milliseconds: 60_000) { isFounded }
        }
        let founders: [any SimulatedHost] = world.cluster?.founders ?? world.hosts
        for host in founders { host.boot() }
        world.advance("start", milliseconds: 60_000) {
            founders.allSatisfy { $0.service != nil && $0.isAtRest }
        }
        zero = world.queue.nanoseconds
    }
    /// All that was broken is mended; then everything that can finish must, and the checkers look at all of it.
    func finish() {
        guard isGoing, !endsHere else { return tellFailure() }
        tell("everything is mended")
        world.nemesis.heal()
        waitSilently("redundancy is whole", seconds: 600) { isRedundant }
        world.settle()
        let open = asked.filter { $0.outcome == nil && !$0.isLost }
        expect(open.isEmpty, "unanswered to the end: \(open.map(\.text))")
        guard isGoing else { return tellFailure() }
        let objects = Set(world.hosts.flatMap(\.copies).flatMap(objectsOf)).count
        tell("at rest: \(objects) objects, all copies there and equal, every guest saw what it may see")
    }
    private func tellFailure() {
        guard let failure = world.failure else { return }
        tell("FAILED: \(failure.checker): \(failure.text)")
        for host in world.hosts {
            write("        host \(host.id): \(host.diagnosis)")
            for disk in host.disks where disk.memory.hasOperations { write("          \(disk.memory.waiting)") }
        }
    }

    // MARK: time

    func pass(seconds: Double) {
        guard isGoing else { return }
        world.pass(nanoseconds: world.queue.nanoseconds + UInt64(seconds * 1e9))
    }
    func pass(milliseconds: UInt64) {
        guard isGoing else { return }
        world.pass(nanoseconds: world.queue.nanoseconds + milliseconds * 1_000_000)
    }
    /// So many things happen: the finest step there is.
    func pass(events: Int) {
        guard isGoing else { return }
        for _ in 0..<events where isGoing { world.queue.runNext() }
    }
    /// Waits until it is so, and says so.
    func wait(_ what: String, seconds: UInt64 = 60, until isSo: () -> Bool) {
        guard isGoing else { return }
        waitSilently(what, seconds: seconds, until: isSo)
        if isGoing { tell(what) }
    }
    func waitSilently(_ what: String, seconds: UInt64 = 60, until isSo: () -> Bool) {
        guard isGoing else { return }
        world.advance(what, milliseconds: seconds * 1_000, until: isSo)
    }

    // MARK: who is there

    func host(_ number: Int) -> any SimulatedHost { world.hosts[number - 1] }
    /// The whole host; only of a cluster.
    func node(_ number: Int) -> ClusterNode? { world.cluster?.hosts[number - 1].node }
    var running: [any SimulatedHost] { world.hosts.filter { $0.isRunning && !$0.isStopped } }
    /// The newest catalog that anybody has.
    var state: CatalogState? { world.hosts.compactMap(\.state).max { $0.index < $1.index } }

    static func name(_ errno: Errno) -> String {
        switch errno {
        case .inputOutput: "EIO"
        case .noSpace: "ENOSPC"
        case .tryAgain: "EAGAIN"
        case .noEntry: "ENOENT"
        case .exists: "EEXIST"
        case .busy: "EBUSY"
        case .notEmpty: "ENOTEMPTY"
        case .fileTooBig: "EFBIG"
        default: "errno \(errno.code)"
        }
    }
}
