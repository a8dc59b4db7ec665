// The random life of a node whose volumes have two of three copies on other nodes, over a network that breaks, and with
// kills of either side: the same model, the same checks as for one host.
import Model
import TestSupport
import Testing

@testable import Replication

@Suite struct RemoteLifeTests {
    private static let usualSeeds: UInt64 = 30

    @Test func randomLivesOverTheNetworkKeepTheContract() {
        let setting = Environment.value("SHEEP_REMOTE_SEEDS")?.split(separator: "-").compactMap { UInt64($0) } ?? []
        // 112: a write was given the version that a copy, which then went, had been stamped with.
        let seeds = setting.count == 2 ? Array(setting[0]...setting[1]) : Array(1...Self.usualSeeds) + [91, 112]
        var failed: [UInt64] = []
        for seed in seeds {
            let world = ClusterWorld(seed: seed, local: seed % 4 == 0 ? 2 : 1) {
                $0.network.corruptionPercent = seed % 5 == 0 ? 30 : 0
                $0.boundsFaults = Environment.value("SHEEP_REMOTE_UNBOUNDED") == nil
                $0.breaksSessions = seed % 2 == 1
                $0.waitsForStores = seed % 3 != 0
                $0.network.slownessMilliseconds = [1, 3, 20][Int(seed % 3)]
            }
            let life = RandomLife(seed: seed, world: world)
            nonisolated(unsafe) var issues = 0
            withKnownIssue(isIntermittent: true) {
                life.run(steps: 250)
            } matching: { _ in
                issues += 1
                return false
            }
            if !life.problems.isEmpty || issues > 0 {
                failed.append(seed)
                Issue.record("seed \(seed): \(life.problems.first ?? "see above")")
                if seeds.count == 1 { life.describeAll() }
                if seeds.count == 1 { print(world.log.suffix(20), world.network.refusals.suffix(5)) }
                if seeds.count == 1 { print(life.history.suffix(400).joined(separator: "\n")) }
                if failed.count >= 5 { break }
            }
        }
        #expect(failed.isEmpty)
    }
}
