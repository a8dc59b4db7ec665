// What a gateway asks of a copy on another node, as frames: the requests of `CopyChannel`, each with its coding beside the
// decoding. A hot write or read of one block is one header and its data.
import Model
import ObjectStore
import Wire

enum CopyRequest {
    /// The first request for a store: what follows on its lane is for this life of it.
    case open(StoreId, StoreSession)
    /// Also a discard.
    case write(CopyWrite)
    case read(ObjectId, GenerationPath, BlockRange)
    case flush
    case fence(VolumeId, Authority)
    case view(ObjectId, GenerationPath)
    case beginSync(ObjectId, top: Generation, base: Version, pending: BlockBitmap, Authority)
    case fill(CopyFill)
    case completeSync(ObjectId, Authority)
    case markSuspect(ObjectId)
    case stamp(ObjectId, Version)
    case verify(ObjectId, deep: Bool)
    case reread(ObjectId)
    case empty(ObjectId)
    case remove(ObjectId)
}

extension FrameKind {
    /// A second execution would not be the first one's repetition, or could come too late: each is executed once, and its
    /// answer is kept until the gateway has it. The others only look, or say what holds anyway.
    var isOnceOnly: Bool {
        switch self {
        case .write, .discard, .beginSync, .fill, .completeSync, .markSuspect, .stamp, .reread, .empty, .remove: true
        default: false
        }
    }
    /// It is about blocks only: it must be answered within the data time-out. The others may sync much, or read much.
    var isData: Bool {
        switch self {
        case .open, .write, .discard, .read, .view, .fill: true
        default: false
        }
    }
}

extension FrameHeader {
    /// Bytes that a request and its answer take, together, at the peer: what windows count.
    var costBytes: Int {
        frameBytes
            + (kind == .read ? Int(blockCount) * blockSize : kind == .view ? 8192 : WireFormat.headerBytes)
    }
}

extension CopyRequest {
    /// `term`: of the volume's lease, for requests that do not say it themselves. The number of the request is given when it
    /// is sent.
    func frame(lane: UInt16, term: Term) -> Frame {
        func header(
            _ kind: FrameKind, _ object: ObjectId = ObjectId(rawValue: 0), _ authority: Authority? = nil
        ) -> FrameHeader {
            var header = FrameHeader(kind, version: WireFormat.versions.upperBound)
            header.lane = lane
            header.object = object
            header.epoch = authority?.epoch ?? Epoch(0)
            header.term = authority?.term ?? term
            return header
        }
        switch self {
        case .open(let store, let session):
            var body = ByteWriter()
            body.write(store.rawValue)
            body.write(session)
            return Frame(header(.open), body: body.bytes)
        case .write(let write): return CopyRequest.frame(write, header(write.payload == nil ? .discard : .write))
        case .read(let object, let path, let blocks):
            var header = header(.read, object)
            header.blocks = blocks
            return CopyRequest.frame(path, header)
        case .flush: return Frame(header(.flush))
        case .fence(let volume, let authority): return Frame(header(.fence, ObjectId(volume, 0), authority))
        case .view(let object, let path): return CopyRequest.frame(path, header(.view, object))
        case .beginSync(let object, let top, let base, let pending, let authority):
            var header = header(.beginSync, object, authority)
            header.generation = top
            header.version = base
            var body = ByteWriter()
            body.write(pending)
            return Frame(header, body: body.bytes)
        case .fill(let fill): return CopyRequest.frame(fill, header(.fill, fill.object))
        case .completeSync(let object, let authority): return Frame(header(.completeSync, object, authority))
        case .markSuspect(let object): return Frame(header(.markSuspect, object))
        case .stamp(let object, let version):
            var header = header(.stamp, object)
            header.version = version
            return Frame(header)
        case .verify(let object, let deep):
            var header = header(.verify, object)
            if deep { header.flags = .first }
            return Frame(header)
        case .reread(let object): return Frame(header(.reread, object))
        case .empty(let object): return Frame(header(.empty, object))
        case .remove(let object): return Frame(header(.remove, object))
        }
    }

    private static func frame(_ path: GenerationPath, _ header: FrameHeader) -> Frame {
        var header = header
        header.generation = path.top
        guard !path.hidden.isEmpty else { return Frame(header) }
        var body = ByteWriter()
        body.write(path.hidden)
        return Frame(header, body: body.bytes)
    }

    private static func frame(_ write: CopyWrite, _ header: FrameHeader) -> Frame {
        var header = header
        header.object = write.object
        header.epoch = write.authority.epoch
        header.generation = write.generation
        header.version = write.version
        header.blocks = write.blocks
        if write.payload == nil, write.keepAsZero { header.flags.insert(.first) }
        header.term = write.previous.term
        let follows =
            write.previous.sequence + 1 == write.version.sequence && write.authority.term == write.version.term
        if follows { return Frame(header, payload: write.payload) }
        // No write of a gateway is like this; the format does not depend on that.
        header.flags.insert(.second)
        var body = ByteWriter()
        body.write(write.previous.rawValue)
        body.write(write.authority.term.rawValue)
        return Frame(header, body: body.bytes, payload: write.payload)
    }

    private static func frame(_ fill: CopyFill, _ header: FrameHeader) -> Frame {
        var header = header
        header.generation = fill.generation
        header.version = fill.chunkVersion
        header.blocks = fill.blocks
        if fill.onlyPending { header.flags.insert(.first) }
        var body = ByteWriter()
        body.write(fill.held)
        body.write(fill.zero)
        if let path = fill.extraPath, fill.extra.containsAny(fill.blocks) {
            header.flags.insert(.second)
            body.write(fill.extra)
            body.write(path.top.rawValue)
            body.write(path.hidden)
        }
        return Frame(header, body: body.bytes, payload: fill.payload)
    }

    // MARK: decoding

    init(_ frame: Frame) throws(DecodeError) {
        let header = frame.header
        let object = header.object
        let authority = Authority(epoch: header.epoch, term: header.term)
        guard frame.payload == nil || header.kind == .write || header.kind == .fill else {
            throw .badValue("a payload where none belongs")
        }
        var reader = ByteReader(frame.body)
        switch header.kind {
        case .open: self = .open(StoreId(try reader.read()), try reader.readSession())
        case .write, .discard: self = .write(try CopyRequest.write(frame, &reader))
        case .read:
            guard let blocks = header.blocks else { throw .badValue("a read of nothing") }
            self = .read(object, try CopyRequest.path(header, &reader), blocks)
        case .flush: self = .flush
        case .fence: self = .fence(object.volume, authority)
        case .view: self = .view(object, try CopyRequest.path(header, &reader))
        case .beginSync:
            self = .beginSync(
                object, top: header.generation, base: header.version, pending: try reader.readBitmap(), authority)
        case .fill: self = .fill(try CopyRequest.fill(frame, &reader))
        case .completeSync: self = .completeSync(object, authority)
        case .markSuspect: self = .markSuspect(object)
        case .stamp: self = .stamp(object, header.version)
        case .verify: self = .verify(object, deep: header.flags.contains(.first))
        case .reread: self = .reread(object)
        case .empty: self = .empty(object)
        case .remove: self = .remove(object)
        default: throw .badValue("no request")
        }
        try reader.expectEnd()
    }

    private static func path(_ header: FrameHeader, _ reader: inout ByteReader) throws(DecodeError) -> GenerationPath {
        if reader.remaining == 0 { return GenerationPath(top: header.generation) }
        return try reader.readPath(top: header.generation)
    }

    private static func write(_ frame: Frame, _ reader: inout ByteReader) throws(DecodeError) -> CopyWrite {
        let header = frame.header
        guard let blocks = header.blocks, (frame.payload != nil) == (header.kind == .write) else {
            throw .badValue("a write without blocks")
        }
        var term = header.version.term
        let previous: Version
        if header.flags.contains(.second) {
            previous = Version(rawValue: try reader.read())
            let raw = try reader.read(UInt32.self)
            guard raw <= Term.maximum else { throw .badValue("term") }
            term = Term(raw)
        } else {
            guard header.version.sequence > 0 else { throw .badValue("a version that follows none") }
            previous = Version(term: header.term, sequence: header.version.sequence - 1)
        }
        return CopyWrite(
            authority: Authority(epoch: header.epoch, term: term), object: header.object,
            generation: header.generation, previous: previous, version: header.version, blocks: blocks,
            payload: frame.payload, keepAsZero: header.flags.contains(.first))
    }

    private static func fill(_ frame: Frame, _ reader: inout ByteReader) throws(DecodeError) -> CopyFill {
        let header = frame.header
        guard let blocks = header.blocks else { throw .badValue("a fill of nothing") }
        let held = try reader.readBitmap()
        let zero = try reader.readBitmap()
        var data = held
        data.subtract(zero)
        guard frame.payload != nil || !data.containsAny(blocks) else { throw .badValue("a fill without its data") }
        var fill = CopyFill(
            object: header.object, generation: header.generation, blocks: blocks, held: held, zero: zero,
            payload: frame.payload, chunkVersion: header.version, onlyPending: header.flags.contains(.first))
        if header.flags.contains(.second) {
            fill.extra = try reader.readBitmap()
            let top = Generation(try reader.read())
            fill.extraPath = try reader.readPath(top: top)
        }
        return fill
    }
}
