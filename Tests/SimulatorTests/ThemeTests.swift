// Every theme, with a few seeds.
import Simulator
import Testing

@Suite struct ThemeTests {
    @Test(arguments: Theme.all.filter { $0.kind == .single }.map(\.name))
    func themeKeepsTheContract(_ name: String) throws {
        let theme = try #require(Theme.named(name))
        for seed in UInt64(1)...3 {
            let outcome = Simulation(seed: seed, kind: theme.kind, knobs: theme.knobs(seed: seed)).run()
            #expect(outcome.failure == nil, "replay: sheep-sim run --theme \(name) --seed \(seed)")
        }
    }
}
