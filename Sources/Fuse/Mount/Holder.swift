// The server's end of sheep-holder: starting it (which mounts), attaching to it, storing with it, unmounting.
// One server is attached at a time; the attachment ends with the process, however it ends.
import Glibc
import Model

package final class Holder: MountKeeper {
    package let mountpoint: String
    package let mountId: UInt64
    package let descriptor: Int32
    package private(set) var stored: [String: [UInt8]]
    /// The holder's process.
    package let pid: Int32
    private var socket: HolderSocket?

    private init(
        mountpoint: String, mountId: UInt64, descriptor: Int32, stored: [String: [UInt8]], socket: HolderSocket
    ) {
        self.mountpoint = mountpoint
        self.mountId = mountId
        self.descriptor = descriptor
        self.stored = stored
        self.socket = socket
        pid = socket.peer
    }
    deinit { close() }

    // MARK: Starting

    /// The path of the program: $SHEEP_HOLDER, or beside this executable, or in /usr/libexec/sheepfold.
    package static func program() throws(SheepError) -> String {
        var candidates: [String] = []
        if let path = getenv("SHEEP_HOLDER") { candidates.append(String(cString: path)) }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = buffer.withUnsafeMutableBytes { readlink("/proc/self/exe", $0.baseAddress!, $0.count) }
        if count > 0 {
            let own = String(decoding: buffer[..<count], as: UTF8.self)
            if let slash = own.lastIndex(of: "/") { candidates.append(own[..<slash] + "/sheep-holder") }
        }
        candidates.append("/usr/libexec/sheepfold/sheep-holder")
        if let found = candidates.first(where: { access($0, X_OK) == 0 }) { return found }
        throw SheepError(
            .noEntry, what: "sheep-holder is not found",
            why: "it is at none of: \(candidates.joined(separator: ", "))",
            remedy: "install it, or set SHEEP_HOLDER to its path")
    }

    /// Starts a holder, which mounts at `mountpoint`; returns when the mount is done. A dead mount of ours at that path
    /// is removed first. To be called before this process has grown large: it starts another.
    package static func spawn(
        mountpoint: String, options: MountOptions, socket: String
    ) throws(SheepError) {
        try MountTable.cleanDead(mountpoint)
        let (status, output) = try runProgram(
            program(),
            [
                "sheep-holder", "--socket", socket, "--fsname", options.sourceName, "-o", options.libraryOptions(),
                mountpoint,
            ])
        guard status != 0 else { return }
        let lines = output.split(separator: "\n").map(String.init)
        func after(_ prefix: String) -> String? {
            lines.last { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) }
        }
        let others = lines.filter { !$0.hasPrefix("sheep-holder: ") && !$0.hasPrefix("  ") }
        let why = after("  why: ") ?? "sheep-holder ended with status \(status)"
        throw SheepError(
            status == 3 ? .busy : .inputOutput,
            what: "\(mountpoint) was not mounted: " + (after("sheep-holder: ") ?? "no reason was given"),
            why: others.isEmpty ? why : why + " [" + others.joined(separator: "; ") + "]",
            remedy: after("  do:  ") ?? "start sheep-holder by hand and see")
    }

    // MARK: Attaching

    /// Attaches to the holder that listens at `socket`. While another server is attached it tries again for
    /// `waitMilliseconds`: one that was just killed may take a moment to be gone. Errors: EBUSY (another server), ENOENT
    /// (no such socket), ESTALE (nobody listens there any more), EPERM (not your mount).
    package static func connect(_ path: String, waitMilliseconds: Int = 2000) throws(SheepError) -> Holder {
        var left = waitMilliseconds
        while true {
            do { return try attach(path) } catch {
                guard error.errno == .busy, left > 0 else { throw error }
                usleep(20_000)
                left -= 20
            }
        }
    }

    private static func attach(_ path: String) throws(SheepError) -> Holder {
        let socket: HolderSocket
        do { socket = try HolderSocket(path: path) } catch {
            switch error.code {
            case ECONNREFUSED:
                throw SheepError(
                    .stale, what: "the mount's holder is gone", why: "nobody listens on the socket \(path) any more",
                    remedy: "unmount what is left (fusermount3 -u) and mount again")
            case ENOENT:
                throw SheepError(
                    .noEntry, what: "there is no mount to attach to", why: "the socket \(path) does not exist",
                    remedy: "mount first")
            default:
                throw failure(error, path)
            }
        }
        var descriptor: Int32 = -1
        var refusal: SheepError?
        do throws(Errno) {
            var greeting: (id: UInt64, mountpoint: String)?
            var stored: [String: [UInt8]] = [:]
            while let message = try socket.receive() {
                switch message.kind {
                case HolderSocket.Kind.refused:
                    let reason = String(decoding: message.piece, as: UTF8.self)
                    refusal = SheepError(
                        reason.hasPrefix("process") ? .busy : .notPermitted,
                        what: "the holder at \(path) does not hand its mount over", why: reason,
                        remedy: "end the other server, or act as the mount's owner")
                    throw refusal!.errno
                case HolderSocket.Kind.welcome where greeting == nil:
                    descriptor = message.descriptor
                    var reader = ByteReader(message.piece)
                    guard let version = try? reader.read(UInt32.self), version == 1, descriptor >= 0,
                        (try? reader.read(UInt32.self)) != nil, let id = try? reader.read(UInt64.self),
                        let text = try? reader.readRaw(reader.remaining)
                    else { throw Errno(EPROTO) }
                    greeting = (id, String(decoding: text, as: UTF8.self))
                case HolderSocket.Kind.value:
                    guard message.offset == 0 || message.offset == stored[message.key]?.count,
                        message.total <= KeptState.byteLimit, stored.count <= KeptState.countLimit
                    else { throw Errno(EPROTO) }
                    if message.offset == 0 { stored[message.key] = [] }
                    stored[message.key, default: []] += message.piece
                case HolderSocket.Kind.ready:
                    guard let greeting else { throw Errno(EPROTO) }
                    return Holder(
                        mountpoint: greeting.mountpoint, mountId: greeting.id, descriptor: descriptor, stored: stored,
                        socket: socket)
                default: throw Errno(EPROTO)
                }
            }
            throw Errno(ECONNRESET)
        } catch {
            if descriptor >= 0 { Glibc.close(descriptor) }
            throw refusal ?? failure(error, path)
        }
    }
    private static func failure(_ error: Errno, _ path: String) -> SheepError {
        SheepError(
            error, what: "the mount's holder cannot be reached",
            why: "socket \(path): \(String(cString: strerror(error.code)))",
            remedy: "check that sheep-holder runs and is of this version")
    }

    // MARK: Keeping

    package func store(_ key: String, _ bytes: [UInt8]) throws(SheepError) {
        try KeptState.check(stored, adding: key, bytes)
        do throws(Errno) {
            guard let socket else { throw Errno(ENOTCONN) }
            try socket.send(HolderSocket.Kind.store, key: key, value: bytes)
        } catch { throw Holder.failure(error, "of \(mountpoint)") }
        stored[key] = bytes.isEmpty ? nil : bytes
    }

    package func unmount() throws(SheepError) {
        do throws(Errno) {
            guard let socket else { throw Errno(ENOTCONN) }
            try socket.send(HolderSocket.Kind.unmount)
            while let message = try socket.receive(), message.kind != HolderSocket.Kind.done {}
        } catch { throw Holder.failure(error, "of \(mountpoint)") }
    }

    package func close() {
        guard socket != nil else { return }
        Glibc.close(descriptor)
        socket = nil
    }
}
