// `dog`, the administrator's command: words in, one request to the daemon, its answer shown. Decides nothing itself;
// texts and exit codes come from Admin, so that they can be tested.
import Admin
import ArgumentParser
import Glibc
import Model

struct Dog: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dog",
        abstract: "Look after Sheepfold: volumes, snapshots, stores.",
        discussion: """
            Asks the running sheep daemon over its local socket. Volumes are named by their path below the mount \
            (images/100/vol.img) or by the full path; snapshots as vol@tag.img. Sizes take K, M, G, T and P, in \
            powers of 1024.

            Exit status: 0 done, 1 failed, 2 wrong words or values, 3 no daemon answers, 4 not found, 5 busy or in \
            use, 6 exists already, 7 no space, 8 degraded (status --check, vdi check), 9 no permission.
            """,
        version: "dog \(sheepfoldVersion)",
        subcommands: [
            StatusCommand.self, VolumeCommands.self, SnapshotCommands.self, StoreCommands.self, RecoveryCommands.self,
            ScrubCommands.self, SettingsCommands.self, UnmountCommand.self, AcceptLossCommand.self,
        ])
}

@main
enum Main {
    static func main() {
        do {
            var command = try Dog.parseAsRoot()
            try command.run()
        } catch {
            finish(error)
        }
    }

    private static func finish(_ error: any Error) -> Never {
        let isJson = CommandLine.arguments.contains("--json")
        if let error = error as? SheepError {
            let status = ExitStatus(error.errno)
            write(isJson ? ErrorText.json(error, exitCode: status) : ErrorText.lines("dog", error), to: STDERR_FILENO)
            exit(status.rawValue)
        }
        let code = Dog.exitCode(for: error)
        let message = Dog.fullMessage(for: error)
        guard code == .validationFailure else {
            if !message.isEmpty { write(message + "\n", to: code == .success ? STDOUT_FILENO : STDERR_FILENO) }
            exit(code.rawValue)
        }
        let wrong = SheepError(
            .invalid, what: "the command line was not understood", why: Dog.message(for: error),
            remedy: "see dog --help, dog help COMMAND, or dog(8)")
        write(isJson ? ErrorText.json(wrong, exitCode: .usage) : message + "\n", to: STDERR_FILENO)
        exit(ExitStatus.usage.rawValue)
    }
}

/// Writes all of it.
func write(_ text: String, to descriptor: Int32) {
    let bytes = Array(text.utf8)
    var done = 0
    while done < bytes.count {
        let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + done, $0.count - done) }
        if count < 0 && errno == EINTR { continue }
        if count <= 0 { return }
        done += count
    }
}
