// Bytes and messages from another node: whatever comes, in whatever pieces, is frames or an error, and the same ones; a
// body is a request or an answer that can be said again in the same bytes, or an error; nobody agrees without the key.
import Model
import TestSupport

@testable import Replication
@testable import Wire

extension FuzzTarget {
    private static let pool = BufferPool(limitBytes: 1 << 20)

    /// Input: whether the headers' checksums are made right, pieces' size less one, bytes.
    static let frames = FuzzTarget(
        name: "frames", summary: "the frame parser", maximumBytes: 16_384,
        seeds: {
            let all = sampleFrames().flatMap(\.encoded)
            return sampleFrames().map { [1, 255] + $0.encoded } + [[1, 6] + all, [0, 0] + all.prefix(400)]
        }
    ) { checkFrames($0) }

    /// Input: the kind's number, flags, blocks, payload or not, then the body.
    static let messages = FuzzTarget(
        name: "messages", summary: "requests to copies, and their answers", maximumBytes: 4096,
        seeds: {
            sampleFrames().map { frame in
                [frame.header.kind.rawValue, UInt8(truncatingIfNeeded: frame.header.flags.rawValue)]
                    + littleEndian(frame.header.firstBlock) + [UInt8(truncatingIfNeeded: frame.header.blockCount)]
                    + [frame.payload == nil ? 0 : 1] + frame.body
            }
        }
    ) { checkMessage($0) }

    /// Input: role, then frames as kind, length and body.
    static let handshake = FuzzTarget(
        name: "handshake", summary: "the handshake of two nodes", maximumBytes: 1024,
        seeds: {
            let body = [UInt8](repeating: 1, count: 76)
            return [
                [0, 1, 76] + body, [1, 2, 104] + body + body.prefix(28),
                [0, 1, 76] + body + [3, 32] + body.prefix(32),
                [1, 5, 4, 2, 0, 0, 0], [1, 4, 4, 0, 0, 0, 0],
            ]
        }
    ) { checkHandshake($0) }

    private static func sampleFrames() -> [Frame] {
        let buffer = pool.buffer(blockSize)
        buffer.fillZero(0..<blockSize)
        buffer.computeChecksums(0..<1)
        func frame(_ kind: FrameKind, _ body: [UInt8] = [], blocks: Int = 0, data: Bool = false, flags: UInt16 = 0)
            -> Frame
        {
            var header = FrameHeader(kind, version: 1)
            header.flags = FrameFlags(rawValue: flags)
            header.request = 7
            header.version = Version(rawValue: 1 << 40 | 3)
            header.generation = Generation(9)
            if blocks > 0 { header.blocks = BlockRange(first: 4, count: blocks) }
            return Frame(
                header, body: body, payload: data ? Payload(buffer: buffer, firstBlock: 0, blockCount: 1) : nil)
        }
        let zeros = [UInt8](repeating: 0, count: 640)
        return [
            frame(.write, blocks: 1, data: true), frame(.discard, blocks: 20), frame(.read, blocks: 3), frame(.flush),
            frame(.read, [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0], blocks: 3), frame(.open, Array(zeros.prefix(32))),
            frame(.fill, Array(zeros.prefix(256)), blocks: 1), frame(.beginSync, Array(zeros.prefix(128))),
            frame(
                .fill, zeros.prefix(256) + zeros.prefix(128) + [9, 0, 0, 0, 0, 0, 0, 0], blocks: 1, data: true, flags: 2
            ),
            frame(.composed, zeros + zeros.prefix(384)), frame(.data, blocks: 1, data: true, flags: 1),
            frame(.summaries, [1, 0, 0, 0, 5, 0, 0, 0] + zeros.prefix(8) + [0x81]), frame(.verified, [0, 0, 0, 0]),
            frame(.failed, [2] + zeros.prefix(8) + [0, 0, 0, 0]), frame(.room, Array(zeros.prefix(16))),
            frame(.heartbeat), frame(.written, flags: 1), frame(.stamp),
        ]
    }

    private static func checkFrames(_ input: FuzzInput) -> String? {
        var input = input
        let mustRepair = input.byte() % 2 == 1
        let piece = Int(input.byte()) + 1
        var bytes = input.rest()
        if mustRepair { repair(&bytes) }
        let whole = parse(bytes, piece: bytes.count + 1)
        let parts = parse(bytes, piece: piece)
        guard whole.count == parts.count else { return "\(whole.count) frames at once, \(parts.count) in pieces" }
        var position = 0
        for (frame, other) in zip(whole, parts) {
            guard frame.header == other.header, frame.body == other.body else { return "other frames in pieces" }
            let again = frame.encoded
            guard again == Array(bytes[position..<position + again.count]) else { return "a frame is not its bytes" }
            position += again.count
        }
        return nil
    }
    private static func parse(_ bytes: [UInt8], piece: Int) -> [Frame] {
        let parser = FrameParser(pool: pool, limits: .peer(version: 1))
        var frames: [Frame] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            let next = Array(rest.prefix(piece))
            rest = rest.dropFirst(piece)
            let isFine = withExactCopy(next) { copy in
                do throws(WireError) {
                    try parser.parse(UnsafeRawBufferPointer(start: copy, count: next.count)) {
                        frames.append($0)
                        return true
                    }
                    return true
                } catch { return false }
            }
            if !isFine { return frames }
        }
        return frames
    }
    /// The header's checksum, of each frame as far as the lengths lead; a fuzzer does not find these.
    private static func repair(_ bytes: inout [UInt8]) {
        var position = 0
        while position + 64 <= bytes.count {
            bytes.put(crc32c(Array(bytes[position..<position + 60])), at: position + 60)
            position +=
                64 + 4 * Int(bytes.get(position + 54, UInt16.self)) + 4096 * Int(bytes.get(position + 52, UInt16.self))
        }
    }

    private static func checkMessage(_ input: FuzzInput) -> String? {
        var input = input
        guard let kind = FrameKind(rawValue: input.byte()) else { return nil }
        var header = FrameHeader(kind, version: 1)
        header.flags = FrameFlags(rawValue: UInt16(input.byte() & 15))
        header.version = Version(rawValue: 1 << 40 | 3)
        header.generation = Generation(9)
        let first = Int(input.number(UInt16.self)) % blocksPerObject
        let count = min(Int(input.byte()), blocksPerObject - first)
        if count > 0 { header.blocks = BlockRange(first: first, count: count) }
        let hasPayload = input.byte() % 2 == 1 && count > 0
        var body = input.rest()
        while body.count % 4 != 0 { body.append(0) }
        var payload: Payload?
        if hasPayload {
            let buffer = pool.buffer(count * blockSize)
            payload = Payload(buffer: buffer, firstBlock: 0, blockCount: count)
        }
        let frame = Frame(header, body: body, payload: payload)
        if let request = try? CopyRequest(frame) {
            let term: Term = kind == .write || kind == .discard ? Term(0) : header.term
            let again = request.frame(lane: 0, term: term)
            guard let other = try? CopyRequest(again) else { return "a request that cannot be said again" }
            let third = other.frame(lane: 0, term: term)
            guard again.header == third.header, again.body == third.body else { return "a request that changes" }
        }
        if let answer = try? CopyAnswer(frame, volume: VolumeId(1)) {
            let frames = answer.frames(header)
            guard frames.count == 1, (try? CopyAnswer(frames[0], volume: VolumeId(1))) != nil else {
                return "an answer that cannot be said again"
            }
        }
        _ = try? RoomStatement(frame)
        return nil
    }

    private static func checkHandshake(_ input: FuzzInput) -> String? {
        var input = input
        let role: Handshake.Role = input.byte() % 2 == 0 ? .responder : .initiator(to: NodeId(2))
        let own = HandshakeIdentity(
            cluster: ClusterId(high: 0x0101_0101_0101_0101, low: 0x0101_0101_0101_0101),
            node: NodeId(role == .responder ? 0x0101_0101 : 1), incarnation: 3)
        // A key that nobody has: the proofs of this side are never those that are wanted of the other one.
        var asked = 0
        var handshake = Handshake(role: role, own: own, nonce: [UInt8](repeating: 9, count: 32)) { message in
            asked += 1
            return (0..<32).map { UInt8(truncatingIfNeeded: crc32c(message, seed: UInt32($0)) &+ 0x5a) }
        }
        _ = handshake.start()
        var isOver = false
        while !input.isAtEnd {
            guard let kind = FrameKind(rawValue: input.byte()) else { continue }
            let body = input.take(Int(input.byte()))
            switch handshake.receive(Frame(FrameHeader(kind), body: body)) {
            case .established: return "agreed without the key"
            case .send: if isOver { return "it goes on after its end" }
            case .refused: isOver = true
            }
        }
        return asked > 4 ? "it computes \(asked) proofs" : nil
    }
}
