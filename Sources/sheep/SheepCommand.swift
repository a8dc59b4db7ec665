// `sheep`, the daemon: its words and what they lead to. What `run` does is in Serve.swift; the other commands only
// ask a daemon that runs already. Called by mount(8) the words are read as mount(8) writes them.
import Admin
import ArgumentParser
import Glibc
import Logging
import Model

struct Sheep: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sheep",
        abstract: "Replicated virtual disks as plain files: the daemon.",
        discussion: """
            Stores objects on the disks that it is given, and mounts the volumes as files. In the simplest case, \
            with three disks:

              sheep run --store /srv/a --store /srv/b --store /srv/c --mount /mnt/sheep

            The same words start it again; guests that had files open go on. dog(8) is the administrator's command.
            """,
        version: "sheep \(sheepfoldVersion)",
        subcommands: [Run.self, Mount.self, Unmount.self, PrintVersion.self])

    static let commands: Set<String> = ["run", "mount", "umount", "version", "help"]
}

struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run the daemon, in the foreground.",
        discussion: """
            Empty store directories are made into a new cluster, or join the one that the other stores belong to. \
            With fewer stores than copies it says so, and keeps as many copies as there are stores.
            """)
    @Option(
        parsing: .singleValue,
        help: ArgumentHelp("A store: a directory on a disk of its own. Once for each.", valueName: "dir"))
    var store: [String] = []
    @Option(help: ArgumentHelp("Where the volumes appear as files.", valueName: "dir")) var mount: String?
    @Flag(help: "Mount nothing: be a store and answer dog.") var noMount = false
    @Option(
        name: .customShort("o"), parsing: .singleValue,
        help: ArgumentHelp("Options of the mount, as in mount(8); see sheepfs(5).", valueName: "options"))
    var options: [String] = []
    @Option(help: ArgumentHelp("Copies of new volumes, 1 to 7. A new cluster has 3.", valueName: "n")) var copies: Int?
    @Option(
        help: ArgumentHelp(
            "Complete copies that a write needs; 0 is the rule: copies less one, at least one.", valueName: "n"))
    var minCopies: Int?
    @Option(
        help: ArgumentHelp(
            "flush: durable on fsync, as a disk with a volatile cache. always: every write.", valueName: "when"))
    var durability = "flush"
    @Option(
        parsing: .singleValue,
        help: ArgumentHelp(
            "The zone of a new store. Copies are kept in different zones; a store is one of its own by default.",
            valueName: "dir=n"))
    var zoneOf: [String] = []
    @Option(
        help: ArgumentHelp(
            """
            The administrator's socket. Default: $SHEEP_SOCKET, else /run/sheep/sheep.sock as root, else in \
            $XDG_RUNTIME_DIR/sheep.
            """, valueName: "path"))
    var socket: String?
    @Option(
        help: ArgumentHelp(
            "Where the sockets and the lock of the mount's holder are. Default: the directory of the socket.",
            valueName: "dir"))
    var stateDirectory: String?
    @Option(help: ArgumentHelp("trace, debug, info, notice, warning or error.", valueName: "level"))
    var logLevel = "info"
    @Option(
        parsing: .singleValue,
        help: ArgumentHelp(
            "Start although this store, which belongs to the cluster, was not given. Once for each.", valueName: "id"))
    var acceptMissing: [String] = []
    @Option(help: .hidden) var testFaults: String?

    func run() throws {
        var words = ServeOptions.Words()
        words.stores = store
        words.mount = mount
        words.noMount = noMount
        words.options = options
        words.copies = copies
        words.minCopies = minCopies
        words.durability = durability
        words.zoneOf = zoneOf
        words.socket = socket
        words.stateDirectory = stateDirectory
        words.logLevel = logLevel
        words.acceptMissing = acceptMissing
        words.testFaults = testFaults
        let options = try ServeOptions(words)
        let level = Logger.Level(rawValue: options.logLevel.rawValue) ?? .info
        LoggingSystem.bootstrap { StandardErrorLog(label: $0, level: level) }
        throw ExitCode(try serve(options))
    }
}

struct Mount: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mount", abstract: "Mount the volumes of the running daemon at one more place.",
        discussion: "Returns when it is mounted. mount -t fuse.sheep none DIR -o OPTIONS does the same.")
    @Option(
        name: .customShort("o"), parsing: .singleValue,
        help: ArgumentHelp("Options, as in mount(8); see sheepfs(5).", valueName: "options"))
    var options: [String] = []
    @Option(help: ArgumentHelp("The daemon's socket.", valueName: "path")) var socket: String?
    @Argument(help: "The directory.") var mountpoint: String

    func run() throws {
        try attach(RuntimePaths.absolute(mountpoint), MountOptions(parsing: options), socket: socket)
    }
}

struct Unmount: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "umount", abstract: "Take a mount of the running daemon away.",
        discussion: "fusermount3 -u and umount(8) do the same.")
    @Flag(help: "Even if files are open; it goes when they are closed.") var lazy = false
    @Option(help: ArgumentHelp("The daemon's socket.", valueName: "path")) var socket: String?
    @Argument(help: "The mountpoint. Default: the only one.") var mountpoint: String?

    func run() throws {
        let path = mountpoint.map { RuntimePaths.absolute($0) }
        _ = try AdminClient(path: RuntimePaths.socket(option: socket)).ask(.unmount(mountpoint: path, lazy: lazy))
    }
}

struct PrintVersion: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "version", abstract: "Print the version.")
    func run() throws { print("sheep \(sheepfoldVersion)") }
}

/// Asks the running daemon to mount.
func attach(_ mountpoint: String, _ options: MountOptions, socket: String?) throws(SheepError) {
    let client = try AdminClient(path: RuntimePaths.socket(option: socket))
    _ = try client.ask(.mount(mountpoint: mountpoint, options: options.text))
}
