// The state of the whole, recovery, scrub, settings, mounts.
import Admin
import ArgumentParser
import Glibc

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show what is wrong, what is at risk, and what happens next.")
    @OptionGroup var common: Common
    @Flag(help: "Print nothing but what is wrong; exit with 8 if anything is.") var check = false

    func run() throws {
        guard let status = try common.ask(.status).status else { return }
        if check && !common.json {
            write(status.problems.map { printable($0) + "\n" }.joined(), to: STDOUT_FILENO)
        } else {
            common.show(status, StatusText.status(status, size: common.size))
        }
        if check && !status.problems.isEmpty { throw ExitCode(ExitStatus.degraded.rawValue) }
    }
}

struct RecoveryCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recovery", abstract: "Bringing back redundancy, moving data.",
        subcommands: [ShowRecovery.self])
}

struct ShowRecovery: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "status", abstract: "Show what is being recovered.")
    @OptionGroup var common: Common
    @Flag(help: "Wait until nothing is left to recover.") var wait = false

    func run() throws {
        let client = try common.connect()
        var report = try client.ask(.recoveryStatus).recovery
        var meter = Meter(title: "recovering", isQuiet: common.json)
        while wait, let now = report, now.phase != "idle" {
            meter.show(AdminProgress(done: now.bytesMoved, total: now.bytesTotal, unit: "bytes", note: now.waitingFor))
            sleep(1)
            report = try client.ask(.recoveryStatus).recovery
        }
        meter.finish()
        if let report { common.show(report, StatusText.recovery(report, size: common.size) + "\n") }
    }
}

struct ScrubCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scrub", abstract: "Comparing and repairing copies.",
        subcommands: [StartScrub.self, ShowScrub.self])
}

struct StartScrub: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "start", abstract: "Start a scrub in the background.",
        discussion: "A light scrub compares versions and checksum tables; a deep one reads and verifies all data.")
    @OptionGroup var common: Common
    @Flag(help: "Read and verify all data.") var deep = false
    @Flag(help: "Wait for its end; exit with 8 if it raised alarms.") var wait = false
    @Argument(help: "Only this volume.") var volume: String?

    func run() throws {
        let report = try common.ask(.scrubStart(deep: deep, path: volume)).scrub
        if wait { return try waitForScrub(common) }
        if let report { common.show(report, "started\n") }
    }
}

struct ShowScrub: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show how far the scrub is, or what the last one found.")
    @OptionGroup var common: Common
    @Flag(help: "Wait for its end; exit with 8 if it raised alarms.") var wait = false

    func run() throws {
        if wait { return try waitForScrub(common) }
        if let report = try common.ask(.scrubStatus).scrub { common.show(report, StatusText.scrub(report)) }
    }
}

private func waitForScrub(_ common: Common) throws {
    let client = try common.connect()
    var meter = Meter(title: "scrubbing", isQuiet: common.json)
    while let report = try client.ask(.scrubStatus).scrub {
        guard report.running else {
            meter.finish()
            common.show(report, StatusText.scrub(report))
            if !report.alarms.isEmpty { throw ExitCode(ExitStatus.degraded.rawValue) }
            return
        }
        meter.show(
            AdminProgress(
                done: UInt64(max(0, report.objectsDone)), total: UInt64(max(0, report.objectsTotal)), unit: "objects"))
        sleep(1)
    }
}

struct SettingsCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "settings", abstract: "Settings of the cluster.",
        subcommands: [ShowSettings.self, ChangeSettings.self])
}

struct ShowSettings: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "show", abstract: "Show the settings.")
    @OptionGroup var common: Common

    func run() throws {
        if let settings = try common.ask(.settingsShow).settings {
            common.show(settings, StatusText.settings(settings))
        }
    }
}

struct ChangeSettings: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "set", abstract: "Change settings; those not named stay as they are.")
    @OptionGroup var common: Common
    @Option(help: ArgumentHelp("Copies of new volumes, 1 to 7.", valueName: "n")) var copies: Int?
    @Option(
        help: ArgumentHelp("Complete copies that a write needs; 0: copies less one, at least one.", valueName: "n"))
    var minCopies: Int?
    @Option(
        help: ArgumentHelp(
            "How long a store may be down before its data is rebuilt elsewhere: 30s, 10m, 2h.", valueName: "time"))
    var downOutInterval: Duration?

    func validate() throws {
        if copies == nil && minCopies == nil && downOutInterval == nil {
            throw ValidationError("nothing to change: say --copies, --min-copies or --down-out-interval")
        }
    }

    func run() throws {
        let milliseconds = downOutInterval.map { $0.seconds.multipliedReportingOverflow(by: 1000) }
        let interval = milliseconds.map { $0.overflow ? UInt64.max : $0.partialValue }
        let result = try common.ask(
            .settingsChange(copies: copies, minCopies: minCopies, downOutIntervalMilliseconds: interval))
        if let settings = result.settings { common.show(settings, StatusText.settings(settings)) }
    }
}

struct UnmountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "umount", abstract: "Take a mount away; the node goes on as a replica.",
        discussion: "Refused while files are open there, unless --lazy is said.")
    @OptionGroup var common: Common
    @Flag(help: "Even if files are open; it goes when they are closed.") var lazy = false
    @Argument(help: "The mountpoint. Default: the only one.") var mountpoint: String?

    func run() throws {
        let path = mountpoint.map { RuntimePaths.absolute($0) }
        let paths = try common.ask(.unmount(mountpoint: path, lazy: lazy)).paths ?? []
        common.show(["paths": paths], paths.map { "unmounted \($0)\n" }.joined())
    }
}
