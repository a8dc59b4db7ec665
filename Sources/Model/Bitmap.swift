// Fixed bitmaps: which blocks of an object a copy holds, which ranges a store is in-sync for.

/// 1024 bits, one for each block of an object.
package struct BlockBitmap: Equatable, Sendable {
    package var words: InlineArray<16, UInt64>

    package init() { words = InlineArray(repeating: 0) }
    package static let empty = BlockBitmap()
    package static var full: BlockBitmap {
        var bitmap = BlockBitmap()
        for i in 0..<16 { bitmap.words[i] = .max }
        return bitmap
    }

    package subscript(block: Int) -> Bool {
        get { words[block >> 6] >> UInt64(block & 63) & 1 != 0 }
        set {
            if newValue {
                words[block >> 6] |= 1 << UInt64(block & 63)
            } else {
                words[block >> 6] &= ~(1 << UInt64(block & 63))
            }
        }
    }

    package mutating func insert(_ range: BlockRange) { for block in range.indices { self[block] = true } }
    package mutating func remove(_ range: BlockRange) { for block in range.indices { self[block] = false } }
    package func containsAll(_ range: BlockRange) -> Bool {
        for block in range.indices where !self[block] { return false }
        return true
    }
    package func containsAny(_ range: BlockRange) -> Bool {
        for block in range.indices where self[block] { return true }
        return false
    }
    package var count: Int {
        var sum = 0
        for i in 0..<16 { sum += words[i].nonzeroBitCount }
        return sum
    }
    package var isEmpty: Bool {
        for i in 0..<16 where words[i] != 0 { return false }
        return true
    }
    /// The first block at or after `start` whose bit is `value`.
    package func firstIndex(from start: Int, where value: Bool) -> Int? {
        var block = start
        while block < blocksPerObject {
            let word = (value ? words[block >> 6] : ~words[block >> 6]) >> UInt64(block & 63)
            if word != 0 { return block + word.trailingZeroBitCount }
            block = (block | 63) + 1
        }
        return nil
    }
    package mutating func formUnion(_ other: BlockBitmap) { for i in 0..<16 { words[i] |= other.words[i] } }
    package mutating func subtract(_ other: BlockBitmap) { for i in 0..<16 { words[i] &= ~other.words[i] } }
    package func intersects(_ other: BlockBitmap) -> Bool {
        for i in 0..<16 where words[i] & other.words[i] != 0 { return true }
        return false
    }
    package mutating func formIntersection(_ other: BlockBitmap) { for i in 0..<16 { words[i] &= other.words[i] } }

    package static func == (a: Self, b: Self) -> Bool {
        for i in 0..<16 where a.words[i] != b.words[i] { return false }
        return true
    }
}

/// A set of the 65,536 ranges: 8 KiB.
package struct RangeSet: Hashable, Sendable {
    package private(set) var words: [UInt64]

    package init() { words = [UInt64](repeating: 0, count: rangeCount / 64) }
    package init(words: [UInt64]) {
        precondition(words.count == rangeCount / 64)
        self.words = words
    }
    package static var full: RangeSet { RangeSet(words: [UInt64](repeating: .max, count: rangeCount / 64)) }

    package subscript(range: RangeIndex) -> Bool {
        get { words[Int(range.rawValue >> 6)] >> UInt64(range.rawValue & 63) & 1 != 0 }
        set {
            let bit: UInt64 = 1 << UInt64(range.rawValue & 63)
            if newValue { words[Int(range.rawValue >> 6)] |= bit } else { words[Int(range.rawValue >> 6)] &= ~bit }
        }
    }
    package var count: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }
    package var isEmpty: Bool { !words.contains { $0 != 0 } }
    package mutating func formUnion(_ other: RangeSet) { for i in words.indices { words[i] |= other.words[i] } }
    package mutating func subtract(_ other: RangeSet) { for i in words.indices { words[i] &= ~other.words[i] } }
    package mutating func formIntersection(_ other: RangeSet) { for i in words.indices { words[i] &= other.words[i] } }
    package func isSuperset(of other: RangeSet) -> Bool {
        for i in words.indices where other.words[i] & ~words[i] != 0 { return false }
        return true
    }
}
