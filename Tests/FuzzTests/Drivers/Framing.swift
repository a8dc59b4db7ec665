// Bytes on a connected socket, in pieces of any size: the messages in them come out whole, in order and once, and a
// message over the limit ends the connection, whatever else follows.
import Glibc
import Model

@testable import Runtime

extension FuzzTarget {
    /// Input: kind (even: lines, odd: lengths before messages), the limit less one, the pieces' size less one, bytes.
    static let framing = FuzzTarget(
        name: "framing", summary: "messages on a socket, in pieces", maximumBytes: 2048,
        seeds: {
            let lines = Array("one\ntwo\n\n\nthree and more\nunfinished".utf8)
            let prefixed = [3, 0, 5].flatMap { littleEndian(UInt32($0)) + [UInt8](repeating: 7, count: $0) }
            return [
                [0, 63, 255] + lines, [0, 63, 2] + lines, [0, 3, 4] + lines, [1, 63, 255] + prefixed,
                [1, 63, 2] + prefixed, [1, 3, 0] + prefixed, [1, 9, 9] + littleEndian(UInt32.max),
            ]
        }
    ) { checkFraming($0) }

    private static func checkFraming(_ input: FuzzInput) -> String? {
        var input = input
        let isLines = input.byte() % 2 == 0
        let limit = Int(input.byte()) + 1
        let piece = Int(input.byte()) + 1
        let bytes = input.rest()
        var ends: [Int32] = [0, 0]
        guard let loop = socketLoop, socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else { return nil }
        var isSending = true
        defer { if isSending { close(ends[1]) } }
        guard
            let connection = try? SocketConnection(
                loop: loop, socket: FileDescriptor(owning: ends[0]), framing: isLines ? .lines : .lengthPrefixed,
                messageLimit: limit, outputLimit: 1 << 20)
        else { return nil }
        var messages: [[UInt8]] = []
        var end: Errno??
        connection.onMessage = { _, message, _ in messages.append(message) }
        connection.onClose = { _, error in end = .some(error) }
        var rest = bytes[...]
        while !rest.isEmpty, connection.isOpen {
            let next = Array(rest.prefix(piece))
            rest = rest.dropFirst(piece)
            _ = send(ends[1], next, next.count, Int32(MSG_NOSIGNAL))
            loop.runOnce()
        }
        // Whoever was started meanwhile may have a copy of the descriptor for a moment: closing it would not end anything.
        shutdown(ends[1], Int32(SHUT_RDWR))
        close(ends[1])
        isSending = false
        var turns = 0
        while end == nil, turns < 100 {
            loop.runOnce()
            turns += 1
        }
        guard let end else { return "the connection does not end" }
        let wanted = isLines ? lines(bytes, limit) : prefixed(bytes, limit)
        guard messages == wanted.messages else {
            return "\(messages.count) messages instead of \(wanted.messages.count)"
        }
        let wasRefused = end?.code == EMSGSIZE
        return wasRefused == wanted.isTooLong ? nil : "it ended with \(end?.code ?? 0)"
    }
    nonisolated(unsafe) private static let socketLoop = try? EventLoop()

    private static func lines(_ bytes: [UInt8], _ limit: Int) -> (messages: [[UInt8]], isTooLong: Bool) {
        var parts = bytes.split(separator: 0x0a, omittingEmptySubsequences: false).map(Array.init)
        let unfinished = parts.removeLast()
        let good = Array(parts.prefix { $0.count <= limit })
        return (good, good.count < parts.count || unfinished.count > limit)
    }
    private static func prefixed(_ bytes: [UInt8], _ limit: Int) -> (messages: [[UInt8]], isTooLong: Bool) {
        var rest = bytes
        var all: [[UInt8]] = []
        while rest.count >= 4 {
            let length = Int(rest.get(0, UInt32.self))
            if length > limit { return (all, true) }
            guard rest.count - 4 >= length else { break }
            all.append(Array(rest[4..<4 + length]))
            rest.removeFirst(4 + length)
        }
        return (all, false)
    }
}
