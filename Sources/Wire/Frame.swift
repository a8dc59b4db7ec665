// A frame: header, body and payload. The payload is the memory that the gateway wrote its checksums for: it goes out as
// it is, behind a head of a few bytes, and is never copied here.
import Model

package struct Frame: Sendable {
    package private(set) var header: FrameHeader
    /// Without the checksums of the payload's blocks; padded with zeros to whole words where it went through a parser.
    package let body: [UInt8]
    package let payload: Payload?

    /// `header.blocks` are the payload's, if there is one.
    package init(_ header: FrameHeader, body: [UInt8] = [], payload: Payload? = nil) {
        precondition(payload == nil || payload!.blockCount == Int(header.blockCount), "a payload is the frame's blocks")
        precondition(body.count + 4 * blocksPerObject <= WireFormat.maximumBodyBytes, "a body beyond its limit")
        self.header = header
        self.body = body
        self.payload = payload
        let table = payload.map { body.isEmpty && $0.blockCount == 1 ? 0 : 4 * $0.blockCount } ?? 0
        let bodyBytes = (table + body.count + 3) / 4 * 4
        var checksum: UInt32 = 0
        if bodyBytes == 0 {
            checksum = payload?.checksum(0) ?? 0
        } else {
            if let payload, table > 0 {
                checksum = crc32c(payload.buffer.checksums + payload.firstBlock, count: table)
            }
            checksum = crc32c(body, seed: checksum)
            let padding = bodyBytes - table - body.count
            if padding > 0 { checksum = crc32c([UInt8](repeating: 0, count: padding), seed: checksum) }
        }
        self.header.setLengths(payloadBlocks: payload?.blockCount ?? 0, bodyBytes: bodyBytes, checksum: checksum)
    }

    /// What a parser has read and checked.
    init(checked header: FrameHeader, body: [UInt8], payload: Payload?) {
        self.header = header
        self.body = body
        self.payload = payload
    }

    /// What is known only when the frame is sent.
    package mutating func address(request: UInt64, version: UInt8) {
        header.request = request
        header.protocolVersion = version
    }
    /// The frame is sent again under a newer epoch.
    package mutating func renew(epoch: Epoch) { header.epoch = epoch }
    /// Marks the frame as one that was sent before.
    package var asResent: Frame {
        var copy = self
        copy.header.flags.insert(.resent)
        return copy
    }

    package var byteCount: Int { header.frameBytes }
    /// Bytes before the payload: header, checksums, body.
    package var headBytes: Int { WireFormat.headerBytes + header.bodyBytes }

    /// Writes everything before the payload to `target`, which has room for `headBytes`.
    package func encodeHead(to target: UnsafeMutableRawPointer) {
        header.encode(to: target)
        guard header.bodyWords > 0 else { return }
        var position = WireFormat.headerBytes
        if let payload {
            // The format is little-endian, and so are the machines that this runs on.
            (target + position).copyMemory(
                from: payload.buffer.checksums + payload.firstBlock, byteCount: 4 * payload.blockCount)
            position += 4 * payload.blockCount
        }
        body.withUnsafeBytes {
            if let base = $0.baseAddress { (target + position).copyMemory(from: base, byteCount: $0.count) }
        }
        position += body.count
        (target + position).initializeMemory(as: UInt8.self, repeating: 0, count: headBytes - position)
    }

    /// All of it in one array, for tests and for frames without a payload.
    package var encoded: [UInt8] {
        [UInt8](unsafeUninitializedCapacity: byteCount) { target, count in
            encodeHead(to: target.baseAddress!)
            if let payload {
                (target.baseAddress! + headBytes).withMemoryRebound(to: UInt8.self, capacity: payload.byteCount) {
                    UnsafeMutableRawPointer($0).copyMemory(from: payload.bytes, byteCount: payload.byteCount)
                }
            }
            count = byteCount
        }
    }
}
