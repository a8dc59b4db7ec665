// Looking at volumes and snapshots: lists, descriptions, the family tree, where objects are.
import Admin
import ArgumentParser

struct ListVolumes: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List volumes.")
    @OptionGroup var common: Common
    @Flag(help: "Also show the space that each takes; asks the stores, which takes longer.") var allocated = false
    @Argument(help: "A directory. Default: all.") var directory: String?

    func run() throws {
        let volumes = try common.ask(.volumeList(path: directory, allocated: allocated)).volumes ?? []
        var table = Table(">SIZE", ">ALLOCATED", ">COPIES", ">SNAPSHOTS", ">OPEN", "CREATED", "VOLUME", "CLONE OF")
        for volume in volumes {
            table.add(
                common.size(volume.size), volume.allocatedBytes.map(common.size) ?? "-", "\(volume.copies)",
                "\(volume.snapshotCount)", "\(volume.openCount)", TimeText.short(volume.created),
                printable(volume.path), printable(volume.parent ?? ""))
        }
        common.show(volumes, volumes.isEmpty ? "no volumes\n" : table.text())
    }
}

struct DescribeVolume: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "info", abstract: "Show all of a volume or a snapshot.")
    @OptionGroup var common: Common
    @Argument(help: "The volume or snapshot.") var name: String

    func run() throws {
        let result = try common.ask(.volumeInfo(path: name))
        guard let volume = result.volume else {
            guard let snapshot = result.snapshots?.first else { return }
            return common.show(snapshot, snapshotTable([snapshot], common.size))
        }
        var text = """
            volume     \(printable(volume.path))
            id         \(volume.id)
            size       \(common.size(volume.size))
            allocated  \(volume.allocatedBytes.map(common.size) ?? "-")
            copies     \(volume.copies)
            owner      \(volume.uid):\(volume.gid), mode \(volume.mode)
            created    \(TimeText.short(volume.created)) UTC
            open       \(volume.openCount == 0 ? "no" : "\(volume.openCount)")

            """
        if let parent = volume.parent { text += "clone of   \(printable(parent))\n" }
        if let snapshots = volume.snapshots, !snapshots.isEmpty { text += "\n" + snapshotTable(snapshots, common.size) }
        common.show(volume, text)
    }
}

struct DrawTree: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tree", abstract: "Draw the family: volumes, their snapshots, their clones.")
    @OptionGroup var common: Common
    @Flag(help: "Draw with ASCII characters even in a UTF-8 locale.") var ascii = false
    @Argument(help: "A volume or directory. Default: all.") var name: String?

    func run() throws {
        let tree = try common.ask(.volumeTree(path: name)).tree ?? []
        let isUnicode = !ascii && TreeDrawing.isUnicodeLocale()
        common.show(tree, TreeDrawing.draw(tree, isUnicode: isUnicode, exactSizes: common.bytes))
    }
}

struct MapVolume: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "map", abstract: "Show where each object of a volume is.",
        discussion: "An object is 4 MiB; those that were never written are not there.")
    @OptionGroup var common: Common
    @Argument(help: "The volume.") var volume: String

    func run() throws {
        let objects = try common.ask(.volumeMap(path: volume)).objects ?? []
        var table = Table(">OBJECT", "STORE", ">VERSION", "STATE", ">ALLOCATED", "GENERATIONS")
        for object in objects {
            for copy in object.copies {
                table.add(
                    "\(object.index)", copy.store, copy.version, copy.state, common.size(copy.allocatedBytes),
                    copy.generations.map(String.init).joined(separator: ","))
            }
        }
        common.show(objects, objects.isEmpty ? "no objects: nothing was written\n" : table.text())
    }
}

struct SnapshotCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshot", abstract: "Snapshots.", subcommands: [ListSnapshots.self])
}

struct ListSnapshots: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List snapshots.",
        discussion: "They are taken by dog vdi snapshot, and removed by dog vdi delete.")
    @OptionGroup var common: Common
    @Flag(help: "Also show the space that each takes; asks the stores, which takes longer.") var allocated = false
    @Argument(help: "A volume or directory. Default: all.") var name: String?

    func run() throws {
        let snapshots = try common.ask(.snapshotList(path: name, allocated: allocated)).snapshots ?? []
        common.show(snapshots, snapshots.isEmpty ? "no snapshots\n" : snapshotTable(snapshots, common.size))
    }
}

private func snapshotTable(_ snapshots: [SnapshotReport], _ size: (UInt64) -> String) -> String {
    var table = Table(">SIZE", ">ALLOCATED", "CREATED", "SNAPSHOT", "CLONES")
    for snapshot in snapshots {
        table.add(
            size(snapshot.size), snapshot.allocatedBytes.map(size) ?? "-", TimeText.short(snapshot.created),
            printable(snapshot.path), printable(snapshot.clones.joined(separator: " ")))
    }
    return table.text()
}
