// `dog vdi ...`: making, changing and removing volumes, snapshots and clones. Looking at them: VolumeQueries.swift.
import Admin
import ArgumentParser

struct VolumeCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vdi", abstract: "Volumes (virtual disk images).",
        subcommands: [
            ListVolumes.self, CreateVolume.self, DescribeVolume.self, DrawTree.self, TakeSnapshot.self,
            CloneVolume.self, RollBackVolume.self, ResizeVolume.self, DeleteVolume.self, CheckVolume.self,
            FlattenVolume.self, MapVolume.self,
        ])
}

struct CreateVolume: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Make a volume.",
        discussion: "It takes no space until it is written. Its directory must exist (mkdir on the mount).")
    @OptionGroup var common: Common
    @Option(help: ArgumentHelp("Copies of each block, 1 to 7. Default: the setting.", valueName: "n"))
    var copies: Int?
    @Argument(help: "Where: vol.img, images/100/vol.img.") var volume: String
    @Argument(help: "Its size: 10G, 512M, 1.5T; a multiple of 512 bytes.") var size: Size

    func run() throws {
        let result = try common.ask(.volumeCreate(path: volume, size: size.bytes, copies: copies))
        common.show(result.volume, "made \(volume), \(common.size(size.bytes))\n")
    }
}

struct TakeSnapshot: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshot", abstract: "Take a snapshot of a volume, of several at one instant, or of a directory.",
        discussion: """
            vdi snapshot vol.img monday             the snapshot vol@monday.img
            vdi snapshot vol@monday.img             the same
            vdi snapshot a.img b.img --tag monday   both at one instant
            vdi snapshot images/100 --tag monday    all volumes of the directory at one instant
            """)
    @OptionGroup var common: Common
    @Option(help: "The tag: letters, digits, _, -, :; at most 64.") var tag: String?
    @Argument(help: "Volumes, or one directory; the last word is the tag if --tag is not given.") var names: [String]

    func validate() throws { _ = try words() }

    func run() throws {
        let (paths, tag) = try words()
        let made = try common.ask(.volumeSnapshot(paths: paths, tag: tag)).paths ?? []
        common.show(["paths": made], made.map { "made \($0)\n" }.joined())
    }

    private func words() throws -> (paths: [String], tag: String) {
        if let words = SnapshotWords.split(names, tag: tag) { return words }
        throw ValidationError("the tag is missing: vdi snapshot VOLUME TAG, or --tag TAG")
    }
}

struct CloneVolume: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "clone", abstract: "Make a writable clone of a snapshot, or of a volume as it is now.",
        discussion: "Takes the same short time whatever the size; the clone takes space as it is written.")
    @OptionGroup var common: Common
    @Argument(help: "A snapshot (vol@tag.img) or a volume.") var source: String
    @Argument(help: "The clone's path.") var volume: String

    func run() throws {
        let result = try common.ask(.volumeClone(source: source, path: volume))
        common.show(result.volume, "made \(volume), a clone of \(source)\n")
    }
}

struct RollBackVolume: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rollback", abstract: "Make a volume's content what it was in a snapshot.",
        discussion: """
            What was written since is gone, unless it is in another snapshot; all snapshots stay. The volume must \
            not be open.
            """)
    @OptionGroup var common: Common
    @Argument(help: "The volume.") var volume: String
    @Argument(help: "The snapshot's tag.") var tag: String

    func run() throws {
        let result = try common.ask(.volumeRollback(path: volume, tag: tag))
        common.show(result.volume, "\(volume) is again as in \(tag)\n")
    }
}

struct ResizeVolume: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "resize", abstract: "Grow or shrink a volume.")
    @OptionGroup var common: Common
    @Flag(help: "Cut off what lies beyond the new size. The volume must not be open.") var shrink = false
    @Argument(help: "The volume.") var volume: String
    @Argument(help: "Its new size.") var size: Size

    func run() throws {
        let result = try common.ask(.volumeResize(path: volume, size: size.bytes, shrink: shrink))
        common.show(result.volume, "\(volume) has \(common.size(size.bytes))\n")
    }
}

struct DeleteVolume: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete", abstract: "Delete a volume, a snapshot, or a directory's snapshot.",
        discussion: """
            A volume must not be open. A snapshot with clones goes out of sight and is kept for them. A directory's \
            snapshot is named dir/.snap/tag.
            """)
    @OptionGroup var common: Common
    @Flag(help: "Delete the volume's snapshots with it.") var recursive = false
    @Argument(help: "What to delete.") var name: String

    func run() throws {
        let result = try common.ask(.volumeDelete(path: name, recursive: recursive))
        common.show(["paths": result.paths ?? []], "deleted \(name)\n")
    }
}

struct CheckVolume: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Read and compare all copies of a volume.",
        discussion: """
            A block that fails its checksum is repaired from another copy. Exit status 8 when something is still \
            wrong at the end.
            """)
    @OptionGroup var common: Common
    @Flag(help: "Only tell, repair nothing.") var noRepair = false
    @Argument(help: "The volume.") var volume: String

    func run() throws {
        let result = try common.ask(.volumeCheck(path: volume, repair: !noRepair), title: "checking \(volume)")
        guard let check = result.check else { return }
        common.show(
            check,
            """
            \(volume): \(check.isClean ? "clean" : "NOT CLEAN")
              objects           \(check.objects)
              copies            \(check.copies)
              blocks bad        \(check.blocksBad)
              blocks repaired   \(check.blocksRepaired)
              copies missing    \(check.copiesMissing)
              copies different  \(check.copiesDifferent)

            """)
        if !check.isClean { throw ExitCode(ExitStatus.degraded.rawValue) }
    }
}

struct FlattenVolume: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flatten", abstract: "Copy into a clone what it still shares with its parent, and cut the link.",
        discussion: "The volume may be in use.")
    @OptionGroup var common: Common
    @Argument(help: "The clone.") var volume: String

    func run() throws {
        let result = try common.ask(.volumeFlatten(path: volume), title: "flattening \(volume)")
        common.show(result.volume, "\(volume) stands by itself\n")
    }
}
