// Every named scenario, of one host.
import Simulator
import Testing

@Suite struct ScenarioTests {
    @Test(arguments: Scenario.all.filter { $0.kind == .single }.map(\.name))
    func scenarioKeepsTheContract(_ name: String) throws {
        let scenario = try #require(Scenario.named(name))
        let outcome = Simulation(seed: 1, kind: scenario.kind, knobs: scenario.knobs(seed: 1)).run()
        #expect(outcome.failure == nil, "replay: sheep-sim run --scenario \(name)")
    }
}
