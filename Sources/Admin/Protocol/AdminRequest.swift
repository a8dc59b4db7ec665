// What can be asked over the administrator's socket: one JSON object a line, one request each, for example
//     {"version":1,"id":7,"operation":{"volumeCreate":{"path":"vol.img","size":1073741824}}}
// Operations and their arguments only ever get more: an argument that is added is optional. Anything else is a new
// protocol version. Nothing here may depend on how a request is served or shown.

/// The version of the protocol that this build speaks.
package let adminProtocolVersion = 1
/// The longest request, in bytes, newline included. Answers have no limit, but come in parts of bounded length.
package let maximumAdminRequestSize = 256 * 1024

package struct AdminRequest: Codable, Equatable, Sendable {
    package var version: Int
    /// Chosen by the client; every answer to this request carries it.
    package var id: UInt64
    package var operation: AdminOperation

    package init(id: UInt64, _ operation: AdminOperation) {
        version = adminProtocolVersion
        self.id = id
        self.operation = operation
    }
}

/// Paths of volumes are below the mount's root, with or without leading slash, or full paths below a mountpoint.
/// Stores are named by id (16 hexadecimal digits), by a prefix of it that is unique, or by their directory.
/// Sizes and weights are bytes.
package enum AdminOperation: Codable, Equatable, Sendable {
    case status
    case volumeList(path: String?, allocated: Bool)
    case volumeCreate(path: String, size: UInt64, copies: Int?)
    case volumeInfo(path: String)
    case volumeTree(path: String?)
    /// Several volumes at one instant, or all volumes of a directory.
    case volumeSnapshot(paths: [String], tag: String)
    /// `source` is a snapshot, or a volume: then it is a clone of now.
    case volumeClone(source: String, path: String)
    case volumeRollback(path: String, tag: String)
    /// `shrink` must be said when bytes are cut off.
    case volumeResize(path: String, size: UInt64, shrink: Bool)
    /// A volume, a snapshot (`vol@tag.img`), or a directory's snapshot (`dir/.snap/tag`).
    case volumeDelete(path: String, recursive: Bool)
    case volumeCheck(path: String, repair: Bool)
    case volumeFlatten(path: String)
    case volumeMap(path: String)
    case snapshotList(path: String?, allocated: Bool)
    case storeList
    case storeAdd(path: String, zone: UInt64?, weight: UInt64?)
    case storeRemove(store: String, force: Bool)
    case storeReplace(store: String, path: String)
    case storeReweight(store: String, weight: UInt64)
    case recoveryStatus
    case scrubStart(deep: Bool, path: String?)
    case scrubStatus
    case settingsShow
    case settingsChange(copies: Int?, minCopies: Int?, downOutIntervalMilliseconds: UInt64?)
    case acceptLoss(stores: [String])
    case mount(mountpoint: String, options: String)
    /// nil: the only mount. `lazy`: even if files are open.
    case unmount(mountpoint: String?, lazy: Bool)
}
