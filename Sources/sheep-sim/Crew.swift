// Child processes that run seeds side by side. A child that dies has found something too: its seed counts as failed, and
// another child goes on behind it. The cores of a host hold each other for as long as their process lives, and a child has
// thousands of hosts: it ends after some seeds, which gives their memory back.
import Glibc
import Simulator

struct Crew {
    private struct Child {
        var pid: pid_t
        var descriptor: Int32
        var buffer: [UInt8] = []
        /// The seed that it is at.
        var seed: UInt64
    }
    private static let seedsOfAChild = 32
    let first: UInt64
    let last: UInt64
    let jobs: Int
    /// After so long no further seed is begun; nil: only the seeds count.
    let seconds: Double?

    let kind: HostKind?
    /// A rule that is broken in the children.
    var saboteur: String?
    /// One failure is enough.
    var stopsAtFirst = false

    init(first: UInt64, last: UInt64, jobs: Int, seconds: Double?, kind: HostKind?) {
        self.kind = kind
        self.first = first
        self.last = last
        self.jobs = min(jobs, Int(min(UInt64(jobs), last - first + 1)))
        self.seconds = seconds
    }

    private static func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    mutating func run(_ report: (String) -> Void) -> Totals {
        var totals = Totals()
        let start = Crew.now()
        var children = (0..<jobs).compactMap { spawn(at: first + UInt64($0)) }
        while !children.isEmpty {
            var polls = children.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
            poll(&polls, nfds_t(polls.count), 1000)
            let isOver =
                seconds.map { Crew.now() - start > $0 } ?? false || stopsAtFirst && !totals.failures.isEmpty
            for i in children.indices.reversed() {
                if isOver {
                    kill(children[i].pid, SIGKILL)
                } else if polls[i].revents == 0 {
                    continue
                }
                let isAlive = !isOver && read(&children[i], &totals, report)
                if isAlive { continue }
                let child = children.remove(at: i)
                let status = reap(child)
                if isOver { continue }
                if status != 0 {
                    totals.seeds += 1
                    totals.failures.append(.init(seed: child.seed, checker: "crash", text: "status \(status)"))
                    report("seed \(child.seed) crash: status \(status)")
                }
                let next = child.seed + UInt64(jobs)
                if next <= last, let another = spawn(at: next) { children.append(another) }
            }
        }
        totals.realSeconds = Crew.now() - start
        return totals
    }

    private func spawn(at seed: UInt64) -> Child? {
        guard seed <= last else { return nil }
        var pipes: [Int32] = [0, 0]
        guard pipe(&pipes) == 0 else { return nil }
        for descriptor in pipes { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, pipes[1], 1)
        let words =
            [
                "sheep-sim", "worker", "--first", "\(seed)", "--last", "\(last)", "--step", "\(jobs)",
                "--most", "\(Crew.seedsOfAChild)",
            ]
            + (kind.map { ["--kind", $0.rawValue] } ?? []) + (saboteur.map { ["--saboteur", $0] } ?? [])
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid: pid_t = 0
        let result = posix_spawn(&pid, "/proc/self/exe", &actions, nil, &arguments, environ)
        close(pipes[1])
        guard result == 0 else {
            close(pipes[0])
            return nil
        }
        return Child(pid: pid, descriptor: pipes[0], seed: seed)
    }
    /// False: it has ended.
    private func read(_ child: inout Child, _ totals: inout Totals, _ report: (String) -> Void) -> Bool {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = Glibc.read(child.descriptor, &bytes, bytes.count)
        guard count > 0 else { return false }
        child.buffer += bytes[..<count]
        while let end = child.buffer.firstIndex(of: 10) {
            let line = String(decoding: child.buffer[..<end], as: UTF8.self)
            child.buffer.removeFirst(end + 1)
            if line.hasPrefix("begin ") {
                child.seed = UInt64(line.dropFirst(6)) ?? child.seed
            } else {
                let failed = totals.failures.count
                totals.add(line: line)
                if totals.failures.count > failed { report(line) }
            }
        }
        return true
    }
    private func reap(_ child: Child) -> Int32 {
        close(child.descriptor)
        var status: Int32 = 0
        while waitpid(child.pid, &status, 0) < 0, errno == EINTR {}
        return status
    }
}
