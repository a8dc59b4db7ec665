// What a copy on another node answers, as frames. An answer carries the number of its request; one that is long comes in
// several frames.
import Model
import ObjectStore
import Wire

enum CopyAnswer {
    case done
    case written(CopyWritten)
    /// The blocks, unless none of them is there.
    case read(CopyRead, Payload?)
    case view(ComposedView)
    /// A part of them, or the last part.
    case summaries([CopySummary])
    case verified(VerifyOutcome)
    /// Whether all of a copy is fine (`reread`).
    case looked(isFine: Bool)
    case failed(CopyFailure)

    /// What fits a frame.
    static let summariesPerFrame = 16_384
    static let findingsPerFrame = 1_024

    /// The frames of this answer to the request with this header.
    func frames(_ request: FrameHeader) -> [Frame] {
        func header(_ kind: FrameKind) -> FrameHeader {
            var header = FrameHeader(kind, version: request.protocolVersion)
            header.lane = request.lane
            header.request = request.request
            return header
        }
        switch self {
        case .done: return [Frame(header(.done))]
        case .written(let written):
            var header = header(.written)
            if written.isComplete { header.flags = .first }
            return [Frame(header)]
        case .read(let read, let payload):
            var header = header(.data)
            header.blocks = request.blocks
            if read.isWhole {
                header.flags = .first
                return [Frame(header, payload: payload)]
            }
            var body = ByteWriter()
            body.write(read.absent)
            body.write(read.corrupt)
            return [Frame(header, body: body.bytes, payload: payload)]
        case .view(let view): return [Frame(header(.composed), body: CopyAnswer.encode(view))]
        case .summaries(let all):
            return CopyAnswer.parts(all, CopyAnswer.summariesPerFrame, header(.summaries)) { part, body in
                body.write(UInt32(part.count))
                for summary in part {
                    body.write(summary.object.index)
                    body.write(summary.version.rawValue)
                    body.write(summary.state.rawValue | (summary.isVerified ? 0x80 : 0))
                }
            }
        case .verified(let outcome):
            return CopyAnswer.parts(outcome.generations, CopyAnswer.findingsPerFrame, header(.verified)) { part, body in
                body.write(UInt32(part.count))
                for finding in part {
                    body.write(finding.generation.rawValue)
                    body.write(finding.headerIsFine)
                    body.write(finding.corrupt)
                }
            }
        case .looked(let isFine):
            var header = header(.looked)
            if isFine { header.flags = .first }
            return [Frame(header)]
        case .failed(let failure): return [Frame(header(.failed), body: CopyAnswer.encode(failure))]
        }
    }

    private static func parts<T>(
        _ items: [T], _ limit: Int, _ header: FrameHeader, _ encode: (ArraySlice<T>, inout ByteWriter) -> Void
    ) -> [Frame] {
        var frames: [Frame] = []
        var rest = items[...]
        repeat {
            let part = rest.prefix(limit)
            rest = rest.dropFirst(limit)
            var body = ByteWriter()
            encode(part, &body)
            var header = header
            if !rest.isEmpty { header.flags.insert(.more) }
            frames.append(Frame(header, body: body.bytes))
        } while !rest.isEmpty
        return frames
    }

    private static func encode(_ view: ComposedView) -> [UInt8] {
        var body = ByteWriter()
        for bitmap in [view.held, view.zero, view.pending, view.corrupt] { body.write(bitmap) }
        for version in view.chunkVersions { body.write(version.rawValue) }
        for block in 0..<blocksPerObject where view.held[block] { body.write(view.checksums[block]) }
        return body.bytes
    }

    private static func encode(_ failure: CopyFailure) -> [UInt8] {
        var body = ByteWriter()
        func put(_ code: UInt8, _ value: UInt64 = 0, _ text: String = "") {
            body.write(code)
            body.write(value)
            body.write(Array(text.utf8.prefix(4096)))
        }
        switch failure {
        case .staleEpoch(let epoch): put(1, epoch.rawValue)
        case .staleTerm(let term): put(2, UInt64(term.rawValue))
        case .behind: put(3)
        case .full: put(4)
        case .dead(let reason): put(5, 0, reason)
        case .silent(let reason): put(6, 0, reason)
        case .damaged: put(7)
        }
        return body.bytes
    }

    // MARK: decoding

    /// `volume`: what the request was about; summaries name it no more.
    init(_ frame: Frame, volume: VolumeId) throws(DecodeError) {
        var reader = ByteReader(frame.body)
        switch frame.header.kind {
        case .done: self = .done
        case .written: self = .written(CopyWritten(isComplete: frame.header.flags.contains(.first)))
        case .data: self = try CopyAnswer.data(frame, &reader)
        case .composed: self = .view(try CopyAnswer.view(&reader))
        case .summaries: self = .summaries(try CopyAnswer.summaries(&reader, volume))
        case .verified: self = .verified(try CopyAnswer.findings(&reader))
        case .looked: self = .looked(isFine: frame.header.flags.contains(.first))
        case .failed: self = .failed(try CopyAnswer.failure(&reader))
        default: throw .badValue("no answer")
        }
        guard frame.payload == nil || frame.header.kind == .data else {
            throw .badValue("a payload where none belongs")
        }
        try reader.expectEnd()
    }

    private static func data(_ frame: Frame, _ reader: inout ByteReader) throws(DecodeError) -> CopyAnswer {
        guard let blocks = frame.header.blocks else { throw .badValue("data of nothing") }
        if frame.header.flags.contains(.first) {
            guard frame.payload != nil else { throw .badValue("whole, and nothing there") }
            return .read(CopyRead(isWhole: true, absent: .empty, corrupt: .empty), frame.payload)
        }
        let read = CopyRead(isWhole: false, absent: try reader.readBitmap(), corrupt: try reader.readBitmap())
        var missing = read.absent
        missing.formUnion(read.corrupt)
        guard frame.payload != nil || missing.containsAll(blocks) else { throw .badValue("blocks without their data") }
        return .read(read, frame.payload)
    }

    private static func view(_ reader: inout ByteReader) throws(DecodeError) -> ComposedView {
        let held = try reader.readBitmap()
        let zero = try reader.readBitmap()
        let pending = try reader.readBitmap()
        let corrupt = try reader.readBitmap()
        var versions: [Version] = []
        versions.reserveCapacity(chunksPerObject)
        for _ in 0..<chunksPerObject { versions.append(Version(rawValue: try reader.read())) }
        var checksums = [UInt32](repeating: zeroBlockChecksum, count: blocksPerObject)
        for block in 0..<blocksPerObject where held[block] { checksums[block] = try reader.read() }
        return ComposedView(
            held: held, zero: zero, pending: pending, corrupt: corrupt, chunkVersions: versions, checksums: checksums)
    }

    private static func summaries(
        _ reader: inout ByteReader, _ volume: VolumeId
    ) throws(DecodeError) -> [CopySummary] {
        let count = try reader.readCount(minimumSize: 13)
        var summaries: [CopySummary] = []
        summaries.reserveCapacity(count)
        for _ in 0..<count {
            let index = try reader.read(UInt32.self)
            let version = Version(rawValue: try reader.read())
            let state = try reader.read(UInt8.self)
            guard let known = CopyState(rawValue: state & 0x7f) else { throw .badValue("state of a copy") }
            if let last = summaries.last, last.object.index >= index { throw .badValue("copies out of order") }
            summaries.append(
                CopySummary(
                    object: ObjectId(volume, index), version: version, state: known, isVerified: state & 0x80 != 0))
        }
        return summaries
    }

    private static func findings(_ reader: inout ByteReader) throws(DecodeError) -> VerifyOutcome {
        let count = try reader.readCount(minimumSize: 133)
        var findings: [VerifyOutcome.Finding] = []
        findings.reserveCapacity(count)
        for _ in 0..<count {
            findings.append(
                VerifyOutcome.Finding(
                    of: Generation(try reader.read()), headerIsFine: try reader.readBool(),
                    corrupt: try reader.readBitmap()))
        }
        return VerifyOutcome(findings: findings)
    }

    private static func failure(_ reader: inout ByteReader) throws(DecodeError) -> CopyFailure {
        let code = try reader.read(UInt8.self)
        let value = try reader.read(UInt64.self)
        let text = try reader.readString()
        switch code {
        case 1: return .staleEpoch(Epoch(value))
        case 2:
            guard value <= UInt64(Term.maximum) else { throw .badValue("term") }
            return .staleTerm(Term(UInt32(value)))
        case 3: return .behind
        case 4: return .full
        case 5: return .dead(text)
        case 6: return .silent(text)
        case 7: return .damaged
        default: throw .badValue("reason of a failure")
        }
    }
}
