// A failing seed made short: steps of its plan are left out as long as the same checker still fails; what remains is shown
// as a timeline, with how to replay it.
package enum Timeline {
    /// At most so many runs.
    private static let budget = 1_200

    package static func shortest(seed: UInt64, kind: HostKind?) -> String {
        let option = kind.map { " --kind \($0.rawValue)" } ?? ""
        let first = run(seed, kind, nil)
        guard let failure = first.failure else { return "seed \(seed) does not fail" }
        let count = Simulation(seed: seed, kind: kind).plan.steps.count
        var kept = Array(0..<count)
        var runs = 0
        // Delta debugging (Zeller, Hildebrandt 2002): halves first, then ever smaller parts.
        var size = max(1, count / 2)
        while runs < budget {
            var at = 0
            var hasShrunk = false
            while at < kept.count, runs < budget {
                let candidate = Array(kept[..<at]) + Array(kept[min(kept.count, at + size)...])
                runs += 1
                if run(seed, kind, Set(candidate)).failure?.checker == failure.checker {
                    kept = candidate
                    hasShrunk = true
                } else {
                    at += size
                }
            }
            if size == 1, !hasShrunk { break }
            if !hasShrunk || size > 1 { size = max(1, size / 2) }
        }
        let last = run(seed, kind, Set(kept))
        var lines = [
            "seed \(seed) fails: \(failure.checker): \(failure.text)",
            "replay: sheep-sim run --seed \(seed)\(option) --trace",
            "shortened to \(kept.count) of \(count) steps by \(runs) runs:"
                + " sheep-sim run --seed \(seed)\(option) --trace --only \(kept.map(String.init).joined(separator: ","))",
            "microseconds, and what happened:",
        ]
        lines += last.story.suffix(200).map { "  " + $0 }
        return lines.joined(separator: "\n")
    }
    private static func run(_ seed: UInt64, _ kind: HostKind?, _ only: Set<Int>?) -> Outcome {
        let simulation = Simulation(seed: seed, kind: kind, only: only)
        simulation.trace.keepsStory = true
        return simulation.run()
    }
}
