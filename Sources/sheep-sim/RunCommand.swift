// The command that runs seeds: one in this process, to look at it, or many in child processes.
import ArgumentParser
import Glibc
import Model
import Simulator

struct SeedRange: ExpressibleByArgument {
    let first: UInt64
    let last: UInt64
    init?(argument: String) {
        let parts = argument.split(separator: ".", omittingEmptySubsequences: true).compactMap { UInt64($0) }
        guard let first = parts.first, parts.count <= 2, parts.count == 1 || argument.contains("..") else { return nil }
        self.first = first
        last = parts.count == 2 ? parts[1] : first
        guard last >= first else { return nil }
    }
}

extension HostKind: ExpressibleByArgument {}

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Runs one seed, a range of seeds, or seeds for some hours.")

    @Option(help: "Seeds, as A..B.") var seeds: SeedRange?
    @Option(help: "One seed, in this process.") var seed: UInt64?
    @Flag(help: "Print everything that happens.") var trace = false
    @Option(help: "Play this scenario (see --list), and print its trace.") var scenario: String?
    @Flag(help: "List the scenarios.") var list = false
    @Option(help: "Run with this theme, with --seed or with seed 1: \(Theme.all.map(\.name).joined(separator: ", ")).")
    var theme: String?
    @Option(help: "Steps of the plan to carry out, as numbers with commas between them; the others are left out.")
    var only: String?
    @Option(help: "Hosts: single or cluster; else as the seed says.") var kind: HostKind?
    @Option(help: "Child processes.") var jobs = 2
    @Option(help: "Run seeds for so many hours.") var hours: Double?
    @Option(help: "Add the totals to this file.") var ledger: String?
    @Option(help: "Break this rule of the cores (only in builds that can).") var saboteur: String?
    @Flag(help: "Do not look for the shortest plan that fails.") var whole = false

    func run() throws {
        if let saboteur {
            guard Saboteur.areBuilt, let known = Saboteur(rawValue: saboteur) else {
                throw ValidationError("no such saboteur, or a build without any: see sheep-sim saboteurs")
            }
            Saboteur.set(known)
        }
        if list { return Play.list() }
        if let scenario { return try Play.one(scenario) }
        if let seed { return try runOne(seed) }
        if theme != nil { return try runOne(1) }
        var range = seeds.map { ($0.first, $0.last) } ?? (1, 100)
        if hours != nil, seeds == nil { range = (1, UInt64.max / 2) }
        var crew = Crew(first: range.0, last: range.1, jobs: max(1, jobs), seconds: hours.map { $0 * 3600 }, kind: kind)
        crew.saboteur = saboteur
        let totals = crew.run { print($0) }
        print(totals.summary)
        for failure in totals.failures.prefix(5) where !whole {
            print("")
            if failure.checker == "crash" {
                print("seed \(failure.seed) ended its process; replay: sheep-sim run --seed \(failure.seed) --trace")
            } else {
                print(Timeline.shortest(seed: failure.seed, kind: kind))
            }
        }
        if let ledger { try Ledger.add(totals, to: ledger) }
        if !totals.failures.isEmpty { throw ExitCode.failure }
    }

    private func runOne(_ seed: UInt64) throws {
        let steps = only.map { Set($0.split(separator: ",").compactMap { Int($0) }) }
        let knobs = try theme.map { name in
            guard let known = Theme.named(name) else { throw ValidationError("no theme \(name): see --help") }
            return known.knobs(seed: seed)
        }
        let simulation = Simulation(seed: seed, kind: kind, knobs: knobs, only: steps)
        if trace { simulation.trace.output = { print($0) } }
        let outcome = simulation.run()
        print(outcome.line)
        guard outcome.failure != nil else { return }
        if !trace, !whole, only == nil, theme == nil { print(Timeline.shortest(seed: seed, kind: kind)) }
        throw ExitCode.failure
    }
}

/// Runs every so manyth seed and prints a line for each: what `run` starts.
struct WorkerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "worker", shouldDisplay: false)
    @Option var first: UInt64
    @Option var last: UInt64
    @Option var step: UInt64
    @Option var most: Int
    @Option var kind: HostKind?
    @Option var saboteur: String?
    func run() {
        Saboteur.set(saboteur.flatMap { Saboteur(rawValue: $0) })
        for seed in stride(from: first, through: last, by: Int(step)).prefix(most) {
            tell("begin \(seed)\n")
            tell(Simulation(seed: seed, kind: kind).run().line + "\n")
        }
    }
    /// At once: what a process that dies has not said is lost.
    private func tell(_ text: String) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { write(1, $0.baseAddress!, $0.count) }
            if count <= 0 { return }
            bytes = bytes.dropFirst(count)
        }
    }
}
