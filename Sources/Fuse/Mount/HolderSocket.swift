// The control socket between a server and sheep-holder (Sources/sheep-holder/holder.h has the messages). Control
// path only: a few messages at the start, and one for each value that is stored.
import Glibc
import Model

final class HolderSocket {
    enum Kind {
        static let store: UInt32 = 1
        static let unmount: UInt32 = 2
        static let welcome: UInt32 = 16
        static let value: UInt32 = 17
        static let ready: UInt32 = 18
        static let done: UInt32 = 19
        static let refused: UInt32 = 20
    }
    struct Message {
        let kind: UInt32
        let key: String
        let total: Int
        let offset: Int
        let piece: [UInt8]
        /// -1 if none came.
        let descriptor: Int32
    }
    private static let pieceLimit = 32768
    private static let cloexec = Int32(0x4000_0000)  // MSG_CMSG_CLOEXEC
    private static let noSignal = Int32(0x4000)  // MSG_NOSIGNAL

    let descriptor: Int32
    init(path: String) throws(Errno) {
        descriptor = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Errno(errno) }
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        var code: Int32 = ENAMETOOLONG
        if bytes.count < MemoryLayout.size(ofValue: address.sun_path) {
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
            let result = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            if result == 0 { return }
            code = errno
        }
        Glibc.close(descriptor)
        throw Errno(code)
    }
    deinit { Glibc.close(descriptor) }

    /// The process that holds.
    var peer: pid_t {
        var credentials: [pid_t] = [0, 0, 0]  // struct ucred: pid, uid, gid
        var length = socklen_t(12)
        return getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 ? credentials[0] : 0
    }

    func send(_ kind: UInt32, key: String = "", value: [UInt8] = []) throws(Errno) {
        var offset = 0
        repeat {
            let piece = value[offset..<min(offset + HolderSocket.pieceLimit, value.count)]
            var writer = ByteWriter()
            writer.write(kind)
            writer.write(UInt32(key.utf8.count))
            writer.write(UInt32(value.count))
            writer.write(UInt32(offset))
            writer.writeRaw(Array(key.utf8))
            writer.writeRaw(Array(piece))
            let bytes = writer.bytes
            while Glibc.send(descriptor, bytes, bytes.count, HolderSocket.noSignal) < 0 {
                guard errno == EINTR else { throw Errno(errno) }
            }
            offset += piece.count
        } while offset < value.count
    }

    /// The next message; nil at the holder's end.
    func receive() throws(Errno) -> Message? {
        var bytes = [UInt8](repeating: 0, count: 65536)
        // A control message with one descriptor: length (64), level (32), type (32), descriptor (32), padding.
        var control = [UInt64](repeating: 0, count: 3)
        let count = bytes.withUnsafeMutableBytes { buffer in
            control.withUnsafeMutableBytes { control in
                var vector = iovec(iov_base: buffer.baseAddress, iov_len: buffer.count)
                return withUnsafeMutablePointer(to: &vector) { vector in
                    var message = msghdr()
                    message.msg_iov = vector
                    message.msg_iovlen = 1
                    message.msg_control = control.baseAddress
                    message.msg_controllen = control.count
                    var count = recvmsg(descriptor, &message, HolderSocket.cloexec)
                    while count < 0 && errno == EINTR {
                        count = recvmsg(descriptor, &message, HolderSocket.cloexec)
                    }
                    if message.msg_controllen < 20 { control.storeBytes(of: 0, as: UInt64.self) }
                    return count
                }
            }
        }
        guard count >= 0 else { throw Errno(errno) }
        let received = control.withUnsafeBytes { control -> Int32 in
            guard control.load(as: UInt64.self) == 20, control.load(fromByteOffset: 8, as: Int32.self) == SOL_SOCKET,
                control.load(fromByteOffset: 12, as: Int32.self) == 1
            else { return -1 }
            return control.load(fromByteOffset: 16, as: Int32.self)
        }
        if count == 0 { return nil }
        guard let message = Message(Array(bytes[..<count]), descriptor: received) else {
            if received >= 0 { Glibc.close(received) }
            throw Errno(EPROTO)
        }
        return message
    }
}

extension HolderSocket.Message {
    /// One packet's bytes; nil: no message. `descriptor`: what came with it.
    init?(_ bytes: [UInt8], descriptor: Int32) {
        var reader = ByteReader(bytes)
        guard let kind = try? reader.read(UInt32.self), let keySize = try? reader.read(UInt32.self),
            let total = try? reader.read(UInt32.self), let offset = try? reader.read(UInt32.self),
            let key = try? reader.readRaw(Int(keySize)), let piece = try? reader.readRaw(reader.remaining),
            Int(offset) + piece.count <= Int(total) || total == 0
        else { return nil }
        self.init(
            kind: kind, key: String(decoding: key, as: UTF8.self), total: Int(total), offset: Int(offset), piece: piece,
            descriptor: descriptor)
    }
}
