// A small catalog with something of everything: directories, volumes, snapshots, a group, clones, hidden ones, leases,
// two stores, answered requests. Made by commands, as a cluster makes it.
import Model
import OrderedCollections

@testable import Catalog

enum SampleCatalog {
    static let cluster = ClusterId(high: 1, low: 2)
    private static let attributes = FileAttributes(uid: 1, gid: 2, mode: 0o644, time: 77)

    static func store(_ id: UInt64) -> StoreDescription {
        StoreDescription(
            id: StoreId(id), node: NodeId(1), path: "/stores/\(id)", weight: 1 << 40, zone: id,
            session: StoreSession(bootId: ClusterId(high: 7, low: 7), incarnation: 1), wallClock: 5)
    }
    static func snapshot(_ volume: UInt32, _ tag: String, term: UInt32 = 0) -> CatalogCommand {
        .snapshot(
            members: [SnapshotRequest(volume: VolumeId(volume), term: Term(term))], tag: tag, group: nil, wallClock: 9)
    }
    static func volume(_ name: String, in directory: DirectoryId = .root, size: UInt64 = 1 << 30) -> CatalogCommand {
        .createVolume(directory: directory, name: name, size: size, copies: nil, attributes: attributes)
    }
    private static func clone(_ volume: UInt32, _ generation: UInt32, _ name: String) -> CatalogCommand {
        .clone(
            source: SnapshotReference(volume: VolumeId(volume), generation: Generation(generation)), directory: .root,
            name: name, copies: 2, attributes: attributes)
    }

    /// One command of every kind, in an order that leaves something of each behind.
    static let commands: [CatalogCommand] = [
        .addStore(store(1)), .addStore(store(2)),
        .createDirectory(parent: .root, name: "images", attributes: attributes),
        .createDirectory(parent: DirectoryId(2), name: "100", attributes: attributes),
        volume("a.img"), volume("b"), volume("c.img", in: DirectoryId(2), size: 1 << 22),
        volume("d.img", in: DirectoryId(2), size: 12_345),
        .acquireLease(VolumeId(1), node: NodeId(1), incarnation: 5),
        snapshot(1, "monday", term: 1), snapshot(1, "tuesday", term: 1), snapshot(2, "t"),
        clone(1, 1, "web1.img"), clone(2, 1, "web2"),
        .snapshot(
            members: [3, 4].map { SnapshotRequest(volume: VolumeId($0), term: .none) }, tag: "all",
            group: DirectoryId(2), wallClock: 10),
        .cloneCurrent(
            source: VolumeId(3), term: .none, directory: .root, name: "now.img", attributes: attributes, wallClock: 11),
        .removeSnapshot(volume: VolumeId(1), tag: "monday"),
        .rollback(volume: VolumeId(1), term: Term(1), tag: "tuesday"),
        .resize(VolumeId(4), size: 4096), .trimmed(VolumeId(4)), .resize(VolumeId(2), size: 1 << 20),
        .renameVolume(VolumeId(4), directory: DirectoryId(3), name: "e.img", replacing: false),
        .renameDirectory(DirectoryId(3), parent: .root, name: "moved"),
        .renameSnapshot(volume: VolumeId(1), from: "tuesday", to: "wednesday", replacing: false),
        .setAttributes(VolumeId(1), attributes), .setDirectoryAttributes(DirectoryId(2), attributes),
        .setSnapshotAttributes(volume: VolumeId(1), tag: "wednesday", attributes),
        .setVolumeCopies(VolumeId(2), copies: 2), volume("gone"), .removeVolume(VolumeId(8), recursive: true),
        .inSync(StoreId(2), .full, epoch: Epoch(3)), .storeDown(StoreId(2), reason: "test", wallClock: 12),
        .storeUp(
            StoreId(2), session: StoreSession(bootId: ClusterId(high: 7, low: 8), incarnation: 2), wallClock: 13),
        .changeSettings(Settings()), .pruned(VolumeId(8), StoreId(1)), .none,
        .setCatalogStores([StoreId(1), StoreId(2)]),
    ]
    /// Those that the state does not need.
    static let others: [CatalogCommand] = [
        .removeDirectory(DirectoryId(3)), .removeGroupSnapshot(directory: DirectoryId(2), tag: "all"),
        .flattened(volume: VolumeId(5), term: .none), .releaseLease(VolumeId(1), term: Term(1)),
        .storeOut(StoreId(2), reason: "r", wallClock: 1), .replaceStore(StoreId(2), by: store(3)),
        .removeStore(StoreId(2)), .setWeight(StoreId(2), 1 << 41), .dropOldRing(epoch: Epoch(3)),
        .acceptLoss([StoreId(2)]), .allowMoveReplacement(epoch: Epoch(3)),
        .adopted(StoreId(2), since: Epoch(3)), .raiseTerm(VolumeId(1), Term(1)),
        .sessionsConfirmed([StoreId(1)]),
    ]

    static let state: CatalogState = {
        var state = CatalogState(
            clusterId: cluster, settings: Settings(), rootAttributes: attributes, catalogStores: [StoreId(1)])
        for (number, command) in commands.enumerated() {
            _ = state.apply(command, request: RequestId(client: 1, number: UInt64(number)))
        }
        if let problem = state.inconsistency() { fatalError(problem) }
        return state
    }()
    /// The same without stores: no ring has to be computed for it.
    static let stateWithoutStores: CatalogState = {
        var state = CatalogState(clusterId: cluster, settings: Settings(), rootAttributes: attributes)
        for command in commands {
            if case .addStore = command { continue }
            _ = state.apply(command, request: nil)
        }
        return state
    }()

    static func encoded(_ command: CatalogCommand) -> [UInt8] {
        var writer = ByteWriter()
        command.encode(&writer)
        return writer.bytes
    }
}
