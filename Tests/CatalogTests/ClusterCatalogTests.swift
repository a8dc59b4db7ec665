// The catalog of a cluster in random lives with faults of all kinds, then none: everything must come to an end.
import Model
import TestSupport
import Testing

@testable import Catalog

extension ClusterWorld {
    func live() throws {
        try boot()
        scheduleFault()
        let end = UInt64(options.seconds) * 1_000_000_000
        try run(until: end)
        try heal()
        quietAt = end + 15_000_000_000
        try run(until: end + 45_000_000_000)
        try checkEnd()
    }

    private func scheduleFault() {
        later(milliseconds(50, 4000)) { [self] in
            guard !isHealed else { return }
            try inject()
            scheduleFault()
        }
    }
    private func restart(_ node: ClusterNode) {
        later(milliseconds(1, 3000)) { [self] in startProcess(node) }
    }
    private func inject() throws {
        let node = random.pick(nodes)
        switch random.below(15) {
        case 0, 1:
            crash(node, power: random.chance(percent: 50))
            restart(node)
        case 2:
            // Killed and started at once.
            crash(node, power: false)
            startProcess(node)
        case 3, 4:
            for node in nodes { node.component = random.below(2) }
            // The network of the data is cut the same way, or not at all, or the one of the group only.
            if random.chance(percent: 50) { cutAs(nodes.map(\.component)) }
            later(milliseconds(500, 2500)) { [self] in formRings() }
        case 5:
            for node in nodes { node.component = 0 }
            cut(percent: 0)
            later(milliseconds(100, 2500)) { [self] in formRings() }
        case 6: cut(percent: random.below(60))
        case 7, 8:
            node.isPaused = true
            later(milliseconds(100, 8000)) { [self] in try resume(node) }
        case 9:
            guard !node.isCorosyncPaused else { return }
            node.isCorosyncPaused = true
            later(2200) { [self] in formRings() }
            later(milliseconds(500, 6000)) { [self] in resumeCorosync(node) }
        case 10:
            for node in nodes {
                crash(node, power: true)
                restart(node)
            }
        case 11:
            // A disk breaks, and works again later, with what it had.
            guard node.disks.allSatisfy({ !$0.disk.isBroken }) else { return }
            let disk = random.pick(node.disks).disk
            disk.isBroken = true
            note("a disk of \(node.id) breaks")
            later(milliseconds(500, 9000)) { [self] in
                disk.isBroken = false
                if random.chance(percent: 70) {
                    crash(node, power: random.chance(percent: 50))
                    restart(node)
                }
            }
        case 12:
            // One of three disks is a new one.
            guard node.disks.count == 3, node.log?.stores.count == 3, node.disks.allSatisfy({ !$0.disk.isBroken })
            else { return }
            crash(node, power: random.chance(percent: 50))
            let (id, disk) = random.pick(node.disks)
            note("\(id) is a new disk")
            disk.wipe()
            restart(node)
        case 13:
            guard mayLose(node) else { return }
            let isPart = node.disks.count == 2 && node.log?.stores.count == 2
            crash(node, power: false)
            if isPart, random.chance(percent: 70) {
                // One of two is lost for good, and an administrator says so.
                let (id, disk) = random.pick(node.disks)
                note("\(id) is lost")
                disk.wipe()
                node.lost = [id]
                restart(node)
            } else {
                try wipe(node)
                restart(node)
            }
        default:
            guard let catalog = node.catalog, !node.isPaused, options.requests else { return }
            for _ in 0..<10 { ask(node, catalog) }
        }
        if let failure { throw failure }
    }
    /// Whether the voters that keep their logs are a majority without this node, by every list that may count.
    private func mayLose(_ node: ClusterNode) -> Bool {
        guard nodes.allSatisfy({ $0.isAlive && $0.disks.allSatisfy { !$0.disk.isBroken } }) else { return false }
        // A change that is still on its way may make the loss one too many.
        guard nodes.allSatisfy({ $0.voterChanges == 0 }), now - lastVoterChange > 5_000_000_000 else { return false }
        let lists = nodes.compactMap { $0.catalog?.agreement?.log.lists(committed: 0) }.flatMap { $0 }
        return lists.allSatisfy { list in
            2 * list.voters.count { voter in voter.node != node.id && self.node(voter.node).key == voter.key }
                > list.voters.count
        }
    }
    func heal() throws {
        isHealed = true
        cut(percent: 0)
        for node in nodes {
            node.component = 0
            for (_, disk) in node.disks { disk.isBroken = false }
            try resume(node)
            startProcess(node)
            resumeCorosync(node)
        }
        formRings()
    }
}

func seeds(_ count: Int) -> ClosedRange<UInt64> {
    guard let text = Environment.value("SHEEP_SEEDS") else { return 1...UInt64(count) }
    let ends = text.split(separator: "-").compactMap { UInt64($0) }
    return ends[0]...ends[ends.count - 1]
}

@Suite struct ClusterCatalogLives {
    private func run(_ seed: UInt64, _ options: ClusterWorld.Options) -> (any Error)? {
        let world = ClusterWorld(seed: seed, options)
        if Environment.value("SHEEP_TRACE") != nil { world.trace = [] }
        do {
            try world.live()
            return nil
        } catch {
            for line in world.trace ?? [] { print(line) }
            return error
        }
    }
    private func options(_ seed: UInt64) -> ClusterWorld.Options {
        var random = Random(seed ^ 0xca7a_1095)
        var options = ClusterWorld.Options()
        options.nodes = 1 + random.below(5)
        options.voters = min(options.nodes, 1 + random.below(5))
        options.isQuorumBlind = random.chance(percent: 30)
        options.changesVoters = random.chance(percent: 60)
        options.imageInterval = [500, 4000, 1_000_000][random.below(3)]
        return options
    }

    @Test func eachRequestHasOneOutcomeAndNothingCommittedIsLost() {
        for seed in seeds(16) {
            if let error = run(seed, options(seed)) { Issue.record("seed \(seed): \(error)") }
        }
    }

    /// The checkers find what they are there for.
    @Test(arguments: ClusterWorld.Sabotage.allCases) func aBrokenRuleIsCaught(_ sabotage: ClusterWorld.Sabotage) {
        for seed in UInt64(1)...200 {
            var options = ClusterWorld.Options()
            options.sabotage = sabotage
            options.isQuorumBlind = true
            options.changesVoters = false
            options.imageInterval = 500
            if sabotage == .silentInstall { options.nodes = 4 }
            if let error = run(seed, options) {
                print("\(sabotage): seed \(seed): \(error)")
                return
            }
        }
        Issue.record("\(sabotage) was not noticed in 200 lives")
    }
}
