// Directories: make, list, sync. Names come back as they are; whoever uses one checks its form.
import CSheep
import Glibc
import Model

package enum Directory {
    /// Makes `path`; false if there is one already. Its entry is durable only after the parent is synced.
    @discardableResult
    package static func create(
        _ path: String, mode: UInt32 = 0o700, in directory: Int32 = AT_FDCWD
    ) throws(Errno) -> Bool {
        if mkdirat(directory, path, mode) == 0 { return true }
        guard errno == EEXIST else { throw .last }
        return false
    }

    package static func open(_ path: String, in directory: Int32 = AT_FDCWD) throws(Errno) -> FileDescriptor {
        try .open(path, O_RDONLY | O_DIRECTORY, in: directory)
    }

    /// Makes the entries of `path` durable.
    package static func synchronize(_ path: String, in directory: Int32 = AT_FDCWD) throws(Errno) {
        let opened = try open(path, in: directory)
        try opened.synchronize()
    }

    /// Calls `body` with each name but "." and "..", in no order.
    package static func forEachName(
        _ path: String, in directory: Int32 = AT_FDCWD, _ body: (String) -> Void
    ) throws(Errno) {
        let number = try open(path, in: directory).release()
        guard let stream = fdopendir(number) else {
            let failure = Errno.last
            close(number)
            throw failure
        }
        defer { closedir(stream) }
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                guard errno == 0 else { throw .last }
                return
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { body(name) }
        }
    }

    /// All names but "." and "..", sorted.
    package static func names(_ path: String, in directory: Int32 = AT_FDCWD) throws(Errno) -> [String] {
        var names: [String] = []
        try forEachName(path, in: directory) { names.append($0) }
        return names.sorted()
    }
}
