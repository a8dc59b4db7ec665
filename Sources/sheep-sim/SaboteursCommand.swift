// The table of saboteurs: each rule of the cores is broken in turn, and seeds are run until a checker notices. Five times, from
// different seeds; the median counts.
import ArgumentParser
import Model
import Simulator

struct SaboteursCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "saboteurs", abstract: "Breaks one rule after the other, and says which checker notices, and when."
    )
    @Option(help: "At most so many seeds for each.") var seeds: UInt64 = 200
    @Option(help: "How often, from different seeds.") var times: UInt64 = 5
    @Option(help: "Hosts: single or cluster; else as the seed says.") var kind: HostKind?
    @Option(help: "Child processes.") var jobs = 2
    @Argument(help: "Only these.") var names: [String] = []

    func run() throws {
        guard Saboteur.areBuilt else {
            throw ValidationError("this build has no saboteurs: build with SHEEP_SABOTEURS=1, or a debug build")
        }
        var missed = 0
        for saboteur in Saboteur.allCases where names.isEmpty || names.contains(saboteur.rawValue) {
            var counts: [UInt64] = []
            var checkers: [String] = []
            for time in 0..<times {
                let first = 1_000_000 * (time + 1) + 1
                var crew = Crew(first: first, last: first + seeds - 1, jobs: jobs, seconds: nil, kind: kind)
                crew.saboteur = saboteur.rawValue
                crew.stopsAtFirst = true
                let totals = crew.run { _ in }
                guard let failure = totals.failures.min(by: { $0.seed < $1.seed }) else { continue }
                counts.append(failure.seed - first + 1)
                if !checkers.contains(failure.checker) { checkers.append(failure.checker) }
            }
            counts.sort()
            let isCaught = 2 * counts.count > Int(times)
            if !isCaught { missed += 1 }
            let name = saboteur.rawValue + String(repeating: " ", count: max(1, 26 - saboteur.rawValue.count))
            let median = isCaught ? "\(counts[counts.count / 2])" : "not caught"
            print("\(name) \(median)  (\(counts.count) of \(times))  \(checkers.joined(separator: ", "))")
        }
        if missed > 0 { throw ExitCode.failure }
    }
}
