// What is mounted, read from mountinfo, and the cleaning up of a mount that died. A path inside one of our mounts is
// never touched by this process: with no server behind it, that would wait for ever.
import Glibc
import Model

/// A line of mountinfo.
package struct MountEntry: Sendable, Hashable {
    package let id: Int
    package let mountpoint: String
    package let type: String
    package let source: String
    package var isOurs: Bool { type == "fuse.sheep" }
}

package enum MountTable {
    package static func parse(_ text: String) -> [MountEntry] {
        text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ").map(String.init)
            guard let dash = fields.firstIndex(of: "-"), dash >= 6, fields.count > dash + 2, let id = Int(fields[0])
            else { return nil }
            return MountEntry(
                id: id, mountpoint: unescape(fields[4]), type: fields[dash + 1], source: unescape(fields[dash + 2]))
        }
    }
    /// The mounts that this process sees, oldest first.
    package static func current() -> [MountEntry] { parse(readSmallFile("/proc/self/mountinfo") ?? "") }
    /// The topmost mount at exactly this absolute path.
    package static func mount(at path: String) -> MountEntry? { current().last { $0.mountpoint == path } }

    // Spaces, tabs, newlines and backslashes come as three octal digits.
    private static func unescape(_ field: String) -> String {
        guard field.utf8.contains(UInt8(ascii: "\\")) else { return field }
        var bytes: [UInt8] = []
        let source = Array(field.utf8)
        var index = 0
        while index < source.count {
            let digits = source[(index + 1)...].prefix(3)
            if source[index] == UInt8(ascii: "\\"), digits.count == 3,
                let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                bytes.append(value)
                index += 4
            } else {
                bytes.append(source[index])
                index += 1
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Detaches a mount of ours at `path`, whether or not anybody serves it. Open files keep it alive until they close.
    package static func detach(_ path: String) throws(SheepError) {
        if geteuid() == 0 {
            // MNT_DETACH | UMOUNT_NOFOLLOW: the path itself is not looked into.
            guard umount2(path, 2 | 8) != 0 else { return }
            let code = errno
            throw SheepError(
                Errno(code), what: "\(path) cannot be unmounted", why: String(cString: strerror(code)),
                remedy: "check /proc/self/mountinfo")
        }
        let (status, output) = try runProgram("fusermount3", ["fusermount3", "-u", "-z", "--", path])
        guard status != 0 else { return }
        throw SheepError(
            .inputOutput, what: "\(path) cannot be unmounted", why: output, remedy: "try fusermount3 -u -z \(path)")
    }

    package enum State: Sendable, Equatable {
        /// Nothing of ours is mounted there.
        case absent
        /// It answers.
        case served
        /// Its descriptor is kept, but nobody answers.
        case waiting
        /// "Transport endpoint is not connected": nobody has its descriptor any more.
        case dead
    }
    /// What state the mount at `path` is in: a child asks, and is given a second.
    package static func state(_ path: String) throws(SheepError) -> State {
        guard mount(at: path)?.isOurs == true else { return .absent }
        let (status, output) = try runProgram(Holder.program(), ["sheep-holder", "--probe", path])
        switch status {
        case 0: return .served
        case 4: return .dead
        case 128 + SIGALRM: return .waiting
        default:
            throw SheepError(
                .inputOutput, what: "the mount at \(path) cannot be examined", why: output, remedy: "unmount it")
        }
    }
    /// Removes a dead mount of ours from `path`. True if there was one.
    @discardableResult
    package static func cleanDead(_ path: String) throws(SheepError) -> Bool {
        guard try state(path) == .dead else { return false }
        try detach(path)
        return true
    }
}

/// Runs a program to its end; its status (128 + signal if it was killed) and what it wrote to stderr.
func runProgram(_ program: String, _ arguments: [String]) throws(SheepError) -> (status: Int32, output: String) {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { throw cannotRun(program, errno) }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawn_file_actions_adddup2(&actions, ends[1], 2)
    defer { posix_spawn_file_actions_destroy(&actions) }
    let vector = arguments.map { strdup($0) } + [nil]
    defer { for text in vector { free(text) } }
    var pid: pid_t = 0
    // What the calling thread blocks is no business of the program.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    let code = posix_spawnp(&pid, program, &actions, &attributes, vector, environ)
    close(ends[1])
    defer { close(ends[0]) }
    guard code == 0 else { throw cannotRun(program, code) }
    var output: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = read(ends[0], &chunk, chunk.count)
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { break }
        if output.count < 65536 { output += chunk[..<count] }
    }
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
    let signal = status & 0x7f
    return (signal == 0 ? status >> 8 & 0xff : 128 + signal, String(decoding: output, as: UTF8.self))
}
private func cannotRun(_ program: String, _ code: Int32) -> SheepError {
    SheepError(
        Errno(code), what: "\(program) cannot be started", why: String(cString: strerror(code)),
        remedy: "check that it is installed")
}
