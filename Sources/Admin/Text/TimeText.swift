// Times for people: wall-clock nanoseconds since 1970 as ISO 8601 in UTC, durations in words. Pure arithmetic, so
// that answers do not depend on the daemon's time zone.

package enum TimeText {
    /// `2026-03-09T08:05:01Z`.
    package static func iso8601(nanoseconds: UInt64) -> String {
        let seconds = nanoseconds / 1_000_000_000
        let (year, month, day) = civil(days: seconds / 86_400)
        let second = seconds % 86_400
        return "\(year)-\(two(month))-\(two(day))T\(two(second / 3600)):\(two(second / 60 % 60)):\(two(second % 60))Z"
    }

    /// `2026-03-09 08:05` from the above.
    package static func short(_ iso8601: String) -> String {
        String(iso8601.prefix(16).map { $0 == "T" ? " " : $0 })
    }

    /// `42 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`.
    package static func duration(seconds: UInt64) -> String {
        switch seconds {
        case 0..<60: "\(seconds) s"
        case 60..<3600: seconds % 60 == 0 ? "\(seconds / 60) min" : "\(seconds / 60) min \(seconds % 60) s"
        case 3600..<86_400: "\(seconds / 3600) h \(seconds / 60 % 60) min"
        default: "\(seconds / 86_400) d \(seconds / 3600 % 24) h"
        }
    }

    /// Seconds from `90`, `90s`, `10m`, `10min`, `2h`, `1d`; nil when it is no duration.
    package static func parseDuration(_ text: String) -> UInt64? {
        let digits = text.prefix { ("0"..."9").contains($0) }
        let factors: [String: UInt64] = ["": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400]
        let unit = text.dropFirst(digits.count).filter { $0 != " " }
        guard let number = UInt64(digits), let factor = factors[String(unit)] else { return nil }
        let (seconds, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? nil : seconds
    }

    private static func two(_ number: UInt64) -> String { number < 10 ? "0\(number)" : "\(number)" }

    /// The date `days` after 1970-01-01 (proleptic Gregorian, by eras of 400 years).
    private static func civil(days: UInt64) -> (UInt64, UInt64, UInt64) {
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
    }
}
