// A network between processes in virtual time, from one seed: connections carry bytes, in pieces of any size, late but in
// order. They break at any moment, each end learning of it at another one, so that an old connection may still bring
// something when a new one is there. Directions can be cut: what was sent then comes when the cut ends.
import Model
import Wire

package final class SimulatedNetwork {
    package let queue: EventQueue
    package var random: Random
    /// Directions that nothing passes.
    private var cuts: Set<[NodeId]> = []
    /// Who takes connections, by node.
    package var listeners: [(process: SimulatedProcess, accept: (SimulatedLink) -> Void)] = []
    package var connections: [SimulatedConnection] = []
    /// Percent of connections on which a bit is flipped some time.
    package var corruptionPercent = 0
    /// Every so many pieces come late, by up to this many milliseconds.
    package var slownessMilliseconds = 3
    package let cluster = ClusterId(high: 0xc1, low: 0x05)
    package private(set) var established = 0
    package private(set) var refusals: [WireConnection.End] = []

    package init(queue: EventQueue, seed: UInt64) {
        self.queue = queue
        random = Random(seed ^ 0x7e7)
    }

    package func cut(_ from: NodeId, _ to: NodeId) { cuts.insert([from, to]) }
    package func heal() { cuts = [] }
    package var isWhole: Bool { cuts.isEmpty }
    package func isCut(_ from: NodeId, _ to: NodeId) -> Bool { cuts.contains([from, to]) }
    /// Each end learns of it at a time of its own.
    package func breakConnections(of node: NodeId? = nil) {
        for connection in connections where !connection.isBroken {
            if node == nil || connection.ends.contains(where: { $0.process.node == node }) { connection.breakSoon() }
        }
    }
    /// Whether everybody knows of each connection that has broken.
    package var allBreaksAreHeard: Bool {
        connections.removeAll { $0.isBroken && $0.ends.allSatisfy { $0.lost == nil || !$0.process.isAlive } }
        return connections.allSatisfy { !$0.isBroken }
    }
    package func listen(_ process: SimulatedProcess, _ accept: @escaping (SimulatedLink) -> Void) {
        listeners.removeAll { $0.process.node == process.node }
        listeners.append((process, accept))
    }
    package func noteEstablished() { established += 1 }
    package func note(_ end: WireConnection.End) { refusals.append(end) }
    /// Not a cryptographic one: what is proved here is what the handshake does with it.
    package static func authenticate(_ key: UInt64) -> ([UInt8]) -> [UInt8] {
        { message in
            var random = Random(key ^ UInt64(crc32c(message)) << 20 ^ UInt64(message.count))
            return (0..<4).flatMap { _ in withUnsafeBytes(of: random.next()) { Array($0) } }
        }
    }
    package func nonce() -> [UInt8] { (0..<4).flatMap { _ in withUnsafeBytes(of: random.next()) { Array($0) } } }
}
