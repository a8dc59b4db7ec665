// A network between processes in virtual time, from one seed: connections carry bytes, in pieces of any size, late but in
// order. They break at any moment, each end learning of it at another one, so that an old connection may still bring
// something when a new one is there. Directions can be cut: what was sent then comes when the cut ends.
import Model
import TestSupport

@testable import Replication
@testable import Wire

/// A process in virtual time. When it dies its timers never fire.
final class SimulatedProcess: Clock {
    let machine: VirtualMachine
    let node: NodeId
    let incarnation: UInt64
    private(set) var isAlive = true
    /// What it would have done meanwhile happens when it goes on.
    private var stopped: [() -> Void]?

    init(machine: VirtualMachine, node: NodeId, incarnation: UInt64) {
        self.machine = machine
        self.node = node
        self.incarnation = incarnation
    }
    var now: Instant { machine.now }
    var wallClock: UInt64 { machine.wallClock }
    func after(milliseconds: UInt64, _ action: @escaping () -> Void) {
        machine.after(milliseconds: milliseconds) { [self] in run(action) }
    }
    func run(_ action: @escaping () -> Void) {
        guard isAlive else { return }
        if stopped != nil { stopped!.append(action) } else { action() }
    }
    func kill() {
        isAlive = false
        stopped = nil
    }
    /// Like SIGSTOP and SIGCONT.
    func stop() { if stopped == nil { stopped = [] } }
    var isStopped: Bool { stopped != nil }
    func resume() {
        let actions = stopped ?? []
        stopped = nil
        for action in actions { run(action) }
    }
}

final class SimulatedNetwork {
    let machine: VirtualMachine
    var random: Random
    /// Directions that nothing passes.
    private var cuts: Set<[NodeId]> = []
    /// Who takes connections, by node.
    var listeners: [(process: SimulatedProcess, accept: (SimulatedLink) -> Void)] = []
    var connections: [SimulatedConnection] = []
    /// Percent of connections on which a bit is flipped some time.
    var corruptionPercent = 0
    /// Every so many pieces come late, by up to this many milliseconds.
    var slownessMilliseconds = 3
    let cluster = ClusterId(high: 0xc1, low: 0x05)
    private(set) var established = 0
    private(set) var refusals: [WireConnection.End] = []

    init(machine: VirtualMachine, seed: UInt64) {
        self.machine = machine
        random = Random(seed ^ 0x7e7)
    }

    func cut(_ from: NodeId, _ to: NodeId) { cuts.insert([from, to]) }
    func heal() { cuts = [] }
    var isWhole: Bool { cuts.isEmpty }
    func isCut(_ from: NodeId, _ to: NodeId) -> Bool { cuts.contains([from, to]) }
    /// Each end learns of it at a time of its own.
    func breakConnections(of node: NodeId? = nil) {
        for connection in connections where !connection.isBroken {
            if node == nil || connection.ends.contains(where: { $0.process.node == node }) { connection.breakSoon() }
        }
    }
    /// Whether everybody knows of each connection that has broken.
    var allBreaksAreHeard: Bool {
        connections.removeAll { $0.isBroken && $0.ends.allSatisfy { $0.lost == nil || !$0.process.isAlive } }
        return connections.allSatisfy { !$0.isBroken }
    }
    func listen(_ process: SimulatedProcess, _ accept: @escaping (SimulatedLink) -> Void) {
        listeners.removeAll { $0.process.node == process.node }
        listeners.append((process, accept))
    }
    func noteEstablished() { established += 1 }
    func note(_ end: WireConnection.End) { refusals.append(end) }
    /// Not a cryptographic one: what is proved here is what the handshake does with it.
    static func authenticate(_ key: UInt64) -> ([UInt8]) -> [UInt8] {
        { message in
            var random = Random(key ^ UInt64(crc32c(message)) << 20 ^ UInt64(message.count))
            return (0..<4).flatMap { _ in withUnsafeBytes(of: random.next()) { Array($0) } }
        }
    }
    func nonce() -> [UInt8] { (0..<4).flatMap { _ in withUnsafeBytes(of: random.next()) { Array($0) } } }
}

/// One connection: two directions of bytes and their ends.
final class SimulatedConnection {
    final class End {
        let process: SimulatedProcess
        var receive: (([UInt8]) -> Void)?
        var lost: (() -> Void)?
        var nextArrival: UInt64 = 0
        var queue: [(at: UInt64, bytes: [UInt8])] = []
        init(_ process: SimulatedProcess) { self.process = process }
    }
    let network: SimulatedNetwork
    let ends: [End]
    private(set) var isBroken = false
    private var bytesUntilCorruption: Int?

    init(_ network: SimulatedNetwork, _ a: SimulatedProcess, _ b: SimulatedProcess) {
        self.network = network
        ends = [End(a), End(b)]
        if network.random.chance(percent: network.corruptionPercent) {
            bytesUntilCorruption = network.random.below(200_000)
        }
    }

    /// From the end with this number to the other one.
    func send(from: Int, _ bytes: [UInt8]) {
        guard !isBroken else { return }
        var rest = bytes[...]
        while !rest.isEmpty {
            let isSplit = network.random.chance(percent: 20)
            var piece = Array(rest.prefix(isSplit ? 1 + network.random.below(rest.count) : rest.count))
            rest = rest.dropFirst(piece.count)
            if let left = bytesUntilCorruption {
                if left < piece.count { piece[left] ^= 1 << UInt8(network.random.below(8)) }
                bytesUntilCorruption = left < piece.count ? nil : left - piece.count
            }
            let end = ends[1 - from]
            let delay =
                network.random.chance(percent: 70)
                ? 0 : UInt64(network.random.below(network.slownessMilliseconds + 1))
            let at = max(end.nextArrival, network.machine.nanoseconds + delay * 1_000_000)
            end.nextArrival = at
            end.queue.append((at, piece))
            deliverLater(1 - from, milliseconds: (at - network.machine.nanoseconds + 999_999) / 1_000_000)
        }
    }
    private func deliverLater(_ number: Int, milliseconds: UInt64) {
        network.machine.after(milliseconds: milliseconds) { [self] in deliver(number) }
    }
    private func deliver(_ number: Int) {
        let end = ends[number]
        guard let first = end.queue.first, end.receive != nil else { return }
        if network.isCut(ends[1 - number].process.node, end.process.node) {
            return deliverLater(number, milliseconds: 20)
        }
        guard first.at <= network.machine.nanoseconds else { return deliverLater(number, milliseconds: 1) }
        end.queue.removeFirst()
        end.process.run { end.receive?(first.bytes) }
    }

    func breakSoon() {
        isBroken = true
        for number in 0...1 {
            // Half of the time an end hears of it at once; else late, or only by its silence.
            let delay = network.random.pick([0, 0, 1, 5, 50, 400, 4_000])
            network.machine.after(milliseconds: UInt64(delay)) { [self] in end(number) }
        }
    }
    /// This end closes; the other one hears of it.
    func close(_ number: Int) {
        isBroken = true
        ends[number].receive = nil
        ends[number].lost = nil
        network.machine.after(milliseconds: UInt64(network.random.below(5))) { [self] in end(1 - number) }
        network.connections.removeAll { $0 === self }
    }
    private func end(_ number: Int) {
        let end = ends[number]
        end.process.run {
            let lost = end.lost
            end.receive = nil
            end.lost = nil
            lost?()
        }
    }
}

/// A link over simulated connections: of a gateway, which connects again, or one that was accepted.
final class SimulatedLink: PeerLink {
    var onEvent: (PeerLinkEvent) -> Void = { _ in }
    private let network: SimulatedNetwork
    private let process: SimulatedProcess
    private let pool: BufferPool
    private let target: NodeId?
    private var key: UInt64
    private var connection: SimulatedConnection?
    private var end = 0
    private var wire: WireConnection?
    private var isEstablished = false

    /// `target`: nil for one that is accepted.
    init(
        _ network: SimulatedNetwork, _ process: SimulatedProcess, pool: BufferPool, to target: NodeId?, key: UInt64 = 7
    ) {
        self.network = network
        self.process = process
        self.pool = pool
        self.target = target
        self.key = key
        if target != nil { connectSoon() }
    }

    private func connectSoon() {
        process.after(milliseconds: UInt64(1 + network.random.below(60))) { [self] in connect() }
    }
    private func connect() {
        guard let target, connection == nil else { return }
        guard let listener = network.listeners.first(where: { $0.process.node == target && $0.process.isAlive }),
            !network.isCut(process.node, target), !network.isCut(target, process.node)
        else { return connectSoon() }
        let connection = SimulatedConnection(network, process, listener.process)
        network.connections.append(connection)
        let accepted = SimulatedLink(network, listener.process, pool: pool, to: nil, key: key)
        accepted.use(connection, end: 1, role: .responder)
        listener.accept(accepted)
        use(connection, end: 0, role: .initiator(to: target))
    }

    private func use(_ connection: SimulatedConnection, end: Int, role: Handshake.Role) {
        self.connection = connection
        self.end = end
        isEstablished = false
        let wire = WireConnection(
            handshake: Handshake(
                role: role,
                own: HandshakeIdentity(
                    cluster: network.cluster, node: process.node, incarnation: process.incarnation,
                    windowBytes: 1 << 20),
                nonce: network.nonce(), authenticate: SimulatedNetwork.authenticate(key)), pool: pool)
        self.wire = wire
        wire.output = { [unowned self] frame in self.connection?.send(from: self.end, frame.encoded) }
        wire.onEstablished = { [unowned self] peer in
            isEstablished = true
            if target == nil { self.network.noteEstablished() }
            onEvent(.connected(peer))
        }
        wire.onFrame = { [unowned self] frame in onEvent(.received(frame)) }
        wire.onEnd = { [unowned self] reason in
            self.network.note(reason)
            dropSoon()
        }
        connection.ends[end].receive = { bytes in bytes.withUnsafeBytes { wire.receive($0) } }
        connection.ends[end].lost = { [self] in drop(close: false) }
        wire.start()
    }

    private func dropSoon() {
        let present = connection
        process.after(milliseconds: 0) { [self] in
            if present != nil, connection === present { drop(close: true) }
        }
    }
    private func drop(close: Bool) {
        guard let former = connection else { return }
        connection = nil
        wire?.stop()
        if close { former.close(end) }
        if isEstablished {
            isEstablished = false
            onEvent(.lost)
        }
        if target != nil { connectSoon() }
    }

    func send(_ frame: Frame) {
        guard isEstablished, let connection else { return }
        connection.send(from: end, frame.encoded)
    }
    func reset(_ reason: String) { dropSoon() }
}
