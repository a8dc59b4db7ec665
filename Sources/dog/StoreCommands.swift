// `dog store ...`: the disks of this node, and giving up what is lost.
import Admin
import ArgumentParser

struct StoreCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "store", abstract: "Stores (disks).",
        discussion: "A store is named by its id, by the first digits of it, or by its directory.",
        subcommands: [ListStores.self, AddStore.self, RemoveStore.self, ReplaceStore.self, ReweightStore.self])
}

struct ListStores: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List stores.")
    @OptionGroup var common: Common

    func run() throws {
        let stores = try common.ask(.storeList).stores ?? []
        common.show(stores, StatusText.stores(stores, size: common.size))
    }
}

struct AddStore: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Take an empty directory on a disk as a new store.",
        discussion: "Data moves to it in the background: dog recovery status. Give it to sheep run as --store too.")
    @OptionGroup var common: Common
    @Option(
        help: ArgumentHelp(
            "Its zone, a number; copies are kept in different zones. Default: a zone of its own.", valueName: "n"))
    var zone: UInt64?
    @Option(help: ArgumentHelp("How much it may hold. Default: the size of its file system.", valueName: "size"))
    var weight: Size?
    @Argument(help: "The directory.") var directory: String

    func run() throws {
        let path = RuntimePaths.absolute(directory)
        let ids = try common.ask(.storeAdd(path: path, zone: zone, weight: weight?.bytes)).storeIds ?? []
        common.show(["storeIds": ids], "added \(path) as \(ids.joined())\n")
    }
}

struct RemoveStore: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Move everything off a store, then take it out.",
        discussion: "Redundancy is kept all the time. With --force the store is given up at once, for a dead disk.")
    @OptionGroup var common: Common
    @Flag(help: "It is gone: do not wait for it.") var force = false
    @Argument(help: "The store.") var store: String

    func run() throws {
        let ids = try common.ask(.storeRemove(store: store, force: force), title: "moving data").storeIds ?? []
        common.show(["storeIds": ids], "removed \(ids.joined())\n")
    }
}

struct ReplaceStore: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replace", abstract: "Put a new empty directory in the place of a store that may be dead.",
        discussion: "Only what the old store held is copied: dog recovery status.")
    @OptionGroup var common: Common
    @Argument(help: "The old store.") var store: String
    @Argument(help: "The new directory.") var directory: String

    func run() throws {
        let path = RuntimePaths.absolute(directory)
        let ids = try common.ask(.storeReplace(store: store, path: path), title: "copying data").storeIds ?? []
        common.show(["storeIds": ids], "replaced \(store) by \(path), \(ids.joined())\n")
    }
}

struct ReweightStore: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reweight", abstract: "Change how much a store may hold; data moves accordingly.")
    @OptionGroup var common: Common
    @Argument(help: "The store.") var store: String
    @Argument(help: "Its new weight: 4T.") var weight: Size

    func run() throws {
        let ids = try common.ask(.storeReweight(store: store, weight: weight.bytes)).storeIds ?? []
        common.show(["storeIds": ids], "\(ids.joined()) weighs \(common.size(weight.bytes))\n")
    }
}

struct AcceptLossCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "accept-loss", abstract: "Give up what only these stores have.",
        discussion: """
            For stores that will never come back. Ranges of which every current copy was there fail with EIO until \
            this is said; afterwards they are served from what is left, which may be older, or read as zeros. There \
            is no way back.
            """)
    @OptionGroup var common: Common
    @Flag(help: "Yes, it shall be lost.") var yes = false
    @Argument(help: "The stores.") var stores: [String]

    func validate() throws {
        if !yes { throw ValidationError("data would be given up for ever; say --yes if that is meant") }
    }

    func run() throws {
        let ids = try common.ask(.acceptLoss(stores: stores)).storeIds ?? []
        common.show(["storeIds": ids], ids.map { "accepted the loss of \($0)\n" }.joined())
    }
}
