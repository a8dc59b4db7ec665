// What a fuzzer is here: a name, inputs that are valid, and a check that any bytes must pass. The same drivers run in
// the ordinary tests (kept corpus and seeded mutations) and under libFuzzer (contrib/fuzz). A check is a function of
// its input alone: no clock, no randomness, nothing left behind for the next input.
import Glibc
import Model

struct FuzzTarget: Sendable {
    let name: String
    /// What it feeds, for people.
    let summary: String
    /// The longest input that is worth trying, in bytes.
    let maximumBytes: Int
    /// Valid inputs, from which mutations start.
    let seeds: @Sendable () -> [[UInt8]]
    /// Nil, or which property does not hold. It must return for every input: a trap is a finding too.
    let check: @Sendable (FuzzInput) -> String?

    func run(_ bytes: [UInt8]) -> String? { check(FuzzInput(bytes)) }

    static let all: [FuzzTarget] =
        [
            record, journal, header, index, superblock, store, command, state, log, catalog, request, filesystem, kept,
            holder, framing, admin, words, frames, messages, handshake, agreement, transfer, lease, reach, decision,
            shared,
            member,
        ]
    static func named(_ name: String) -> FuzzTarget? { all.first { $0.name == name } }
}

/// Takes an input apart from the front. At its end it gives zeros, so that every input means something.
struct FuzzInput {
    let bytes: [UInt8]
    private(set) var position = 0
    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var remaining: Int { bytes.count - position }
    var isAtEnd: Bool { position == bytes.count }
    mutating func byte() -> UInt8 {
        guard position < bytes.count else { return 0 }
        defer { position += 1 }
        return bytes[position]
    }
    mutating func number<T: FixedWidthInteger & UnsignedInteger>(_ type: T.Type = T.self) -> T {
        var value: T = 0
        for i in 0..<MemoryLayout<T>.size { value |= T(byte()) << T(8 * i) }
        return value
    }
    mutating func take(_ count: Int) -> [UInt8] {
        let count = min(count, remaining)
        defer { position += count }
        return Array(bytes[position..<position + count])
    }
    mutating func rest() -> [UInt8] { take(remaining) }

    /// Changes some places of `target`: each is an offset (32 bits, modulo its length), a length (8 bits) and bytes.
    mutating func patch(_ target: inout [UInt8], limit: Int = 16) {
        var left = limit
        while !isAtEnd, left > 0, !target.isEmpty {
            left -= 1
            patchOnce(&target)
        }
    }
    mutating func patchOnce(_ target: inout [UInt8]) {
        let offset = Int(number(UInt32.self))
        let new = take(Int(byte()))
        guard !target.isEmpty else { return }
        for (i, byte) in new.enumerated() { target[(offset + i) % target.count] = byte }
    }
    static func patchBytes(_ offset: Int, _ bytes: [UInt8]) -> [UInt8] {
        littleEndian(UInt32(offset)) + [UInt8(bytes.count)] + bytes
    }
}

func littleEndian<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }

extension [UInt8] {
    /// Overwrites from `offset` on; does nothing where that does not fit.
    mutating func put<T: FixedWidthInteger>(_ value: T, at offset: Int) {
        let new = littleEndian(value)
        guard offset >= 0, offset + new.count <= count else { return }
        replaceSubrange(offset..<offset + new.count, with: new)
    }
    func get<T: FixedWidthInteger>(_ offset: Int, _ type: T.Type = T.self) -> T {
        guard offset >= 0, offset + MemoryLayout<T>.size <= count else { return 0 }
        return withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
    }
}

/// A copy in memory of exactly this size, aligned to 8: a read beyond it is one that the address sanitizer sees.
func withExactCopy<R>(_ bytes: [UInt8], _ body: (UnsafeMutableRawPointer) -> R) -> R {
    let copy = UnsafeMutableRawPointer.allocate(byteCount: max(1, bytes.count), alignment: 8)
    defer { copy.deallocate() }
    bytes.withUnsafeBytes { if $0.count > 0 { copy.copyMemory(from: $0.baseAddress!, byteCount: $0.count) } }
    return body(copy)
}

/// What the address sanitizer, if it is there, is to take for the end of a buffer.
enum Poison {
    private typealias Function = @convention(c) (UnsafeRawPointer, Int) -> Void
    private static func find(_ name: String) -> Function? {
        dlsym(UnsafeMutableRawPointer(bitPattern: 0), name).map { unsafeBitCast($0, to: Function.self) }
    }
    private static let poison = find("__asan_poison_memory_region")
    private static let unpoison = find("__asan_unpoison_memory_region")

    static func beyond<R>(_ count: Int, of buffer: Buffer, _ body: () -> R) -> R {
        guard let poison, let unpoison, count < buffer.capacity else { return body() }
        poison(buffer.bytes + count, buffer.capacity - count)
        defer { unpoison(buffer.bytes + count, buffer.capacity - count) }
        return body()
    }
}
