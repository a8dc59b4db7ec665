// What volumes offer to those above: the mount and the administrator's socket. Everything is asked on the one core
// thread and answered later on it, never from inside the call.
import Catalog
import Model

/// What is read: a volume as it is now, or one of its snapshots.
package enum VolumeView: Hashable, Sendable {
    case current(VolumeId)
    case snapshot(VolumeId, Generation)

    package var volume: VolumeId {
        switch self {
        case .current(let volume), .snapshot(let volume, _): volume
        }
    }
}

package protocol VolumeService: AnyObject {
    var catalog: any CatalogProposer { get }

    /// Fills `count` bytes of `buffer` at `bufferOffset` with the bytes at `offset`, of any alignment. The caller has
    /// clamped to the size. Waits while no current copy is up (or EIO, by `onUnavailable`).
    func read(
        _ view: VolumeView, offset: UInt64, count: Int, into buffer: Buffer, bufferOffset: Int,
        _ completion: @escaping (Errno?) -> Void)
    /// Writes `count` bytes of `buffer` at `bufferOffset` to `offset`, of any alignment, within the size (else EFBIG).
    /// The buffer must not change any more. `durable`: the answer means durable on disk.
    func write(
        _ volume: VolumeId, offset: UInt64, count: Int, from buffer: Buffer, bufferOffset: Int, durable: Bool,
        _ completion: @escaping (Errno?) -> Void)
    /// Everything answered before is durable at all targets.
    func flush(_ volume: VolumeId, _ completion: @escaping (Errno?) -> Void)
    /// The bytes read as zeros afterwards, and whole blocks give their space back on every copy.
    func discard(_ volume: VolumeId, offset: UInt64, count: UInt64, _ completion: @escaping (Errno?) -> Void)
    /// Grows or shrinks, whole: what was cut off reads as zeros when the volume grows again.
    func resize(_ volume: VolumeId, size: UInt64, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void)
    /// Copies inside the cluster. Answers how many bytes were copied (all of them, or up to a hole's or extent's end).
    func copy(
        from source: VolumeView, offset: UInt64, to volume: VolumeId, at destination: UInt64, count: UInt64,
        _ completion: @escaping (Result<UInt64, Errno>) -> Void)
    /// The first offset at or after `offset` that has data (`data`) or has none; the end of the file counts as a hole.
    /// ENXIO at or past the end, or when no data follows.
    func seek(_ view: VolumeView, offset: UInt64, data: Bool, _ completion: @escaping (Result<UInt64, Errno>) -> Void)
    /// Bytes that blocks of this view hold in the volume's own objects (not in its parent's), counted once, not per copy.
    func allocatedBytes(_ view: VolumeView, _ completion: @escaping (UInt64) -> Void)

    /// Snapshots at one point in time: drains, commits, goes on. EAGAIN when it was cancelled.
    func snapshot(
        _ volumes: [VolumeId], tag: String, group: DirectoryId?, replaceExisting: Bool, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void)
    /// A clone of the volume as it is now.
    func cloneCurrent(
        _ volume: VolumeId, directory: DirectoryId, name: String, attributes: FileAttributes, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void)
    /// The volume's content becomes the snapshot's. The caller has made sure that nobody uses the volume.
    func rollback(_ volume: VolumeId, tag: String, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void)
    /// Copies what still comes from the parent into the volume and cuts the link. `progress`: bytes done, bytes in all.
    func flatten(
        _ volume: VolumeId, progress: @escaping (UInt64, UInt64) -> Void,
        _ completion: @escaping (CommandAnswer) -> Void)

    /// The mount counts who has a volume open, so that it knows what is in use. A volume with no user for a while
    /// flushes and gives up its lease.
    func opened(_ volume: VolumeId)
    func closed(_ volume: VolumeId)
    func openCount(_ volume: VolumeId) -> Int

    /// Bytes that volumes can still take and have in all (the stores' sums divided by the copies), for statfs.
    var space: VolumeSpace { get }
}

package struct VolumeSpace: Hashable, Sendable {
    package var capacityBytes: UInt64
    package var availableBytes: UInt64
    package init(capacityBytes: UInt64, availableBytes: UInt64) {
        self.capacityBytes = capacityBytes
        self.availableBytes = availableBytes
    }
}
