// The options of a mount, as mount(8), fstab and the command line give them: ours, those that go on to libfuse, and
// those that only mean something to others. An option that nobody knows is refused, never ignored.

package struct MountOptions: Hashable, Sendable {
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
    /// nil: as the daemon was told.
    package var durability: Durability?
    package var onUnavailable = Unavailable.wait
    package var isReadOnly = false
    /// The directory of the namespace that becomes the mount's root, from the root down; empty is the whole.
    package var subdirectory: [String] = []
    /// What mount tables show as the source.
    package var sourceName = "sheep"
    /// Nil: as is permitted.
    package var allowOther: Bool?
    /// For libfuse, in the order given.
    package private(set) var passed: [String] = []

    package init() {}

    package init(_ texts: String...) throws(SheepError) { try self.init(parsing: texts) }

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
        case "durability":
            let chosen: Durability = try choice(option, value, "flush or always")
            durability = chosen
        case "on-unavailable": onUnavailable = try choice(option, value, "wait or error")
        case "fsname" where value?.isEmpty == false: sourceName = value ?? sourceName
        case "subdir":
            let path = (value ?? "").split(separator: "/").map(String.init)
            guard !path.contains("."), !path.contains(".."), !path.contains(where: { $0.contains("@") }) else {
                throw refusal(option, "a path inside the namespace has no . and no ..", "name the directory plainly")
            }
            subdirectory = path
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

    /// As `-o` takes them; parsing it gives the same again.
    package var text: String {
        var all = [isReadOnly ? "ro" : "rw"]
        if snapshots == .hidden { all.append("snapshots=hidden") }
        if copying == .clone { all.append("cp=clone") }
        if let durability { all.append("durability=\(durability.rawValue)") }
        if onUnavailable == .error { all.append("on-unavailable=error") }
        if !subdirectory.isEmpty { all.append("subdir=\(subdirectory.joined(separator: "/"))") }
        if allowOther == true { all.append("allow_other") }
        if sourceName != "sheep" { all.append("fsname=\(sourceName)") }
        return (all + passed).joined(separator: ",")
    }

    package var showsSnapshots: Bool { snapshots == .visible }
    /// Volumes report dense st_blocks, so that `cp` asks for the whole file to be copied at once.
    package var copyClones: Bool { copying == .clone }
    package var isDurable: Bool { durability == .always }
}
