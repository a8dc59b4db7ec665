// Progress as a bar that is drawn over itself on a terminal, or as a plain line every five seconds elsewhere (a log
// must not fill with bars). Given the time; writes nothing itself.

package struct ProgressBar {
    private let title: String
    private let isTerminal: Bool
    private let width: Int
    private var lastLine: UInt64?
    private var firstDone: UInt64?
    private var firstTime: UInt64 = 0
    private var isShown = false

    /// `width`: columns of the terminal.
    package init(title: String, isTerminal: Bool, width: Int = 80) {
        self.title = title
        self.isTerminal = isTerminal
        self.width = width
    }

    /// What to write now; empty: nothing. `milliseconds` of any monotonic clock.
    package mutating func update(_ progress: AdminProgress, milliseconds: UInt64) -> String {
        if firstDone == nil {
            firstDone = progress.done
            firstTime = milliseconds
        }
        if isTerminal {
            isShown = true
            return "\r" + bar(progress, milliseconds) + "\u{1b}[K"
        }
        if let lastLine, milliseconds - lastLine < 5000 { return "" }
        lastLine = milliseconds
        return "\(title): \(numbers(progress, milliseconds))\n"
    }

    /// What to write before anything else is written.
    package mutating func finish() -> String {
        defer { isShown = false }
        return isShown ? "\r\u{1b}[K" : ""
    }

    private func bar(_ progress: AdminProgress, _ now: UInt64) -> String {
        let numbers = numbers(progress, now)
        let room = width - title.count - numbers.count - 5
        guard room >= 10, progress.total > 0 else { return String("\(title) \(numbers)".prefix(max(1, width - 1))) }
        let cells = min(room, 40)
        let filled = Int(min(1, Double(progress.done) / Double(progress.total)) * Double(cells))
        return title + " [" + String(repeating: "#", count: filled) + String(repeating: ".", count: cells - filled)
            + "] "
            + numbers
    }

    private func numbers(_ progress: AdminProgress, _ now: UInt64) -> String {
        func amount(_ number: UInt64) -> String {
            progress.unit == "bytes" ? ByteSize.text(number) : "\(number)"
        }
        var text = ""
        if progress.total > 0 {
            let percent = min(100, Int(Double(progress.done) / Double(progress.total) * 100))
            text = "\(percent) % (\(amount(progress.done)) of \(amount(progress.total))"
            text += progress.unit == "bytes" ? ")" : " \(progress.unit))"
        } else {
            text = progress.unit == "bytes" ? amount(progress.done) : "\(progress.done) \(progress.unit)"
        }
        if let seconds = secondsLeft(progress, now) { text += ", \(TimeText.duration(seconds: seconds)) left" }
        if !progress.note.isEmpty { text += ", \(printable(progress.note))" }
        return text
    }

    /// By the mean speed since the first message; nil while that says nothing.
    private func secondsLeft(_ progress: AdminProgress, _ now: UInt64) -> UInt64? {
        guard let firstDone, progress.total > progress.done, progress.done > firstDone, now >= firstTime + 2000 else {
            return nil
        }
        let speed = Double(progress.done - firstDone) / Double(now - firstTime)
        let seconds = Double(progress.total - progress.done) / speed / 1000
        return seconds < 1e9 ? UInt64(seconds) : nil
    }
}
