// A peer link over simulated connections, with the real handshake and the real frames. The one that connects does so
// again whenever its connection is lost.
import Model
import Replication
import Wire

/// A link over simulated connections: of a gateway, which connects again, or one that was accepted.
package final class SimulatedLink: PeerLink {
    package var onEvent: (PeerLinkEvent) -> Void = { _ in }
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
    package init(
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

    func use(_ connection: SimulatedConnection, end: Int, role: Handshake.Role) {
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

    package func send(_ frame: Frame) {
        guard isEstablished, let connection else { return }
        connection.send(from: end, frame.encoded)
    }
    package func reset(_ reason: String) { dropSoon() }
}
