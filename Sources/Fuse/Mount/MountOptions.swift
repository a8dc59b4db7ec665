// The options of a mount, as mount(8), fstab and the command line give them: ours, those that go on to libfuse, and
// those that only mean something to others. An option that nobody knows is refused, never ignored.
import Glibc
import Model

package struct MountOptions: Sendable, Equatable {
    /// Whether listings show snapshots.
    package enum Snapshots: String, Sendable { case visible, hidden }
    /// What `cp` of a volume does.
    package enum Copying: String, Sendable { case copy, clone }
    /// What an acknowledged write means: durable at the next flush, or at once.
    package enum Durability: String, Sendable { case flush, always }
    /// What I/O does while too few copies are there.
    package enum Unavailable: String, Sendable { case wait, error }

    package var snapshots = Snapshots.visible
    package var copying = Copying.copy
    package var durability = Durability.flush
    package var onUnavailable = Unavailable.wait
    package var isReadOnly = false
    /// The directory of the namespace that becomes the mount's root; nil is the whole.
    package var subdirectory: String?
    /// What mount tables show as the source.
    package var sourceName = "sheep"
    /// Nil: as is permitted.
    package var allowOther: Bool?
    /// For libfuse, in the order given.
    package private(set) var passed: [String] = []

    package init() {}

    /// Parses option lists (`a,b=c`), in order: the last of two that disagree counts.
    package init(parsing lists: [String]) throws(SheepError) {
        for list in lists {
            for option in list.split(separator: ",") { try take(String(option)) }
        }
    }

    private static let generic: Set<String> = [
        "suid", "nosuid", "dev", "nodev", "exec", "noexec", "async", "sync", "atime", "noatime", "dirsync",
    ]
    // Meant for mount(8), systemd or fstab; or what holds anyway.
    private static let dropped: Set<String> = [
        "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "defaults", "relatime",
        "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime", "nodiratime", "diratime",
        "default_permissions", "subtype=sheep",
    ]
    private static let droppedPrefixes = ["x-", "X-", "comment="]

    private mutating func take(_ option: String) throws(SheepError) {
        if MountOptions.dropped.contains(option) { return }
        if MountOptions.droppedPrefixes.contains(where: { option.hasPrefix($0) }) { return }
        if MountOptions.generic.contains(option) { return passed.append(option) }
        let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let value = parts.count == 2 ? parts[1] : nil
        switch parts[0] {
        case "ro" where value == nil: isReadOnly = true
        case "rw" where value == nil: isReadOnly = false
        case "allow_other" where value == nil: allowOther = true
        case "snapshots": snapshots = try choice(option, value, "visible or hidden")
        case "cp": copying = try choice(option, value, "copy or clone")
        case "durability": durability = try choice(option, value, "flush or always")
        case "on-unavailable": onUnavailable = try choice(option, value, "wait or error")
        case "fsname" where value?.isEmpty == false: sourceName = value ?? sourceName
        case "subdir":
            let path = (value ?? "").split(separator: "/").map(String.init)
            guard !path.contains("."), !path.contains("..") else {
                throw refusal(option, "a path inside the namespace has no . and no ..", "name the directory plainly")
            }
            subdirectory = path.isEmpty ? nil : path.joined(separator: "/")
        case "remount":
            throw refusal(option, "a mount's options are fixed when it is made", "unmount it and mount it again")
        case "auto_unmount":
            throw refusal(option, "the mount outlives the daemon by design", "leave the option out")
        default:
            throw refusal(option, "neither Sheepfold nor libfuse has it", "see sheep(8) for the options")
        }
    }
    private func choice<T: RawRepresentable<String>>(
        _ option: String, _ value: String?, _ choices: String
    ) throws(SheepError) -> T {
        guard let value, let result = T(rawValue: value) else {
            throw refusal(option, "its value is \(choices)", "use one of these values")
        }
        return result
    }
    private func refusal(_ option: String, _ why: String, _ remedy: String) -> SheepError {
        SheepError(.invalid, what: "mount option \"\(option)\" is refused", why: why, remedy: remedy)
    }

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
