// What a node must remember of the agreement: who it is, its promise, the image and the entries behind it. Kept on the
// node's stores by a HostLog, so that one bad disk loses nothing. Changed only by its own commands.
import Model

struct StoredMember: LoggedState, Hashable {
    let clusterId: ClusterId
    let node: NodeId
    /// Of the node as a voter. Another one once anything that it may have said could be lost here.
    private(set) var key: UInt64
    private(set) var promised = ViewNumber.none
    private(set) var image: AgreementImage
    private(set) var entries: [AgreementEntry] = []
    /// Up to here everything is known to be committed.
    private(set) var committed: UInt64 = 0
    /// The newest session of each node whose heartbeats this node acks no more, ascending by node (see LeaseVoter).
    private(set) var sessionPromises: [NodeSession] = []

    private(set) var index: UInt64 = 0
    private(set) var catalogStores: [StoreId] = []
    private(set) var unconfirmedCatalogStores: [[StoreId]] = []

    enum Command: LoggedCommand {
        case none
        case setCatalogStores([StoreId])
        case promise(ViewNumber)
        case append([AgreementEntry], committed: UInt64)
        case sessionPromise(NodeSession)
    }

    init(clusterId: ClusterId, node: NodeId, key: UInt64, image: AgreementImage, stores: [StoreId]) {
        catalogStores = stores
        self.clusterId = clusterId
        self.node = node
        self.key = key
        self.image = image
    }

    mutating func replay(_ command: Command, request: RequestId?) {
        index += 1
        // Nothing is appended behind a change of this list before it is committed, so a command behind it confirms it.
        if command.listedStores == nil { unconfirmedCatalogStores = [] }
        switch command {
        case .none: break
        case .setCatalogStores(let list):
            if !catalogStores.isEmpty, !unconfirmedCatalogStores.contains(catalogStores) {
                unconfirmedCatalogStores.append(catalogStores)
            }
            catalogStores = list.sorted()
        case .promise(let number): promised = max(promised, number)
        case .append(let new, let committed):
            self.committed = max(self.committed, committed)
            guard let first = new.first else { return }
            let kept = first.index - min(first.index, image.position.index + 1)
            if kept < entries.count { entries.removeSubrange(Int(kept)...) }
            entries += new
        case .sessionPromise(let session):
            if sessionPromises.contains(where: { $0.node == session.node && $0 >= session }) { return }
            sessionPromises.removeAll { $0.node == session.node }
            sessionPromises.append(session)
            sessionPromises.sort()
        }
    }

    /// The log begins behind this state.
    mutating func install(_ image: AgreementImage, keepsEntries: Bool) {
        index += 1
        unconfirmedCatalogStores = []
        let covered = image.position.index - min(image.position.index, self.image.position.index)
        if keepsEntries { entries.removeFirst(min(Int(covered), entries.count)) } else { entries = [] }
        committed = max(committed, image.position.index)
        self.image = image
    }

    /// Something that this node said may be lost here: it is another voter from now on.
    mutating func take(key: UInt64) { self.key = key }

    /// Whether the entries follow the image, one by one.
    var isWhole: Bool { AgreementLog.isChain(entries, after: image.position) }

    /// A store that is listed for sure has had the log: blank, it was wiped, and what it says of its objects is void.
    func isStranger(blank store: StoreId) -> Bool {
        unconfirmedCatalogStores.isEmpty && catalogStores.contains(store)
    }
    func counts(on store: StoreId) -> Bool { true }
    func knows(_ store: StoreId) -> Bool { true }

    static var entryMagic: UInt32 { 0x6765_4c4d }  // MLeg
    static var imageMagic: UInt32 { 0x6d49_4c4d }  // MLIm
    static var formatVersion: UInt16 { agreementFormatVersion }
    /// A fetched log may be longer than a command of the group: it is appended in parts.
    static var maximumEntryBytes: Int { 1 << 20 }
    static var title: String { "The catalog of the cluster" }
}

// MARK: as bytes

extension StoredMember {
    func encoded() -> [UInt8] {
        var w = ByteWriter()
        w.write(clusterId)
        w.write(node)
        w.write(key)
        w.write(index)
        w.write(all: catalogStores) { $0.write($1) }
        w.write(all: unconfirmedCatalogStores) { w, list in w.write(all: list) { $0.write($1) } }
        w.write(promised)
        w.write(committed)
        w.write(all: sessionPromises) { $0.write($1) }
        w.write(image)
        w.write(all: entries) { $0.write($1) }
        return w.bytes
    }

    init(decoding bytes: [UInt8]) throws(DecodeError) {
        var r = ByteReader(bytes)
        clusterId = try r.clusterId()
        node = try r.nodeId()
        key = try r.read()
        index = try r.counter()
        catalogStores = try r.all(8) { r throws(DecodeError) in try r.storeId() }
        unconfirmedCatalogStores = try r.all(4) { r throws(DecodeError) in
            try r.all(8) { r throws(DecodeError) in try r.storeId() }
        }
        promised = try r.viewNumber()
        committed = try r.counter()
        sessionPromises = try r.all(20) { r throws(DecodeError) in try r.nodeSession() }
        image = try r.agreementImage()
        entries = try r.agreementEntries()
        guard r.remaining == 0 else { throw .badValue("bytes behind the state") }
        guard isWhole else { throw .badValue("entries") }
    }
}

extension StoredMember.Command {
    var listedStores: [StoreId]? { if case .setCatalogStores(let list) = self { list } else { nil } }

    func encode(_ w: inout ByteWriter) {
        switch self {
        case .none: w.write(UInt8(0))
        case .setCatalogStores(let list):
            w.write(UInt8(1))
            w.write(all: list) { $0.write($1) }
        case .promise(let number):
            w.write(UInt8(2))
            w.write(number)
        case .append(let entries, let committed):
            w.write(UInt8(3))
            w.write(all: entries) { $0.write($1) }
            w.write(committed)
        case .sessionPromise(let session):
            w.write(UInt8(4))
            w.write(session)
        }
    }

    init(_ r: inout ByteReader) throws(DecodeError) {
        switch try r.read(UInt8.self) {
        case 0: self = .none
        case 1: self = .setCatalogStores(try r.all(8) { r throws(DecodeError) in try r.storeId() })
        case 2: self = .promise(try r.viewNumber())
        case 3: self = .append(try r.agreementEntries(), committed: try r.counter())
        case 4: self = .sessionPromise(try r.nodeSession())
        default: throw .badValue("record")
        }
    }
}
