// The ledger of all seeds ever run: one line for each run that was added to it. Nothing of it is ever dropped.
import Glibc
import Simulator

enum Ledger {
    private static let header =
        "# seeds; simulated hours; operations; changes of volumes; crashes; power losses; partitions; disk faults; failures\n"

    static func add(_ totals: Totals, to path: String) throws {
        let hours = Totals.rounded(Double(totals.simulatedNanoseconds) / 3.6e12)
        let line =
            "\(totals.seeds); \(hours); \(totals.operations); \(totals.controls); \(totals.crashes); "
            + "\(totals.powerLosses); \(totals.partitions); \(totals.diskFaults); \(totals.failures.count)\n"
        guard let file = fopen(path, "a+") else { throw LedgerError(path: path) }
        defer { fclose(file) }
        fseek(file, 0, SEEK_END)
        if ftell(file) == 0 { fputs(header, file) }
        fputs(line, file)
    }
}
struct LedgerError: Error, CustomStringConvertible {
    let path: String
    var description: String { "the ledger \(path) cannot be written" }
}
