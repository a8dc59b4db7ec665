// The ways in which mount(8) calls us: `/sbin/mount.fuse.sheep SRC MNT [-sfnv] [-N ns] [-t type] [-o options]` (the
// program's own name says it), and `sheep SRC MNT -o options` (what /sbin/mount.fuse ends in).
import Model

package struct MountCall: Hashable, Sendable {
    package var source: String
    package var mountpoint: String
    package var options: MountOptions
    /// -f: only check, do not mount.
    package var isDry: Bool

    /// nil: these words are no mount's call, but a command line of `sheep` itself.
    package static func recognize(
        programName: String, arguments: [String], commands: Set<String>
    ) throws(SheepError) -> MountCall? {
        let base = programName.split(separator: "/").last.map(String.init) ?? programName
        if base.hasPrefix("mount.") { return try MountCall(arguments) }
        guard arguments.count >= 2, let first = arguments.first, !first.hasPrefix("-"), !commands.contains(first),
            arguments[1].hasPrefix("/")
        else { return nil }
        return try MountCall(arguments)
    }

    private init(_ arguments: [String]) throws(SheepError) {
        isDry = false
        var plain: [String] = []
        var optionTexts: [String] = []
        var rest = arguments[...]
        while let word = rest.popFirst() {
            switch word {
            case "-o", "-t", "-N":
                guard let value = rest.popFirst() else {
                    throw MountCall.wrong("\(word) needs a value", remedy: "write it as mount(8) does: SRC MNT -o a,b")
                }
                if word == "-o" { optionTexts.append(value) }
            case "--":
                plain += rest
                rest = []
            case let flags where flags.hasPrefix("-o") && flags.count > 2:
                optionTexts.append(String(flags.dropFirst(2)))
            case let flags where flags.hasPrefix("-") && flags.count > 1:
                guard flags.dropFirst().allSatisfy({ "sfnvr".contains($0) }) else {
                    throw MountCall.wrong("there is no option \(flags)", remedy: "the options are -f -n -s -v -t -N -o")
                }
                if flags.contains("f") { isDry = true }
                if flags.contains("r") { optionTexts.append("ro") }
            default: plain.append(word)
            }
        }
        guard plain.count == 2 else {
            throw MountCall.wrong(
                "a source and a mountpoint are expected, \(plain.count) words were given",
                remedy: "mount -t fuse.sheep none /mnt/sheep -o ...")
        }
        source = plain[0]
        mountpoint = plain[1]
        options = try MountOptions(parsing: optionTexts)
    }

    private static func wrong(_ why: String, remedy: String) -> SheepError {
        SheepError(.invalid, what: "the volumes were not mounted", why: why, remedy: remedy)
    }
}
