// Logarithm and exponential from additions, multiplications and divisions alone, which IEEE 754 defines to the last
// bit: every build on every machine must compute the same ring. Must never call the C library's math, whose results
// differ between versions.

/// The natural logarithm of a positive, normal `x`; relative error below 1e-15.
/// The exponent is split off, the rest is 2 atanh(s) with s = (m - 1) / (m + 1).
func naturalLogarithm(_ x: Double) -> Double {
    precondition(x > 0 && x.isNormal, "logarithm of a value that has none")
    let bits = x.bitPattern
    var exponent = Int(bits >> 52) - 1023
    var mantissa = Double(bitPattern: bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000)
    if mantissa > 1.4142135623730951 {
        mantissa *= 0.5
        exponent += 1
    }
    let s = (mantissa - 1) / (mantissa + 1)
    let q = s * s
    var sum = 1.0 / 21
    sum = sum * q + 1.0 / 19
    sum = sum * q + 1.0 / 17
    sum = sum * q + 1.0 / 15
    sum = sum * q + 1.0 / 13
    sum = sum * q + 1.0 / 11
    sum = sum * q + 1.0 / 9
    sum = sum * q + 1.0 / 7
    sum = sum * q + 1.0 / 5
    sum = sum * q + 1.0 / 3
    sum = sum * q + 1
    return Double(exponent) * 0.6931471805599453 + 2 * s * sum
}

/// e to the power -`x`, for `x` at or above 0; relative error below 1e-14. 0 from 700 on.
func negativeExponential(_ x: Double) -> Double {
    precondition(x >= 0, "exponent of the wrong sign")
    if x > 700 { return 0 }
    let halvings = (x * 1.4426950408889634).rounded(.toNearestOrEven)
    let r = halvings * 0.6931471805599453 - x
    var sum = 1.0 / 6_227_020_800
    sum = sum * r + 1.0 / 479_001_600
    sum = sum * r + 1.0 / 39_916_800
    sum = sum * r + 1.0 / 3_628_800
    sum = sum * r + 1.0 / 362_880
    sum = sum * r + 1.0 / 40_320
    sum = sum * r + 1.0 / 5_040
    sum = sum * r + 1.0 / 720
    sum = sum * r + 1.0 / 120
    sum = sum * r + 1.0 / 24
    sum = sum * r + 1.0 / 6
    sum = sum * r + 0.5
    sum = sum * r + 1
    sum = sum * r + 1
    return sum * Double(bitPattern: UInt64(1023 - Int(halvings)) << 52)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection that spreads every bit.
@inline(__always)
func mixed(_ value: UInt64) -> UInt64 {
    var x = value
    x = (x ^ (x >> 30)) &* 0xbf58_476d_1ce4_e5b9
    x = (x ^ (x >> 27)) &* 0x94d0_49bb_1331_11eb
    return x ^ (x >> 31)
}
