// Frames: what is written is read, whatever the pieces it comes in; what is not in the format is refused before anything is
// allocated for it; nothing is read beyond the end of a frame.
import Model
import TestSupport
import Testing

@testable import Wire

/// Blocks with their checksums, from a seed.
func makePayload(_ seed: UInt64, blocks: Int, first: Int = 0) -> Payload {
    let buffer = Buffer(capacity: (first + blocks) * blockSize)
    var random = Random(seed)
    for i in 0..<(first + blocks) * blockSize / 8 {
        (buffer.bytes + i * 8).storeBytes(of: random.next(), as: UInt64.self)
    }
    buffer.computeChecksums(0..<first + blocks)
    return Payload(buffer: buffer, firstBlock: first, blockCount: blocks)
}

@Suite struct FrameTests {
    private let pool = BufferPool(limitBytes: 1 << 20)

    private func header(_ kind: FrameKind, blocks: BlockRange? = nil) -> FrameHeader {
        var header = FrameHeader(kind, version: 1)
        header.flags = [.first, .more]
        header.lane = 0x0102
        header.request = 0x0304_0506_0708_090a
        header.epoch = Epoch(0x1112_1314_1516_1718)
        header.object = ObjectId(rawValue: 0x2122_2324_2526_2728)
        header.version = Version(rawValue: 0x3132_3334_3536_3738)
        header.generation = Generation(0x4142_4344)
        header.term = Term(0x51_5253)
        header.blocks = blocks
        return header
    }
    /// With and without body and payload, in all sizes that take another way.
    private var samples: [Frame] {
        [
            Frame(header(.flush)),
            Frame(header(.fence), body: [1, 2, 3, 4]),
            Frame(header(.open), body: Array(0..<250)),
            Frame(header(.write, blocks: BlockRange(first: 7, count: 1)), payload: makePayload(1, blocks: 1)),
            Frame(
                header(.write, blocks: BlockRange(first: 1000, count: 3)), payload: makePayload(2, blocks: 3, first: 2)),
            Frame(
                header(.fill, blocks: BlockRange(first: 0, count: 1)), body: [9, 8, 7, 6],
                payload: makePayload(3, blocks: 1)),
            Frame(
                header(.fill, blocks: BlockRange(first: 16, count: 16)), body: Array(repeating: 5, count: 256),
                payload: makePayload(4, blocks: 16)),
            Frame(header(.read, blocks: .whole)),
        ]
    }
    private func isSame(_ a: Frame, _ b: Frame) -> Bool {
        guard a.header == b.header, a.payload?.byteCount == b.payload?.byteCount else { return false }
        // A body is padded to whole words on its way.
        guard b.body.prefix(a.body.count) == a.body[...], b.body.dropFirst(a.body.count).allSatisfy({ $0 == 0 }) else {
            return false
        }
        guard let ours = a.payload, let theirs = b.payload else { return true }
        return crc32c(ours.bytes, count: ours.byteCount) == crc32c(theirs.bytes, count: theirs.byteCount)
            && (0..<ours.blockCount).allSatisfy { ours.checksum($0) == theirs.checksum($0) }
    }
    private func parser() -> FrameParser { FrameParser(pool: pool, limits: .peer(version: 1)) }
    private func parse(_ bytes: [UInt8], _ parser: FrameParser) throws(WireError) -> [Frame] {
        var frames: [Frame] = []
        let exact = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        defer { exact.deallocate() }
        exact.copyBytes(from: bytes)
        try parser.parse(UnsafeRawBufferPointer(exact)) {
            frames.append($0)
            return true
        }
        return frames
    }

    @Test func framesComeOutAsTheyWentIn() throws {
        for frame in samples {
            let bytes = frame.encoded
            #expect(bytes.count == frame.byteCount)
            let parsed = try parse(bytes, parser())
            #expect(parsed.count == 1 && isSame(frame, parsed[0]))
        }
        let all = samples.flatMap(\.encoded)
        let parsed = try parse(all, parser())
        #expect(parsed.count == samples.count)
        for (frame, other) in zip(samples, parsed) { #expect(isSame(frame, other)) }
    }

    @Test func aHotWriteIsOneHeaderAndItsBlock() {
        #expect(samples[3].headBytes == 64 && samples[3].byteCount == 64 + 4096)
        #expect(samples[7].byteCount == 64)
    }

    @Test func everySplitGivesTheSameFrames() throws {
        let frames = [samples[1], samples[5], samples[0]]
        let bytes = frames.flatMap(\.encoded)
        for split in 0...bytes.count {
            let parser = parser()
            let parsed = try parse(Array(bytes[..<split]), parser) + parse(Array(bytes[split...]), parser)
            #expect(parsed.count == frames.count && parser.isBetweenFrames)
            for (frame, other) in zip(frames, parsed) where !isSame(frame, other) {
                Issue.record("split at \(split)")
                return
            }
        }
    }
    @Test func piecesOfAnySizeGiveTheSameFrames() throws {
        let bytes = samples.flatMap(\.encoded)
        for seed in UInt64(0)..<40 {
            var random = Random(seed)
            let parser = parser()
            var rest = bytes[...]
            var parsed: [Frame] = []
            while !rest.isEmpty {
                let count = min(rest.count, 1 + random.below(random.chance(percent: 50) ? 7 : 9_000))
                parsed += try parse(Array(rest.prefix(count)), parser)
                rest = rest.dropFirst(count)
            }
            #expect(parsed.count == samples.count)
            for (frame, other) in zip(samples, parsed) { #expect(isSame(frame, other)) }
        }
    }
    /// Received straight into the parser's memory, as a socket does.
    @Test func theRegionNeverReachesBeyondItsFrame() throws {
        for frame in samples {
            let bytes = frame.encoded
            let parser = parser()
            var position = 0
            while true {
                let region = parser.region
                #expect(region.count > 0 && position + region.count <= bytes.count)
                region.copyBytes(from: bytes[position..<position + region.count])
                position += region.count
                if let parsed = try parser.advance(region.count) {
                    #expect(position == bytes.count && isSame(frame, parsed))
                    break
                }
            }
        }
    }

    @Test func everyFlippedBitIsNoticed() {
        for frame in samples.prefix(6) {
            let bytes = frame.encoded
            var random = Random(UInt64(bytes.count))
            for position in bytes.indices where position < 330 || random.chance(percent: 1) {
                var damaged = bytes
                damaged[position] ^= 1 << UInt8(random.below(8))
                let parser = parser()
                #expect(throws: WireError.self) { _ = try parse(damaged, parser) }
                #expect(parser.region.count == 0)
                #expect(throws: WireError.self) { _ = try parse(bytes, parser) }
            }
        }
    }

    @Test func lengthsAreCheckedBeforeMemoryIsTaken() {
        let stranger = FrameParser(pool: pool, limits: .stranger)
        let large = Frame(FrameHeader(.hello), body: [UInt8](repeating: 0, count: 513))
        #expect(throws: WireError.tooLarge) { _ = try parse(Array(large.encoded.prefix(64)), stranger) }
        let other = FrameParser(pool: pool, limits: .stranger)
        #expect(throws: WireError.otherVersion(1)) { _ = try parse(samples[3].encoded, other) }
        #expect(throws: WireError.otherVersion(2)) {
            _ = try parse(Frame(FrameHeader(.flush, version: 2)).encoded, parser())
        }
        // A handshake has no place behind the handshake, nor anything else before it.
        #expect(throws: WireError.badField("kind")) {
            _ = try parse(Frame(FrameHeader(.hello, version: 1)).encoded, parser())
        }
        #expect(throws: WireError.badField("kind")) {
            _ = try parse(Frame(FrameHeader(.flush)).encoded, FrameParser(pool: pool, limits: .stranger))
        }
    }

    @Test func impossibleHeadersAreRefused() {
        func refusal(_ change: (inout [UInt8]) -> Void) -> WireError? {
            var bytes = Array(samples[4].encoded.prefix(64))
            change(&bytes)
            let sum = crc32c(Array(bytes.prefix(60)))
            for i in 0..<4 { bytes[60 + i] = UInt8(truncatingIfNeeded: sum >> UInt32(8 * i)) }
            do {
                _ = try parse(bytes, parser())
                return nil
            } catch { return error }
        }
        #expect(refusal { _ in } == nil)
        #expect(refusal { $0[0] ^= 1 } == .badMagic)
        #expect(refusal { $0[3] = 99 } == .unknownKind(99))
        #expect(refusal { $0[5] = 0x80 } == .badField("flags"))
        #expect(refusal { $0[47] = 1 } == .badField("term"))
        #expect(refusal { $0[49] = 0x04 } == .badField("blocks"))
        #expect(refusal { $0[52] = 2 } == .badField("payload blocks"))
        #expect(refusal { $0[54] = 2 } == .badField("body words"))
    }
}
