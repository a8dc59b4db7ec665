// Disks become a node: made for a new cluster or for one that is joined, or opened at the start of the process. A store that
// does not open is noted and does without; the node's log decides whether enough of it is there.
import Catalog
import Model
import ObjectStore
import OrderedCollections

/// Makes what a new node starts with, step by step; each step is called once.
package final class HostFormation {
    private let world: any HostWorld
    private let options: HostOptions
    private let cluster: ClusterId
    private var disks: [(store: StoreId, disk: any Disk)] = []
    private var log: MemberLog?

    package init(_ world: any HostWorld, _ options: HostOptions, cluster: ClusterId) {
        self.world = world
        self.options = options
        self.cluster = cluster
    }

    /// Makes stores of empty disks, and says what the map shall have of them. Nothing runs on them afterwards.
    package func format(
        _ disks: [HostDisk], _ completion: @escaping (Result<[StoreDescription], SheepError>) -> Void
    ) {
        var made: [StoreDescription] = []
        func next(_ rest: ArraySlice<HostDisk>) {
            guard let item = rest.first else { return completion(.success(made)) }
            let store = world.newStoreId()
            let identity = StoreIdentity(
                clusterId: cluster, storeId: store, createdWallClock: world.clock.wallClock)
            ObjectStore.format(item.disk, identity: identity, configuration: options.storeConfiguration) {
                [self] result in
                if case .failure(let error) = result { return completion(.failure(error.sheepError)) }
                let objects = ObjectStore(
                    disk: item.disk, clock: world.clock, pool: world.pool, configuration: options.storeConfiguration
                ) { _ in }
                objects.open { [self] result in
                    guard case .success(let report) = result else {
                        if case .failure(let error) = result { completion(.failure(error.sheepError)) }
                        return
                    }
                    made.append(
                        StoreDescription(
                            id: store, node: options.node, path: item.path, weight: item.disk.space.capacityBytes,
                            zone: UInt64(options.node.rawValue), session: report.session,
                            wallClock: world.clock.wallClock))
                    self.disks.append((store, item.disk))
                    objects.close { _ in
                        withExtendedLifetime(objects) {}
                        next(rest.dropFirst())
                    }
                }
            }
        }
        next(disks[...])
    }

    /// Makes the node's log on these stores; on `disks` that hold no objects for a node without stores. `key`: random, the
    /// node's as a voter. `image`: what the cluster starts behind, `.blank` for a node that joins one.
    package func makeLog(
        witness: [(StoreId, any Disk)] = [], key: UInt64, image: AgreementImage,
        _ completion: @escaping (SheepError?) -> Void
    ) {
        let log = MemberLog(
            disks: disks.map { ($0.store, $0.disk) } + witness, clock: world.clock, incarnation: 0,
            imageInterval: options.imageInterval)
        self.log = log
        log.create(clusterId: cluster, node: options.node, key: key, image: image) { [self] error in
            self.log = nil
            withExtendedLifetime(log) { completion(error) }
        }
    }

    /// What all nodes that found a cluster together start behind.
    package static func founding(
        cluster: ClusterId, settings: Settings, rootAttributes: FileAttributes, stores: [StoreDescription],
        voters: [Voter]
    ) -> AgreementImage {
        var state = CatalogState(clusterId: cluster, settings: settings, rootAttributes: rootAttributes)
        for store in stores.sorted(by: { $0.id < $1.id }) { _ = state.apply(.addStore(store), request: nil) }
        return .founding(state, voters: voters)
    }
}

/// Opens a host's stores and its log.
final class HostOpening {
    private let world: any HostWorld
    private let options: HostOptions
    private let completion: (Result<ClusterNode, SheepError>) -> Void
    private var parts: [AttachedStore.Parts] = []
    private var cores: [ObjectStore] = []
    private var problems: [String] = []
    private var log: MemberLog?
    /// The stores fail on their own until the node is there.
    private let failures = FailureRelay()
    private var isDone = false

    init(
        _ world: any HostWorld, _ options: HostOptions,
        _ completion: @escaping (Result<ClusterNode, SheepError>) -> Void
    ) {
        self.world = world
        self.options = options
        self.completion = completion
    }

    func open(_ disks: [HostDisk], witness: [(StoreId, any Disk)], acceptMissing: [StoreId]) {
        func next(_ rest: ArraySlice<HostDisk>) {
            guard let item = rest.first else { return openLog(witness, acceptMissing) }
            let relay = failures
            var id: StoreId?
            let objects = ObjectStore(
                disk: item.disk, clock: world.clock, pool: world.pool, configuration: options.storeConfiguration
            ) { error in if let id { relay.failed(id, error.sheepError.why) } }
            cores.append(objects)
            objects.open { [self] result in
                switch result {
                case .success(let report):
                    id = report.identity.storeId
                    parts.append(
                        AttachedStore.Parts(
                            id: report.identity.storeId, path: item.path, disk: item.disk, objects: objects,
                            session: report.session))
                case .failure(let error):
                    problems.append("the store at \(item.path) does not open: \(error.sheepError.why)")
                }
                next(rest.dropFirst())
            }
        }
        next(disks[...])
        endBatches()
    }
    /// The stores are no node's yet: nobody else sends out what an opening has to write.
    private func endBatches() {
        guard !isDone else { return }
        for core in cores { core.endOfBatch() }
        world.clock.after(milliseconds: 1) { [self] in endBatches() }
    }
    private func finish(_ result: Result<ClusterNode, SheepError>) {
        isDone = true
        completion(result)
        // Whoever keeps the log is there only now.
        if case .success(let node) = result { for problem in problems { node.log(problem) } }
    }

    private func openLog(_ witness: [(StoreId, any Disk)], _ acceptMissing: [StoreId]) {
        let log = MemberLog(
            disks: parts.map { ($0.id, $0.disk) } + witness, clock: world.clock, incarnation: options.incarnation,
            imageInterval: options.imageInterval)
        self.log = log
        log.open(acceptMissing: acceptMissing, freshKey: world.random()) { [self] error in
            if let error { return finish(.failure(error)) }
            // A store of another cluster is none of ours.
            for part in parts where part.objects.identity.clusterId != log.clusterId {
                part.objects.stop()
                failures.failed(part.id, "it belongs to another cluster")
            }
            parts.removeAll { $0.objects.identity.clusterId != log.clusterId }
            do throws(SheepError) {
                let node = try ClusterNode(world: world, options: options, log: log, parts: parts)
                failures.node = node.node
                finish(.success(node))
            } catch { finish(.failure(error)) }
        }
    }
}

private final class FailureRelay {
    weak var node: Node? {
        didSet {
            for (store, reason) in early { node?.storeFailed(store, reason) }
            early = []
        }
    }
    private var early: [(StoreId, String)] = []
    func failed(_ store: StoreId, _ reason: String) {
        if let node { node.storeFailed(store, reason) } else { early.append((store, reason)) }
    }
}
