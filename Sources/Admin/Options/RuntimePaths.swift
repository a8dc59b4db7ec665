// Where the daemon's socket is when nobody says otherwise, and paths made absolute without looking at the file system
// (a path below a mount whose daemon is away would hang).
import Glibc
import Model

package enum RuntimePaths {
    /// `--socket`, else $SHEEP_SOCKET, else /run/sheep/sheep.sock as root, else $XDG_RUNTIME_DIR/sheep/sheep.sock,
    /// else /tmp/sheep-UID/sheep.sock.
    package static func socket(
        option: String?, uid: UInt32 = geteuid(), environment: (String) -> String? = RuntimePaths.variable
    ) -> String {
        if let option, !option.isEmpty { return absolute(option) }
        if let path = environment("SHEEP_SOCKET"), !path.isEmpty { return absolute(path) }
        return directory(uid: uid, environment: environment) + "/sheep.sock"
    }

    /// The directory of what lives as long as the machine runs: the socket, the holder's socket and lock.
    package static func directory(uid: UInt32, environment: (String) -> String?) -> String {
        if uid == 0 { return "/run/sheep" }
        if let base = environment("XDG_RUNTIME_DIR"), base.hasPrefix("/") { return base + "/sheep" }
        return "/tmp/sheep-\(uid)"
    }

    package static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    /// Absolute, without `.`, `..`, doubled or trailing slashes; purely by its letters.
    package static func absolute(_ path: String, workingDirectory: String = RuntimePaths.workingDirectory) -> String {
        let full = path.hasPrefix("/") ? path : workingDirectory + "/" + path
        var parts: [Substring] = []
        for part in full.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(part) }
        }
        return "/" + parts.joined(separator: "/")
    }

    /// The path with symbolic links resolved, as far as it exists.
    package static func resolved(_ path: String) -> String {
        guard let real = realpath(path, nil) else {
            guard path != "/", let slash = path.lastIndex(of: "/") else { return path }
            let parent = slash == path.startIndex ? "/" : resolved(String(path[..<slash]))
            return (parent == "/" ? "" : parent) + path[slash...]
        }
        defer { free(real) }
        return String(cString: real)
    }

    /// Only the parents' links resolved: the last component may be a mountpoint that does not answer.
    package static func resolvedParent(_ path: String) -> String {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return path }
        let parent = resolved(String(path[..<slash]))
        return (parent == "/" ? "" : parent) + path[slash...]
    }

    package static func isSame(_ path: String, orBelow parent: String) -> Bool {
        path == parent || parent == "/" || path.hasPrefix(parent + "/")
    }

    package static var workingDirectory: String {
        guard let path = getcwd(nil, 0) else { return "/" }
        defer { free(path) }
        return String(cString: path)
    }
}
