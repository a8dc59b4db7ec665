// Random numbers for tests: the same seed gives the same run, on every machine.

/// SplitMix64.
package struct Random: RandomNumberGenerator {
    private var state: UInt64
    /// Neighbouring seeds must not give the same numbers one step later, hence the factor.
    package init(_ seed: UInt64) {
        state = seed &* 0xd134_2543_de82_ef95 &+ 0x1234_5678
        state = next()
    }
    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
    /// 0 ..< limit.
    package mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
    package mutating func chance(percent: Int) -> Bool { below(100) < percent }
    package mutating func pick<T>(_ items: [T]) -> T { items[below(items.count)] }
}
