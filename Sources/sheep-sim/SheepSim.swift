// sheep-sim: runs simulated clusters, one for each seed, and says which of them broke the contract.
import ArgumentParser

@main struct SheepSim: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sheep-sim",
        abstract: "Runs the real cores of Sheepfold in a simulated world, from seeds, and checks the contract.",
        subcommands: [RunCommand.self, SaboteursCommand.self, WorkerCommand.self], defaultSubcommand: RunCommand.self)
}
