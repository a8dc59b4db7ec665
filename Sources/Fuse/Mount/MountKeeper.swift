// Whoever keeps a mount's descriptor and a little state while the daemon comes and goes: the holder process, or
// systemd's descriptor store. What it keeps must be there before the daemon relies on it.
import Model

package protocol MountKeeper: AnyObject {
    /// Absolute.
    var mountpoint: String { get }
    /// Random, given when the mount was made: with a request's `unique` it names that request for ever.
    var mountId: UInt64 { get }
    /// The session's descriptor. The keeper closes it when it goes.
    var descriptor: Int32 { get }
    /// What was stored so far, by key.
    var stored: [String: [UInt8]] { get }
    /// Keeps `bytes` under `key` beyond the life of this process; no bytes remove it. When it returns, a process that
    /// is killed at once has stored them. At most 64 keys of at most 64 bytes, and 1 MiB in total.
    func store(_ key: String, _ bytes: [UInt8]) throws(SheepError)
    /// Detaches the mount. The session sees its end once the last open file is closed.
    func unmount() throws(SheepError)
    /// The mount is gone, or another process shall have it: lets go of everything.
    func close()
}

extension MountKeeper {
    /// What an earlier process agreed on with the kernel; nil if the mount is new.
    package var negotiated: FuseNegotiated? {
        get throws(SheepError) {
            guard let bytes = stored[FuseNegotiated.key] else { return nil }
            do { return try FuseNegotiated(serialized: bytes) } catch {
                throw SheepError(
                    .invalid, what: "the mount at \(mountpoint) cannot be taken over",
                    why: "its kept settings are of another version of sheep", remedy: "unmount it and mount it again")
            }
        }
    }

    /// A session on this mount which keeps with the keeper what it agrees on with the kernel.
    package func makeSession(
        handler: any FuseHandler, pool: BufferPool, settings: FuseSettings = FuseSettings()
    ) throws(SheepError) -> FuseSession {
        let session = FuseSession(
            descriptor: descriptor, handler: handler, pool: pool, settings: settings, resumed: try negotiated)
        session.onNegotiated = { [unowned self] agreed in
            // If this fails, this process serves well, but no other can follow it.
            try? store(FuseNegotiated.key, agreed.serialized)
        }
        return session
    }
}

/// The limits of what a keeper takes.
enum KeptState {
    static let keyLimit = 64
    static let countLimit = 64
    static let byteLimit = 1 << 20

    static func check(_ stored: [String: [UInt8]], adding key: String, _ bytes: [UInt8]) throws(SheepError) {
        let keySize = key.utf8.count
        let others = stored.reduce(0) { $0 + ($1.key == key ? 0 : $1.value.count) }
        guard keySize > 0, keySize <= keyLimit, !key.utf8.contains(0), others + bytes.count <= byteLimit,
            bytes.isEmpty || stored[key] != nil || stored.count < countLimit
        else {
            throw SheepError(
                .noSpace, what: "the state \"\(key)\" cannot be kept with the mount",
                why: "\(others + bytes.count) bytes in all would exceed 1 MiB, or there are too many keys",
                remedy: "close some files")
        }
    }
}
