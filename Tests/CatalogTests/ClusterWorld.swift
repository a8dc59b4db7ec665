// Whole members of a cluster in a simulated group: catalog, durable log on one to three disks that lose power, break and
// are replaced, clients that send their requests again when the process died. Everything comes from one seed.
// It checks: what a node commits is what all commit; a commit is durable at a majority of the voters at that moment;
// states are identical at the same index; each request has one outcome, on all nodes, whoever answers it; what observers
// derive from the changes they hear is what the state says.
import Model
import OrderedCollections
import TestSupport

@testable import Catalog
@testable import Simulator

/// The clock of a host, which runs at its own rate and goes on while the process is stopped.
final class HostClock: Clock {
    unowned let world: ClusterWorld
    unowned let node: ClusterNode
    let rate: Double
    let offset: UInt64
    let incarnation: UInt64
    init(_ world: ClusterWorld, _ node: ClusterNode) {
        self.world = world
        self.node = node
        rate = node.clockRate
        offset = node.clockOffset
        incarnation = node.incarnation
    }
    var now: Instant { node.now(world.now) }
    var wallClock: UInt64 { world.now }
    func after(milliseconds: UInt64, _ action: @escaping () -> Void) {
        world.later(Double(milliseconds) / rate) { [self] in try world.enter(node, incarnation) { action() } }
    }
}

/// A disk whose operations take virtual time, and whose answers wait for a stopped process.
final class TimedDisk: Disk {
    let disk: Simulator.MemoryDisk
    unowned let world: ClusterWorld
    unowned let node: ClusterNode
    let incarnation: UInt64
    init(_ disk: Simulator.MemoryDisk, _ world: ClusterWorld, _ node: ClusterNode) {
        self.disk = disk
        self.world = world
        self.node = node
        incarnation = node.incarnation
    }
    var space: DiskSpace { disk.space }
    var maximumBufferedWrite: Int { 65536 }
    func submit(_ operation: DiskOperation, _ completion: @escaping (Result<DiskOutcome, Errno>) -> Void) {
        let isSlow = world.random.chance(percent: 3)
        if world.options.sabotage == .answerBeforeDurable, case .appendSynced = operation {
            // Said to be there when it was only sent; it gets there later, or never.
            world.later(0.1) { [self] in try world.enter(node, incarnation) { completion(.success(.done)) } }
            world.later(isSlow ? 2000 : 20) { [self] in
                if node.incarnation == incarnation { disk.submit(operation) { _ in }; disk.runOne() }
            }
            return
        }
        disk.submit(operation) { [self] result in
            try? world.enter(node, incarnation) { completion(result) }
        }
        world.later(isSlow ? world.milliseconds(50, 800) : world.milliseconds(0.1, 4)) { [disk] in disk.runOne() }
    }
}

final class ClusterNode: GroupNode, ClusterTransport {
    unowned var world: ClusterWorld!
    var key: UInt64
    var disks: [(id: StoreId, disk: Simulator.MemoryDisk)] = []
    let clockRate: Double
    let clockOffset: UInt64
    var clock: HostClock!
    var log: MemberLog?
    var catalog: ClusterCatalog?
    var isOpening = false
    var isInstalling = false
    /// Stores that an administrator gave up, until the next start.
    var lost: [StoreId] = []
    /// Keeps a log alive while it opens.
    var opening: MemberLog?
    /// What waits for a stopped process.
    var inbox: [() throws -> Void] = []
    /// What was certainly durable when the last process ended; nil: lost.
    var lastMember: StoredMember?
    var observed = Observed()
    // The client on this host, which lives longer than the process.
    var open: [(request: RequestId, command: CatalogCommand)] = []
    var nextRequest: UInt64 = 0
    /// Changes of the voters that this process proposed and that have no answer.
    var voterChanges = 0

    override var isAlive: Bool { catalog != nil && catalog?.stopped == nil }
    /// The host's own clock at a true time.
    func now(_ time: UInt64) -> Instant { Instant(nanoseconds: clockOffset + UInt64(Double(time) * clockRate)) }

    init(_ id: NodeId, key: UInt64, clockRate: Double, clockOffset: UInt64) {
        self.key = key
        self.clockRate = clockRate
        self.clockOffset = clockOffset
        super.init(id)
    }
    var durable: StoredMember? { log?.member ?? lastMember }

    func multicast(_ message: AgreementMessage) { world.multicast(self, message) }
    func send(_ message: TransferMessage, to node: NodeId) { world.send(self, message, node) }
}

/// What an observer derives from the changes it hears.
struct Observed: Equatable {
    var volumes: [VolumeId: VolumeRecord] = [:]
    var directories: [DirectoryId: DirectoryRecord] = [:]
    var names: [DirectoryEntryKey: String] = [:]
    var settings = Settings()

    init() {}
    init(_ state: CatalogState) {
        for (id, volume) in state.volumes { volumes[id] = volume }
        for (id, directory) in state.directories { directories[id] = directory }
        for (id, directory) in state.directories where id != .root {
            names[DirectoryEntryKey(directory.parent, directory.name)] = "d\(id)"
        }
        for volume in state.volumes.values where !volume.isHidden {
            names[DirectoryEntryKey(volume.directory, volume.name)] = "v\(volume.id)"
            for snapshot in volume.visibleSnapshots {
                let name = Names.compose(volume: volume.name, tag: snapshot.tag)
                names[DirectoryEntryKey(volume.directory, name)] = "s\(volume.id)@\(snapshot.generation)"
            }
        }
        settings = state.settings
    }
    mutating func hear(_ changes: [CatalogChange], _ state: CatalogState) {
        for change in changes {
            switch change {
            case .settings: settings = state.settings
            case .map: break
            case .volumeCreated(let id), .volumeChanged(let id), .volumeRemoved(let id), .snapshotCreated(let id, _),
                .snapshotRemoved(let id, _):
                volumes[id] = state.volumes[id]
            case .directoryCreated(let id), .directoryChanged(let id), .directoryRemoved(let id):
                directories[id] = state.directories[id]
            case .name(let directory, let name):
                names[DirectoryEntryKey(directory, name)] = Observed.lookUp(directory, name, state)
            }
        }
    }
    private static func lookUp(_ directory: DirectoryId, _ name: String, _ state: CatalogState) -> String? {
        switch state.entry(directory, name) {
        case .directory(let id): return "d\(id)"
        case .volume(let id): return "v\(id)"
        case nil: break
        }
        for volume in state.volumes.values where !volume.isHidden && volume.directory == directory {
            for snapshot in volume.visibleSnapshots where Names.compose(volume: volume.name, tag: snapshot.tag) == name
            {
                return "s\(volume.id)@\(snapshot.generation)"
            }
        }
        return nil
    }
}

final class ClusterWorld: GroupWorld<ClusterNode> {
    struct Options {
        var nodes = 3
        var voters = 3
        var isQuorumBlind = false
        var seconds = 40
        var changesVoters = true
        var imageInterval = 4000
        /// Clients ask for all kinds of things; else they change the voters only.
        var requests = true
        /// Of the clocks' rates, in thousandths.
        var skew = 20
        var sabotage: Sabotage?
    }
    enum Sabotage: CaseIterable {
        /// A disk says that an append is durable before it is.
        case answerBeforeDurable
        /// A client sends a request again as another one.
        case forgetRequestIds
        /// What a node delivers to itself is taken as committed.
        case selfDeliveryIsCommit
        /// A node that lost its log, or half of it, votes as the one that had it.
        case keepKey
        /// Observers are not told of what changed when the state comes whole.
        case silentInstall
    }
    static let cluster = ClusterId(high: 11, low: 22)

    let options: Options
    /// Connections that are cut: from, to.
    private var cuts: Set<[UInt32]> = []
    // The reference: one state machine that applies each entry when it is first committed anywhere.
    private(set) var committed: [AgreementEntry] = []
    private(set) var reference: (record: ClusterRecord, state: CatalogState)
    private let founding: AgreementImage
    private(set) var lastVoterChange: UInt64 = 0
    private var images: [UInt64: [UInt8]] = [:]
    private var outcomes: [RequestId: CommandAnswer] = [:]
    private(set) var answers = 0
    private(set) var installs = 0
    private var unique: Set<RequestId> = []
    private var firstAnswers: [RequestId: CommandAnswer] = [:]
    var quietAt = UInt64.max
    var failure: AgreementFailure?
    /// Called on each new process of a node.
    var onStart: (ClusterNode) -> Void = { _ in }
    var onCrash: (ClusterNode) -> Void = { _ in }
    var onTick: (ClusterNode) throws -> Void = { _ in }

    init(seed: UInt64, _ options: Options) {
        self.options = options
        let voters = (1...options.voters).map { Voter(NodeId(UInt32($0)), key: UInt64($0) * 100) }
        var settings = Settings()
        settings.leaseMilliseconds = 3000
        let state = CatalogState(clusterId: ClusterWorld.cluster, settings: settings, rootAttributes: someAttributes)
        founding = AgreementImage.founding(state, voters: voters)
        reference = try! ClusterRecord.decode(founding.state)
        super.init(seed: seed, isQuorumBlind: options.isQuorumBlind)
        for id in 1...options.nodes {
            let skew = Double(random.below(2 * options.skew + 1) - options.skew) / 1000
            let node = ClusterNode(
                NodeId(UInt32(id)), key: UInt64(id) * 100, clockRate: 1 + skew,
                clockOffset: UInt64(random.below(1_000_000_000)))
            node.world = self
            for disk in 1...(1 + random.below(3)) {
                let memory = Simulator.MemoryDisk(seed: random.next())
                memory.tearsSyncedAppends = true
                node.disks.append((StoreId(UInt64(id * 10 + disk)), memory))
            }
            nodes.append(node)
        }
    }

    func fail(_ text: String) {
        if failure == nil { failure = AgreementFailure(description: "\(now / 1_000_000) ms: \(text)") }
    }

    // MARK: processes

    func boot() throws {
        for node in nodes {
            try makeLog(node, node.id.rawValue <= UInt32(options.voters) ? founding : .blank)
            startProcess(node)
        }
        formRings()
    }
    /// A new log on empty disks.
    private func makeLog(_ node: ClusterNode, _ image: AgreementImage) throws {
        node.incarnation += 1
        node.clock = HostClock(self, node)
        let log = MemberLog(
            disks: node.disks.map { ($0.id, $0.disk as any Disk) }, clock: node.clock, incarnation: node.incarnation)
        var result: SheepError??
        log.create(clusterId: ClusterWorld.cluster, node: node.id, key: node.key, image: image) { result = $0 }
        while result == nil, node.disks.contains(where: { $0.disk.hasOperations }) {
            for (_, disk) in node.disks { disk.runOne() }
        }
        guard case .some(.none) = result else {
            throw AgreementFailure(description: "\(node.id) makes no log: \(String(describing: result))")
        }
        withExtendedLifetime(log) { node.lastMember = log.member }
    }

    func startProcess(_ node: ClusterNode) {
        guard !node.isAlive, !node.isOpening else { return }
        node.incarnation += 1
        node.events = []
        node.outgoing = []
        node.inbox = []
        node.isPaused = false
        node.isOpening = true
        node.clock = HostClock(self, node)
        let incarnation = node.incarnation
        let log = MemberLog(
            disks: node.disks.map { ($0.id, TimedDisk($0.disk, self, node) as any Disk) }, clock: node.clock,
            incarnation: incarnation, imageInterval: options.imageInterval)
        let freshKey = options.sabotage == .keepKey ? node.key : node.key + 1
        log.open(acceptMissing: node.lost, freshKey: freshKey) { [self] error in
            node.isOpening = false
            if let error {
                note("\(node.id) does not open: \(error.what) \(describeDisks(node))")
                return later(700) { [self] in
                    if node.incarnation == incarnation { startProcess(node) }
                }
            }
            began(node, log)
        }
        node.opening = log
    }
    private func began(_ node: ClusterNode, _ log: MemberLog) {
        let incarnation = node.incarnation
        node.log = log
        node.lost = []
        node.key = log.key
        let catalog: ClusterCatalog
        do {
            catalog = try ClusterCatalog(
                log: log, incarnation: incarnation, clock: node.clock, transport: node,
                imageInterval: options.imageInterval)
        } catch { return fail("\(node.id) does not start: \(error)") }
        node.catalog = catalog
        node.observed = Observed(catalog.state)
        note("\(node.id)/\(incarnation) starts at \(catalog.state.index), promised \(log.member.promised)")
        catalog.onApply = { [unowned self, unowned node] in applied(node, $0, $1) }
        catalog.observe { [unowned self, unowned node] changes in
            guard let catalog = node.catalog else { return }
            if options.sabotage == .silentInstall, node.isInstalling { return }
            node.observed.hear(changes, catalog.state)
        }
        catalog.onStop = { [unowned self, unowned node] error in
            note("\(node.id) stops: \(error.why)")
            later(0) { [self] in
                guard node.incarnation == incarnation else { return }
                crash(node, power: false)
                later(500) { [self] in startProcess(node) }
            }
        }
        onStart(node)
        if let ring = node.ring { join(node, ring) }
        tick(node, incarnation)
        work(node, incarnation)
        // What the old process did not answer comes again.
        for (request, command) in node.open {
            submit(node, options.sabotage == .forgetRequestIds ? nil : request, request, command)
        }
    }

    /// Runs in a process, or when it goes on; not in another one.
    func enter(_ node: ClusterNode, _ incarnation: UInt64, _ action: @escaping () throws -> Void) throws {
        guard node.incarnation == incarnation, node.isAlive || node.isOpening else { return }
        if node.isPaused { node.inbox.append { [self] in try enter(node, incarnation, action) } } else { try action() }
    }
    override func handle(_ node: ClusterNode, _ event: AgreementEvent) throws {
        node.catalog?.handle(event)
        if options.sabotage == .selfDeliveryIsCommit,
            case .delivered(.entry(_, _, .command(let bytes)), let from) = event,
            from == node.member, case .catalog(_, let request?)? = try? ClusterCommand(decoding: bytes)
        {
            answered(node, request, .done)
        }
        if let failure { throw failure }
    }
    func resume(_ node: ClusterNode) throws {
        guard node.isPaused else { return }
        node.isPaused = false
        try drain(node)
        let waiting = node.inbox
        node.inbox = []
        for action in waiting { try action() }
    }
    private func tick(_ node: ClusterNode, _ incarnation: UInt64) {
        later(milliseconds(50, 250)) { [self] in
            guard node.incarnation == incarnation, node.isAlive else { return }
            if !node.isPaused {
                node.catalog?.tick()
                try onTick(node)
            }
            if let failure { throw failure }
            tick(node, incarnation)
        }
    }

    func crash(_ node: ClusterNode, power: Bool) {
        guard node.isAlive || node.isOpening || node.catalog != nil else { return }
        note("\(node.id) \(power ? "loses power" : "is killed")")
        onCrash(node)
        if let member = node.log?.member { node.lastMember = member }
        node.catalog = nil
        node.voterChanges = 0
        node.log = nil
        node.opening = nil
        node.isOpening = false
        node.isPaused = false
        node.events = []
        node.outgoing = []
        node.inbox = []
        for (_, disk) in node.disks { if power { disk.losePower() } else { disk.killProcess() } }
        if let ring = node.ring { leave(node, ring) }
        // Nothing of this life reaches the next one.
        node.incarnation += 1
    }
    /// All disks are new.
    func wipe(_ node: ClusterNode) throws {
        note("\(node.id) loses its log")
        for (_, disk) in node.disks {
            disk.wipe()
            disk.isBroken = false
        }
        node.lost = []
        if options.sabotage != .keepKey { node.key += 1 }
        try makeLog(node, options.sabotage == .keepKey ? founding : .blank)
    }

    // MARK: messages

    func multicast(_ node: ClusterNode, _ message: AgreementMessage) {
        if random.chance(percent: 10) {
            let bytes = message.encoded(ClusterWorld.cluster)
            if (try? AgreementMessage(decoding: bytes, ClusterWorld.cluster)) != message {
                fail("a message that is read as another one: \(message)")
            }
        }
        node.outgoing.append(message)
        let incarnation = node.incarnation
        later(milliseconds(0.1, 3)) { [self] in if node.incarnation == incarnation { order(node) } }
    }
    func send(_ node: ClusterNode, _ message: TransferMessage, _ to: NodeId) {
        let bytes = message.encoded(ClusterWorld.cluster)
        connect(node, self.node(to), bytes.count) { [self] peer in
            guard let message = try? TransferMessage(decoding: bytes, ClusterWorld.cluster) else {
                return fail("a message that cannot be read")
            }
            push(peer, .received(message, from: node.id))
        }
    }
    /// Over a connection: late, lost, twice.
    func connect(_ from: ClusterNode, _ to: ClusterNode, _ bytes: Int, _ action: @escaping (ClusterNode) -> Void) {
        let isDelayed = !isHealed && random.chance(percent: 3)
        later(from === to ? 0.01 : isDelayed ? milliseconds(50, 4000) : milliseconds(0.2, 5)) { [self] in
            guard !isCut(from, to), from === to || isHealed || !random.chance(percent: 5) else { return }
            let copies = from !== to && random.chance(percent: 3) ? 2 : 1
            for _ in 0..<copies where to.isAlive { action(to) }
        }
    }
    private func isCut(_ from: ClusterNode, _ to: ClusterNode) -> Bool {
        cuts.contains([from.id.rawValue, to.id.rawValue])
    }
    func cut(percent: Int) {
        cuts = []
        for from in nodes {
            for to in nodes where from !== to && random.chance(percent: percent) {
                cuts.insert([from.id.rawValue, to.id.rawValue])
            }
        }
    }
    func cutAs(_ parts: [Int]) {
        cuts = []
        for (i, from) in nodes.enumerated() {
            for (j, to) in nodes.enumerated() where parts[i] != parts[j] {
                cuts.insert([from.id.rawValue, to.id.rawValue])
            }
        }
    }

    // MARK: clients

    private func work(_ node: ClusterNode, _ incarnation: UInt64) {
        later(milliseconds(20, 500)) { [self] in
            guard node.incarnation == incarnation, node.isAlive else { return }
            if !node.isPaused, node.open.count < 30, let catalog = node.catalog {
                if options.changesVoters, random.chance(percent: 10), let voters = changed(catalog.record.voters) {
                    lastVoterChange = now
                    node.voterChanges += 1
                    catalog.propose(voters: voters) { [unowned node] _ in node.voterChanges -= 1 }
                } else if options.requests {
                    ask(node, catalog)
                }
            }
            if now < quietAt { work(node, incarnation) }
        }
    }
    func ask(_ node: ClusterNode, _ catalog: ClusterCatalog) {
        node.nextRequest += 1
        let request = RequestId(client: UInt64(node.id.rawValue), number: node.nextRequest)
        var command: CatalogCommand
        if random.chance(percent: 40) {
            // Has one outcome if it is done once.
            unique.insert(request)
            command = .createVolume(
                directory: .root, name: "u\(request.client)-\(request.number)", size: 5, copies: nil,
                attributes: someAttributes)
        } else {
            var commands = Commands(random: Random(random.next()), withMap: false)
            command = commands.next(catalog.state)
            // Leases belong to sessions: see LeaseWorld.
            if case .acquireLease = command { command = .none }
        }
        node.open.append((request, command))
        submit(node, request, request, command)
        if random.chance(percent: 5), options.sabotage != .forgetRequestIds { submit(node, request, request, command) }
    }
    private func submit(_ node: ClusterNode, _ id: RequestId?, _ request: RequestId, _ command: CatalogCommand) {
        guard let catalog = node.catalog else { return }
        catalog.propose(command, request: id) { [unowned self, unowned node] answer in
            // The process is ending: nothing goes out.
            guard node.catalog != nil, node.catalog?.stopped == nil else { return }
            answered(node, request, answer)
        }
    }
    private func answered(_ node: ClusterNode, _ request: RequestId, _ answer: CommandAnswer) {
        answers += 1
        node.open.removeAll { $0.request == request }
        if unique.contains(request) {
            guard case .volume = answer else { return fail("\(node.id) answers \(request) with \(answer)") }
        }
        if case .refused(let error) = answer {
            if error.errno == .tryAgain { return }
            if error == .unknownOutcome { return fail("\(node.id) does not know the outcome of \(request)") }
        }
        guard let outcome = outcomes[request] else {
            return fail("\(node.id) answers \(request), which is not committed")
        }
        if outcome != answer { fail("\(node.id) answers \(request) with \(answer), another got \(outcome)") }
    }
    private func changed(_ voters: [Voter]) -> [Voter]? {
        if let stale = voters.first(where: { node($0.node).key != $0.key }) { return voters.filter { $0 != stale } }
        let others = nodes.filter { node in !voters.contains { $0.node == node.id } }
        if let other = others.isEmpty ? nil : Optional(random.pick(others)), voters.count < 5,
            voters.count < 3 || random.chance(percent: 50)
        {
            return voters + [Voter(other.id, key: other.key)]
        }
        guard voters.count > 2 else { return nil }
        let gone = random.pick(voters)
        return voters.filter { $0 != gone }
    }

    // MARK: checks

    private func applied(_ node: ClusterNode, _ entry: AgreementEntry?, _ answer: CommandAnswer) {
        guard let catalog = node.catalog else { return }
        let base = founding.position.index
        guard let entry else {
            installs += 1
            node.isInstalling = true
            later(0) { node.isInstalling = false }
            let index = catalog.state.index
            guard index <= base + UInt64(committed.count) else { return fail("\(node.id) gets an uncommitted state") }
            return compare(node, catalog)
        }
        let position = Int(entry.index - base)
        if position <= committed.count {
            if committed[position - 1] != entry {
                fail("\(node.id) commits \(entry) where another committed \(committed[position - 1])")
            }
            return compare(node, catalog)
        }
        guard position == committed.count + 1 else { return fail("a gap before \(entry.index)") }
        checkMajority(entry)
        committed.append(entry)
        do {
            var record = reference.record
            let (expected, _) = try record.apply(entry, to: &reference.state)
            reference.record = record
            if expected != answer { fail("\(node.id) has another answer") }
            if case .command(let bytes) = entry.content,
                case .catalog(_, let request?) = try ClusterCommand(decoding: bytes)
            {
                var isAgain = false
                if case .refused(let error) = expected, error.errno == .tryAgain { isAgain = true }
                if !isAgain {
                    if let earlier = outcomes[request], earlier != expected { fail("\(request) has two outcomes") }
                    outcomes[request] = expected
                }
            }
        } catch { fail("an entry that cannot be read: \(error)") }
        if entry.index % 16 == 0 { images[entry.index] = reference.record.encoded(with: reference.state) }
        compare(node, catalog)
    }
    private func compare(_ node: ClusterNode, _ catalog: ClusterCatalog) {
        guard let expected = images[catalog.state.index] else { return }
        if catalog.record.encoded(with: catalog.state) != expected {
            fail("\(node.id) has another state at \(catalog.state.index)")
        }
    }
    /// Whoever hands an entry out first: it must be durable at a majority of those who vote.
    private func checkMajority(_ entry: AgreementEntry) {
        let holders = reference.record.voters.count { voter in
            guard let member = node(voter.node).durable, member.key == voter.key else { return false }
            if member.image.position.index >= entry.index { return true }
            let offset = Int(entry.index - member.image.position.index) - 1
            return offset < member.entries.count && member.entries[offset] == entry
        }
        if 2 * holders <= reference.record.voters.count {
            fail("\(entry.index) is committed with \(holders) of \(reference.record.voters)")
        }
    }

    private func describeDisks(_ node: ClusterNode) -> String {
        node.disks.map { id, disk in
            let files = (disk.list(.catalogState) + disk.list(.catalogLog)).map { file in
                var text = "\(file) \(disk.contents(file)?.count ?? 0)"
                if case .catalogState = file,
                    let image = try? StateLogFormat<StoredMember>.decodeImage(disk.contents(file) ?? [])
                {
                    text += " list \(image.state.catalogStores) \(image.state.unconfirmedCatalogStores) v\(image.view)"
                }
                return text
            }
            return "\(id) broken \(disk.isBroken) \(files)"
        }.joined(separator: "; ")
    }
    private func describeNodes() -> String {
        nodes.map { node in
            guard let agreement = node.catalog?.agreement else { return "\(node.id) opening \(node.isOpening)" }
            let phase =
                switch agreement.phase {
                case .apart: "apart"
                case .gathering: "gathering"
                case .inView(let view):
                    "in \(view.number) of \(view.members) states "
                        + "\(view.states.map { "\($0.member) \($0.state.last) \($0.state.key ?? 0)" }) chosen "
                        + "\(view.chosen.map(\.description) ?? "-") aligned \(view.isAligned) acks "
                        + "\(view.acks.map { "\($0.node):\($0.index)" }) aligning \(String(describing: view.aligning))"
                }
            return "\(node.id) key \(node.key) at \(agreement.last) committed \(agreement.commit) voters "
                + "\(agreement.log.lists(committed: agreement.knownCommitted).map { $0.voters.map { "\($0.node)=\($0.key)" } }) \(phase)"
        }.joined(separator: "\n")
    }
    func checkEnd() throws {
        if let failure { throw failure }
        let expected = reference.record.encoded(with: reference.state)
        for node in nodes {
            guard let catalog = node.catalog, catalog.isActive else {
                throw AgreementFailure(description: "\(node.id) is not active at the end: \(describeNodes())")
            }
            guard catalog.record.encoded(with: catalog.state) == expected else {
                throw AgreementFailure(description: "\(node.id) has another state at the end: \(describeNodes())")
            }
            guard node.observed == Observed(catalog.state) else {
                throw AgreementFailure(description: "observers on \(node.id) have not heard of everything")
            }
            guard node.open.isEmpty, catalog.waitingCount == 0 else {
                throw AgreementFailure(
                    description:
                        "\(node.id) has \(node.open.count) requests and \(catalog.waitingCount) proposals left "
                        + "\(catalog.agreement?.proposals ?? []) \(describeNodes())")
            }
        }
        guard answers > 20 || !options.requests else { throw AgreementFailure(description: "only \(answers) answers") }
    }
}
