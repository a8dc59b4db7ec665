// The session on the process's event loop: requests are taken in batches, so that the loop's end-of-batch hooks run
// between them and nothing else waits long.
import Model
import Runtime

extension FuseSession {
    /// Starts the session and serves it from `loop` until its end.
    package func serve(on loop: EventLoop, maximumRequests: Int = 64) throws(Errno) {
        start()
        guard isOpen else { return }
        try loop.register(descriptor: descriptor, interest: .readable) { [weak self] _ in
            self?.processReadable(maximumRequests: maximumRequests)
        }
        let descriptor = descriptor
        onClose = { [weak loop] in loop?.unregister(descriptor: descriptor) }
    }
}

extension DescriptorStore {
    /// systemd, if it started this process.
    package static func serviceManager(_ message: String, _ descriptors: [Int32]) -> Bool {
        (try? ServiceManager.notify(message, descriptors: descriptors)) ?? false
    }
}
