// What every command has: its options, the question to the daemon, and how an answer is shown.
import Admin
import ArgumentParser
import Glibc
import Model

struct Common: ParsableArguments {
    @Flag(name: .long, help: "Print JSON; errors too, on stderr.")
    var json = false
    @Flag(name: .long, help: "Print sizes in bytes instead of rounded.")
    var bytes = false
    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            The daemon's socket. Default: $SHEEP_SOCKET, else /run/sheep/sheep.sock as root, else in \
            $XDG_RUNTIME_DIR/sheep.
            """, valueName: "path"))
    var socket: String?

    func connect() throws -> AdminClient { try AdminClient(path: RuntimePaths.socket(option: socket)) }

    func ask(_ operation: AdminOperation, title: String = "") throws -> AdminResult {
        var meter = Meter(title: title, isQuiet: json)
        defer { meter.finish() }
        return try connect().ask(operation) { meter.show($0) }
    }

    func size(_ number: UInt64) -> String { bytes ? "\(number)" : ByteSize.text(number) }

    func show(_ value: some Encodable, _ text: @autoclosure () -> String) {
        write(json ? AdminCoding.pretty(value) + "\n" : text(), to: STDOUT_FILENO)
    }
}

/// Progress on stderr; silent with --json.
struct Meter {
    private var bar: ProgressBar
    private let isQuiet: Bool

    init(title: String, isQuiet: Bool) {
        self.isQuiet = isQuiet
        var size = winsize()
        let isTerminal = isatty(STDERR_FILENO) == 1
        let isKnown = isTerminal && ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
        bar = ProgressBar(title: title, isTerminal: isTerminal, width: isKnown ? Int(size.ws_col) : 80)
    }

    mutating func show(_ progress: AdminProgress) {
        if isQuiet { return }
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        let milliseconds = UInt64(now.tv_sec) * 1000 + UInt64(now.tv_nsec) / 1_000_000
        write(bar.update(progress, milliseconds: milliseconds), to: STDERR_FILENO)
    }

    mutating func finish() { write(bar.finish(), to: STDERR_FILENO) }
}

/// A size on the command line, in bytes.
struct Size: ExpressibleByArgument {
    let bytes: UInt64
    init?(argument: String) {
        guard let bytes = ByteSize.parse(argument) else { return nil }
        self.bytes = bytes
    }
}

/// A duration on the command line, in seconds.
struct Duration: ExpressibleByArgument {
    let seconds: UInt64
    init?(argument: String) {
        guard let seconds = TimeText.parseDuration(argument) else { return nil }
        self.seconds = seconds
    }
}
