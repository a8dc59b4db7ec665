// Who knocks at a host in a scenario and does not belong to its cluster, and what else messages and clocks can do.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication
import Wire

enum Stranger: String {
    case otherCluster = "a node of another cluster"
    case withoutKey = "a node without the cluster's key"
    case wrongNode = "a node that takes host 1 for host 7"
    case garbage = "somebody with garbage"
    case truncated = "somebody with half a message"
}

extension Script {
    /// At host 1; it must be refused.
    func knock(_ stranger: Stranger) {
        guard isGoing, let network = world.cluster?.network,
            let listener = network.listeners.first(where: { $0.process.node == host(1).id })
        else { return }
        let process = SimulatedProcess(queue: world.queue, node: NodeId(9), incarnation: 1)
        let connection = SimulatedConnection(network, process, listener.process)
        network.connections.append(connection)
        let accepted = SimulatedLink(network, listener.process, pool: world.pool, to: nil)
        accepted.use(connection, end: 1, role: .responder)
        listener.accept(accepted)
        let established = network.established
        let refusals = network.refusals.count
        let wire = WireConnection(handshake: handshake(stranger, network), pool: world.pool)
        wire.output = { frame in
            let bytes = frame.encoded
            switch stranger {
            case .garbage: connection.send(from: 0, bytes.map { $0 ^ 0x55 })
            case .truncated: connection.send(from: 0, Array(bytes.prefix(bytes.count / 2)))
            default: connection.send(from: 0, bytes)
            }
        }
        connection.ends[0].receive = { bytes in bytes.withUnsafeBytes { wire.receive($0) } }
        wire.start()
        pass(seconds: 2)
        connection.close(0)
        pass(seconds: 1)
        expect(network.established == established, "\(stranger.rawValue) is not let in")
        let reason: String? =
            switch network.refusals.dropFirst(refusals).first {
            case .refused(let refusal, _)?: refusal.reason
            case .garbage?: "what it sent is no message"
            case nil: nil
            }
        if stranger != .truncated { expect(reason != nil, "\(stranger.rawValue) is refused") }
        tell("\(stranger.rawValue) knocks at host 1: \(reason ?? "nothing comes of it")")
    }
    private func handshake(_ stranger: Stranger, _ network: SimulatedNetwork) -> Handshake {
        let cluster = stranger == .otherCluster ? ClusterId(high: 0xdead, low: 1) : network.cluster
        let right = SimulatedNetwork.authenticate(7)
        let wrong = SimulatedNetwork.authenticate(8)
        return Handshake(
            role: .initiator(to: NodeId(stranger == .wrongNode ? 7 : 1)),
            own: HandshakeIdentity(cluster: cluster, node: NodeId(2), incarnation: 99), nonce: network.nonce(),
            authenticate: { message in
                // It does not care for the other side's proof, and has none of its own.
                let isOwn = message.starts(with: Array("sheepfold data 1 initiator".utf8))
                return stranger == .withoutKey && isOwn ? wrong(message) : right(message)
            })
    }

    func breakConnections() {
        guard isGoing else { return }
        world.cluster?.network.breakConnections()
    }
    var refusals: Int { world.cluster?.network.refusals.count ?? 0 }
    func setClock(_ number: Int, days: Int64) {
        guard isGoing else { return }
        tell("the wall clock of host \(number) is set \(days > 0 ? "forward" : "back") by \(abs(days)) days")
        world.queue.wallClockSteps[host(number).id, default: 0] += days * 86_400_000_000_000
    }
}
