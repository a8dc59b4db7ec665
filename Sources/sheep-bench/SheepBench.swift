// sheep-bench: benchmarks of single parts of the system. Prints figures; must never be a test that passes or fails.
import ArgumentParser

@main
struct SheepBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sheep-bench", abstract: "Benchmarks of single parts of Sheepfold.",
        subcommands: [PlacementBench.self])
}
