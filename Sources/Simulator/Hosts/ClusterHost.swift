// A host of a cluster of several: a ClusterNode over simulated disks, links and group. All that outlives a process is on
// its disks.
import Catalog
import Model
import ObjectStore
import Replication

package final class ClusterHost: SimulatedHost {
    private struct Drive {
        let path: String
        let disk: SimulatedDisk
        var store: StoreId?
    }
    package let id: NodeId
    /// Of its log: another one with each.
    private(set) var key: UInt64
    private var surroundings: HostSurroundings
    private let network: SimulatedNetwork
    private let group: SimulatedGroup
    private var drives: [Drive] = []
    private var bootNumber: UInt64 = 1
    private var nextStore: UInt64
    package private(set) var life: UInt64 = 0
    package var onServing: () -> Void = {}

    // The process.
    private var process: SimulatedProcess?
    private var world: Process?
    private var seat: GroupSeat?
    package private(set) var node: ClusterNode?
    private var isServing = false
    private var isBatchArmed = false

    init(_ id: NodeId, _ surroundings: HostSurroundings, _ network: SimulatedNetwork, _ group: SimulatedGroup) {
        self.id = id
        key = UInt64(id.rawValue) * 100
        nextStore = UInt64(id.rawValue) * 1000
        self.surroundings = surroundings
        self.network = network
        self.group = group
        for i in 0..<surroundings.knobs.storesPerHost { addDisk(path: "/disk\(i)") }
    }

    package var disks: [SimulatedDisk] { drives.map(\.disk) }
    package var isRunning: Bool { process != nil }
    package var isStopped: Bool { process?.isStopped ?? false }
    package var service: (any VolumeService)? { isServing ? node?.volumes : nil }
    package var administration: (any NodeAdministration)? { isServing ? node?.node : nil }
    package var copies: [Copy] { node?.node.stores.map(\.copy) ?? [] }
    package var state: CatalogState? { isServing ? node?.catalog.state : nil }
    package var isAtRest: Bool {
        guard isServing, let node, node.catalog.isActive, node.isQuiet, node.remote.isSettled else { return false }
        let map = node.catalog.state.map
        return map.to == nil
            && map.stores.allSatisfy { $0.status != .up || map.missingRanges(of: $0.id).isEmpty }
    }
    package var diagnosis: String {
        guard let node else { return "opening" }
        return "\(isServing ? "" : "not serving ")\(isStopped ? "stopped " : "")"
            + "active \(node.catalog.isActive) held \(node.keeper.isHeld) \(node.firstUnrest ?? "quiet"), "
            + "links settled \(node.remote.isSettled) sessions \(node.catalog.record.sessions.map { "\($0.session) \($0.isOpen)" }) "
            + "voters \(node.catalog.record.voters.count) ring \(seat?.ring.map { "\($0.id) \($0.nodes)" } ?? "none") "
            + "\(node.node.recovery.status.phase) \(node.node.recovery.status.waitingFor) "
            + SingleHost.stores(node.catalog.state)
    }
    package func disk(of store: StoreId) -> Int? { drives.firstIndex { $0.store == store } }

    package func addDisk(path: String) {
        let disk = SimulatedDisk(
            number: Int(id.rawValue) * 100 + drives.count, seed: surroundings.random.next(),
            latency: surroundings.knobs.latency, queue: surroundings.queue, trace: surroundings.trace)
        disk.memory.tearsSyncedAppends = surroundings.knobs.tearsSyncedAppends
        drives.append(Drive(path: path, disk: disk, store: nil))
    }

    // MARK: processes

    package func enter(_ action: @escaping () -> Void) { process?.run(action) }
    package func stop() {
        process?.stop()
        if let seat { group.stopped(seat) }
    }
    package func resume() {
        process?.resume()
        if let seat { group.resumed(seat) }
    }
    package func kill() {
        end()
        for drive in drives { drive.disk.memory.killProcess() }
    }
    package func losePower() {
        end()
        for drive in drives { drive.disk.memory.losePower() }
        bootNumber += 1
    }
    private func end() {
        guard let process else { return }
        process.kill()
        for connection in network.connections {
            if let number = connection.ends.firstIndex(where: { $0.process === process }) { connection.close(number) }
        }
        if let seat { group.ended(seat) }
        node?.stop()
        (self.process, world, seat, node) = (nil, nil, nil, nil)
        isServing = false
        isBatchArmed = false
    }

    private var options: HostOptions {
        var configuration = surroundings.knobs.storeConfiguration
        configuration.bootId = bootId
        var options = HostOptions(node: id, incarnation: life, storeConfiguration: configuration)
        options.gateway = surroundings.knobs.gatewayOptions
        options.limits.windowBytes = surroundings.knobs.windowBytes
        options.windowBytes = surroundings.knobs.windowBytes
        options.imageInterval = surroundings.knobs.catalogImageBytes
        return options
    }
    fileprivate var bootId: ClusterId { ClusterId(high: UInt64(id.rawValue), low: bootNumber) }
    private func note(_ text: String) { surroundings.trace.note("host \(id) \(text)") }

    private func newProcess() -> SimulatedProcess {
        life += 1
        let process = SimulatedProcess(queue: surroundings.queue, node: id, incarnation: life)
        self.process = process
        return process
    }

    package func boot() {
        precondition(process == nil)
        let process = newProcess()
        process.afterEach = { [unowned self] in armBatch() }
        let seat = group.seat(process)
        let world = Process(self, process, seat)
        (self.world, self.seat) = (world, seat)
        note("starts, life \(life)")
        process.run { [self] in
            ClusterNode.open(world: world, options: options, disks: hostDisks(process)) { [self] result in
                switch result {
                case .success(let node): opened(node, process)
                case .failure(let error):
                    note("does not start: \(error.what) \(error.why)")
                    startAgain(process)
                }
            }
        }
    }
    private func hostDisks(_ process: SimulatedProcess) -> [HostDisk] {
        drives.filter { !isFounded || $0.disk.memory.exists(.superblock) }
            .map { HostDisk(path: $0.path, disk: $0.disk.open(by: process)) }
    }
    private func startAgain(_ process: SimulatedProcess) {
        surroundings.queue.after(nanoseconds: 2_000_000_000) { [self] in
            guard self.process === process else { return }
            onEnded()
            kill()
            boot()
        }
    }
    /// The process ends of its own accord: whoever had asked it for something must know.
    package var onEnded: () -> Void = {}

    private func opened(_ node: ClusterNode, _ process: SimulatedProcess) {
        self.node = node
        node.log = { [unowned self] in note("says: \($0)") }
        node.onStop = { [unowned self] error in
            note("stops: \(error.why)")
            startAgain(process)
        }
        network.listen(process) { [weak node] in node?.accept($0) }
        node.start { [self] in serveWhenHeld(node, process) }
        group.join(seat!)
    }
    /// Guests are let in when the node has a session.
    private func serveWhenHeld(_ node: ClusterNode, _ process: SimulatedProcess) {
        guard self.node === node else { return }
        for (i, drive) in drives.enumerated() where drive.store == nil {
            drives[i].store = node.catalog.state.map.stores.first { $0.node == id && $0.path == drive.path }?.id
        }
        if node.catalog.isActive, node.keeper.isHeld {
            isServing = true
            note("serves at \(node.catalog.state.index)")
            return onServing()
        }
        process.after(milliseconds: 50) { [self] in serveWhenHeld(node, process) }
    }

    /// What was journalled goes out at the end of a wake-up, in which several things may have happened.
    private func armBatch() {
        guard !isBatchArmed, let process else { return }
        isBatchArmed = true
        surroundings.queue.after(nanoseconds: surroundings.knobs.batchNanoseconds) { [self] in
            guard self.process === process else { return }
            isBatchArmed = false
            if process.isStopped { return process.run { [self] in node?.endOfBatch() } }
            for _ in 0..<2 { node?.endOfBatch() }
        }
    }

    // MARK: founding

    private var formation: HostFormation?
    private var isFounded = false

    /// Formats its stores, in a process of its own.
    func format(_ completion: @escaping ([StoreDescription]) -> Void) {
        if isFounded { key += 1 }
        isFounded = false
        let process = newProcess()
        let world = Process(self, process, NoGroup())
        self.world = world
        let formation = HostFormation(world, options, cluster: surroundings.clusterId)
        self.formation = formation
        formation.format(hostDisks(process)) { result in
            guard case .success(let descriptions) = result else { preconditionFailure("not formatted: \(result)") }
            completion(descriptions)
        }
    }
    /// The log of a member; the process that made it ends.
    func makeLog(_ image: AgreementImage, _ completion: @escaping () -> Void) {
        formation!.makeLog(key: key, image: image) { [self] error in
            precondition(error == nil, "no log: \(error!)")
            surroundings.queue.after(nanoseconds: 0) { [self] in
                isFounded = true
                formation = nil
                end()
                completion()
            }
        }
    }

    /// What one process is given.
    private final class Process: HostWorld {
        unowned let host: ClusterHost
        let process: SimulatedProcess
        let group: any GroupDriver
        private var claims: [String] = []
        init(_ host: ClusterHost, _ process: SimulatedProcess, _ group: any GroupDriver) {
            self.host = host
            self.process = process
            self.group = group
        }
        var clock: any Clock { process }
        var pool: BufferPool { host.surroundings.pool }
        var bootId: ClusterId { host.bootId }
        func link(to node: NodeId) -> any PeerLink { SimulatedLink(host.network, process, pool: pool, to: node) }
        func random() -> UInt64 { host.surroundings.random.next() }
        func newStoreId() -> StoreId {
            host.nextStore += 1
            return StoreId(host.nextStore)
        }
        func claimEmpty(path: String, _ completion: @escaping (Result<any Disk, SheepError>) -> Void) {
            process.after(milliseconds: 0) { [self] in
                guard let drive = host.drives.first(where: { $0.path == path }), !claims.contains(path),
                    !drive.disk.memory.exists(.superblock)
                else {
                    let error = SheepError(.exists, what: path, why: "it is in use, or a store", remedy: "another one")
                    return completion(.failure(error))
                }
                claims.append(path)
                completion(.success(drive.disk.open(by: process)))
            }
        }
        func release(path: String) { claims.removeAll { $0 == path } }
    }
}

private final class NoGroup: GroupDriver {
    var onEvent: (AgreementEvent) -> Void = { _ in }
    func multicast(_ message: AgreementMessage) {}
    func leave() {}
}
