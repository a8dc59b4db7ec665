// What two nodes say to each other beside what concerns one store: leases, reports, the transfer of the catalog's log,
// requests about volumes. It goes over the connection that the sender has made, between the frames of its data. A message
// that is longer than a frame goes in parts, one behind the other.
import Catalog
import Model
import Wire

package enum NodeMessage: Sendable {
    case lease(LeaseMessage)
    /// What the sender reaches; its key as a voter, whether it is on its way out of the cluster, and up to where it has the
    /// catalog.
    case report(ReachReport, voterKey: UInt64, isLeaving: Bool, index: UInt64)
    case transfer(TransferMessage)
    /// To the holder of a volume under this term. All of the sender's requests to this node with a smaller number than
    /// `finished` have been answered there.
    case request(number: UInt64, finished: UInt64, term: Term, VolumeRequest)
    case answer(number: UInt64, VolumeAnswer)
    /// The answer to this request has not come.
    case ask(number: UInt64)

    /// A body takes so many bytes of a message.
    static let partBytes = 192 << 10
    /// Nothing longer is put together.
    static let maximumBytes = 256 << 20

    func encoded(_ cluster: ClusterId) -> [UInt8] {
        var w = ByteWriter()
        switch self {
        case .lease(let message):
            w.write(UInt8(1))
            w.writeRaw(message.encoded(cluster))
        case .report(let report, let voterKey, let isLeaving, let index):
            w.write(UInt8(2))
            w.write(voterKey)
            w.write(isLeaving)
            w.write(index)
            w.writeRaw(report.encoded(cluster))
        case .transfer(let message):
            w.write(UInt8(3))
            w.writeRaw(message.encoded(cluster))
        case .request(let number, let finished, let term, let request):
            w.write(UInt8(4))
            w.write(number)
            w.write(finished)
            w.write(term.rawValue)
            request.encode(&w)
        case .answer(let number, let answer):
            w.write(UInt8(5))
            w.write(number)
            answer.encode(&w)
        case .ask(let number):
            w.write(UInt8(6))
            w.write(number)
        }
        return w.bytes
    }

    init(decoding bytes: [UInt8], _ cluster: ClusterId) throws(DecodeError) {
        var r = ByteReader(bytes)
        switch try r.read(UInt8.self) {
        case 1: self = .lease(try LeaseMessage(decoding: try r.readRaw(r.remaining), cluster))
        case 2:
            let key = try r.read(UInt64.self)
            let isLeaving = try r.readBool()
            let index = try r.read(UInt64.self)
            self = .report(
                try ReachReport(decoding: try r.readRaw(r.remaining), cluster), voterKey: key, isLeaving: isLeaving,
                index: index
            )
        case 3: self = .transfer(try TransferMessage(decoding: try r.readRaw(r.remaining), cluster))
        case 4:
            let number = try r.read(UInt64.self)
            let finished = try r.read(UInt64.self)
            let term = try r.read(UInt32.self)
            guard term <= Term.maximum, number < 1 << 63, finished <= number else { throw .badValue("request") }
            self = .request(number: number, finished: finished, term: Term(term), try VolumeRequest(&r))
        case 5: self = .answer(number: try r.read(), try VolumeAnswer(&r))
        case 6: self = .ask(number: try r.read())
        default: throw .badValue("message")
        }
        guard r.remaining == 0 else { throw .badValue("bytes behind the message") }
    }

    /// The frames of this message. `number` tells the parts of one from those of another. Nil: it is longer than anybody
    /// puts together.
    func frames(_ cluster: ClusterId, number: UInt64, payload: Payload?) -> [Frame]? {
        let bytes = encoded(cluster)
        guard bytes.count <= NodeMessage.maximumBytes else { return nil }
        var frames: [Frame] = []
        var rest = bytes[...]
        repeat {
            let part = rest.prefix(NodeMessage.partBytes)
            rest = rest.dropFirst(NodeMessage.partBytes)
            var header = FrameHeader(.message, version: WireFormat.versions.upperBound)
            header.request = number
            if !rest.isEmpty { header.flags = .more }
            var body = ByteWriter()
            body.write(Array(part))
            let isLast = rest.isEmpty
            if isLast, let payload { header.blocks = BlockRange(first: 0, count: payload.blockCount) }
            frames.append(Frame(header, body: body.bytes, payload: isLast ? payload : nil))
        } while !rest.isEmpty
        return frames
    }
}

/// Puts the messages of one connection together again.
struct MessageAssembly {
    private var number: UInt64 = 0
    private var bytes: [UInt8] = []

    /// The bytes of the message that this frame completes; nil: more is to come.
    mutating func take(_ frame: Frame) throws(DecodeError) -> [UInt8]? {
        var reader = ByteReader(frame.body)
        let part = try reader.readBytes()
        try reader.expectEnd()
        if frame.header.request != number {
            // What is missing of another one was lost with its connection.
            bytes = []
            number = frame.header.request
        }
        guard bytes.count + part.count <= NodeMessage.maximumBytes else { throw .badValue("message beyond its limit") }
        bytes += part
        if frame.header.flags.contains(.more) { return nil }
        defer { bytes = [] }
        return bytes
    }
}
