// Which numbers a store can have come to by counting. What is read from a disk and says more is damaged, whatever its
// checksum: counting on from it would overflow. Half of each range is left, which no store uses up.

enum Sane {
    /// Of sequence numbers, segments and incarnations.
    static func isNumber(_ value: UInt64) -> Bool { value < 1 << 62 }
    /// 24 bits of term, 40 of sequence.
    static func isVersion(_ value: UInt64) -> Bool { value & (1 << 40 - 1) < 1 << 39 }
    /// Of trust generations.
    static let highestTrust: UInt32 = 1 << 31
}
