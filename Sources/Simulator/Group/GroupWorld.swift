// Nodes in a simulated group, by one seed in virtual time. The group behaves as Corosync's CPG does: members that move
// on together from a ring have delivered the same of it; a member that was paused delivers to itself what nobody else
// saw; what a minority sent is delivered after a merge; the callback of the quorum comes before or after that of the
// members, and seconds late in a minority; a process that is stopped stays a member.
import Catalog
import Model

package struct AgreementFailure: Error, CustomStringConvertible {
    package let description: String
    package init(description: String) { self.description = description }
}

/// A host in the group, and the process on it.
package class GroupNode {
    package let id: NodeId
    package var incarnation: UInt64 = 0
    // The process.
    package var isAlive: Bool { false }
    package var isPaused = false
    package var events: [AgreementEvent] = []
    package var outgoing: [AgreementMessage] = []
    // The host.
    package var component = 0
    package var ring: GroupRing?
    package var isCorosyncPaused = false
    package var delivered = 0

    package var member: Member { Member(id, incarnation: incarnation) }
    package init(_ id: NodeId) { self.id = id }
}

package final class GroupRing {
    package let id: RingId
    package let nodes: [NodeId]
    package var processes: [Member] = []
    /// Ordered messages and changes of the processes.
    package var stream: [StreamItem] = []
    package init(_ id: RingId, nodes: [NodeId]) {
        self.id = id
        self.nodes = nodes
    }
}

package enum StreamItem {
    case message(AgreementMessage, from: Member)
    case members([Member])
}

package class GroupWorld<Host: GroupNode> {
    package var nodes: [Host] = []
    package var random: Random
    /// Every side of a partition believes to be the majority: our own count alone must keep it safe.
    package let isQuorumBlind: Bool
    package var now: UInt64 { queue.nanoseconds }
    private let queue: EventQueue
    private var failure: (any Error)?
    private var ringSequence: UInt64 = 1
    package var isHealed = false
    package var trace: [String]?

    package init(seed: UInt64, isQuorumBlind: Bool, queue: EventQueue = EventQueue(startNanoseconds: 0)) {
        random = Random(seed)
        self.queue = queue
        self.isQuorumBlind = isQuorumBlind
    }

    /// What a process does with an event; it is alive.
    package func handle(_ node: Host, _ event: AgreementEvent) throws {
        preconditionFailure("a world says what its nodes do")
    }

    package func node(_ id: NodeId) -> Host { nodes[Int(id.rawValue) - 1] }
    package func note(_ text: @autoclosure () -> String) {
        if trace != nil { trace!.append("\(now / 1_000_000) ms: \(text())") }
    }

    // MARK: time

    package func later(_ milliseconds: Double, _ action: @escaping () throws -> Void) {
        queue.after(nanoseconds: UInt64(milliseconds * 1_000_000)) { [self] in
            guard failure == nil else { return }
            do { try action() } catch { failure = error }
        }
    }
    package func run(until end: UInt64) throws {
        while let next = queue.nextNanoseconds, next <= end {
            queue.runNext()
            if let failure { throw failure }
        }
        queue.advance(to: end)
    }
    package func milliseconds(_ low: Double, _ high: Double) -> Double {
        low + Double(random.below(1000)) / 1000 * (high - low)
    }

    // MARK: processes

    /// An event for a process; a stopped one gets it when it goes on.
    package func push(_ node: Host, _ event: AgreementEvent) {
        guard node.isAlive else { return }
        node.events.append(event)
        let incarnation = node.incarnation
        later(milliseconds(0, 1)) { [self] in if node.incarnation == incarnation { try drain(node) } }
    }
    package func drain(_ node: Host) throws {
        while !node.isPaused, node.isAlive, !node.events.isEmpty {
            try handle(node, node.events.removeFirst())
        }
    }

    // MARK: the group

    /// The next message of a member gets its place in the ring's order, and goes to all that are still in that ring.
    package func order(_ node: Host) {
        guard let ring = node.ring, !node.outgoing.isEmpty, node.isAlive else { return }
        if node.isCorosyncPaused { return }
        let message = node.outgoing.removeFirst()
        append(.message(message, from: node.member), ring)
    }
    private func append(_ item: StreamItem, _ ring: GroupRing) {
        ring.stream.append(item)
        let count = ring.stream.count
        for id in ring.nodes {
            later(milliseconds(0.1, 4)) { [self] in
                let node = node(id)
                if node.ring === ring, !node.isCorosyncPaused,
                    node.component == self.node(ring.nodes[0]).component
                        || random.chance(percent: 50)
                {
                    deliver(node, ring, upTo: count)
                }
            }
        }
    }
    /// Everything of the ring's order up to there that the node has not delivered.
    private func deliver(_ node: Host, _ ring: GroupRing, upTo count: Int) {
        while node.delivered < count {
            let item = ring.stream[node.delivered]
            node.delivered += 1
            switch item {
            case .message(let message, let from): push(node, .delivered(message, from: from))
            case .members(let members): if members.contains(node.member) { push(node, .members(members)) }
            }
        }
    }
    package func join(_ node: Host, _ ring: GroupRing) {
        ring.processes.removeAll { $0.node == node.id }
        ring.processes.append(node.member)
        // The initial callbacks: who is there, the ring, and the quorum's in any order.
        append(.members(ring.processes.sorted()), ring)
        push(node, .ring(ring.id))
        tellQuorum(node, ring)
    }
    package func leave(_ node: Host, _ ring: GroupRing) {
        let member = node.member
        later(4) { [self] in
            guard ring.processes.contains(member) else { return }
            ring.processes.removeAll { $0 == member }
            append(.members(ring.processes.sorted()), ring)
        }
    }
    private func tellQuorum(_ node: Host, _ ring: GroupRing) {
        let isQuorate = isQuorumBlind || 2 * ring.nodes.count > nodes.count
        later(isQuorate ? milliseconds(0, 15) : milliseconds(0, 3000)) { [self] in
            if node.ring === ring { push(node, .quorum(ring.id, isQuorate: isQuorate)) }
        }
    }

    /// New rings after a change of who can reach whom. Members that stay together have delivered the same of the old.
    package func formRings() {
        var groups: [(component: Int, nodes: [Host])] = []
        for node in nodes where !node.isCorosyncPaused {
            if let at = groups.firstIndex(where: { $0.component == node.component }) {
                groups[at].nodes.append(node)
            } else {
                groups.append((node.component, [node]))
            }
        }
        for group in groups {
            let ids = group.nodes.map(\.id)
            // Nobody new and nobody gone: the ring stays.
            if let ring = group.nodes[0].ring, ring.nodes == ids, group.nodes.allSatisfy({ $0.ring === ring }) {
                continue
            }
            for node in group.nodes {
                guard let old = node.ring else { continue }
                let together = group.nodes.filter { $0.ring === old }
                deliver(node, old, upTo: together.map(\.delivered).max()!)
            }
            // Sides of a split may well have the same sequence.
            let sequence = ringSequence + UInt64(random.below(2))
            ringSequence = sequence + 3
            let ring = GroupRing(RingId(representative: ids[0], sequence: sequence), nodes: ids)
            note("ring \(ring.id): \(ids)")
            for node in group.nodes {
                node.ring = ring
                node.delivered = 0
                if node.isAlive { ring.processes.append(node.member) }
            }
            ring.processes.sort()
            for node in group.nodes {
                let isEarly = random.chance(percent: 50)
                if isEarly { tellQuorum(node, ring) }
                push(node, .members(ring.processes))
                push(node, .ring(ring.id))
                if !isEarly { tellQuorum(node, ring) }
                // What was waiting to be sent is sent now, in the new ring.
                let incarnation = node.incarnation
                for _ in node.outgoing {
                    later(milliseconds(0.1, 5)) { [self] in if node.incarnation == incarnation { order(node) } }
                }
            }
        }
    }
    /// A paused corosync goes on. If the others went on without it, it still delivers what was sent in its ring (in the
    /// ring's order), and to itself alone what it had to send, before it learns that the ring has moved on.
    package func resumeCorosync(_ node: Host) {
        guard node.isCorosyncPaused else { return }
        node.isCorosyncPaused = false
        guard let ring = node.ring else { return }
        let isLeft = ring.nodes.contains { self.node($0).ring !== ring }
        deliver(node, ring, upTo: ring.stream.count)
        if isLeft, node.isAlive {
            for message in node.outgoing.prefix(random.below(node.outgoing.count + 1)) {
                ring.stream.append(.message(message, from: node.member))
                node.outgoing.removeFirst()
            }
            deliver(node, ring, upTo: ring.stream.count)
        }
        // It sends on in its ring, or in the next one.
        let incarnation = node.incarnation
        for _ in node.outgoing {
            later(milliseconds(0.1, 5)) { [self] in if node.incarnation == incarnation { order(node) } }
        }
        if isLeft {
            node.ring = nil
            later(milliseconds(1, 200)) { [self] in formRings() }
        }
    }

}
