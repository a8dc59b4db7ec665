// Unix sockets, the blocking and bare half: make, bind, connect, one message with descriptors.
// The loop's half is SocketListener and SocketConnection. Paths that begin with "@" are abstract.
import CSheep
import Glibc
import Model

package enum SocketKind: Sendable {
    case stream
    /// SOCK_SEQPACKET: message borders are kept.
    case packet
    case datagram

    var type: Int32 {
        switch self {
        case .stream: csheep_type_stream()
        case .packet: csheep_type_packet()
        case .datagram: csheep_type_datagram()
        }
    }
}

/// Who is at the other end, as of its connect; vouched for by the kernel.
package struct PeerCredentials: Hashable, Sendable {
    package let processId: Int32
    package let userId: UInt32
    package let groupId: UInt32
}

/// Descriptors that came with a message; those that nobody takes are closed.
package final class ReceivedDescriptors {
    private var numbers: [Int32]
    init(_ numbers: [Int32]) { self.numbers = numbers }
    deinit { for number in numbers { close(number) } }
    package var count: Int { numbers.count }
    /// The first one left.
    package func takeFirst() -> FileDescriptor? {
        numbers.isEmpty ? nil : FileDescriptor(owning: numbers.removeFirst())
    }
    func append(_ other: ReceivedDescriptors) {
        numbers += other.numbers
        other.numbers = []
    }
}

package enum UnixSocket {
    /// Descriptors that one message can carry.
    package static let maximumDescriptors = 16

    package static func make(_ kind: SocketKind) throws(Errno) -> FileDescriptor {
        try FileDescriptor(checking: csheep_socket(kind.type))
    }

    /// Connects, and waits for it.
    package static func connect(_ path: String, _ kind: SocketKind) throws(Errno) -> FileDescriptor {
        let socket = try make(kind)
        let raw = socket.raw
        try withAddress(path) { address, length throws(Errno) in
            _ = try retrying { Glibc.connect(raw, address, length) }
        }
        return socket
    }

    package static func peer(of socket: Int32) throws(Errno) -> PeerCredentials {
        var processId: Int32 = 0
        var userId: UInt32 = 0
        var groupId: UInt32 = 0
        guard csheep_peer(socket, &processId, &userId, &groupId) == 0 else { throw .last }
        return PeerCredentials(processId: processId, userId: userId, groupId: groupId)
    }

    /// Sends bytes, with descriptors (which stay the caller's). Returns how many bytes were taken.
    @discardableResult
    package static func send(
        _ bytes: UnsafeRawBufferPointer, descriptors: [Int32] = [], on socket: Int32
    ) throws(Errno) -> Int {
        while true {
            let sent = csheep_send(
                socket, bytes.baseAddress, bytes.count, descriptors, Int32(descriptors.count), nil, 0)
            if sent >= 0 { return sent }
            guard errno == EINTR else { throw .last }
        }
    }

    /// Receives up to `bytes.count` bytes, 0 at the end. EMSGSIZE when the message did not fit.
    package static func receive(
        _ bytes: UnsafeMutableRawBufferPointer, on socket: Int32
    ) throws(Errno) -> (count: Int, descriptors: ReceivedDescriptors?) {
        try withUnsafeTemporaryAllocation(of: Int32.self, capacity: maximumDescriptors) { numbers throws(Errno) in
            var count: Int32 = 0
            var truncated: Int32 = 0
            while true {
                let got = csheep_receive(
                    socket, bytes.baseAddress, bytes.count, numbers.baseAddress!, &count, &truncated)
                if got < 0 {
                    guard errno == EINTR else { throw .last }
                    continue
                }
                let descriptors = count > 0 ? ReceivedDescriptors(Array(numbers.prefix(Int(count)))) : nil
                guard truncated == 0 else { throw Errno(EMSGSIZE) }
                return (got, descriptors)
            }
        }
    }

    /// Calls `body` with the address of `path`; ENAMETOOLONG above 107 bytes.
    static func withAddress<Result>(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let isAbstract = path.utf8.first == UInt8(ascii: "@")
        let name = Array(path.utf8)
        let start = MemoryLayout<sockaddr_un>.offset(of: \.sun_path)!
        let room = MemoryLayout<sockaddr_un>.size - start
        guard !name.isEmpty else { throw .invalid }
        guard name.count < room else { throw .nameTooLong }
        withUnsafeMutableBytes(of: &address) { bytes in
            for (index, byte) in name.enumerated() { bytes[start + index] = byte }
            if isAbstract { bytes[start] = 0 }
        }
        let length = socklen_t(start + name.count + (isAbstract ? 0 : 1))
        return try withUnsafePointer(to: &address) { pointer throws(Errno) in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address throws(Errno) in
                try body(address, length)
            }
        }
    }

    /// Two connected sockets.
    package static func pair(_ kind: SocketKind) throws(Errno) -> ConnectedPair { try ConnectedPair(kind) }
}

/// Two sockets connected to each other, for tests and for talking to a child.
package final class ConnectedPair {
    package let first: FileDescriptor
    package let second: FileDescriptor
    init(_ kind: SocketKind) throws(Errno) {
        var ends: (Int32, Int32) = (-1, -1)
        let result = withUnsafeMutableBytes(of: &ends) {
            csheep_socket_pair(kind.type, $0.baseAddress!.assumingMemoryBound(to: Int32.self))
        }
        guard result == 0 else { throw .last }
        first = FileDescriptor(owning: ends.0)
        second = FileDescriptor(owning: ends.1)
    }
}
