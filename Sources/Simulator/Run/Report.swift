// What came of runs, in a line for each and in totals, and how both are read again.
package struct Totals: Sendable {
    package struct Failed: Sendable {
        package let seed: UInt64
        package let checker: String
        package let text: String
        package init(seed: UInt64, checker: String, text: String) {
            self.seed = seed
            self.checker = checker
            self.text = text
        }
    }
    package var seeds: UInt64 = 0
    package var simulatedNanoseconds: UInt64 = 0
    package var operations: UInt64 = 0
    package var controls: UInt64 = 0
    package var crashes: UInt64 = 0
    package var powerLosses: UInt64 = 0
    package var partitions: UInt64 = 0
    package var diskFaults: UInt64 = 0
    package var failures: [Failed] = []
    package var realSeconds: Double = 0
    package init() {}

    /// Adds what a line of a worker says.
    package mutating func add(line: String) {
        let words = line.split(separator: " ", maxSplits: 10).map(String.init)
        guard words.count >= 10, words[0] == "seed", let seed = UInt64(words[1]) else { return }
        let numbers = words[3..<10].map { UInt64($0) ?? 0 }
        seeds += 1
        simulatedNanoseconds += numbers[0]
        operations += numbers[1]
        controls += numbers[2]
        crashes += numbers[3]
        powerLosses += numbers[4]
        partitions += numbers[5]
        diskFaults += numbers[6]
        if words.count > 10 {
            let parts = words[10].split(separator: ":", maxSplits: 1).map(String.init)
            failures.append(
                Failed(seed: seed, checker: parts[0], text: parts.count > 1 ? String(parts[1].dropFirst()) : ""))
        }
    }

    package var summary: String {
        let hours = Double(simulatedNanoseconds) / 3.6e12
        let times = realSeconds > 0 ? Double(simulatedNanoseconds) / 1e9 / realSeconds : 0
        return "\(seeds) seeds, \(Totals.rounded(hours)) simulated hours, \(operations) operations, "
            + "\(controls) changes of volumes, \(crashes) crashes, \(powerLosses) power losses, "
            + "\(partitions) partitions, \(diskFaults) disk faults, \(failures.count) failures, "
            + "\(Totals.rounded(realSeconds)) s, \(UInt64(times)) times faster than real time"
    }
    package static func rounded(_ value: Double) -> String {
        let tenths = UInt64(value * 10 + 0.5)
        return "\(tenths / 10).\(tenths % 10)"
    }
}

extension Outcome {
    /// seed S HASH, then numbers (nanoseconds, operations, changes of volumes, crashes, power losses, partitions, disk
    /// faults), then what failed.
    package var line: String {
        func count(_ kinds: StepKind...) -> Int { kinds.reduce(0) { $0 + (faults[$1] ?? 0) } }
        let crashes = count(.kill, .stop)
        let partitions = count(.cut, .groupPartition, .breakConnections, .stopCorosync)
        let disks = count(.failStore, .rot, .strayWrites, .readErrors, .slowDisk, .fullDisk, .replaceDisk)
        let text =
            "seed \(seed) \(Outcome.hexadecimal(traceHash)) \(simulatedNanoseconds) \(operations) \(controls) "
            + "\(crashes) \(count(.powerLoss)) \(partitions) \(disks)"
        return text + (failure.map { " \($0.checker): \($0.text)" } ?? "")
    }
    package static func hexadecimal(_ value: UInt64) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: 16 - text.count) + text
    }
}
