// Named scenarios from the command line: what there is, and one of them with its trace.
import ArgumentParser
import Glibc
import Simulator

enum Play {
    static func list() {
        for row in Scenario.table {
            print(row.event)
            for name in row.scenarios { print("    \(name): \(Scenario.named(name)?.summary ?? "it does not exist")") }
        }
    }
    static func one(_ name: String) throws {
        guard let scenario = Scenario.named(name) else {
            throw ValidationError("There is no scenario \(name); --list shows them.")
        }
        let ending = scenario.run {
            print($0)
            fflush(nil)
        }
        if ending.failure != nil { throw ExitCode.failure }
    }
}
