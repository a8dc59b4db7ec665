// Short ways for tests to make a state and to apply commands to it, with its consistency checked each time.
import Model
import OrderedCollections
import Testing

@testable import Catalog

let someAttributes = FileAttributes(uid: 1, gid: 2, mode: 0o644, time: 77)
let boot = ClusterId(high: 7, low: 7)

func description(
    _ id: UInt64, weight: UInt64 = 1 << 40, zone: UInt64? = nil, node: NodeId = NodeId(1)
) -> StoreDescription {
    StoreDescription(
        id: StoreId(id), node: node, path: "/stores/\(id)", weight: weight, zone: zone ?? id,
        session: StoreSession(bootId: boot, incarnation: 1), wallClock: 5)
}

struct Machine {
    var state: CatalogState
    var changes: [CatalogChange] = []

    /// `perNode`: so many of the stores are on one node; nil: all are.
    init(stores: Int = 0, copies: Int = 3, perNode: Int? = nil) {
        var settings = Settings()
        settings.copies = copies
        state = CatalogState(
            clusterId: ClusterId(high: 1, low: 2), settings: settings, rootAttributes: someAttributes,
            catalogStores: [StoreId(1)])
        for id in 1..<(UInt64(stores) + 1) {
            let node = perNode.map { NodeId(UInt32((Int(id) - 1) / $0 + 1)) } ?? NodeId(1)
            apply(.addStore(description(id, node: node)))
        }
    }

    @discardableResult mutating func apply(
        _ command: CatalogCommand, request: RequestId? = nil, _ location: SourceLocation = #_sourceLocation
    ) -> CommandAnswer {
        let (answer, changes) = state.apply(command, request: request)
        self.changes = changes
        let problem = state.inconsistency()
        #expect(problem == nil, "after \(command)", sourceLocation: location)
        if case .refused = answer { #expect(changes.isEmpty, sourceLocation: location) }
        return answer
    }
    mutating func refusal(
        _ command: CatalogCommand, _ location: SourceLocation = #_sourceLocation
    ) -> Errno? {
        if case .refused(let error) = apply(command, location) { return error.errno }
        return nil
    }
    private mutating func apply(_ command: CatalogCommand, _ location: SourceLocation) -> CommandAnswer {
        apply(command, request: nil, location)
    }
    mutating func volume(
        _ name: String, size: UInt64 = 1 << 30, in directory: DirectoryId = .root,
        _ location: SourceLocation = #_sourceLocation
    ) -> VolumeId {
        let answer = apply(
            .createVolume(directory: directory, name: name, size: size, copies: nil, attributes: someAttributes),
            location)
        guard case .volume(let id) = answer else {
            Issue.record("\(answer)", sourceLocation: location)
            return VolumeId(0)
        }
        return id
    }
    mutating func directory(_ name: String, in parent: DirectoryId = .root) -> DirectoryId {
        guard
            case .directory(let id) = apply(
                .createDirectory(parent: parent, name: name, attributes: someAttributes))
        else { return DirectoryId(0) }
        return id
    }
    @discardableResult mutating func snapshot(_ volume: VolumeId, _ tag: String) -> Generation {
        let term = state.volumes[volume]?.term ?? .none
        let answer = apply(
            .snapshot(members: [SnapshotRequest(volume: volume, term: term)], tag: tag, group: nil, wallClock: 9))
        guard case .snapshot(_, let generation) = answer else { return Generation(0) }
        return generation
    }
    mutating func clone(_ volume: VolumeId, _ generation: Generation, _ name: String) -> VolumeId {
        let answer = apply(
            .clone(
                source: SnapshotReference(volume: volume, generation: generation), directory: .root, name: name,
                copies: nil, attributes: someAttributes))
        guard case .volume(let id) = answer else { return VolumeId(0) }
        return id
    }
}
