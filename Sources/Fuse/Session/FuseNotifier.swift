// Notifications to the kernel: what its caches must forget. They are written by a process of their own (see
// NotifierProcess), fed by a thread of their own, because the kernel takes locks for them that a request which waits
// for us may hold. Nothing here waits for an answer.
import Glibc
import Model
import Synchronization

/// What the kernel is told.
package enum FuseNotification: Sendable, Equatable {
    static let resendCode: Int32 = 7
    /// Attributes and cached pages of a node; `length` 0 is up to the end, a negative offset is attributes only.
    case invalidateNode(UInt64, offset: Int64, length: Int64)
    /// A name in a directory. `expireOnly`: look it up again, without detaching what is open below.
    case invalidateEntry(parent: UInt64, name: String, expireOnly: Bool)
    /// As `invalidateEntry`, and watchers of the directory learn that `child` was deleted.
    case delete(parent: UInt64, child: UInt64, name: String)

    /// The message: header with the code in place of an error, then the structure.
    var message: [UInt8] {
        var body = ByteWriter()
        let code: UInt32
        switch self {
        case .invalidateNode(let node, let offset, let length):
            code = 2
            body.write(node)
            body.write(offset)
            body.write(length)
        case .invalidateEntry(let parent, let name, let expireOnly):
            code = 3
            body.write(parent)
            body.write(UInt32(name.utf8.count))
            body.write(UInt32(expireOnly ? 1 : 0))
            body.writeRaw(Array(name.utf8) + [0])
        case .delete(let parent, let child, let name):
            code = 6
            body.write(parent)
            body.write(child)
            body.write(UInt32(name.utf8.count))
            body.write(UInt32(0))
            body.writeRaw(Array(name.utf8) + [0])
        }
        var message = ByteWriter()
        message.write(UInt32(16 + body.bytes.count))
        message.write(code)
        message.write(UInt64(0))
        message.writeRaw(body.bytes)
        return message.bytes
    }
}

package final class FuseNotifier: Sendable {
    private struct State {
        var queue: [FuseNotification] = []
        var thread: pthread_t?
        var isStopped = false
    }
    /// The session's; it is handed on as a duplicate, so that a number which was closed and given out again is safe.
    private let descriptor: Int32
    private let state = Mutex(State())
    /// Counts what is queued, and one for the stop. Never freed before the thread has been joined or detached.
    private let wake: WakeCount

    init(descriptor: Int32) {
        self.descriptor = descriptor
        wake = WakeCount()
    }

    /// Queues a notification; from any thread. After `stop` it is dropped.
    package func send(_ notification: FuseNotification) {
        let isQueued = state.withLock { state in
            guard !state.isStopped else { return false }
            state.queue.append(notification)
            if state.thread == nil { state.thread = launch() }
            return true
        }
        if isQueued { wake.signal() }
    }

    private func launch() -> pthread_t {
        var thread = pthread_t()
        let process = NotifierProcess.start(descriptor)
        let context = Unmanaged.passRetained(
            ThreadContext(notifier: self, process: process, descriptor: process == nil ? dup(descriptor) : -1)
        ).toOpaque()
        let code = pthread_create(
            &thread, nil,
            { context in
                let context = Unmanaged<ThreadContext>.fromOpaque(context!).takeRetainedValue()
                context.notifier.run(context)
                return nil
            }, context)
        precondition(code == 0, "no thread for the mount's notifications")
        return thread
    }

    private final class ThreadContext {
        let notifier: FuseNotifier
        let process: NotifierProcess?
        /// Without a process: the mount's, to be written to directly.
        let descriptor: Int32
        init(notifier: FuseNotifier, process: NotifierProcess?, descriptor: Int32) {
            self.notifier = notifier
            self.process = process
            self.descriptor = descriptor
        }

        func write(_ message: [UInt8]) {
            // ENOENT: the kernel did not know it. ENODEV: unmounted, which the reader sees for itself.
            if let process {
                _ = process.send(message)
            } else {
                message.withUnsafeBytes { _ = Glibc.write(descriptor, $0.baseAddress, $0.count) }
            }
        }
        func end() { if let process { process.end() } else { close(descriptor) } }
    }

    /// Ends the thread. It is not waited for: it may be inside the kernel, behind a lock that only an answer of the
    /// caller's thread releases.
    package func stop() {
        let thread = state.withLock { state in
            defer { state.thread = nil }
            state.isStopped = true
            state.queue.removeAll()
            return state.thread
        }
        guard let thread else { return }
        pthread_detach(thread)
        wake.signal()
    }

    private func run(_ context: ThreadContext) {
        defer { context.end() }
        while true {
            wake.wait()
            let (batch, isStopped) = state.withLock { state in
                defer { state.queue.removeAll() }
                return (state.queue, state.isStopped)
            }
            if isStopped { return }
            for notification in batch where !state.withLock({ $0.isStopped }) {
                context.write(notification.message)
            }
        }
    }
}

/// A counting semaphore.
private final class WakeCount: @unchecked Sendable {
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    init() { sem_init(semaphore, 0, 0) }
    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }
    func signal() { sem_post(semaphore) }
    func wait() { while sem_wait(semaphore) != 0 {} }
}
