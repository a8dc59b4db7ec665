// The options of a mount (`-o a,b=c`): those that are ours become values, those that the kernel and libfuse know are
// passed on, those that only mount(8) and systemd look at are dropped, everything else is refused by name.
import Model

package struct MountOptions: Hashable, Sendable {
    package enum Copying: String, Hashable, Sendable { case copy, clone }
    package enum Durability: String, Hashable, Sendable { case flush, always }
    package enum Unavailability: String, Hashable, Sendable { case wait, error }

    /// Snapshots appear beside their volumes.
    package var showsSnapshots = true
    package var copying = Copying.copy
    /// nil: as the daemon was told.
    package var durability: Durability?
    package var onUnavailable = Unavailability.wait
    package var isReadOnly = false
    /// The directory of the namespace that becomes the mount's root, without slashes around it; empty: the root.
    package var subdirectory = ""
    /// What libfuse and the kernel get, in order, besides what is always set.
    package var passedOn: [String] = []

    package init() {}

    /// Several texts are read one after the other; the last word counts.
    package init(_ texts: String...) throws(SheepError) { try self.init(texts) }

    package init(_ texts: [String]) throws(SheepError) {
        for text in texts { for option in MountOptions.split(text) { try take(option) } }
    }

    /// As `-o` takes them; `MountOptions(text)` is the same again.
    package var text: String {
        var all = [isReadOnly ? "ro" : "rw"]
        if !showsSnapshots { all.append("snapshots=hidden") }
        if copying == .clone { all.append("cp=clone") }
        if let durability { all.append("durability=\(durability.rawValue)") }
        if onUnavailable == .error { all.append("on-unavailable=error") }
        if !subdirectory.isEmpty { all.append("subdir=\(MountOptions.escaped(subdirectory))") }
        return (all + passedOn.map(MountOptions.escaped)).joined(separator: ",")
    }

    private static func escaped(_ text: String) -> String {
        text.map { $0 == "," || $0 == "\\" ? "\\\($0)" : String($0) }.joined()
    }

    private mutating func take(_ option: String) throws(SheepError) {
        let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let value = parts.count == 2 ? parts[1] : nil
        switch parts[0] {
        case "ro": isReadOnly = true
        case "rw": isReadOnly = false
        case "remount":
            throw SheepError(
                .invalid, what: "remount is refused", why: "the options of a mount cannot be changed while it is there",
                remedy: "unmount it and mount it again")
        case "snapshots":
            showsSnapshots = try choose(option, value, ["visible": true, "hidden": false])
        case "cp": copying = try choose(option, value, ["copy": .copy, "clone": .clone])
        case "durability": durability = try choose(option, value, ["flush": .flush, "always": .always])
        case "on-unavailable": onUnavailable = try choose(option, value, ["wait": .wait, "error": .error])
        case "subdir":
            let components = (value ?? "").split(separator: "/")
            guard !components.isEmpty, !components.contains(".."), !components.contains(".") else {
                throw refused(option, why: "it does not name a directory below the root", remedy: "write subdir=a/b")
            }
            subdirectory = components.joined(separator: "/")
        case let name where MountOptions.dropped.contains(name) || name.hasPrefix("x-"): break
        case let name where MountOptions.forKernel.contains(name): passedOn.append(option)
        default:
            throw refused(
                option, why: "there is no such option",
                remedy:
                    "the options are snapshots=, cp=, durability=, on-unavailable=, subdir=, ro and those of fuse(8)")
        }
    }

    private func choose<Value>(
        _ option: String, _ value: String?, _ values: KeyValuePairs<String, Value>
    ) throws(SheepError) -> Value {
        if let found = values.first(where: { $0.key == value }) { return found.value }
        throw refused(
            option, why: "its value is not one of \(values.map(\.key).joined(separator: ", "))",
            remedy: "write \(option.prefix { $0 != "=" })=\(values[0].key)")
    }

    private func refused(_ option: String, why: String, remedy: String) -> SheepError {
        SheepError(.invalid, what: "the mount option \"\(option)\" is refused", why: why, remedy: remedy)
    }

    /// At commas; a backslash keeps the next character.
    private static func split(_ text: String) -> [String] {
        var all: [String] = []
        var current = ""
        var escaped = false
        for character in text {
            if escaped {
                current.append(character)
                escaped = false
            } else if character == "\\" {
                escaped = true
            } else if character == "," {
                all.append(current)
                current = ""
            } else {
                current.append(character)
            }
        }
        return (all + [current]).filter { !$0.isEmpty }
    }

    /// Words for mount(8), fstab and systemd, and those that are always so here.
    private static let dropped: Set<String> = [
        "auto", "noauto", "user", "users", "nouser", "owner", "group", "nofail", "_netdev", "defaults", "comment",
        "default_permissions", "fsname", "subtype", "async", "relatime", "strictatime", "nostrictatime", "loud",
        "silent", "setuid",
    ]
    private static let forKernel: Set<String> = [
        "allow_other", "allow_root", "dev", "nodev", "suid", "nosuid", "exec", "noexec", "atime", "noatime",
        "diratime", "nodiratime", "norelatime", "lazytime", "nolazytime", "sync", "dirsync", "context", "fscontext",
        "defcontext", "rootcontext",
    ]
}
