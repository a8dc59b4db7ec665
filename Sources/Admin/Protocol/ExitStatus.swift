// The exit codes of `dog` and `sheep`, and which errno ends in which. Documented in dog(8); scripts rely on them.
import Model

package enum ExitStatus: Int32, CaseIterable, Sendable {
    case success = 0
    case failed = 1
    /// The words on the command line, or a value in them, are wrong.
    case usage = 2
    case unreachable = 3
    case notFound = 4
    /// Busy, in use, not empty, or cancelled: it may work later.
    case busy = 5
    case exists = 6
    case noSpace = 7
    /// `dog status --check`: something is wrong. `dog vdi check`: copies were bad.
    case degraded = 8
    case accessDenied = 9

    package init(_ errno: Errno) {
        switch errno {
        case .noEntry, .notDirectory: self = .notFound
        case .busy, .tryAgain, .notEmpty, .interrupted: self = .busy
        case .exists: self = .exists
        case .noSpace: self = .noSpace
        case .invalid, .nameTooLong, .tooBig, .fileTooBig, .isDirectory, .outOfRange: self = .usage
        case .accessDenied, .notPermitted: self = .accessDenied
        case .connectionRefused: self = .unreachable
        default: self = .failed
        }
    }
}

extension Errno {
    /// ECONNREFUSED: no daemon answers at the socket.
    package static let connectionRefused = Errno(111)
}
