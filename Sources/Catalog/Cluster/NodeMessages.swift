// What nodes of a cluster say to each other about sessions and about stores, as bytes for connections and for the group.
// A tag is never given a new meaning. Every tag, count and order that is read is checked; decoding damaged bytes fails
// and never traps, and what decodes is said again in the same bytes.
import Model

extension LeaseMessage {
    /// A tag, the cluster, then the fields.
    package func encoded(_ cluster: ClusterId) -> [UInt8] {
        var w = ByteWriter()
        w.writeAgreementHeader(cluster)
        switch self {
        case .heartbeat(let session, let sequence, let voters):
            w.write(UInt8(1))
            w.write(session)
            w.write(sequence)
            w.write(voters)
        case .ack(let session, let sequence, let voters, let key):
            w.write(UInt8(2))
            w.write(session)
            w.write(sequence)
            w.write(voters)
            w.write(key)
        case .refused(let session):
            w.write(UInt8(3))
            w.write(session)
        case .request(let session, let voters):
            w.write(UInt8(4))
            w.write(session)
            w.write(voters)
        case .promise(let session, let voters, let key):
            w.write(UInt8(5))
            w.write(session)
            w.write(voters)
            w.write(key)
        }
        return w.bytes
    }

    /// Fails on what is not a message of this cluster.
    package init(decoding bytes: [UInt8], _ cluster: ClusterId) throws(DecodeError) {
        var r = ByteReader(bytes)
        try r.agreementHeader(cluster)
        switch try r.read(UInt8.self) {
        case 1: self = .heartbeat(try r.nodeSession(), sequence: try r.counter(), voters: try r.counter())
        case 2:
            self = .ack(
                try r.nodeSession(), sequence: try r.counter(), voters: try r.counter(), key: try r.read())
        case 3: self = .refused(try r.nodeSession())
        case 4: self = .request(try r.nodeSession(), voters: try r.counter())
        case 5: self = .promise(try r.nodeSession(), voters: try r.counter(), key: try r.read())
        default: throw .badValue("message")
        }
        guard r.remaining == 0 else { throw .badValue("bytes behind the message") }
    }
}

extension ReachReport {
    /// The longest reason that is sent, in bytes; what is longer is cut.
    package static let maximumReasonBytes = 512

    package func encoded(_ cluster: ClusterId) -> [UInt8] {
        var w = ByteWriter()
        w.writeAgreementHeader(cluster)
        w.write(UInt8(1))
        w.write(node)
        w.write(isActive)
        w.write(all: own.sorted { $0.key < $1.key }) { w, item in
            w.write(item.key)
            w.write(item.value)
        }
        w.write(all: failed.sorted { $0.key < $1.key }) { w, item in
            w.write(item.key)
            w.write(item.value.prefix(utf8Bytes: ReachReport.maximumReasonBytes))
        }
        w.write(all: sights.sorted { $0.key < $1.key }) { w, item in
            w.write(item.key)
            switch item.value {
            case .missing: w.write(UInt8(0))
            case .reached(let milliseconds):
                w.write(UInt8(1))
                w.write(milliseconds)
            }
        }
        return w.bytes
    }

    /// Fails on what is not a report in this cluster. Whether `node` is who sent it is the receiver's to check.
    package init(decoding bytes: [UInt8], _ cluster: ClusterId) throws(DecodeError) {
        var r = ByteReader(bytes)
        try r.agreementHeader(cluster)
        guard try r.read(UInt8.self) == 1 else { throw .badValue("report") }
        let node = try r.nodeId()
        let isActive = try r.readBool()
        let own = try r.stores(32) { r throws(DecodeError) in try r.session() }
        let failed = try r.stores(12) { r throws(DecodeError) in
            let reason = try r.readString()
            guard reason.utf8.count <= ReachReport.maximumReasonBytes else { throw .badValue("reason") }
            return reason
        }
        let sights = try r.stores(9) { r throws(DecodeError) -> Sight in
            switch try r.read(UInt8.self) {
            case 0: return .missing
            case 1: return .reached(milliseconds: try r.counter())
            default: throw .badValue("sight")
            }
        }
        guard r.remaining == 0 else { throw .badValue("bytes behind the report") }
        self.init(node: node, isActive: isActive, own: own, failed: failed, sights: sights)
    }
}

extension ByteReader {
    /// Something of each of these stores, which ascend. `minimumSize`: bytes of an item, its id included.
    fileprivate mutating func stores<T>(
        _ minimumSize: Int, _ body: (inout ByteReader) throws(DecodeError) -> T
    ) throws(DecodeError) -> [StoreId: T] {
        let count = try readCount(minimumSize: minimumSize)
        guard count <= ClusterMap.maximumStores else { throw .badValue("stores") }
        var items: [StoreId: T] = [:]
        var last = StoreId(0)
        for _ in 0..<count {
            let id = try storeId()
            guard id > last else { throw .badValue("stores") }
            last = id
            items[id] = try body(&self)
        }
        return items
    }
}

extension String {
    /// Its beginning, of whole characters.
    fileprivate func prefix(utf8Bytes limit: Int) -> String {
        guard utf8.count > limit else { return self }
        var text = ""
        var bytes = 0
        for character in self {
            bytes += character.utf8.count
            if bytes > limit { break }
            text.append(character)
        }
        return text
    }
}
