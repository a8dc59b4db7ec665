// Where the process begins: finds out who called (a person, or mount(8)), and ends with the documented exit codes.
import Admin
import ArgumentParser
import Glibc
import Model

@main
enum Main {
    static func main() {
        do {
            let arguments = Array(CommandLine.arguments.dropFirst())
            if let call = try MountCall.recognize(
                programName: CommandLine.arguments.first ?? "sheep", arguments: arguments, commands: Sheep.commands)
            {
                if !call.isDry { try attach(RuntimePaths.absolute(call.mountpoint), call.options, socket: nil) }
                return
            }
            var command = try Sheep.parseAsRoot(arguments)
            try command.run()
        } catch {
            finish(error)
        }
    }

    private static func finish(_ error: any Error) -> Never {
        if let error = error as? SheepError {
            write(ErrorText.lines("sheep", error), to: STDERR_FILENO)
            exit(ExitStatus(error.errno).rawValue)
        }
        let code = Sheep.exitCode(for: error)
        let message = Sheep.fullMessage(for: error)
        if !message.isEmpty { write(message + "\n", to: code == .success ? STDOUT_FILENO : STDERR_FILENO) }
        exit(code == .validationFailure ? ExitStatus.usage.rawValue : code.rawValue)
    }

    private static func write(_ text: String, to descriptor: Int32) {
        let bytes = Array(text.utf8)
        _ = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
    }
}
