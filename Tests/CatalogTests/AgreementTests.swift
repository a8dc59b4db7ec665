// The agreement of many nodes: by hand where one message decides, by random lives for everything else.
import Model
import TestSupport
import Testing

@testable import Catalog

extension AgreementWorld {
    /// Faults of all kinds until `seconds` are over, then none: everything must come to an end.
    func live() throws {
        boot()
        if options.faults { scheduleFault() }
        let end = UInt64(options.seconds) * 1_000_000_000
        try run(until: end)
        heal()
        quietAt = end + 40_000_000_000
        try run(until: end + 60_000_000_000)
        try checkEnd()
    }

    private func scheduleFault() {
        later(milliseconds(50, 4000)) { [self] in
            guard !isHealed else { return }
            try inject()
            scheduleFault()
        }
    }
    private var votersNow: [Voter] {
        nodes.compactMap(\.agreement).max { $0.commit < $1.commit }?.committedVoters.voters ?? []
    }
    private func inject() throws {
        let node = random.pick(nodes)
        switch random.below(12) {
        case 0, 1:
            crash(node)
            later(milliseconds(1, 3000)) { [self] in if node.agreement == nil { startProcess(node) } }
        case 2:
            // Killed and started at once: one change of the members tells both.
            crash(node)
            startProcess(node)
        case 3, 4:
            for node in nodes { node.component = random.below(2) }
            later(milliseconds(500, 2500)) { [self] in formRings() }
        case 5:
            for node in nodes { node.component = 0 }
            later(milliseconds(100, 2500)) { [self] in formRings() }
        case 6:
            node.isPaused = true
            later(milliseconds(100, 8000)) { [self] in
                node.isPaused = false
                try drain(node)
            }
        case 7, 8:
            guard !node.isCorosyncPaused else { return }
            node.isCorosyncPaused = true
            later(2200) { [self] in formRings() }
            later(milliseconds(500, 6000)) { [self] in resumeCorosync(node) }
        case 9:
            // Power: every process, and what was not stored yet.
            for node in nodes { crash(node) }
            for node in nodes {
                later(milliseconds(1, 3000)) { [self] in if node.agreement == nil { startProcess(node) } }
            }
        case 10:
            // A lost log, as long as the voters that keep theirs are a majority, by every list that may count.
            let lists = nodes.compactMap { $0.agreement?.log.lists(committed: 0) }.flatMap { $0 }
            let survives = lists.allSatisfy { list in
                2 * list.voters.count { voter in voter.node != node.id && self.node(voter.node).key == voter.key }
                    > list.voters.count
            }
            guard survives, nodes.allSatisfy({ $0.agreement != nil }) else { return }
            crash(node)
            wipe(node)
            later(milliseconds(1, 3000)) { [self] in if node.agreement == nil { startProcess(node) } }
        default:
            for _ in 0..<10 { if node.agreement != nil, !node.isPaused { try proposeCommand(node) } }
        }
    }
    private func heal() {
        isHealed = true
        for node in nodes {
            node.component = 0
            node.isPaused = false
            if node.agreement == nil { startProcess(node) }
            resumeCorosync(node)
            later(1) { [self] in try drain(node) }
        }
        formRings()
    }
    private func describeNodes() -> String {
        nodes.map { node in
            guard let agreement = node.agreement else { return "\(node.id) dead" }
            let phase =
                switch agreement.phase {
                case .apart: "apart"
                case .gathering: "gathering"
                case .inView(let view):
                    "in \(view.number) of \(view.members) states \(view.states.map(\.member)) chosen "
                        + "\(view.chosen.map(\.description) ?? "-") aligned \(view.isAligned) acks \(view.acks.map { "\($0.node):\($0.index)" })"
                }
            return "\(node.id) ring \(agreement.ring.map(\.description) ?? "-") promised \(agreement.promised) at "
                + "\(agreement.last) committed \(agreement.commit) voters \(agreement.log.lists(committed: agreement.knownCommitted).map(\.voters)) key "
                + "\(node.key) pending \(node.pending.count) events \(node.events.count) \(phase)"
        }.joined(separator: "\n")
    }
    private func checkEnd() throws {
        let highest = nodes.map(\.applied).max()!
        for node in nodes {
            guard let agreement = node.agreement, agreement.isInActiveView else {
                throw AgreementFailure(description: "\(node.id) is in no active view at the end: \(describeNodes())")
            }
            guard node.applied == highest else {
                throw AgreementFailure(description: "\(node.id) has \(node.applied) of \(highest) entries at the end")
            }
            guard agreement.proposals.isEmpty else {
                throw AgreementFailure(description: "\(node.id) has \(agreement.proposals.count) proposals left")
            }
        }
        guard let last = committed.last?.index, last > 20 else {
            throw AgreementFailure(description: "only \(committed.count) entries were committed")
        }
    }
}

@Suite struct AgreementLives {
    private static func seeds(_ count: Int) -> ClosedRange<UInt64> {
        guard let text = Environment.value("SHEEP_SEEDS") else { return 1...UInt64(count) }
        let ends = text.split(separator: "-").compactMap { UInt64($0) }
        return ends[0]...ends[ends.count - 1]
    }
    private func run(_ seed: UInt64, _ options: AgreementWorld.Options) -> (any Error)? {
        let world = AgreementWorld(seed: seed, options)
        if Environment.value("SHEEP_TRACE") != nil { world.trace = [] }
        do {
            try world.live()
            return nil
        } catch {
            for line in world.trace ?? [] { print(line) }
            return error
        }
    }
    private func options(_ seed: UInt64) -> AgreementWorld.Options {
        var random = Random(seed ^ 0x5eed)
        var options = AgreementWorld.Options()
        options.nodes = 1 + random.below(5)
        options.voters = min(options.nodes, 1 + random.below(5))
        options.isQuorumBlind = random.chance(percent: 30)
        options.changesVoters = random.chance(percent: 60)
        options.imageEvery = [5, 20, 1_000_000][random.below(3)]
        return options
    }

    @Test func nothingCommittedIsLostAndEverythingGoesOn() {
        for seed in AgreementLives.seeds(60) {
            if let error = run(seed, options(seed)) { Issue.record("seed \(seed): \(error)") }
        }
    }

    /// The checkers find what they are there for.
    @Test(arguments: AgreementWorld.Sabotage.allCases) func aBrokenRuleIsCaught(_ sabotage: AgreementWorld.Sabotage) {
        for seed in UInt64(1)...200 {
            var options = AgreementWorld.Options()
            options.nodes = 3
            options.sabotage = sabotage
            options.isQuorumBlind = true
            options.changesVoters = false
            if run(seed, options) != nil { return }
        }
        Issue.record("\(sabotage) was not noticed in 200 lives")
    }
}
