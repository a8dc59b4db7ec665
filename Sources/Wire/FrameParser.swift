// Bytes of a connection become frames. The parser says where the next bytes go and how many it can take: never more than
// what is left of the part that it is in, so that a payload is received straight into its buffer. Lengths are checked
// against the limits before memory is taken for them. After an error it takes nothing any more.
import Model

/// What a peer may send now: little before it has proved who it is.
package struct FrameLimits: Hashable, Sendable {
    package var maximumBodyBytes: Int
    package var maximumPayloadBlocks: Int
    /// The version byte that frames must have.
    package var protocolVersion: UInt8
    /// Until a peer has proved who it is.
    package static let stranger = FrameLimits(
        maximumBodyBytes: 512, maximumPayloadBlocks: 0, protocolVersion: WireFormat.anyVersion)
    package static func peer(version: UInt8) -> FrameLimits {
        FrameLimits(
            maximumBodyBytes: WireFormat.maximumBodyBytes, maximumPayloadBlocks: WireFormat.maximumPayloadBlocks,
            protocolVersion: version)
    }
    package init(maximumBodyBytes: Int, maximumPayloadBlocks: Int, protocolVersion: UInt8) {
        self.maximumBodyBytes = maximumBodyBytes
        self.maximumPayloadBlocks = maximumPayloadBlocks
        self.protocolVersion = protocolVersion
    }
}

package final class FrameParser {
    private enum Part {
        case header
        case body
        case payload
    }
    private let pool: BufferPool
    package var limits: FrameLimits
    private var part = Part.header
    /// Bytes of the present part that are there.
    private var filled = 0
    private let headerMemory: UnsafeMutableRawPointer
    private var bodyMemory: UnsafeMutableRawPointer
    private var bodyCapacity = 0
    private var header: FrameHeader?
    private var buffer: Buffer?
    package private(set) var error: WireError?

    package init(pool: BufferPool, limits: FrameLimits) {
        self.pool = pool
        self.limits = limits
        headerMemory = .allocate(byteCount: WireFormat.headerBytes, alignment: 8)
        bodyMemory = .allocate(byteCount: 0, alignment: 8)
    }
    deinit {
        headerMemory.deallocate()
        bodyMemory.deallocate()
    }

    /// Whether the bytes so far end between two frames.
    package var isBetweenFrames: Bool { part == .header && filled == 0 }

    /// Where the next bytes go, and the most that may come there. Empty after an error.
    package var region: UnsafeMutableRawBufferPointer {
        if error != nil { return UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        switch part {
        case .header:
            return UnsafeMutableRawBufferPointer(
                start: headerMemory + filled, count: WireFormat.headerBytes - filled)
        case .body:
            return UnsafeMutableRawBufferPointer(start: bodyMemory + filled, count: header!.bodyBytes - filled)
        case .payload:
            return UnsafeMutableRawBufferPointer(start: buffer!.bytes + filled, count: header!.payloadBytes - filled)
        }
    }

    /// `count` bytes have come to `region`. Answers with the frame that they complete.
    package func advance(_ count: Int) throws(WireError) -> Frame? {
        if let error { throw error }
        precondition(count >= 0 && count <= region.count, "more bytes than there was room for")
        filled += count
        guard region.count == 0 else { return nil }
        do {
            return try completePart()
        } catch {
            self.error = error
            buffer = nil
            throw error
        }
    }

    /// Takes all of `bytes`, and gives out the frames that they complete, in order. `deliver` may change the limits for what
    /// comes behind; false: nothing more is wanted.
    package func parse(
        _ bytes: UnsafeRawBufferPointer, _ deliver: (Frame) -> Bool
    ) throws(WireError) {
        var position = 0
        while position < bytes.count {
            let region = region
            if let error { throw error }
            let count = min(region.count, bytes.count - position)
            region.baseAddress!.copyMemory(from: bytes.baseAddress! + position, byteCount: count)
            position += count
            if let frame = try advance(count), !deliver(frame) { return }
        }
    }

    private func completePart() throws(WireError) -> Frame? {
        switch part {
        case .header:
            let header = try FrameHeader(decoding: headerMemory)
            guard header.protocolVersion == limits.protocolVersion else {
                throw .otherVersion(header.protocolVersion)
            }
            guard header.kind.isHandshake == (limits.protocolVersion == WireFormat.anyVersion) else {
                throw .badField("kind")
            }
            guard header.bodyBytes <= limits.maximumBodyBytes, Int(header.payloadBlocks) <= limits.maximumPayloadBlocks
            else { throw .tooLarge }
            self.header = header
            if header.bodyBytes > bodyCapacity {
                bodyMemory.deallocate()
                bodyCapacity = header.bodyBytes
                bodyMemory = .allocate(byteCount: bodyCapacity, alignment: 8)
            }
            buffer = header.payloadBlocks > 0 ? pool.buffer(header.payloadBytes) : nil
            filled = 0
            if header.bodyWords > 0 {
                part = .body
            } else if header.payloadBlocks > 0 {
                buffer!.checksums[0] = header.checksum
                part = .payload
            } else {
                return finish(header, payload: nil)
            }
            return nil
        case .body:
            let header = header!
            guard crc32c(bodyMemory, count: header.bodyBytes) == header.checksum else { throw .badBodyChecksum }
            guard header.payloadBlocks > 0 else { return finish(header, payload: nil) }
            UnsafeMutableRawPointer(buffer!.checksums).copyMemory(
                from: bodyMemory, byteCount: 4 * Int(header.payloadBlocks))
            filled = 0
            part = .payload
            return nil
        case .payload:
            let header = header!
            let buffer = buffer!
            for block in 0..<Int(header.payloadBlocks)
            where crc32c(buffer.bytes + block * blockSize, count: blockSize) != buffer.checksums[block] {
                throw .badPayloadChecksum(block: block)
            }
            return finish(
                header, payload: Payload(buffer: buffer, firstBlock: 0, blockCount: Int(header.payloadBlocks)))
        }
    }

    private func finish(_ header: FrameHeader, payload: Payload?) -> Frame {
        let table = header.bodyWords > 0 ? 4 * Int(header.payloadBlocks) : 0
        let body =
            header.bodyBytes > table
            ? [UInt8](UnsafeRawBufferPointer(start: bodyMemory + table, count: header.bodyBytes - table)) : []
        self.header = nil
        buffer = nil
        part = .header
        filled = 0
        return Frame(checked: header, body: body, payload: payload)
    }
}
