// Errors that a person reads: one line what, one line why, one line what to do.

/// An errno value. Only the ones the system gives out are named.
package struct Errno: Error, Hashable, Sendable, CustomStringConvertible {
    package let code: Int32
    package init(_ code: Int32) { self.code = code }
    package static let notPermitted = Errno(1)  // EPERM
    package static let noEntry = Errno(2)  // ENOENT
    package static let interrupted = Errno(4)  // EINTR
    package static let inputOutput = Errno(5)  // EIO
    package static let tooBig = Errno(7)  // E2BIG
    package static let badDescriptor = Errno(9)  // EBADF
    package static let tryAgain = Errno(11)  // EAGAIN
    package static let noMemory = Errno(12)  // ENOMEM
    package static let accessDenied = Errno(13)  // EACCES
    package static let busy = Errno(16)  // EBUSY
    package static let exists = Errno(17)  // EEXIST
    package static let crossDevice = Errno(18)  // EXDEV
    package static let notDirectory = Errno(20)  // ENOTDIR
    package static let isDirectory = Errno(21)  // EISDIR
    package static let invalid = Errno(22)  // EINVAL
    package static let notTerminal = Errno(25)  // ENOTTY
    package static let fileTooBig = Errno(27)  // EFBIG
    package static let noSpace = Errno(28)  // ENOSPC
    package static let readOnly = Errno(30)  // EROFS
    package static let outOfRange = Errno(34)  // ERANGE
    package static let deadlock = Errno(35)  // EDEADLK
    package static let nameTooLong = Errno(36)  // ENAMETOOLONG
    package static let notImplemented = Errno(38)  // ENOSYS
    package static let notEmpty = Errno(39)  // ENOTEMPTY
    package static let noData = Errno(61)  // ENODATA
    package static let overflow = Errno(75)  // EOVERFLOW
    package static let notSupported = Errno(95)  // EOPNOTSUPP
    package static let stale = Errno(116)  // ESTALE
    package static let noPosition = Errno(6)  // ENXIO: no data or hole past an offset
    package var description: String { "errno \(code)" }
}

/// An error for a person. `what` happened, `why`, and what to do about it (`remedy`): a line each.
package struct SheepError: Error, Hashable, Sendable, CustomStringConvertible {
    package let errno: Errno
    package let what: String
    package let why: String
    package let remedy: String

    package init(_ errno: Errno, what: String, why: String, remedy: String) {
        self.errno = errno
        self.what = what
        self.why = why
        self.remedy = remedy
    }
    package var description: String { "\(what)\n  why: \(why)\n  do:  \(remedy)" }
}
