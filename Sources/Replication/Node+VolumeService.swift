// A node offers its volumes: the gateway's operations, and space.
import Catalog
import Model
import ObjectStore
import Placement

extension Node: VolumeService {
    package func read(
        _ view: VolumeView, offset: UInt64, count: Int, into buffer: Buffer, bufferOffset: Int,
        _ completion: @escaping (Errno?) -> Void
    ) {
        gateway.read(view, offset: offset, count: count, into: buffer, bufferOffset: bufferOffset, completion)
    }
    package func write(
        _ volume: VolumeId, offset: UInt64, count: Int, from buffer: Buffer, bufferOffset: Int, durable: Bool,
        _ completion: @escaping (Errno?) -> Void
    ) {
        gateway.write(
            volume, offset: offset, count: count, from: buffer, bufferOffset: bufferOffset, durable: durable, completion
        )
    }
    package func flush(_ volume: VolumeId, _ completion: @escaping (Errno?) -> Void) {
        gateway.flush(volume, completion)
    }
    package func discard(
        _ volume: VolumeId, offset: UInt64, count: UInt64, _ completion: @escaping (Errno?) -> Void
    ) {
        gateway.discard(volume, offset: offset, count: count, completion)
    }
    package func resize(
        _ volume: VolumeId, size: UInt64, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void
    ) {
        gateway.resize(volume, size: size, request: request, completion)
    }
    package func copy(
        from source: VolumeView, offset: UInt64, to volume: VolumeId, at destination: UInt64, count: UInt64,
        _ completion: @escaping (Result<UInt64, Errno>) -> Void
    ) {
        gateway.copy(from: source, offset: offset, to: volume, at: destination, count: count, completion)
    }
    package func seek(
        _ view: VolumeView, offset: UInt64, data: Bool, _ completion: @escaping (Result<UInt64, Errno>) -> Void
    ) {
        gateway.seek(view, offset: offset, data: data, completion)
    }
    package func allocatedBytes(_ view: VolumeView, _ completion: @escaping (UInt64) -> Void) {
        gateway.allocatedBytes(view, completion)
    }
    package func snapshot(
        _ volumes: [VolumeId], tag: String, group: DirectoryId?, replaceExisting: Bool, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        gateway.snapshot(
            volumes, tag: tag, group: group, replaceExisting: replaceExisting, request: request, completion)
    }
    package func cloneCurrent(
        _ volume: VolumeId, directory: DirectoryId, name: String, attributes: FileAttributes, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        gateway.cloneCurrent(
            volume, directory: directory, name: name, attributes: attributes, request: request, completion)
    }
    package func rollback(
        _ volume: VolumeId, tag: String, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void
    ) {
        gateway.rollback(volume, tag: tag, request: request, completion)
    }
    package func flatten(
        _ volume: VolumeId, progress: @escaping (UInt64, UInt64) -> Void,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        gateway.flatten(volume, progress: progress, completion)
    }
    package func opened(_ volume: VolumeId) { gateway.opened(volume) }
    package func closed(_ volume: VolumeId) { gateway.closed(volume) }
    package func openCount(_ volume: VolumeId) -> Int { gateway.volumes[volume]?.openCount ?? 0 }

    package var space: VolumeSpace {
        var capacity: UInt64 = 0
        var available: UInt64 = 0
        for store in stores where catalog.state.map.store(store.id)?.status == .up {
            let space = store.copy.objects.space
            capacity += space.capacityBytes
            available += space.availableBytes
        }
        let copies = UInt64(max(1, catalog.state.map.on.effectiveCopies))
        return VolumeSpace(capacityBytes: capacity / copies, availableBytes: available / copies)
    }
}
