// Every named scenario is played, and leaves the trace that was looked at when it was written. With SHEEP_UPDATE_GOLDEN=1
// the traces are written anew: read what has changed before it is committed.
import Glibc
import Simulator
import Testing

@Suite struct ScenarioTests {
    @Test(arguments: Scenario.all.map(\.name))
    func aScenarioLeavesItsTrace(_ name: String) throws {
        let scenario = try #require(Scenario.named(name))
        let ending = scenario.run()
        #expect(ending.failure == nil, "\(ending.trace)")
        let path =
            #filePath.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 } + "/Golden/scenarios/\(name).txt"
        if getenv("SHEEP_UPDATE_GOLDEN") != nil, ending.failure == nil {
            try #require(Files.write(ending.trace, path))
        }
        #expect(ending.trace == Files.read(path), "\(ending.trace)")
    }

    @Test func everyRowOfTheTableHasAScenario() {
        let names = Scenario.all.map(\.name)
        #expect(Set(names).count == names.count)
        for row in Scenario.table {
            #expect(!row.scenarios.isEmpty, "\(row.event)")
            for name in row.scenarios { #expect(names.contains(name), "\(row.event): \(name)") }
        }
        let played = Set(Scenario.table.flatMap(\.scenarios))
        for name in names { #expect(played.contains(name), "\(name) belongs to no row") }
    }
}

private enum Files {
    static func read(_ path: String) -> String? {
        guard let file = fopen(path, "r") else { return nil }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 65_536)
        while case let count = fread(&part, 1, part.count, file), count > 0 { bytes += part[..<count] }
        return String(decoding: bytes, as: UTF8.self)
    }
    static func write(_ text: String, _ path: String) -> Bool {
        guard let file = fopen(path, "w") else { return false }
        defer { fclose(file) }
        return fputs(text, file) >= 0
    }
}
