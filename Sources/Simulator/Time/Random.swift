// Random numbers for tests: the same seed gives the same run, on every machine, and any two seeds give streams that
// have nothing to do with each other.

/// xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2018). Its state is filled by
/// SplitMix64, as its authors advise. SplitMix64 alone would not do: its states are one counter, so that seeds at a
/// multiple of its step apart would give the same stream, shifted.
package struct Random: RandomNumberGenerator {
    private var state: (UInt64, UInt64, UInt64, UInt64)

    package init(_ seed: UInt64) {
        var counter = seed
        func mixed() -> UInt64 {
            counter &+= 0x9e37_79b9_7f4a_7c15
            var z = counter
            z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
            z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
            return z ^ (z >> 31)
        }
        state = (mixed(), mixed(), mixed(), mixed())
    }
    package mutating func next() -> UInt64 {
        func rotated(_ x: UInt64, _ by: UInt64) -> UInt64 { x << by | x >> (64 - by) }
        let result = rotated(state.1 &* 5, 7) &* 9
        let shifted = state.1 << 17
        state.2 ^= state.0
        state.3 ^= state.1
        state.1 ^= state.2
        state.0 ^= state.3
        state.2 ^= shifted
        state.3 = rotated(state.3, 45)
        return result
    }
    /// What would be next.
    package var peek: UInt64 {
        var copy = self
        return copy.next()
    }
    /// 0 ..< limit.
    package mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
    package mutating func chance(percent: Int) -> Bool { below(100) < percent }
    package mutating func pick<T>(_ items: [T]) -> T { items[below(items.count)] }
}
