// Some whole hosts of a cluster in virtual time, each with its disks and its process: everything that decides is a
// `ClusterNode`, as it will run; links, group, disks and clock are simulated, from one seed. It is stepped; calls that look
// synchronous step it until they are answered.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import TestSupport
import Testing

@testable import Replication

/// A disk whose answers wait for a stopped process, and never reach another one.
final class ProcessDisk: Disk {
    let disk: MemoryDisk
    private let process: SimulatedProcess
    init(_ disk: MemoryDisk, _ process: SimulatedProcess) {
        self.disk = disk
        self.process = process
    }
    var space: DiskSpace { disk.space }
    var maximumBufferedWrite: Int { disk.maximumBufferedWrite }
    func submit(_ operation: DiskOperation, _ completion: @escaping (Result<DiskOutcome, Errno>) -> Void) {
        disk.submit(operation) { [process] result in process.run { completion(result) } }
    }
}

/// One life of a host's process.
final class HostLife: HostWorld {
    unowned let world: HostsWorld
    unowned let host: TestHost
    let process: SimulatedProcess
    let group: any GroupDriver
    init(_ world: HostsWorld, _ host: TestHost, _ process: SimulatedProcess, _ group: any GroupDriver) {
        self.world = world
        self.host = host
        self.process = process
        self.group = group
    }
    var clock: any Clock { process }
    var pool: BufferPool { world.pool }
    func link(to node: NodeId) -> any PeerLink { SimulatedLink(world.network, process, pool: pool, to: node) }
    func random() -> UInt64 { world.machine.random.next() }
    func newStoreId() -> StoreId { world.newStoreId() }
    var bootId: ClusterId { host.bootId }
    func claimEmpty(path: String, _ completion: @escaping (Result<any Disk, SheepError>) -> Void) {
        process.after(milliseconds: 0) { [self] in
            let disk = world.machine.makeDisk()
            host.disks.append((path, disk))
            completion(.success(ProcessDisk(disk, process)))
        }
    }
    func release(path: String) {}
}

final class TestHost {
    let id: NodeId
    var disks: [(path: String, disk: MemoryDisk)] = []
    let key: UInt64
    var lives: UInt64 = 0
    var bootId: ClusterId
    var process: SimulatedProcess!
    var life: HostLife!
    var node: ClusterNode?
    init(_ id: NodeId) {
        self.id = id
        key = UInt64(id.rawValue) * 100
        bootId = ClusterId(high: UInt64(id.rawValue), low: 1)
    }
    var isAlive: Bool { process?.isAlive ?? false }
    /// Called when the map or a lease has changed here.
    var onStep: () -> Void = {}
}

final class HostsWorld {
    let machine: VirtualMachine
    let network: SimulatedNetwork
    let group: SmallGroup
    let pool = BufferPool(limitBytes: 8 << 20)
    var hosts: [TestHost] = []
    var log: [String] = []
    private var nextStore: UInt64 = 100
    var settings: Settings
    private var nextVolume = 0

    /// `count` hosts with a store each, founded together and running.
    init(
        seed: UInt64 = 1, hosts count: Int = 3, stores: Int = 1, joining: Int = 0,
        _ change: (inout Settings) -> Void = { _ in }
    ) {
        machine = VirtualMachine(seed: seed)
        network = SimulatedNetwork(machine: machine, seed: seed)
        group = SmallGroup(machine, nodes: count, seed: seed)
        settings = Settings()
        settings.leaseMilliseconds = 3_000
        settings.downOutIntervalMilliseconds = 60_000
        change(&settings)
        for i in 1...count + joining {
            let host = TestHost(NodeId(UInt32(i)))
            for disk in 0..<stores { host.disks.append(("/disk\(i).\(disk)", machine.makeDisk())) }
            hosts.append(host)
        }
        found(Array(hosts.prefix(count)))
        for host in hosts.prefix(count) { start(host) }
        run("serving") { self.hosts.prefix(count).allSatisfy { $0.node!.catalog.isActive && $0.node!.keeper.isHeld } }
    }

    func newStoreId() -> StoreId {
        nextStore += 1
        return StoreId(nextStore)
    }
    func options(_ host: TestHost) -> HostOptions {
        var configuration = World.smallStores()
        configuration.bootId = host.bootId
        var options = HostOptions(node: host.id, incarnation: host.lives, storeConfiguration: configuration)
        options.limits.windowBytes = 1 << 20
        options.windowBytes = 1 << 20
        options.imageInterval = 20_000
        return options
    }
    private func newLife(_ host: TestHost, isForming: Bool = false) {
        host.lives += 1
        host.process = SimulatedProcess(machine: machine, node: host.id, incarnation: host.lives)
        let driver: any GroupDriver = isForming ? NoGroup() : group.join(host.process)
        host.life = HostLife(self, host, host.process, driver)
    }
    private func diskList(_ host: TestHost) -> [HostDisk] {
        host.disks.map { HostDisk(path: $0.path, disk: ProcessDisk($0.disk, host.process)) }
    }

    private func found(_ founders: [TestHost]) {
        var descriptions: [StoreDescription] = []
        var formations: [HostFormation] = []
        for host in founders {
            newLife(host, isForming: true)
            let formation = HostFormation(host.life, options(host), cluster: network.cluster)
            formations.append(formation)
            let result: Result<[StoreDescription], SheepError>? = answer("format") {
                formation.format(diskList(host), $0)
            }
            guard case .success(let made)? = result else { fatalError("\(String(describing: result))") }
            descriptions += made
        }
        let image = HostFormation.founding(
            cluster: network.cluster, settings: settings,
            rootAttributes: FileAttributes(uid: 0, gid: 0, mode: 0o755, time: 0), stores: descriptions,
            voters: founders.map { Voter($0.id, key: $0.key) })
        for (host, formation) in zip(founders, formations) { makeLog(host, formation, image) }
    }
    private func makeLog(_ host: TestHost, _ formation: HostFormation, _ image: AgreementImage) {
        let error: SheepError?? = answer("log") { formation.makeLog(key: host.key, image: image, $0) }
        if case .some(.some(let error)) = error { fatalError("\(error)") }
        host.process.kill()
        host.life = nil
    }
    /// A host that is to join the cluster: with a blank log on its formatted stores.
    func prepareToJoin(_ host: TestHost) -> [StoreDescription] {
        newLife(host, isForming: true)
        let formation = HostFormation(host.life, options(host), cluster: network.cluster)
        let result: Result<[StoreDescription], SheepError>? = answer("format") { formation.format(diskList(host), $0) }
        guard case .success(let made)? = result else { fatalError("\(String(describing: result))") }
        makeLog(host, formation, .blank)
        return made
    }

    // MARK: lives

    func start(_ host: TestHost) {
        precondition(!host.isAlive)
        newLife(host)
        let life = host.life!
        let result: Result<ClusterNode, SheepError>? = answer("open") {
            ClusterNode.open(world: life, options: options(host), disks: diskList(host), $0)
        }
        guard case .success(let node)? = result else { fatalError("\(String(describing: result))") }
        host.node = node
        node.log = { [unowned self] in log.append("\(host.id): \($0)") }
        node.onStop = { [unowned self] in log.append("\(host.id) stops: \($0)") }
        network.listen(host.process) { [weak node] in node?.accept($0) }
        node.catalog.observe { [unowned host] _ in host.onStep() }
        node.start()
    }
    func kill(_ host: TestHost) {
        guard host.isAlive else { return }
        host.process.kill()
        for (_, disk) in host.disks { disk.killProcess() }
        end(host)
    }
    func losePower(_ host: TestHost) {
        host.process?.kill()
        for (_, disk) in host.disks { disk.losePower() }
        host.bootId = ClusterId(high: host.bootId.high, low: host.bootId.low + 1)
        end(host)
    }
    private func end(_ host: TestHost) {
        for connection in network.connections {
            if let number = connection.ends.firstIndex(where: { $0.process === host.process }) {
                connection.close(number)
            }
        }
        group.died(host.process)
        host.node?.stop()
        host.node = nil
        host.life = nil
    }
    /// Nothing passes between this host and the others.
    func isolate(_ alone: [TestHost]) {
        let others = hosts.filter { host in !alone.contains { $0 === host } }
        for a in alone {
            for b in others {
                network.cut(a.id, b.id)
                network.cut(b.id, a.id)
            }
        }
        group.split([others.map(\.id), alone.map(\.id)])
    }
    func heal() {
        network.heal()
        group.split([hosts.map(\.id)])
    }
    func host(_ number: Int) -> TestHost { hosts[number - 1] }
    func node(_ number: Int) -> ClusterNode { hosts[number - 1].node! }
    var nodes: [ClusterNode] { hosts.compactMap(\.node) }

    // MARK: running

    func step() -> Bool {
        let ran = machine.step()
        for host in hosts where host.isAlive && !host.process.isStopped { host.node?.endOfBatch() }
        return ran
    }
    @discardableResult
    func run(
        _ what: String, seconds: UInt64 = 120, _ location: SourceLocation = #_sourceLocation, until done: () -> Bool
    ) -> Bool {
        let end = machine.nanoseconds + seconds * 1_000_000_000
        while !done() {
            guard machine.nanoseconds < end, step() else {
                Issue.record("not done: \(what)", sourceLocation: location)
                return false
            }
        }
        return true
    }
    /// Looks every now and then: that all is well is not seen in a moment.
    @discardableResult
    func runUntilWell(seconds: UInt64 = 120, _ location: SourceLocation = #_sourceLocation) -> Bool {
        for _ in 0..<seconds * 4 {
            if isWell { return true }
            pass(milliseconds: 250)
        }
        Issue.record("not well", sourceLocation: location)
        return false
    }
    func pass(milliseconds: UInt64) {
        let end = machine.nanoseconds + milliseconds * 1_000_000
        while machine.nanoseconds < end, step() {}
    }
    func answer<T>(
        _ what: String, seconds: UInt64 = 120, _ location: SourceLocation = #_sourceLocation,
        _ call: (@escaping (T) -> Void) -> Void
    ) -> T? {
        var result: T?
        call { result = $0 }
        run(what, seconds: seconds, location) { result != nil }
        return result
    }

    // MARK: use

    func makeVolume(size: UInt64 = 64 << 20, at number: Int = 1) -> VolumeId {
        nextVolume += 1
        let result: CommandAnswer? = answer("create") {
            node(number).catalog.propose(
                .createVolume(
                    directory: .root, name: "v\(nextVolume)", size: size, copies: nil,
                    attributes: FileAttributes(uid: 0, gid: 0, mode: 0o644, time: 0)), request: nil, $0)
        }
        guard case .volume(let id)? = result else { fatalError("\(String(describing: result))") }
        run("everybody knows it") { nodes.allSatisfy { $0.catalog.state.volumes[id] != nil || !$0.catalog.isActive } }
        return id
    }
    func fill(_ byte: UInt8, _ count: Int) -> Buffer {
        let buffer = pool.buffer((count + blockSize - 1) / blockSize * blockSize)
        for i in 0..<count { (buffer.bytes + i).storeBytes(of: byte &+ UInt8(i / 512 % 7), as: UInt8.self) }
        return buffer
    }
    /// Nil: done.
    @discardableResult
    func write(
        _ volume: VolumeId, _ byte: UInt8, at offset: UInt64 = 0, count: Int = 8192, on number: Int,
        _ location: SourceLocation = #_sourceLocation
    ) -> Errno? {
        let buffer = fill(byte, count)
        let result: Errno?? = answer("write", location) {
            node(number).volumes.write(
                volume, offset: offset, count: count, from: buffer, bufferOffset: 0, durable: false, $0)
        }
        return result ?? .inputOutput
    }
    /// The byte that was written there, or nil: not all of it is from one write.
    func read(
        _ view: VolumeView, at offset: UInt64 = 0, count: Int = 8192, on number: Int,
        _ location: SourceLocation = #_sourceLocation
    ) -> UInt8? {
        let buffer = pool.buffer((count + blockSize - 1) / blockSize * blockSize)
        let result: Errno?? = answer("read", location) {
            node(number).volumes.read(view, offset: offset, count: count, into: buffer, bufferOffset: 0, $0)
        }
        guard case .some(.none) = result else {
            Issue.record("read: \(String(describing: result))", sourceLocation: location)
            return nil
        }
        return content(buffer, count)
    }
    func content(_ buffer: Buffer, _ count: Int) -> UInt8? {
        let first = buffer.bytes.load(as: UInt8.self)
        let isZero = (0..<count).allSatisfy { (buffer.bytes + $0).load(as: UInt8.self) == 0 }
        if isZero { return 0 }
        for i in 0..<count where (buffer.bytes + i).load(as: UInt8.self) != first &+ UInt8(i / 512 % 7) { return nil }
        return first
    }
    func flush(_ volume: VolumeId, on number: Int, _ location: SourceLocation = #_sourceLocation) -> Errno? {
        let result: Errno?? = answer("flush", location) { node(number).volumes.flush(volume, $0) }
        return result ?? .inputOutput
    }
    func holder(_ volume: VolumeId) -> NodeId? {
        nodes.max { $0.catalog.state.index < $1.catalog.state.index }?.catalog.state.volumes[volume]?.lease?.node
    }
    func stores(_ host: TestHost) -> [StoreId] {
        nodes[0].catalog.state.map.stores.filter { $0.node == host.id }.map(\.id)
    }
    func status(_ host: TestHost, seenBy number: Int) -> StoreStatus? {
        node(number).catalog.state.map.stores.first { $0.node == host.id }?.status
    }
    /// All stores are up and have everything, and nobody has anything left to do.
    var isWell: Bool {
        nodes.count == hosts.count
            && nodes.allSatisfy { node in
                let map = node.catalog.state.map
                return node.catalog.isActive && map.to == nil
                    && map.stores.allSatisfy { $0.status == .up && map.missingRanges(of: $0.id).isEmpty }
                    && node.remote.isSettled && node.isQuiet
            }
    }
    /// What the copies of an object are like, wherever they are.
    func copies(of object: ObjectId) -> [(store: StoreId, version: Version, state: CopyState)] {
        nodes.flatMap { $0.node.stores }.compactMap { store in
            store.copy.objects.entry(object).map { (store.id, $0.version, $0.state) }
        }.sorted { $0.store < $1.store }
    }
}

private final class NoGroup: GroupDriver {
    var onEvent: (AgreementEvent) -> Void = { _ in }
    func multicast(_ message: AgreementMessage) {}
    func leave() {}
}
