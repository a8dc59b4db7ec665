// A real mount of a `Filesystem` over the volumes in memory, served by the test's own thread while a shell script uses
// it. The test must never touch the mountpoint itself: only the script may, because only it is answered.
import Filesystem
import Fuse
import Glibc
import Logging
import Model
import Testing

final class RealMount {
    static let isPossible = getuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0

    let world: World
    let volumes: FakeVolumes
    let filesystem: Filesystem
    let directory: String
    private let session: FuseSession
    private let descriptor: Int32
    private let uses: VolumeUses

    init(_ options: [String] = []) throws {
        world = World()
        volumes = FakeVolumes(world: world)
        let parsed = try MountOptions(parsing: options)
        // Where whoever started the tests looks for mounts that were left.
        let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(parent)/files-test-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        try #require(mkdir(directory + "/mnt", 0o755) == 0)
        try #require(mkdir(directory + "/tmp", 0o755) == 0)
        descriptor = Glibc.open("/dev/fuse", O_RDWR | O_CLOEXEC)
        try #require(descriptor >= 0)
        let data =
            "fd=\(descriptor),rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576"
        try #require(mount("none", directory + "/mnt", "fuse.sheep", UInt(MS_NOSUID | MS_NODEV), data) == 0)
        uses = VolumeUses(service: volumes, clock: world)
        let pool = BufferPool(limitBytes: 16 << 20)
        filesystem = try Filesystem(
            service: volumes, uses: uses, clock: world, pool: pool, options: parsed, mountId: 7,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        ) { "\($0.name) text\n" }
        session = FuseSession(descriptor: descriptor, handler: filesystem, pool: pool)
        filesystem.notify = { [session] in session.notifier.send($0) }
        world.batchHooks.append { [filesystem] in
            filesystem.keepChanges()
            filesystem.answerHeld()
        }
        session.start()
    }
    deinit {
        session.close()
        close(descriptor)
        umount2(directory + "/mnt", 2 /* MNT_DETACH */)
        _ = Self.spawn("rm -rf --one-file-system '\(directory)'", output: "/dev/null", wait: true)
    }

    private static func spawn(_ script: String, output: String, wait: Bool) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // The test's thread blocks signals; what it starts must not.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var mask = sigset_t()
        sigemptyset(&mask)
        posix_spawnattr_setsigmask(&attributes, &mask)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        let arguments: [String] = ["timeout", "-s", "KILL", "60", "bash", "-c", script]
        let words = arguments.map { strdup($0) } + [nil] as [UnsafeMutablePointer<CChar>?]
        defer { for word in words { free(word) } }
        var pid: pid_t = 0
        precondition(posix_spawnp(&pid, "timeout", &actions, &attributes, words, environ) == 0, "no shell")
        if wait {
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
        }
        return pid
    }

    /// Begins a script that ends at the first command that fails, and at a `no COMMAND` that does not.
    static let strict = """
        set -eu -o pipefail
        no() { if "$@"; then echo "should have failed: $*" >&2; exit 1; fi; }

        """

    /// Runs a script in the mount's root, `$T` being a directory outside; its exit status and all it wrote.
    func run(_ script: String) -> (status: Int32, output: String) {
        let output = directory + "/output"
        let pid = Self.spawn(
            "export T='\(directory)/tmp'; cd '\(directory)/mnt' || exit 99\n\(script)", output: output, wait: false)
        var status: Int32 = 0
        while true {
            let ended = waitpid(pid, &status, WNOHANG)
            if ended == pid { break }
            var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            poll(&poller, 1, 5)
            session.processReadable()
            world.drain()
            world.advance(milliseconds: 5)
        }
        session.processReadable()
        world.drain()
        let code = status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f)
        return (code, Self.text(output))
    }
    private static func text(_ path: String) -> String {
        let descriptor = Glibc.open(path, O_RDONLY)
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = Glibc.read(descriptor, &bytes, bytes.count)
        return String(decoding: bytes[..<max(0, count)], as: UTF8.self)
    }
}
