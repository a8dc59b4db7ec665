// A directory with a mountpoint, a holder and test servers, for one test. Whatever becomes of the test, even of its
// process, a watchdog ends the servers, unmounts, and removes the directory.
import Glibc
import Model

@testable import Fuse

final class MountFixture {
    let directory: String
    let mountpoint: String
    let socket: String
    let data: String
    /// What commands are run under: nothing, or as an ordinary user.
    let prefix: String
    private(set) var server: pid_t = 0
    private let watchdog: pid_t
    private let lifeline: Int32

    private static var binaries: String {
        let holder = (try? Holder.program()) ?? ""
        return String(holder[..<(holder.lastIndex(of: "/") ?? holder.startIndex)])
    }

    init(user: UInt32? = nil, megabytes: Int = 32) {
        var template = Array("/tmp/fuse-test-XXXXXX".utf8CString)
        precondition(mkdtemp(&template) != nil)
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        directory = path
        mountpoint = path + "/mount"
        socket = path + "/socket"
        data = path + "/data"
        prefix = user.map { "setpriv --reuid \($0) --regid \($0) --clear-groups -- " } ?? ""
        var ends: [Int32] = [0, 0]
        precondition(pipe(&ends) == 0)
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        lifeline = ends[1]
        let script = """
            cat >/dev/null
            for pid in $(cat '\(path)/pids' 2>/dev/null); do kill -9 $pid 2>/dev/null; done
            umount -l '\(path)/mount' 2>/dev/null
            for i in 1 2 3 4 5 6 7 8 9 10; do [ -e '\(path)/socket' ] && sleep 0.1; done
            rm -rf --one-file-system '\(path)'
            """
        watchdog = MountFixture.launch("/bin/sh", ["sh", "-c", script], input: ends[0])
        close(ends[0])
        precondition(mkdir(mountpoint, 0o755) == 0)
        if let user {
            _ = chown(directory, user, user)
            _ = chown(mountpoint, user, user)
        }
        _ = run("\(prefix)truncate -s \(megabytes)M \(data)")
    }
    deinit {
        close(lifeline)
        var status: Int32 = 0
        waitpid(watchdog, &status, 0)
        if server > 0 { waitpid(server, &status, 0) }
    }

    private static func launch(_ program: String, _ arguments: [String], input: Int32 = -1) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        if input >= 0 { posix_spawn_file_actions_adddup2(&actions, input, 0) }
        defer { posix_spawn_file_actions_destroy(&actions) }
        let vector = arguments.map { strdup($0) } + [nil]
        defer { for text in vector { free(text) } }
        var pid: pid_t = 0
        precondition(posix_spawnp(&pid, program, &actions, nil, vector, environ) == 0, "cannot run \(program)")
        return pid
    }

    /// Runs a shell command, killed after `seconds`; its status and what it wrote (stdout and stderr).
    func run(_ command: String, seconds: Int = 60) -> (status: Int32, output: String) {
        let result = try? runProgram(
            "timeout", ["timeout", "-s", "KILL", String(seconds), "sh", "-c", "{ \(command)\n} 1>&2"])
        return result ?? (-1, "")
    }
    /// A process that the watchdog knows.
    func start(_ command: String) -> pid_t {
        let pid = MountFixture.launch("/bin/sh", ["sh", "-c", "exec \(prefix)\(command)"])
        _ = run("echo \(pid) >> \(directory)/pids")
        return pid
    }
    func wait(_ pid: pid_t) -> Int32 {
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
        return status
    }

    func holderCommand(_ arguments: String) -> String { "\(prefix)\(MountFixture.binaries)/sheep-holder \(arguments)" }
    func startServer() {
        server = start("\(MountFixture.binaries)/fuse-testserver \(socket) \(data)")
    }
    /// The hard way, as a crash would.
    func killServer() {
        kill(server, SIGKILL)
        _ = wait(server)
        server = 0
    }
    /// The server's own end; its status.
    func serverStatus() -> Int32 {
        defer { server = 0 }
        return wait(server)
    }
    /// Polls for what other processes bring about; false after ten seconds.
    func eventually(_ condition: () -> Bool) -> Bool {
        for _ in 0..<1000 {
            if condition() { return true }
            usleep(10_000)
        }
        return condition()
    }
    var isMounted: Bool { MountTable.mount(at: mountpoint) != nil }
    var hasSocket: Bool { access(socket, F_OK) == 0 }
}
