// Requests and answers of the copies' protocol: what is said is understood, through the bytes of a connection.
import Model
import ObjectStore
import TestSupport
import Testing
import Wire

@testable import Replication

@Suite struct CodingTests {
    private let pool = BufferPool(limitBytes: 1 << 20)
    private let object = ObjectId(VolumeId(7), 9)
    private let authority = Authority(epoch: Epoch(1 << 40), term: Term(77))

    private func payload(_ blocks: Int) -> Payload {
        let buffer = pool.buffer(blocks * blockSize)
        for block in 0..<blocks {
            (buffer.bytes + block * blockSize).initializeMemory(
                as: UInt8.self, repeating: UInt8(block + 1), count: blockSize)
        }
        buffer.computeChecksums(0..<blocks)
        return Payload(buffer: buffer, firstBlock: 0, blockCount: blocks)
    }
    private func bits(_ blocks: Int...) -> BlockBitmap {
        var bitmap = BlockBitmap()
        for block in blocks { bitmap[block] = true }
        return bitmap
    }
    /// Through a parser, as at the other end.
    private func passed(_ frame: Frame) throws -> Frame {
        let parser = FrameParser(pool: pool, limits: .peer(version: 1))
        var result: Frame?
        try frame.encoded.withUnsafeBytes { bytes in
            try parser.parse(bytes) {
                result = $0
                return true
            }
        }
        return try #require(result)
    }
    private func passed(_ request: CopyRequest, term: Term = Term(5)) throws -> CopyRequest {
        try CopyRequest(try passed(request.frame(lane: 3, term: term)))
    }
    private func passed(_ answer: CopyAnswer, _ request: CopyRequest) throws -> [CopyAnswer] {
        var header = request.frame(lane: 3, term: Term(5))
        header.address(request: 44, version: 1)
        return try answer.frames(header.header).map {
            #expect($0.header.request == 44 && $0.header.lane == 3)
            return try CopyAnswer(try passed($0), volume: object.volume)
        }
    }
    private var hiding: GenerationPath {
        GenerationPath(
            top: Generation(20),
            hidden: [Generation(2)...Generation(3), Generation(7)...Generation(7), Generation(9)...Generation(19)])
    }

    @Test func writesAndDiscards() throws {
        for (previous, isHot) in [(Version(term: Term(76), sequence: 4), true), (Version.zero, false)] {
            for blocks in [1, 3] {
                let write = CopyWrite(
                    authority: authority, object: object, generation: Generation(3), previous: previous,
                    version: Version(term: Term(77), sequence: 5), blocks: BlockRange(first: 1000, count: blocks),
                    payload: payload(blocks), keepAsZero: false)
                let frame = CopyRequest.write(write).frame(lane: 3, term: Term(5))
                #expect((frame.header.bodyWords == 0) == (isHot && blocks == 1))
                guard case .write(let other) = try passed(.write(write)) else { throw Wrong() }
                #expect(
                    other.authority == write.authority && other.object == object && other.previous == previous
                        && other.version == write.version && other.blocks == write.blocks
                        && other.generation == write.generation)
                #expect(other.payload?.checksum(blocks - 1) == write.payload?.checksum(blocks - 1))
            }
            let discard = CopyWrite(
                authority: authority, object: object, generation: Generation(3), previous: previous,
                version: Version(term: Term(77), sequence: 5), blocks: .whole, payload: nil, keepAsZero: isHot)
            guard case .write(let other) = try passed(.write(discard)) else { throw Wrong() }
            #expect(other.payload == nil && other.keepAsZero == isHot && other.blocks == .whole)
        }
    }
    private struct Wrong: Error {}

    @Test func readsAndViewsAndTheirPaths() throws {
        for path in [GenerationPath(top: Generation(20)), hiding] {
            let blocks = BlockRange(first: 5, count: 6)
            guard case .read(object, path, blocks) = try passed(.read(object, path, blocks)) else { throw Wrong() }
            guard case .view(object, path) = try passed(.view(object, path)) else { throw Wrong() }
        }
    }

    @Test func fills() throws {
        for hasExtra in [false, true] {
            for hasData in [false, true] {
                let fill = CopyFill(
                    object: object, generation: Generation(8), blocks: .chunk(2), held: bits(32, 40, 47),
                    zero: hasData ? bits(40) : bits(32, 40, 47), payload: hasData ? payload(16) : nil,
                    chunkVersion: Version(rawValue: 991), extra: hasExtra ? bits(33) : .empty,
                    extraPath: hasExtra ? hiding : nil, onlyPending: hasExtra)
                guard case .fill(let other) = try passed(.fill(fill)) else { throw Wrong() }
                #expect(
                    other.object == object && other.generation == fill.generation && other.blocks == fill.blocks
                        && other.held == fill.held && other.zero == fill.zero
                        && other.chunkVersion == fill.chunkVersion && other.extra == fill.extra
                        && other.extraPath == fill.extraPath && other.onlyPending == fill.onlyPending)
                #expect((other.payload == nil) == !hasData)
            }
        }
    }

    @Test func theOtherRequests() throws {
        let session = StoreSession(bootId: ClusterId(high: 3, low: 4), incarnation: 5)
        guard case .open(StoreId(12), session) = try passed(.open(StoreId(12), session)) else { throw Wrong() }
        guard case .flush = try passed(.flush) else { throw Wrong() }
        guard case .fence(VolumeId(7), authority) = try passed(.fence(VolumeId(7), authority)) else { throw Wrong() }
        let base = Version(rawValue: 4)
        guard
            case .beginSync(object, let top, base, let pending, authority) = try passed(
                .beginSync(object, top: Generation(2), base: base, pending: bits(0, 1023), authority))
        else { throw Wrong() }
        #expect(top == Generation(2) && pending == bits(0, 1023))
        guard case .completeSync(object, authority) = try passed(.completeSync(object, authority)) else {
            throw Wrong()
        }
        guard case .markSuspect(object) = try passed(.markSuspect(object)) else { throw Wrong() }
        guard case .stamp(object, base) = try passed(.stamp(object, base)) else { throw Wrong() }
        guard case .verify(object, deep: true) = try passed(.verify(object, deep: true)) else { throw Wrong() }
        guard case .reread(object) = try passed(.reread(object)) else { throw Wrong() }
        guard case .empty(object) = try passed(.empty(object)) else { throw Wrong() }
        guard case .remove(object) = try passed(.remove(object)) else { throw Wrong() }
        // The term of the lease goes with what does not name one.
        #expect(CopyRequest.markSuspect(object).frame(lane: 0, term: Term(9)).header.term == Term(9))
    }

    @Test func answers() throws {
        let read = CopyRequest.read(object, hiding, BlockRange(first: 5, count: 3))
        guard case .done = try passed(.done, .flush)[0] else { throw Wrong() }
        guard
            case .written(CopyWritten(isComplete: true)) = try passed(.written(CopyWritten(isComplete: true)), read)[0]
        else { throw Wrong() }
        guard case .looked(isFine: true) = try passed(.looked(isFine: true), read)[0] else { throw Wrong() }
        let whole = CopyRead(isWhole: true, absent: .empty, corrupt: .empty)
        guard case .read(let all, let data?) = try passed(.read(whole, payload(3)), read)[0] else { throw Wrong() }
        #expect(all.isWhole && data.checksum(2) == payload(3).checksum(2))
        let part = CopyRead(isWhole: false, absent: bits(5), corrupt: bits(6, 7))
        guard case .read(let some, nil) = try passed(.read(part, nil), read)[0] else { throw Wrong() }
        #expect(!some.isWhole && some.absent == bits(5) && some.corrupt == bits(6, 7))
        for failure in [
            CopyFailure.staleEpoch(Epoch(9)), .staleTerm(Term(8)), .behind, .full, .dead("errno 5"), .silent("gone"),
            .damaged,
        ] {
            guard case .failed(failure) = try passed(.failed(failure), read)[0] else { throw Wrong() }
        }
        var checksums = [UInt32](repeating: zeroBlockChecksum, count: blocksPerObject)
        checksums[9] = 1234
        var versions = [Version](repeating: .zero, count: chunksPerObject)
        versions[63] = Version(rawValue: 6)
        let view = ComposedView(
            held: bits(9, 10), zero: bits(10), pending: bits(11), corrupt: bits(12), chunkVersions: versions,
            checksums: checksums)
        guard case .view(let other) = try passed(.view(view), read)[0] else { throw Wrong() }
        #expect(
            other.held == view.held && other.zero == view.zero && other.pending == view.pending
                && other.corrupt == view.corrupt && other.chunkVersions == versions && other.checksums == checksums)
    }

    @Test func longAnswersComeInParts() throws {
        let summaries = (0..<40_000).map { (i: Int) -> CopySummary in
            let state = CopyState(rawValue: UInt8(i % 3))!
            let object = ObjectId(VolumeId(7), UInt32(i * 3))
            return CopySummary(
                object: object, version: Version(rawValue: UInt64(i)), state: state, isVerified: i % 2 == 0)
        }
        var all: [CopySummary] = []
        for part in try passed(.summaries(summaries), .fence(VolumeId(7), authority)) {
            guard case .summaries(let items) = part else { throw Wrong() }
            all += items
        }
        #expect(all == summaries)
        let empty = try passed(.summaries([]), .fence(VolumeId(7), authority))
        guard case .summaries(let none) = empty[0] else { throw Wrong() }
        #expect(none.isEmpty && empty.count == 1)
        let outcome = VerifyOutcome(
            findings: (1...2_500).map {
                VerifyOutcome.Finding(
                    of: Generation(UInt32($0)), headerIsFine: $0 % 2 == 0, corrupt: bits($0 % blocksPerObject))
            })
        var findings: [VerifyOutcome.Finding] = []
        for part in try passed(.verified(outcome), .verify(object, deep: true)) {
            guard case .verified(let items) = part else { throw Wrong() }
            findings += items.generations
        }
        #expect(findings.count == 2_500 && findings[2_499].corrupt == bits(2_500 % blocksPerObject))
    }

    @Test func nonsenseIsRefused() {
        func refused(_ kind: FrameKind, _ body: [UInt8] = [], _ change: (inout FrameHeader) -> Void = { _ in }) {
            var header = FrameHeader(kind, version: 1)
            change(&header)
            #expect(throws: DecodeError.self) { _ = try CopyRequest(Frame(header, body: body)) }
            #expect(throws: DecodeError.self) { _ = try CopyAnswer(Frame(header, body: body), volume: VolumeId(1)) }
        }
        refused(.read)
        refused(.write) { $0.blocks = .whole }
        refused(.discard) { $0.blocks = .whole }
        refused(.open, [1, 2, 3, 4])
        refused(.fill) { $0.blocks = .chunk(0) }
        refused(.view, littleEndian([1, 3, 2]))
        refused(.view, littleEndian([.max, 3, 2]))
        refused(.data) { $0.blocks = .chunk(0) }
        refused(.summaries, littleEndian([.max]))
        refused(.failed, [UInt8](repeating: 9, count: 16))
        refused(.hello)
    }
    private func littleEndian(_ words: [UInt32]) -> [UInt8] {
        var writer = ByteWriter()
        for word in words { writer.write(word) }
        return writer.bytes
    }
}
