// One request, whatever bytes it is: it is decoded or refused, handed over at most once, and answered exactly once
// where the kernel waits for an answer. What was decoded holds what the rest of the system relies on.
import Glibc
import Model

@testable import Fuse

/// Answers with as much as was asked for.
private final class Server: FuseHandler {
    var requests: [FuseRequest] = []
    func handle(_ request: FuseRequest, reply: FuseReply) {
        requests.append(request)
        guard request.header.opcode?.expectsAnswer ?? true else { return reply.none() }
        switch request.body {
        case .read(let read):
            let buffer = Buffer(capacity: max(1, (read.size + blockSize - 1) / blockSize) * blockSize)
            buffer.fillZero(0..<buffer.capacity)
            reply.data(buffer, offset: 0, count: min(read.size, 65536))
        case .readdir(let read), .readdirplus(let read):
            var listing = FuseListing(limit: read.size, pool: BufferPool(limitBytes: 0))
            while listing.byteCount < 4096, listing.add(name: "name", inode: 1, type: FuseListing.file, nextOffset: 1) {
            }
            reply.listing(listing)
        default: reply.error(.notImplemented)
        }
    }
}

extension FuzzTarget {
    /// Input: flags (1: the header's length is put right), then the request.
    static let request = FuzzTarget(
        name: "request", summary: "one FUSE request", maximumBytes: 8192,
        seeds: {
            FuseBytes.bodies.map { [1] + FuseBytes.request($0.opcode.rawValue, unique: 42, node: 1, $0.body) }
        }
    ) { input in
        var input = input
        let flags = input.byte()
        var bytes = input.rest()
        if flags & 1 != 0 { bytes.put(UInt32(bytes.count), at: 0) }
        let server = Server()
        let socket = SocketSession.serving(server)
        socket.receive(bytes)
        guard let answers = socket.answers() else { return "an answer of another length than it says" }
        guard server.requests.count <= 1, answers.count <= 1 else { return "answered more than once" }
        guard bytes.count >= FuseHeader.byteCount else {
            return answers.isEmpty && server.requests.isEmpty ? nil : "an answer to nobody"
        }
        let waits = FuseOpcode(rawValue: bytes.get(4, UInt32.self))?.expectsAnswer ?? true
        guard answers.count == (waits ? 1 : 0) else { return "\(answers.count) answers" }
        if let answer = answers.first, answer.unique != bytes.get(8, UInt64.self) { return "an answer to another" }
        return server.requests.first.flatMap { check($0, bytes) }
    }

    private static func check(_ request: FuseRequest, _ bytes: [UInt8]) -> String? {
        guard request.header.length == bytes.count else { return "a length beyond the request" }
        guard request.unique >> 63 == 0 else { return "the mark of a repeated request is in its number" }
        func isName(_ name: String) -> Bool { !name.isEmpty && !name.utf8.contains { $0 == 0 || $0 == 0x2f } }
        func has(_ text: String) -> Bool {
            // What was read is in the request, byte for byte, and ends there.
            let wanted = Array(text.utf8) + [0]
            return (0...max(0, bytes.count - wanted.count)).contains {
                $0 + wanted.count <= bytes.count && bytes[$0] == wanted[0]
                    && bytes[$0..<$0 + wanted.count].elementsEqual(wanted)
            }
        }
        var names: [String] = []
        switch request.body {
        case .lookup(let name), .unlink(let name), .rmdir(let name): names = [name]
        case .mknod(let make): names = [make.name]
        case .mkdir(let make): names = [make.name]
        case .symlink(let link): names = [link.name]
        case .rename(let rename): names = [rename.name, rename.newName]
        case .link(let link): names = [link.name]
        case .create(let create), .tmpfile(let create): names = [create.name]
        case .getxattr(let name, _), .removexattr(let name): return has(name) ? nil : "a name from nowhere"
        case .forget(let forgets):
            return forgets.count * 8 <= bytes.count ? nil : "more forgotten than the request has room for"
        case .read(let read): return read.size <= FuseWrite.maximumSize ? nil : "a read that is too large"
        case .readdir(let read), .readdirplus(let read):
            return read.size <= FuseWrite.maximumSize ? nil : "a listing that is too large"
        case .ioctl(let control): return control.input.count <= bytes.count ? nil : "input beyond the request"
        case .write(let write):
            guard write.data.count + 80 + request.header.extensionLength == bytes.count else {
                return "another payload"
            }
            let payload = UnsafeRawBufferPointer(start: write.data.bytes, count: write.data.count)
            return payload.elementsEqual(bytes[80..<80 + write.data.count]) ? nil : "another payload"
        default: return nil
        }
        for name in names where !isName(name) || !has(name) { return "a name that cannot be: \(name)" }
        return nil
    }
}
