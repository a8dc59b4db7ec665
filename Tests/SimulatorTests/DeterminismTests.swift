// The first property of a simulation: a seed is one run, wherever and however it is built. The hashes of some traces are
// kept; a change of a core changes them (SHEEP_GOLDEN=write makes the file anew), a change of anything else must not.
import Simulator
import TestSupport
import Testing

#if canImport(Glibc)
    import Glibc
#endif

@Suite struct DeterminismTests {
    private static let seeds: ClosedRange<UInt64> = 1...50
    private static var path: String {
        let here = #filePath
        return here.prefix(here.count - "DeterminismTests.swift".count) + "Golden/single-host"
    }
    private static func line(_ seed: UInt64) -> String {
        let outcome = Simulation(seed: seed, kind: .single).run()
        return "\(seed) \(Outcome.hexadecimal(outcome.traceHash))"
    }

    @Test func tracesAreAsTheyWere() throws {
        let lines = Self.seeds.map(Self.line)
        if Environment.value("SHEEP_GOLDEN") == "write" {
            let file = try #require(fopen(Self.path, "w"))
            for line in lines { fputs(line + "\n", file) }
            fclose(file)
            return
        }
        let file = try #require(fopen(Self.path, "r"))
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        bytes.removeLast(bytes.count - fread(&bytes, 1, bytes.count, file))
        let known = String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
        #expect(known == lines)
    }

    /// Within one process tables hash alike; the process that runs `tracesAreAsTheyWere` hashes by another secret each time.
    @Test func aSeedIsTheSameRunTwice() {
        let first = Simulation(seed: 7, kind: .single).run()
        let second = Simulation(seed: 7, kind: .single).run()
        #expect(first.traceHash == second.traceHash)
        #expect(first.traceLines == second.traceLines)
        #expect(first.simulatedNanoseconds == second.simulatedNanoseconds)
    }

    @Test func seedsKeepTheContract() {
        for seed in UInt64(51)...70 {
            let outcome = Simulation(seed: seed, kind: .single).run()
            #expect(outcome.failure == nil, "replay: sheep-sim run --seed \(seed) --kind single")
        }
    }

    /// Of whole clusters: seeds that once failed.
    @Test(arguments: [1, 18, 23, 26, 46, 54, 56, 57, 73] as [UInt64])
    func clustersThatOnceFailedKeepTheContract(seed: UInt64) {
        let outcome = Simulation(seed: seed, kind: .cluster).run()
        #expect(outcome.failure == nil, "replay: sheep-sim run --seed \(seed) --kind cluster")
    }
}
