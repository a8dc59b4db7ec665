// Every named scenario, with a few seeds.
import Simulator
import Testing

@Suite struct ScenarioTests {
    @Test(arguments: Scenario.all.filter { $0.kind == .single }.map(\.name))
    func scenarioKeepsTheContract(_ name: String) throws {
        let scenario = try #require(Scenario.named(name))
        for seed in UInt64(1)...3 {
            let outcome = Simulation(seed: seed, kind: scenario.kind, knobs: scenario.knobs(seed: seed)).run()
            #expect(outcome.failure == nil, "replay: sheep-sim run --scenario \(name) --seed \(seed)")
        }
    }
}
