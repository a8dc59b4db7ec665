// The session: reads requests from a /dev/fuse descriptor, decodes and dispatches them, and writes the answers.
// Knows nothing of what is served, nor of the loop that drives it. It must never touch a path of its own mount,
// never block but in the kernel's own copy, and never trap on what it reads.
import CSheep
import Glibc
import Model

package final class FuseSession {
    /// Owned by whoever made the session; not blocking while it is served.
    package let descriptor: Int32
    package let settings: FuseSettings
    /// False once the mount is gone or `close` was called; answers are then dropped.
    package private(set) var isOpen = true
    package private(set) var negotiated: FuseNegotiated?
    /// Requests that were dispatched and not answered yet.
    package internal(set) var pendingReplies = 0
    /// INIT was agreed on. Called before the kernel gets the answer: what keeps this value across the process's
    /// life must have it when this returns, for no new process gets another INIT.
    package var onNegotiated: ((FuseNegotiated) -> Void)?
    /// The mount is gone, or (with a reason) no session is possible. Called once, from `processReadable` or `start`.
    package var onUnmount: ((SheepError?) -> Void)?
    /// Sends what the kernel's caches must forget, from a process of its own.
    package let notifier: FuseNotifier

    /// What drives the session lets go of the descriptor.
    var onClose: (() -> Void)?

    private var handler: (any FuseHandler)?
    private let input: FuseReadBuffer
    private let output: UnsafeMutableRawPointer
    private static let outputCapacity = 512
    private static let outputHeader = 16
    private var isStarted = false

    /// `resumed`: what an earlier process agreed on, from the mount's keeper; nil for a mount that is new.
    package init(
        descriptor: Int32, handler: any FuseHandler, pool: BufferPool, settings: FuseSettings = FuseSettings(),
        resumed: FuseNegotiated? = nil
    ) {
        self.descriptor = descriptor
        self.handler = handler
        self.settings = settings
        negotiated = resumed
        input = FuseReadBuffer(pool: pool)
        output = .allocate(byteCount: FuseSession.outputCapacity, alignment: 16)
        notifier = FuseNotifier(descriptor: descriptor)
    }
    deinit {
        notifier.stop()
        output.deallocate()
    }

    /// To be called once, before the first `processReadable`: makes the descriptor non-blocking and asks the kernel to
    /// send again what an earlier process took and did not answer (before the first read, or a request of ours might
    /// be among them). For a new mount that is harmless, and needed if a process died between reading and
    /// answering INIT.
    package func start() {
        precondition(!isStarted, "a session starts once")
        isStarted = true
        let flags = fcntl(descriptor, F_GETFL)
        _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK)
        encodeHeader(length: FuseSession.outputHeader, error: FuseNotification.resendCode, unique: 0)
        // EINVAL: a kernel before 6.9. Nothing can be done for what was in flight; INIT's flags tell so.
        if write(descriptor, output, FuseSession.outputHeader) < 0, errno == ENODEV { end(nil) }
    }

    /// Reads and dispatches requests until there are none or `maximumRequests` were taken. False when more may wait.
    @discardableResult
    package func processReadable(maximumRequests: Int = 64) -> Bool {
        precondition(isStarted, "start comes first")
        var count = 0
        while isOpen, count < maximumRequests {
            let length = input.read(descriptor)
            if length > 0 {
                count += 1
                dispatch(length)
                continue
            }
            switch Int32(-length) {
            case EAGAIN: return true
            case EINTR, ENOENT: continue  // ENOENT: the request was withdrawn while it was read
            case ENODEV: end(nil)
            case ECONNABORTED: end(nil)
            default:
                end(
                    SheepError(
                        Errno(Int32(-length)), what: "the mount's connection failed",
                        why: "reading /dev/fuse: \(String(cString: strerror(Int32(-length))))",
                        remedy: "unmount it (fusermount3 -u) and mount it again"))
            }
        }
        return !isOpen
    }

    /// Stops serving without unmounting: unanswered requests stay with the kernel and are sent again to the next
    /// process. The descriptor is left open, for its owner.
    package func close() {
        isOpen = false
        handler = nil
        notifier.stop()
        onClose?()
        onClose = nil
    }

    private func end(_ reason: SheepError?) {
        guard isOpen else { return }
        close()
        onUnmount?(reason)
    }

    func dispatch(_ length: Int) {
        let (header, result) = input.decode(length)
        guard let header else { return }  // not even an id to answer to
        switch result {
        case .failure(let error):
            if header.opcode?.expectsAnswer ?? true {
                send(unique: header.rawUnique, error: error == .badName ? EILSEQ : EINVAL)
            }
        case .success(let request):
            if header.opcode == .initialize { return negotiate(header, length) }
            guard let handler else { return }
            // Nobody waits for an answer to what we do not speak either (NOTIFY_REPLY).
            if case .unknown = request.body, header.opcode?.expectsAnswer == false { return }
            handler.handle(request, reply: FuseReply(session: self, header: header, limit: request.answerLimit))
        }
    }
    /// For tests: as if the descriptor had delivered these bytes.
    func inject(_ bytes: UnsafeRawBufferPointer) { dispatch(input.fill(bytes)) }

    private func negotiate(_ header: FuseHeader, _ length: Int) {
        let whole = input.contiguous(length)
        var reader = FuseReader(UnsafeRawBufferPointer(rebasing: whole[FuseHeader.byteCount...]))
        guard let offer = try? FuseInitRequest(&reader) else {
            return send(unique: header.rawUnique, error: EINVAL)
        }
        // An INIT that comes again gets the answer that was kept, for the first one may have arrived.
        guard let agreed = negotiated ?? FuseNegotiated(offer, settings: settings) else {
            send(unique: header.rawUnique, error: EPROTO)
            return end(
                SheepError(
                    Errno(EPROTO), what: "the kernel's FUSE protocol is not one that we speak",
                    why: "it is \(offer.major).\(offer.minor); 7.\(FuseNegotiated.oldestMinor) is the oldest possible",
                    remedy: "run Linux 5.4 or later"))
        }
        negotiated = agreed
        onNegotiated?(agreed)
        send(unique: header.rawUnique, byteCount: FuseNegotiated.byteCount) { agreed.encode(&$0) }
    }

    // MARK: Answers

    private func encodeHeader(length: Int, error: Int32, unique: UInt64) {
        output.storeBytes(of: UInt32(length).littleEndian, toByteOffset: 0, as: UInt32.self)
        output.storeBytes(of: error.littleEndian, toByteOffset: 4, as: Int32.self)
        output.storeBytes(of: unique.littleEndian, toByteOffset: 8, as: UInt64.self)
    }
    // What a write to the descriptor may return: ENOENT (the request was withdrawn) and ENODEV (the mount is gone,
    // which the next read tells too). Neither is of interest to whoever answers.

    func send(unique: UInt64, error: Int32) {
        guard isOpen else { return }
        encodeHeader(length: FuseSession.outputHeader, error: -error, unique: unique)
        _ = write(descriptor, output, FuseSession.outputHeader)
    }
    func send(unique: UInt64, byteCount: Int, _ encode: (inout FuseWriter) -> Void) {
        guard isOpen else { return }
        let header = FuseSession.outputHeader
        var writer = FuseWriter(output + header, capacity: FuseSession.outputCapacity - header)
        encode(&writer)
        precondition(writer.position == byteCount, "an answer of another size than its structure")
        encodeHeader(length: header + byteCount, error: 0, unique: unique)
        _ = write(descriptor, output, header + byteCount)
    }
    func send(unique: UInt64, payload: UnsafeRawPointer?, count: Int) {
        guard isOpen else { return }
        let header = FuseSession.outputHeader
        encodeHeader(length: header + count, error: 0, unique: unique)
        withUnsafeTemporaryAllocation(of: iovec.self, capacity: 2) { vectors in
            vectors[0] = iovec(iov_base: output, iov_len: header)
            vectors[1] = iovec(iov_base: UnsafeMutableRawPointer(mutating: payload), iov_len: count)
            _ = writev(descriptor, vectors.baseAddress, count == 0 ? 1 : 2)
        }
    }
    func send(unique: UInt64, pieces: [UnsafeRawBufferPointer], count: Int) {
        guard isOpen else { return }
        let header = FuseSession.outputHeader
        encodeHeader(length: header + count, error: 0, unique: unique)
        withUnsafeTemporaryAllocation(of: iovec.self, capacity: pieces.count + 1) { vectors in
            vectors[0] = iovec(iov_base: output, iov_len: header)
            var used = 1
            for piece in pieces where piece.count > 0 {
                vectors[used] = iovec(
                    iov_base: UnsafeMutableRawPointer(mutating: piece.baseAddress), iov_len: piece.count)
                used += 1
            }
            _ = writev(descriptor, vectors.baseAddress, Int32(used))
        }
    }
}

extension FuseRequest {
    /// How large the answer's data may be.
    var answerLimit: Int {
        switch body {
        case .read(let read): read.size
        case .readdir(let read), .readdirplus(let read): read.size
        case .getxattr(_, let size), .listxattr(let size): size
        case .readlink: 4096
        case .ioctl(let control): control.outputSize
        default: 0
        }
    }
}
