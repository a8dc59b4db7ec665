// What of a mount's options goes on to libfuse, on this machine and for this user.
import Glibc
import Model

extension MountOptions {
    /// The list for libfuse, without name and subtype. `configuration`: the text of /etc/fuse.conf, if there is one.
    package func libraryOptions(isRoot: Bool, configuration: String?) throws(SheepError) -> String {
        let isPermitted =
            isRoot
            || (configuration ?? "").split(separator: "\n").contains { line in
                line.trimmed == "user_allow_other"
            }
        if allowOther == true, !isPermitted {
            throw SheepError(
                .notPermitted, what: "mount option \"allow_other\" is refused",
                why: "/etc/fuse.conf does not have user_allow_other, and you are not root",
                remedy: "let root add the line user_allow_other to /etc/fuse.conf")
        }
        var options = ["default_permissions", isReadOnly ? "ro" : "rw"]
        if isPermitted { options.append("allow_other") }
        // Only root may have device files and set-user-id programs on a mount; fusermount3 would complain.
        options += passed.filter { isRoot || ($0 != "dev" && $0 != "suid") }
        return options.joined(separator: ",")
    }
    /// As above, for this process on this machine.
    package func libraryOptions() throws(SheepError) -> String {
        try libraryOptions(isRoot: geteuid() == 0, configuration: readSmallFile("/etc/fuse.conf"))
    }
}

extension Substring {
    fileprivate var trimmed: Substring {
        let blanks: (Character) -> Bool = { $0 == " " || $0 == "\t" || $0 == "\r" }
        var text = drop(while: blanks)
        while let last = text.last, blanks(last) { text.removeLast() }
        return text
    }
}

/// A text file of at most 1 MiB; nil when it cannot be read.
func readSmallFile(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while bytes.count < 1 << 20 {
        let count = read(descriptor, &chunk, chunk.count)
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { break }
        bytes += chunk[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
}
