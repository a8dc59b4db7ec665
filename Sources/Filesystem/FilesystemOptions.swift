// The options of one mount, as they stand behind `-o`. Parsing only: nothing here acts on them.
import Model

package struct FilesystemOptions: Hashable, Sendable {
    package enum OnUnavailable: String, Hashable, Sendable { case wait, error }

    /// Whether snapshots are listed beside their volumes; they can be opened by name either way.
    package var showsSnapshots = true
    /// `cp=clone`: volumes report dense st_blocks, so that `cp` asks for the whole file to be copied at once.
    package var copyClones = false
    /// `durability=always`: every write is durable when it is answered.
    package var isDurable = false
    /// What I/O does while no current copy can be reached; the volume service is told.
    package var onUnavailable = OnUnavailable.wait
    package var isReadOnly = false
    /// The directory of the cluster that is the mount's root: names without empty ones.
    package var subdirectory: [String] = []

    package init() {}

    /// The names of the options that are ours; all others are libfuse's.
    package static let names = ["snapshots", "cp", "durability", "on-unavailable", "ro", "rw", "subdir"]

    /// Takes one option, `key` or `key=value`. False: it is not one of ours.
    package mutating func take(_ option: String) throws(SheepError) -> Bool {
        let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let key = String(parts[0])
        let value = parts.count > 1 ? String(parts[1]) : nil
        switch key {
        case "snapshots": showsSnapshots = try FilesystemOptions.choice(key, value, "visible", "hidden")
        case "cp": copyClones = try FilesystemOptions.choice(key, value, "clone", "copy")
        case "durability": isDurable = try FilesystemOptions.choice(key, value, "always", "flush")
        case "on-unavailable":
            onUnavailable = try FilesystemOptions.choice(key, value, "wait", "error") ? .wait : .error
        case "ro" where value == nil: isReadOnly = true
        case "rw" where value == nil: isReadOnly = false
        case "subdir":
            let names = (value ?? "").split(separator: "/").map(String.init)
            guard value != nil, !names.contains(where: { $0 == "." || $0 == ".." || $0.contains("@") }) else {
                throw SheepError(
                    .invalid, what: "the mount option subdir= has no usable value",
                    why: "'\(value ?? "")' is not a path of directories below the root",
                    remedy: "give it as subdir=images/100")
            }
            subdirectory = names
        default: return false
        }
        return true
    }

    /// True for `yes`, false for `no`.
    private static func choice(
        _ key: String, _ value: String?, _ yes: String, _ no: String
    ) throws(SheepError) -> Bool {
        if value == yes { return true }
        if value == no { return false }
        throw SheepError(
            .invalid, what: "the mount option \(key)=\(value ?? "") is unknown",
            why: "\(key) is \(yes) or \(no)", remedy: "use \(key)=\(yes) or \(key)=\(no); see sheepfs(5)")
    }
}
