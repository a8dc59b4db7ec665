// What nodes say to each other of leases and of stores, as bytes over a connection. Every tag and count that is read is
// checked; decoding damaged bytes fails and never traps.
import Model

extension LeaseMessage {
    package func encoded() -> [UInt8] {
        var w = ByteWriter()
        w.write(agreementFormatVersion)
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

    package init(decoding bytes: [UInt8]) throws(DecodeError) {
        var r = ByteReader(bytes)
        guard try r.read(UInt16.self) == agreementFormatVersion else { throw .badValue("version") }
        switch try r.read(UInt8.self) {
        case 1: self = .heartbeat(try r.nodeSession(), sequence: try r.counter(), voters: try r.counter())
        case 2:
            self = .ack(
                try r.nodeSession(), sequence: try r.counter(), voters: try r.counter(), key: try r.read())
        case 3: self = .refused(try r.nodeSession())
        case 4: self = .request(try r.nodeSession(), voters: try r.counter())
        case 5: self = .promise(try r.nodeSession(), voters: try r.counter(), key: try r.read())
        default: throw .badValue("message of leases")
        }
        guard r.remaining == 0 else { throw .badValue("bytes behind the message") }
    }
}

extension ReachReport {
    package func encoded() -> [UInt8] {
        var w = ByteWriter()
        w.write(agreementFormatVersion)
        w.write(node)
        w.write(isActive)
        w.write(all: own.sorted { $0.key < $1.key }) { w, item in
            w.write(item.key)
            w.write(item.value)
        }
        w.write(all: failed.sorted { $0.key < $1.key }) { w, item in
            w.write(item.key)
            w.write(item.value)
        }
        w.write(all: sights.sorted { $0.key < $1.key }) { w, item in
            w.write(item.key)
            switch item.value {
            case .missing: w.write(optional: nil as UInt64?) { $0.write($1) }
            case .reached(let milliseconds): w.write(optional: milliseconds) { $0.write($1) }
            }
        }
        return w.bytes
    }

    package init(decoding bytes: [UInt8]) throws(DecodeError) {
        var r = ByteReader(bytes)
        guard try r.read(UInt16.self) == agreementFormatVersion else { throw .badValue("version") }
        let node = try r.nodeId()
        let isActive = try r.readBool()
        var own: [StoreId: StoreSession] = [:]
        for _ in 0..<(try r.readCount(minimumSize: 32)) {
            let store = try r.storeId()
            guard own.updateValue(try r.session(), forKey: store) == nil else { throw .badValue("stores") }
        }
        var failed: [StoreId: String] = [:]
        for _ in 0..<(try r.readCount(minimumSize: 12)) {
            let store = try r.storeId()
            guard failed.updateValue(try r.readString(), forKey: store) == nil else { throw .badValue("stores") }
        }
        var sights: [StoreId: Sight] = [:]
        for _ in 0..<(try r.readCount(minimumSize: 9)) {
            let store = try r.storeId()
            let milliseconds = try r.optional { r throws(DecodeError) in try r.counter() }
            let sight = milliseconds.map { Sight.reached(milliseconds: $0) } ?? .missing
            guard sights.updateValue(sight, forKey: store) == nil else { throw .badValue("stores") }
        }
        guard r.remaining == 0 else { throw .badValue("bytes behind the report") }
        self.init(node: node, isActive: isActive, own: own, failed: failed, sights: sights)
    }
}

// MARK: values of the catalog in messages of others

extension ByteWriter {
    package mutating func write(answer: CommandAnswer) { write(answer) }
    package mutating func write(ranges: RangeSet) { write(ranges) }
    package mutating func write(attributes: FileAttributes) { write(attributes) }
    package mutating func write(request: RequestId) { write(request) }
}
extension ByteReader {
    package mutating func readAnswer() throws(DecodeError) -> CommandAnswer { try answer() }
    package mutating func readRanges() throws(DecodeError) -> RangeSet { try rangeSet() }
    package mutating func readAttributes() throws(DecodeError) -> FileAttributes { try attributes() }
    package mutating func readRequestId() throws(DecodeError) -> RequestId { try requestId() }
}
