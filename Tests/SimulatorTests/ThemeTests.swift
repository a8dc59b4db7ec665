// Every theme of random runs, of one host.
import Simulator
import Testing

@Suite struct ThemeTests {
    @Test(arguments: Theme.all.filter { $0.kind == .single }.map(\.name))
    func themeKeepsTheContract(_ name: String) throws {
        let theme = try #require(Theme.named(name))
        let outcome = Simulation(seed: 1, kind: theme.kind, knobs: theme.knobs(seed: 1)).run()
        #expect(outcome.failure == nil, "replay: sheep-sim run --theme \(name)")
    }
}
