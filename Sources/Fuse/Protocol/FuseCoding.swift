// Loads from and stores to raw memory for the protocol's structures (little-endian hosts: x86_64 and aarch64).
// Every load is checked against the end of the request; nothing here may trap on what the kernel, or anything
// that pretends to be it, has sent.
import Glibc

/// Why a request could not be decoded.
package enum FuseDecodeError: Error, Sendable, Equatable {
    /// Shorter than its structure.
    case truncated
    /// A field that cannot be (a length beyond the request, a name without end or with a slash).
    case malformed
    /// A name that is not UTF-8.
    case badName
}

/// Reads a request from front to back.
package struct FuseReader {
    private let memory: UnsafeRawBufferPointer
    private var position = 0

    package init(_ memory: UnsafeRawBufferPointer) { self.memory = memory }
    package var remaining: Int { memory.count - position }

    private mutating func load<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type) throws(FuseDecodeError) -> T {
        guard remaining >= MemoryLayout<T>.size else { throw .truncated }
        defer { position += MemoryLayout<T>.size }
        return T(littleEndian: memory.loadUnaligned(fromByteOffset: position, as: T.self))
    }
    package mutating func u16() throws(FuseDecodeError) -> UInt16 { try load(UInt16.self) }
    package mutating func u32() throws(FuseDecodeError) -> UInt32 { try load(UInt32.self) }
    package mutating func u64() throws(FuseDecodeError) -> UInt64 { try load(UInt64.self) }

    package mutating func skip(_ count: Int) throws(FuseDecodeError) {
        guard count >= 0, remaining >= count else { throw .truncated }
        position += count
    }
    package mutating func bytes(_ count: Int) throws(FuseDecodeError) -> [UInt8] {
        guard count >= 0, remaining >= count else { throw .truncated }
        defer { position += count }
        return Array(memory[position..<position + count])
    }
    /// Text up to its NUL, which is consumed; not empty.
    package mutating func string() throws(FuseDecodeError) -> String {
        guard remaining > 0, let base = memory.baseAddress else { throw .truncated }
        let start = base + position
        guard let end = memchr(start, 0, remaining) else { throw .truncated }
        let count = UnsafeRawPointer(end) - start
        guard count > 0 else { throw .malformed }
        position += count + 1
        let text = UnsafeRawBufferPointer(start: start, count: count)
        guard let string = String(validating: text, as: UTF8.self) else { throw .badName }
        return string
    }
    /// The name of a directory entry: a string without a slash.
    package mutating func name() throws(FuseDecodeError) -> String {
        let name = try string()
        guard !name.utf8.contains(UInt8(ascii: "/")) else { throw .malformed }
        return name
    }
}

/// Writes an answer's structure into memory that the caller has made large enough.
struct FuseWriter {
    let base: UnsafeMutableRawPointer
    let capacity: Int
    private(set) var position = 0

    init(_ base: UnsafeMutableRawPointer, capacity: Int) {
        self.base = base
        self.capacity = capacity
    }
    mutating func put<T: FixedWidthInteger & BitwiseCopyable>(_ value: T) {
        precondition(capacity - position >= MemoryLayout<T>.size, "an answer beyond its memory")
        base.storeBytes(of: value.littleEndian, toByteOffset: position, as: T.self)
        position += MemoryLayout<T>.size
    }
    mutating func zeros(_ count: Int) {
        precondition(capacity - position >= count, "an answer beyond its memory")
        memset(base + position, 0, count)
        position += count
    }
    mutating func bytes(_ value: String, count: Int) {
        var value = value
        value.withUTF8 { utf8 in
            precondition(utf8.count == count && capacity - position >= count, "an answer beyond its memory")
            if let source = utf8.baseAddress { memcpy(base + position, source, count) }
        }
        position += count
    }
}
