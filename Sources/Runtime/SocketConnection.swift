// A connected Unix socket on a loop: messages in, messages out, with descriptors, both sides bounded.
// Handlers are never called from inside `send` or `close`. A connection lives until it is closed.
import CSheep
import Glibc
import Model

/// How messages are told apart.
package enum MessageFraming: Sendable {
    /// Text lines; the newline is not part of the message, and is added by `send`.
    case lines
    /// 32-bit little-endian length before each message.
    case lengthPrefixed
    /// By the socket itself (SEQPACKET).
    case packets
}

package final class SocketConnection {
    /// One whole message, with the descriptors that came since the last one.
    package var onMessage: ((SocketConnection, [UInt8], ReceivedDescriptors?) -> Void)?
    /// Once, when the connection is closed, by whichever side: nil for an orderly end. EMSGSIZE: a message was
    /// longer than the limit. ENOBUFS: the other side does not read.
    package var onClose: ((SocketConnection, Errno?) -> Void)?
    package private(set) var isOpen = true
    package let peer: PeerCredentials

    private struct Outgoing {
        let bytes: [UInt8]
        var sent = 0
        var descriptors: OwnedDescriptors?
    }
    private let loop: EventLoop
    private let socket: Int32
    private let framing: MessageFraming
    private let messageLimit: Int
    private let outputLimit: Int
    private var interest: Interest = .readable
    private var input: [UInt8] = []
    private var inputStart = 0
    /// Bytes of `input` from `inputStart` on in which no line ends.
    private var scanned = 0
    private var received: ReceivedDescriptors?
    private var output: [Outgoing] = []
    private var outputBytes = 0
    private var isEnding = false
    private var isPaused = false

    /// Messages above `messageLimit` bytes close the connection, as do more than `outputLimit` bytes unsent.
    package init(
        loop: EventLoop, socket: consuming FileDescriptor, framing: MessageFraming, messageLimit: Int = 1 << 20,
        outputLimit: Int = 16 << 20
    ) throws(Errno) {
        precondition(messageLimit > 0 && messageLimit <= 1 << 30 && outputLimit >= messageLimit)
        self.loop = loop
        self.framing = framing
        self.messageLimit = messageLimit
        self.outputLimit = outputLimit
        try socket.setNonBlocking()
        peer = try UnixSocket.peer(of: socket.raw)
        self.socket = socket.release()
        do throws(Errno) {
            // The registration keeps the connection alive until it is closed.
            try loop.register(descriptor: self.socket, interest: .readable) { self.handle($0) }
        } catch {
            isOpen = false
            Glibc.close(self.socket)
            throw error
        }
    }

    /// Connects to a listening socket; waits only for the listener's backlog.
    package static func connect(
        loop: EventLoop, path: String, framing: MessageFraming, messageLimit: Int = 1 << 20
    ) throws(Errno) -> SocketConnection {
        let kind: SocketKind
        if case .packets = framing { kind = .packet } else { kind = .stream }
        return try SocketConnection(
            loop: loop, socket: UnixSocket.connect(path, kind), framing: framing, messageLimit: messageLimit)
    }

    // MARK: Sending

    /// Sends one message; without effect when the connection is closed. The descriptors stay the caller's.
    package func send(_ message: [UInt8], descriptors: [Int32] = []) {
        guard isOpen, !isEnding else { return }
        var bytes: [UInt8]
        switch framing {
        case .packets: bytes = message
        case .lines: bytes = message + [UInt8(ascii: "\n")]
        case .lengthPrefixed:
            bytes = []
            bytes.reserveCapacity(message.count + 4)
            withUnsafeBytes(of: UInt32(message.count).littleEndian) { bytes.append(contentsOf: $0) }
            bytes += message
        }
        var next = Outgoing(bytes: bytes)
        if output.isEmpty {
            switch transmit(&next, descriptors) {
            case .done: return
            case .later: break
            case .failed(let error): return finish(error)
            }
        }
        if next.sent == 0, !descriptors.isEmpty {
            do throws(Errno) { next.descriptors = try OwnedDescriptors(descriptors) } catch { return finish(error) }
        }
        outputBytes += next.bytes.count - next.sent
        output.append(next)
        if outputBytes > outputLimit { return finish(Errno(ENOBUFS)) }
        updateInterest()
    }

    package func send(_ text: String) { send(Array(text.utf8)) }

    private enum Progress { case done, later, failed(Errno) }

    private func transmit(_ message: inout Outgoing, _ descriptors: [Int32]) -> Progress {
        let bytes = message.bytes
        repeat {
            let start = message.sent
            let result = bytes.withUnsafeBytes { bytes in
                Result { () throws(Errno) in
                    try UnixSocket.send(
                        UnsafeRawBufferPointer(rebasing: bytes[start...]), descriptors: start == 0 ? descriptors : [],
                        on: socket)
                }
            }
            switch result {
            case .success(let count): message.sent += count
            case .failure(.tryAgain): return .later
            case .failure(let error): return .failed(error)
            }
        } while message.sent < bytes.count
        return .done
    }

    private func flush() {
        var count = 0
        while count < output.count {
            let before = output[count].sent
            let progress = transmit(&output[count], output[count].descriptors?.numbers ?? [])
            outputBytes -= output[count].sent - before
            if case .failed(let error) = progress { return finish(error) }
            if case .later = progress { break }
            count += 1
        }
        output.removeFirst(count)
        if output.isEmpty && isEnding { return finish(nil) }
        updateInterest()
    }

    // MARK: Closing and pausing

    /// Closes at once; what was not sent is lost.
    package func close() { finish(nil) }

    /// Sends what is queued, then closes; nothing is received any more.
    package func closeAfterSending() {
        guard isOpen else { return }
        isEnding = true
        if output.isEmpty { finish(nil) } else { updateInterest() }
    }

    /// Receives nothing until `resume`, so that the other side has to wait.
    package func pause() {
        isPaused = true
        updateInterest()
    }
    package func resume() {
        guard isPaused else { return }
        isPaused = false
        updateInterest()
        // A whole message may be waiting in the buffer.
        loop.enqueue { self.deliver() }
    }

    private func finish(_ error: Errno?) {
        guard isOpen else { return }
        isOpen = false
        loop.unregister(descriptor: socket)
        Glibc.close(socket)
        output = []
        received = nil
        loop.enqueue {
            self.onClose?(self, error)
            self.onClose = nil
            self.onMessage = nil
        }
    }

    private func updateInterest() {
        guard isOpen else { return }
        var wanted: Interest = []
        if !isPaused && !isEnding { wanted.insert(.readable) }
        if !output.isEmpty { wanted.insert(.writable) }
        guard wanted != interest else { return }
        interest = wanted
        do throws(Errno) { try loop.modify(descriptor: socket, interest: wanted) } catch { finish(error) }
    }

    // MARK: Receiving

    private func handle(_ ready: Interest) {
        if ready.contains(.writable) { flush() }
        guard isOpen else { return }
        if ready.contains(.readable), interest.contains(.readable) { return receive() }
        // Told whether asked for or not: nothing more will come, and nothing can be sent.
        if ready.contains(.hungUp) || ready.contains(.failed) { finish(nil) }
    }

    private func receive() {
        let isPacket: Bool
        if case .packets = framing { isPacket = true } else { isPacket = false }
        let room = isPacket ? messageLimit : min(messageLimit, 65536)
        // A few rounds, so that one busy peer does not hold up the loop.
        for _ in 0..<16 where isOpen && interest.contains(.readable) {
            var count = 0
            var descriptors: ReceivedDescriptors?
            var failure: Errno?
            let bytes = [UInt8](unsafeUninitializedCapacity: room) { buffer, initialized in
                do throws(Errno) {
                    (count, descriptors) = try UnixSocket.receive(UnsafeMutableRawBufferPointer(buffer), on: socket)
                } catch { failure = error }
                initialized = count
            }
            if let failure {
                if failure != .tryAgain { finish(failure == Errno(ECONNRESET) ? nil : failure) }
                return
            }
            if let descriptors {
                if let received { received.append(descriptors) } else { received = descriptors }
            }
            if count == 0 { return closeAfterSending() }
            if isPacket {
                let taken = received
                received = nil
                onMessage?(self, bytes, taken)
            } else {
                input += bytes
                deliver()
                if count < room { return }
            }
        }
    }

    private func deliver() {
        while isOpen, !isPaused, let message = takeMessage() {
            let descriptors = received
            received = nil
            onMessage?(self, message, descriptors)
        }
        if inputStart > 0 {
            input.removeFirst(inputStart)
            inputStart = 0
        }
    }

    private func takeMessage() -> [UInt8]? {
        let available = input.count - inputStart
        switch framing {
        case .packets: return nil
        case .lines:
            guard let end = input[(inputStart + scanned)...].firstIndex(of: UInt8(ascii: "\n")) else {
                scanned = available
                if available > messageLimit { finish(Errno(EMSGSIZE)) }
                return nil
            }
            guard end - inputStart <= messageLimit else {
                finish(Errno(EMSGSIZE))
                return nil
            }
            defer {
                inputStart = end + 1
                scanned = 0
            }
            return Array(input[inputStart..<end])
        case .lengthPrefixed:
            guard available >= 4 else { return nil }
            let length = (0..<4).reduce(0) { $0 | Int(input[inputStart + $1]) << (8 * $1) }
            guard length <= messageLimit else {
                finish(Errno(EMSGSIZE))
                return nil
            }
            guard available - 4 >= length else { return nil }
            defer { inputStart += 4 + length }
            return Array(input[inputStart + 4..<inputStart + 4 + length])
        }
    }
}

/// Duplicates of descriptors that wait to be sent.
private final class OwnedDescriptors {
    private(set) var numbers: [Int32] = []
    init(_ originals: [Int32]) throws(Errno) {
        for original in originals {
            let number = fcntl(original, F_DUPFD_CLOEXEC, 3)
            guard number >= 0 else { throw .last }
            numbers.append(number)
        }
    }
    deinit { for number in numbers { Glibc.close(number) } }
}
