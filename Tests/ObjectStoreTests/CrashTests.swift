// Power losses and killed processes at every point of random lives, and the saboteurs that such tests must catch.
import Glibc
import Model
import Testing

@testable import ObjectStore

@Suite struct CrashTests {
    static func problems(_ seeds: Range<UInt64>, _ change: (inout StoreConfiguration) -> Void = { _ in }) -> [String] {
        var all: [String] = []
        for seed in seeds {
            let workload = Workload(seed: seed, change)
            workload.run()
            all += workload.problems
            if all.count > 8 { break }
        }
        return all
    }

    @Test(arguments: 0..<4)
    func randomLivesLoseNothingFlushed(_ part: UInt64) {
        #expect(CrashTests.problems(part * 25..<(part + 1) * 25) == [])
    }

    /// Runs the seeds that the environment names ("17", or "0-20000"): for long hunts, and to look into a failure.
    @Test(.enabled(if: getenv("SHEEP_SEEDS") != nil)) func theSeedsOfTheEnvironment() {
        let bounds = String(cString: getenv("SHEEP_SEEDS")).split(separator: "-").compactMap { UInt64($0) }
        #expect(CrashTests.problems(bounds[0]..<(bounds.count > 1 ? bounds[1] : bounds[0] + 1)) == [])
    }

    @Test func aStoreThatSkipsJournalSyncsIsCaught() {
        #expect(!CrashTests.problems(0..<20) { $0.skipJournalSync = true }.isEmpty)
    }

    @Test func aStoreThatAppliesBeforeDurableIsCaught() {
        #expect(!CrashTests.problems(0..<20) { $0.applyBeforeDurable = true }.isEmpty)
    }
}
