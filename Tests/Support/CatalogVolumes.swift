// What volume services in tests have in common: volumes that are known by a catalog's state alone, where what changes a
// volume as a whole is one command. Data is each one's own matter.
import Catalog
import Model
import OrderedCollections
import Replication

package protocol CatalogVolumes: VolumeService {
    var wallClock: UInt64 { get }
    /// How often each volume is open.
    var opens: [VolumeId: Int] { get set }
}

extension CatalogVolumes {
    private func term(_ volume: VolumeId) -> Term { catalog.state.volumes[volume]?.term ?? .none }

    package func snapshot(
        _ volumes: [VolumeId], tag: String, group: DirectoryId?, replaceExisting: Bool, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        proposeSnapshot(volumes, tag: tag, group: group, replaceExisting: replaceExisting, request: request, completion)
    }
    package func proposeSnapshot(
        _ volumes: [VolumeId], tag: String, group: DirectoryId?, replaceExisting: Bool, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        let members = volumes.map {
            SnapshotRequest(volume: $0, term: term($0), replaceExisting: replaceExisting)
        }
        catalog.propose(
            .snapshot(members: members, tag: tag, group: group, wallClock: wallClock), request: request, completion)
    }
    package func cloneCurrent(
        _ volume: VolumeId, directory: DirectoryId, name: String, attributes: FileAttributes, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        catalog.propose(
            .cloneCurrent(
                source: volume, term: term(volume), directory: directory, name: name, attributes: attributes,
                wallClock: wallClock), request: request, completion)
    }
    package func rollback(
        _ volume: VolumeId, tag: String, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void
    ) {
        catalog.propose(.rollback(volume: volume, term: term(volume), tag: tag), request: request, completion)
    }
    package func flatten(
        _ volume: VolumeId, progress: @escaping (UInt64, UInt64) -> Void,
        _ completion: @escaping (CommandAnswer) -> Void
    ) { cutFromParent(volume, completion) }
    /// The end of a flatten.
    package func cutFromParent(_ volume: VolumeId, _ completion: @escaping (CommandAnswer) -> Void) {
        catalog.propose(.flattened(volume: volume, term: term(volume)), request: nil, completion)
    }

    package func opened(_ volume: VolumeId) { opens[volume, default: 0] += 1 }
    package func closed(_ volume: VolumeId) {
        opens[volume, default: 0] -= 1
        precondition(opens[volume]! >= 0, "closed more often than opened")
    }
    package func openCount(_ volume: VolumeId) -> Int { opens[volume] ?? 0 }
    package var space: VolumeSpace { VolumeSpace(capacityBytes: 300 << 30, availableBytes: 200 << 30) }
}
