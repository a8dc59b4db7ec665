// The part of fuzzing that runs with every test: each file of the kept corpus, and a fixed number of seeded mutations
// of valid inputs, through each driver. The same in every run. contrib/fuzz runs the same drivers under libFuzzer.
import Foundation
import Testing

/// One after the other: drivers share sessions and pools, as the one thread of a daemon does.
@Suite(.serialized) struct DriverTests {
    /// Inputs of a target that were found worth keeping, regressions among them, by name.
    private static func corpus(_ target: FuzzTarget) throws -> [(name: String, bytes: [UInt8])] {
        let directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Corpus/\(target.name)")
        return try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted().map {
            ($0, Array(try Data(contentsOf: directory.appending(path: $0))))
        }
    }

    @Test(arguments: FuzzTarget.all.map(\.name))
    func theKeptCorpusAndTheValidInputsPass(_ name: String) throws {
        let target = try #require(FuzzTarget.named(name))
        let kept = try Self.corpus(target)
        #expect(!kept.isEmpty)
        for (file, bytes) in kept {
            let problem = target.run(bytes)
            #expect(problem == nil, "\(name)/\(file)")
        }
        for (number, seed) in target.seeds().enumerated() {
            let problem = target.run(seed)
            #expect(problem == nil, "\(name), valid input \(number)")
        }
    }

    @Test(arguments: FuzzTarget.all.map(\.name))
    func mutationsOfValidInputsPass(_ name: String) throws {
        let target = try #require(FuzzTarget.named(name))
        let inputs = target.seeds() + (try Self.corpus(target).map(\.bytes))
        for seed in UInt64(0)..<UInt64(Mutator.rounds(target)) {
            var mutator = Mutator(seed: seed)
            let input = mutator.mutate(inputs, limit: target.maximumBytes)
            if let problem = target.run(input) {
                Issue.record("\(name), mutation \(seed): \(problem): \(Data(input).base64EncodedString())")
            }
        }
    }
}
