// Sizes as people write and read them: powers of 1024, whatever the letter's case.

package enum ByteSize {
    /// `10G`, `512MiB`, `1.5T`, `4096`, `8 k`. nil when it is not a size or does not fit 64 bits.
    /// Parts of a byte are dropped.
    package static func parse(_ text: String) -> UInt64? {
        let letters = text.lowercased().filter { $0 != " " }
        let digits = letters.prefix { ("0"..."9").contains($0) || $0 == "." }
        guard let factor = factors[String(letters.dropFirst(digits.count))] else { return nil }
        let parts = digits.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count <= 2, let whole = parts.first.flatMap({ UInt64($0) }) else { return nil }
        let (bytes, overflow) = whole.multipliedReportingOverflow(by: factor)
        if overflow { return nil }
        guard parts.count == 2 else { return bytes }
        guard 1...6 ~= parts[1].count, let fraction = UInt64(parts[1]) else { return nil }
        let scale = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000][parts[1].count] as UInt64
        // fraction < scale, so the quotient is below the factor and fits.
        let (more, _) = scale.dividingFullWidth(fraction.multipliedFullWidth(by: factor))
        let (sum, carried) = bytes.addingReportingOverflow(more)
        return carried ? nil : sum
    }

    /// `1.50 TiB`, `512 MiB`, `17 B`: three digits that matter.
    package static func text(_ bytes: UInt64) -> String {
        var unit = 0
        while unit < units.count - 1, bytes >> (10 * UInt64(unit + 1)) > 0 { unit += 1 }
        guard unit > 0 else { return "\(bytes) B" }
        let divisor = UInt64(1) << (10 * UInt64(unit))
        let whole = bytes / divisor
        let hundredths = ((bytes % divisor) >> (10 * UInt64(unit - 1))) * 100 / 1024
        let fraction: String =
            if hundredths == 0 { "" } else if whole >= 100 { "" } else if whole >= 10 {
                hundredths / 10 == 0 ? "" : ".\(hundredths / 10)"
            } else { hundredths < 10 ? ".0\(hundredths)" : ".\(hundredths)" }
        return "\(whole)\(fraction) \(units[unit])"
    }

    private static let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    private static let factors: [String: UInt64] = {
        var all: [String: UInt64] = ["": 1, "b": 1]
        for (power, letter) in ["k", "m", "g", "t", "p", "e"].enumerated() {
            for spelling in [letter, letter + "b", letter + "ib"] { all[spelling] = 1 << (10 * UInt64(power + 1)) }
        }
        return all
    }()
}
