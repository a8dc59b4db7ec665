// What a state must be able to do so that a host's stores can keep it: an image of it, and a log of commands behind it,
// with the list of the stores that hold both among these commands. Two states are kept so: the catalog of a single host,
// and what a node of a cluster must remember of the agreement with the others.
import Model

protocol LoggedCommand: Hashable, Sendable {
    /// Changes nothing but the index.
    static var none: Self { get }
    /// From here on these stores hold the log.
    static func setCatalogStores(_ list: [StoreId]) -> Self
    /// Of a change of the list of stores.
    var listedStores: [StoreId]? { get }
    func encode(_ w: inout ByteWriter)
    init(_ r: inout ByteReader) throws(DecodeError)
}

protocol LoggedState: Sendable {
    associatedtype Command: LoggedCommand
    static var entryMagic: UInt32 { get }
    static var imageMagic: UInt32 { get }
    static var formatVersion: UInt16 { get }
    /// A command is at most this long.
    static var maximumEntryBytes: Int { get }
    /// What the formats say in messages to people: "The catalog".
    static var title: String { get }

    var clusterId: ClusterId { get }
    /// How many commands made it; each command is one more.
    var index: UInt64 { get }
    var catalogStores: [StoreId] { get }
    var unconfirmedCatalogStores: [[StoreId]] { get }
    mutating func replay(_ command: Command, request: RequestId?)
    func encoded() -> [UInt8]
    init(decoding bytes: [UInt8]) throws(DecodeError)

    /// Whether a store on which nothing was found had something, by what the state knows.
    func isStranger(blank store: StoreId) -> Bool
    /// Whether a store of the host is to hold the log.
    func counts(on store: StoreId) -> Bool
    /// Whether the state has heard of a store at all.
    func knows(_ store: StoreId) -> Bool
}

/// A command on its way into the log.
struct LogProposal<Command: LoggedCommand>: Sendable {
    let command: Command
    let request: RequestId?
    /// The log's own, for which nobody waits.
    let isInternal: Bool
    init(_ command: Command, request: RequestId? = nil, isInternal: Bool = false) {
        self.command = command
        self.request = request
        self.isInternal = isInternal
    }
}

/// One command in the log.
package struct LogEntry<Command: Hashable & Sendable>: Hashable, Sendable {
    package var index: UInt64
    package var view: UInt64
    /// The life of the process that appended it.
    package var incarnation: UInt64
    /// The first index of the append that it was written with: what one power loss can tear.
    package var batch: UInt64
    package var request: RequestId?
    package var command: Command
}

// The catalog of a single host.
typealias CatalogFormat = StateLogFormat<CatalogState>
typealias StoreLog = StateLog<CatalogState>
typealias StoreGroup = StateLogGroup<CatalogState>
typealias CatalogProposal = LogProposal<CatalogCommand>
package typealias CatalogEntry = LogEntry<CatalogCommand>

extension CatalogCommand: LoggedCommand {
    var listedStores: [StoreId]? { if case .setCatalogStores(let list) = self { list } else { nil } }
}

extension CatalogState: LoggedState {
    static var entryMagic: UInt32 { 0x4765_4c53 }  // SLeG
    static var imageMagic: UInt32 { 0x6d49_4353 }  // SCIm
    static var formatVersion: UInt16 { catalogFormatVersion }
    static var maximumEntryBytes: Int { 65_536 }
    static var title: String { "The catalog" }

    mutating func replay(_ command: CatalogCommand, request: RequestId?) { _ = apply(command, request: request) }
    // Before the first volume there is nothing that a blank store could have lost.
    func isStranger(blank store: StoreId) -> Bool { nextVolumeId > 1 && map.store(store) != nil }
    // Stores that were given up or taken out of the cluster are not counted on any more, if the others suffice.
    func counts(on store: StoreId) -> Bool { map.store(store).map { $0.status != .out } ?? false }
    func knows(_ store: StoreId) -> Bool { map.store(store) != nil }
}
