// The process that writes notifications into the kernel: `sheep-holder --notify`. A write may wait, not to be killed,
// for a lock of a request that only the daemon's answer releases. Were it a thread of the daemon, a daemon killed at that
// moment could not end, keep its stores locked, and never be followed by the one that would answer.
// It must have nothing of the daemon but the mount's descriptor. It ends when the daemon's end of its socket closes.
import Glibc
import Model

struct NotifierProcess {
    /// Each message written here is one notification. Blocking.
    let channel: Int32
    private let pid: pid_t

    /// nil when it cannot be started.
    static func start(_ descriptor: Int32) -> NotifierProcess? {
        guard let program = try? Holder.program() else { return nil }
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { return nil }
        defer { close(ends[1]) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[1], 0)
        posix_spawn_file_actions_adddup2(&actions, descriptor, 1)
        let words: [String] = ["sheep-holder", "--notify"]
        let vector: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for text in vector { free(text) } }
        var pid: pid_t = 0
        guard posix_spawn(&pid, program, &actions, nil, vector, environ) == 0 else {
            close(ends[0])
            return nil
        }
        return NotifierProcess(channel: ends[0], pid: pid)
    }

    /// False when it is gone, which it is once the mount is.
    func send(_ message: [UInt8]) -> Bool {
        message.withUnsafeBytes { Glibc.send(channel, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) } >= 0
    }

    /// Lets it end, and waits for that: never on the thread that answers requests.
    func end() {
        close(channel)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
    }
}
