// The group as the hosts of a cluster have it: each process has a seat, through which it sends and hears. What the group
// does of its own accord is in GroupWorld; this only brings it to processes.
import Catalog
import Model
import Replication

/// The seat of a host in the group: of its process, while there is one.
package final class GroupSeat: GroupNode, GroupDriver {
    fileprivate unowned let group: SimulatedGroup
    fileprivate var process: SimulatedProcess?
    package var onEvent: (AgreementEvent) -> Void = { _ in }

    fileprivate init(_ id: NodeId, _ group: SimulatedGroup) {
        self.group = group
        super.init(id)
    }
    fileprivate var isIn = false
    override package var isAlive: Bool { isIn && process?.isAlive ?? false }

    package func multicast(_ message: AgreementMessage) {
        guard isAlive else { return }
        outgoing.append(message)
        let incarnation = incarnation
        group.later(group.milliseconds(0.1, 3)) { [self] in
            if self.incarnation == incarnation { group.order(self) }
        }
    }
    package func leave() { group.ended(self) }
}

package final class SimulatedGroup: GroupWorld<GroupSeat> {
    package init(seed: UInt64, nodes count: Int, isQuorumBlind: Bool, queue: EventQueue) {
        super.init(seed: seed, isQuorumBlind: isQuorumBlind, queue: queue)
        nodes = (1...count).map { GroupSeat(NodeId(UInt32($0)), self) }
        formRings()
    }

    override package func handle(_ node: GroupSeat, _ event: AgreementEvent) throws {
        node.process?.run { node.onEvent(event) }
    }

    /// A process takes its seat; it is not in the group yet.
    package func seat(_ process: SimulatedProcess) -> GroupSeat {
        let seat = node(process.node)
        precondition(!seat.isAlive)
        seat.process = process
        seat.incarnation = process.incarnation
        seat.isPaused = false
        seat.events = []
        seat.outgoing = []
        seat.onEvent = { _ in }
        return seat
    }
    /// From here on it hears, and is heard.
    package func join(_ seat: GroupSeat) {
        seat.isIn = true
        if let ring = seat.ring { join(seat, ring) }
    }
    /// The process is gone, or has left.
    package func ended(_ seat: GroupSeat) {
        let wasIn = seat.isIn
        seat.process = nil
        seat.isIn = false
        seat.events = []
        seat.outgoing = []
        if wasIn, let ring = seat.ring { leave(seat, ring) }
    }
    package func stopped(_ seat: GroupSeat) { seat.isPaused = true }
    package func resumed(_ seat: GroupSeat) {
        seat.isPaused = false
        try? drain(seat)
    }

    // MARK: faults

    /// Nodes of the same number reach each other; the others learn of it after the time that a token takes to be missed.
    package func split(_ parts: [Int]) {
        for (seat, part) in zip(nodes, parts) { seat.component = part }
        later(milliseconds(1_500, 2_600)) { [self] in formRings() }
    }
    package func stopCorosync(_ id: NodeId) {
        node(id).isCorosyncPaused = true
        later(2_200) { [self] in formRings() }
    }
    package func mend() {
        for seat in nodes {
            seat.component = 0
            resumeCorosync(seat)
        }
        later(milliseconds(1, 100)) { [self] in formRings() }
    }
}
