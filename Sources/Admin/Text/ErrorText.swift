// How errors are shown: three lines for people, one object for programs.
import Model

package enum ErrorText {
    package static func lines(_ program: String, _ error: SheepError) -> String {
        "\(program): \(printable(error.what))\n  why: \(printable(error.why))\n  do:  \(printable(error.remedy))\n"
    }

    private struct Report: Encodable {
        var error: AdminFailure
        var exitCode: Int32
    }

    /// `{"error":{"errno":...,"what":...,"why":...,"remedy":...},"exitCode":...}`
    package static func json(_ error: SheepError, exitCode: ExitStatus) -> String {
        AdminCoding.pretty(Report(error: AdminFailure(error), exitCode: exitCode.rawValue)) + "\n"
    }
}
