// What `sheep run` was told, checked as far as it can be without touching a store. Plain values: who parses them and
// who serves by them are elsewhere.
import Model

package struct ServeOptions: Equatable, Sendable {
    package enum LogLevel: String, CaseIterable, Sendable { case trace, debug, info, notice, warning, error }

    /// Directories of the stores: full paths, links resolved, in the order given.
    package var stores: [String]
    /// nil: serve as a store and to `dog`, mount nothing yet.
    package var mountpoint: String?
    package var mountOptions: MountOptions
    /// Copies of new volumes, for a cluster that is made now, or to be changed if it differs; nil: as it is (3).
    package var copies: Int?
    /// nil: as it is; 0: the rule (copies less one, at least one).
    package var minCopies: Int?
    package var durability: MountOptions.Durability
    /// Zones of stores that are made now, by directory; others are a zone of their own.
    package var zones: [String: UInt64]
    package var socketPath: String
    package var stateDirectory: String
    package var logLevel: LogLevel
    /// Stores that may be missing at this start although they are known.
    package var acceptMissing: [StoreId]
    /// A file that tells which faults to inject; for tests.
    package var testFaults: String?

    /// The words of the command line, as typed.
    package struct Words {
        package var stores: [String] = []
        package var mount: String?
        package var noMount = false
        package var options: [String] = []
        package var copies: Int?
        package var minCopies: Int?
        package var durability = "flush"
        package var zoneOf: [String] = []
        package var socket: String?
        package var stateDirectory: String?
        package var logLevel = "info"
        package var acceptMissing: [String] = []
        package var testFaults: String?
        package init() {}
    }

    /// Throws a `SheepError` with errno EINVAL for words that make no sense together.
    package init(_ words: Words) throws(SheepError) {
        let given = words.stores.map { RuntimePaths.absolute($0) }
        let mountpoint = words.noMount ? nil : words.mount.map { RuntimePaths.absolute($0) }
        try ServeOptions.check(stores: given, mountpoint: mountpoint)
        // Only now may paths be looked at: none of them is below the mountpoint.
        stores = given.map(RuntimePaths.resolved)
        self.mountpoint = mountpoint.map(RuntimePaths.resolvedParent)
        try ServeOptions.check(stores: stores, mountpoint: self.mountpoint)
        guard words.noMount || mountpoint != nil else {
            throw ServeOptions.refused(
                "neither --mount nor --no-mount was given", remedy: "say where: --mount /mnt/sheep")
        }
        guard !(words.noMount && words.mount != nil) else {
            throw ServeOptions.refused("--mount and --no-mount exclude each other", remedy: "leave one of them out")
        }
        mountOptions = try MountOptions(parsing: words.options)
        copies = words.copies
        minCopies = words.minCopies
        try ServeOptions.check(copies: copies, minCopies: minCopies)
        guard let durability = MountOptions.Durability(rawValue: words.durability) else {
            throw ServeOptions.refused(
                "--durability is \"\(words.durability)\"", remedy: "use flush (as a disk with a cache) or always")
        }
        self.durability = durability
        zones = try ServeOptions.zones(words.zoneOf, stores)
        socketPath = RuntimePaths.socket(option: words.socket)
        guard socketPath.utf8.count < 108 else {
            throw ServeOptions.refused(
                "the socket's path \(socketPath) is longer than 107 bytes", remedy: "use a shorter one: --socket PATH")
        }
        stateDirectory =
            words.stateDirectory.map { RuntimePaths.absolute($0) }
            ?? String(socketPath[..<(socketPath.lastIndex(of: "/") ?? socketPath.startIndex)])
        // The holder's socket is made there: mount-XXXXXXXX.holder.
        guard stateDirectory.utf8.count + 22 < 108 else {
            throw ServeOptions.refused(
                "the state directory's path \(stateDirectory) is longer than 85 bytes: sockets in it cannot have a name",
                remedy: "use a shorter one: --state-directory DIR")
        }
        guard let logLevel = LogLevel(rawValue: words.logLevel) else {
            throw ServeOptions.refused(
                "--log-level is \"\(words.logLevel)\"",
                remedy: "use one of \(LogLevel.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        self.logLevel = logLevel
        acceptMissing = []
        for text in words.acceptMissing {
            guard let id = UInt64(text, radix: 16), id != 0, text.utf8.count == 16 else {
                throw ServeOptions.refused(
                    "--accept-missing \(text) is not a store's id",
                    remedy: "give the 16 hexadecimal digits that the message about the missing store shows")
            }
            acceptMissing.append(StoreId(id))
        }
        testFaults = words.testFaults.map { RuntimePaths.absolute($0) }
    }

    private static func check(stores: [String], mountpoint: String?) throws(SheepError) {
        guard !stores.isEmpty else {
            throw refused("no store was given", remedy: "give a directory for each disk: --store /srv/sheep/a ...")
        }
        for (position, store) in stores.enumerated() {
            guard store != "/" else {
                throw refused("/ cannot be a store", remedy: "use a directory of its own on each disk")
            }
            for other in stores[..<position] {
                guard store != other else {
                    throw refused("the store \(store) was given twice", remedy: "give each directory once")
                }
                guard !RuntimePaths.isSame(store, orBelow: other), !RuntimePaths.isSame(other, orBelow: store) else {
                    throw refused("the stores \(other) and \(store) lie in each other", remedy: "keep them apart")
                }
            }
            guard let mountpoint else { continue }
            guard !RuntimePaths.isSame(mountpoint, orBelow: store) else {
                throw refused(
                    "the mountpoint \(mountpoint) is inside the store \(store)",
                    remedy: "mount outside of the stores: --mount /mnt/sheep")
            }
            guard !RuntimePaths.isSame(store, orBelow: mountpoint) else {
                throw refused(
                    "the store \(store) is below the mountpoint \(mountpoint): it would be kept in itself",
                    remedy: "mount outside of the stores: --mount /mnt/sheep")
            }
        }
    }

    private static func check(copies: Int?, minCopies: Int?) throws(SheepError) {
        if let copies, !(1...7 ~= copies) {
            throw refused("--copies is \(copies); it must be 1 to 7", remedy: "use 2 or 3")
        }
        guard let minCopies else { return }
        guard 0...7 ~= minCopies else {
            throw refused("--min-copies is \(minCopies); it must be 0 to 7", remedy: "leave it out: 2 of 3 is the rule")
        }
        if let copies, minCopies > copies {
            throw refused(
                "--min-copies \(minCopies) is more than --copies \(copies): no write could ever be acknowledged",
                remedy: "use at most \(copies)")
        }
    }

    private static func zones(_ words: [String], _ stores: [String]) throws(SheepError) -> [String: UInt64] {
        var zones: [String: UInt64] = [:]
        for word in words {
            guard let equals = word.lastIndex(of: "="), let zone = UInt64(word[word.index(after: equals)...]) else {
                throw refused("--zone-of \(word) is not DIRECTORY=NUMBER", remedy: "write --zone-of /srv/sheep/a=1")
            }
            let path = RuntimePaths.absolute(String(word[..<equals]))
            let lies = stores.contains(path) ? path : RuntimePaths.resolved(path)
            guard stores.contains(lies) else {
                throw refused("--zone-of names \(path), which is no --store", remedy: "give the directory as a --store")
            }
            zones[lies] = zone
        }
        return zones
    }

    private static func refused(_ why: String, remedy: String) -> SheepError {
        SheepError(.invalid, what: "sheep was not started", why: why, remedy: remedy)
    }
}
