// Little-endian reading and writing of the control formats (catalog, superblock, index). A length or count
// that was read is never trusted before it is checked against what is left.

/// Why bytes could not be decoded.
package enum DecodeError: Error, Hashable, Sendable {
    case truncated
    case badValue(String)
}

package struct ByteWriter: Sendable {
    package private(set) var bytes: [UInt8] = []
    package init() {}

    package mutating func write<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
    package mutating func write(_ value: Bool) { bytes.append(value ? 1 : 0) }
    /// Length (32 bits) and bytes.
    package mutating func write(_ value: [UInt8]) {
        write(UInt32(value.count))
        bytes.append(contentsOf: value)
    }
    /// 64-bit words, all at once.
    package mutating func write(words: [UInt64]) {
        #if _endian(big)
            for word in words { write(word) }
        #else
            words.withUnsafeBytes { bytes.append(contentsOf: $0) }
        #endif
    }
    package mutating func write(_ value: String) { write(Array(value.utf8)) }
    package mutating func writeRaw(_ value: [UInt8]) { bytes.append(contentsOf: value) }
}

package struct ByteReader: Sendable {
    private let bytes: [UInt8]
    package private(set) var position: Int
    private let end: Int

    package init(_ bytes: [UInt8]) {
        self.bytes = bytes
        position = 0
        end = bytes.count
    }
    package var remaining: Int { end - position }

    package mutating func read<T: FixedWidthInteger>(_ type: T.Type = T.self) throws(DecodeError) -> T {
        let size = MemoryLayout<T>.size
        guard remaining >= size else { throw .truncated }
        var value: T = 0
        for i in (0..<size).reversed() {
            value = (size == 1 ? 0 : value << 8) | T(truncatingIfNeeded: bytes[position + i])
        }
        position += size
        return value
    }
    /// 64-bit words, all at once.
    package mutating func readWords(_ count: Int) throws(DecodeError) -> [UInt64] {
        guard count >= 0, remaining / 8 >= count else { throw .truncated }
        let raw = bytes[position..<position + count * 8]
        position += count * 8
        return raw.withUnsafeBytes { raw in
            [UInt64](unsafeUninitializedCapacity: count) { words, filled in
                UnsafeMutableRawBufferPointer(words).copyMemory(from: raw)
                #if _endian(big)
                    for i in 0..<count { words[i] = words[i].byteSwapped }
                #endif
                filled = count
            }
        }
    }
    package mutating func readBool() throws(DecodeError) -> Bool {
        switch try read(UInt8.self) {
        case 0: return false
        case 1: return true
        default: throw .badValue("boolean")
        }
    }
    package mutating func readRaw(_ count: Int) throws(DecodeError) -> [UInt8] {
        guard count >= 0, remaining >= count else { throw .truncated }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }
    package mutating func readBytes() throws(DecodeError) -> [UInt8] {
        let count = Int(try read(UInt32.self))
        return try readRaw(count)
    }
    package mutating func readString() throws(DecodeError) -> String {
        guard let text = String(validating: try readBytes(), as: UTF8.self) else {
            throw .badValue("text is not UTF-8")
        }
        return text
    }
    /// A count of items of at least `minimumSize` bytes each, checked against what is left.
    package mutating func readCount(minimumSize: Int) throws(DecodeError) -> Int {
        let count = Int(try read(UInt32.self))
        guard count <= remaining / max(1, minimumSize) else { throw .truncated }
        return count
    }
}
