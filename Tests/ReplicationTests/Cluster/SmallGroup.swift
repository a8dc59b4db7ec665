// A group as Corosync's, in short: messages in one order to all members of a ring, members that change, a majority that is
// known. Who moves on together has delivered the same. Corosync's bad habits are simulated elsewhere.
import Catalog
import Model
import TestSupport

@testable import Replication

final class SmallGroup {
    final class Member: GroupDriver {
        unowned let group: SmallGroup
        let process: SimulatedProcess
        var onEvent: (AgreementEvent) -> Void = { _ in }
        var isIn = true
        init(_ group: SmallGroup, _ process: SimulatedProcess) {
            self.group = group
            self.process = process
        }
        var name: Catalog.Member { Catalog.Member(process.node, incarnation: process.incarnation) }
        func multicast(_ message: AgreementMessage) { group.multicast(self, message) }
        func leave() { group.leave(self) }
        func tell(_ event: AgreementEvent) {
            process.run { [self] in if isIn { onEvent(event) } }
        }
    }
    private final class Ring {
        let id: RingId
        var members: [Member]
        /// Sent, and not delivered to anybody.
        var queue: [(Catalog.Member, AgreementMessage)] = []
        init(_ id: RingId, _ members: [Member]) {
            self.id = id
            self.members = members
        }
    }
    private let machine: VirtualMachine
    private let nodeCount: Int
    private var random: Random
    private var sequence: UInt64 = 0
    private var rings: [Ring] = []
    private var members: [Member] = []
    /// Nodes of the same number are together.
    private var parts: [NodeId: Int] = [:]

    init(_ machine: VirtualMachine, nodes: Int, seed: UInt64) {
        self.machine = machine
        nodeCount = nodes
        random = Random(seed ^ 0x6709)
    }

    func join(_ process: SimulatedProcess) -> Member {
        let member = Member(self, process)
        members.removeAll { $0.process.node == process.node }
        members.append(member)
        reform()
        return member
    }
    func leave(_ member: Member) {
        member.isIn = false
        members.removeAll { $0 === member }
        reform()
    }
    func died(_ process: SimulatedProcess) {
        for member in members where member.process === process { leave(member) }
    }
    func split(_ parts: [[NodeId]]) {
        self.parts = [:]
        for (number, part) in parts.enumerated() { for node in part { self.parts[node] = number } }
        reform()
    }

    private func reform() {
        for ring in rings { while !ring.queue.isEmpty { deliver(ring) } }
        rings = []
        for part in Set(members.map { parts[$0.process.node] ?? 0 }).sorted() {
            let together = members.filter { parts[$0.process.node] ?? 0 == part }.sorted { $0.name < $1.name }
            sequence += 4
            let ring = Ring(RingId(representative: together[0].process.node, sequence: sequence), together)
            rings.append(ring)
            let isQuorate = 2 * together.count > nodeCount
            machine.after(milliseconds: UInt64(1 + random.below(40))) { [self] in
                guard rings.contains(where: { $0 === ring }) else { return }
                for member in ring.members {
                    member.tell(.members(ring.members.map(\.name)))
                    member.tell(.ring(ring.id))
                    member.tell(.quorum(ring.id, isQuorate: isQuorate))
                }
            }
        }
    }

    private func multicast(_ member: Member, _ message: AgreementMessage) {
        guard member.isIn, let ring = rings.first(where: { $0.members.contains { $0 === member } }) else { return }
        ring.queue.append((member.name, message))
        machine.after(milliseconds: UInt64(random.below(4))) { [self] in
            if rings.contains(where: { $0 === ring }), !ring.queue.isEmpty { deliver(ring) }
        }
    }
    private func deliver(_ ring: Ring) {
        let (from, message) = ring.queue.removeFirst()
        for member in ring.members { member.tell(.delivered(message, from: from)) }
    }
}
