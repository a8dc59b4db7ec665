// Logging to stderr, a line a message. Under systemd (where stderr is the journal) lines begin with a priority
// (`<4>`) and carry no time; elsewhere with time and level. Never blocks longer than a write to stderr does.
import Glibc
import Logging

package struct StandardErrorLog: LogHandler {
    package var metadata: Logger.Metadata = [:]
    package var logLevel: Logger.Level
    private let label: String
    private let isJournal: Bool

    package init(label: String, level: Logger.Level, isJournal: Bool = getenv("JOURNAL_STREAM") != nil) {
        self.label = label
        logLevel = level
        self.isJournal = isJournal
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let time = UInt64(max(0, now.tv_sec)) * 1_000_000_000 + UInt64(max(0, now.tv_nsec))
        var metadata = event.metadata ?? [:]
        if let error = event.error { metadata["error"] = "\(error)" }
        let text = format(event.level, event.message.description, metadata, wallClock: time)
        // One write, so that lines of several threads do not mix. A log that cannot be written is no reason to stop.
        _ = Array(text.utf8).withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    /// The line, or lines, with what ends them.
    package func format(
        _ level: Logger.Level, _ message: String, _ extra: Logger.Metadata, wallClock: UInt64
    ) -> String {
        let all = metadata.merging(extra) { _, new in new }.sorted { $0.key < $1.key }
        let tail = all.map { " \($0.key)=\($0.value)" }.joined()
        let head =
            isJournal
            ? "<\(StandardErrorLog.priority(level))>"
            : "\(TimeText.iso8601(nanoseconds: wallClock)) \(level.rawValue) "
        // Each line of its own priority: the journal takes every line for a message.
        return (message + tail).split(separator: "\n").map { "\(head)\(label): \($0)\n" }.joined()
    }

    /// syslog's numbers (sd-daemon(3)).
    package static func priority(_ level: Logger.Level) -> Int {
        switch level {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}
