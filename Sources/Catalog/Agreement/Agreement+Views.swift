// Opening a view: each invited member makes the number durable and states its log; the coordinator chooses the latest
// log that a majority of the voters has stated; a member with that log goes on at once, others fetch it.
import Model

extension Agreement {
    /// A view that this member has promised.
    final class View {
        let number: ViewNumber
        let members: [Member]
        /// When it was opened, or last moved on.
        var since: Instant
        var states: [(member: Member, state: MemberState)] = []
        /// The log that the view goes on from.
        var chosen: LogPosition?
        var source: NodeId?
        /// Of the chosen log this much is known as committed.
        var committed: UInt64 = 0
        /// The coordinator has multicast its choice.
        var isChoosing = false
        /// This member's log is the chosen one, with what followed.
        var isAligned = false
        /// Delivered before this member was aligned.
        var backlog: [Delivered] = []
        var acks: [(node: NodeId, index: UInt64, hash: UInt32)] = []
        /// What is durable here, and how far that was said.
        var durable: LogPosition?
        var ackUnderWay: UInt64?
        var fetchedAt: Instant?
        var fetches = 0
        /// Position at which a fetched log is whole, while it is being stored.
        var aligning: LogPosition?

        init(_ number: ViewNumber, members: [Member], since: Instant) {
            self.number = number
            self.members = members
            self.since = since
        }
        func state(of node: NodeId) -> MemberState? { states.first { $0.member.node == node }?.state }
    }

    struct Delivered {
        let origin: Member
        let sequence: UInt64
        let content: AgreementEntry.Content
    }

    /// The promise is durable.
    func statesOwnLog(_ view: View) {
        emit(
            .multicast(
                .state(
                    view.number,
                    MemberState(
                        last: log.last, commit: knownCommitted, key: key,
                        lists: log.lists(committed: knownCommitted)))))
    }

    func takeState(_ number: ViewNumber, _ state: MemberState, from member: Member) {
        guard case .inView(let view) = phase, view.number == number, view.members.contains(member) else { return }
        view.states.removeAll { $0.member == member }
        view.states.append((member, state))
        if view.states.count == view.members.count { chooseIfPossible(view) }
    }

    /// The coordinator's part: with everybody's state, or after a while with what a majority stated.
    func chooseIfPossible(_ view: View) {
        guard view.number.coordinator == me.node, view.chosen == nil, !view.isChoosing,
            let best = view.states.max(by: { ($0.state.last, $1.member) < ($1.state.last, $0.member) })
        else { return }
        let present = view.states.compactMap { entry in
            entry.state.key.map { Voter(entry.member.node, key: $0) }
        }
        // What anybody knows as committed is in the latest log too.
        let committed = view.states.map(\.state.commit).max()!
        guard best.state.lists.inForce(committed: committed).haveMajority(of: present) else { return }
        view.isChoosing = true
        let own = view.state(of: me.node)?.last == best.state.last
        emit(
            .multicast(
                .choose(view.number, best.state.last, source: own ? me.node : best.member.node, committed: committed)))
        emit(.multicast(.entry(view.number, sequence: 0, .opening)))
    }

    func choose(
        _ number: ViewNumber, _ position: LogPosition, _ source: NodeId, _ committed: UInt64, from member: Member
    ) {
        guard case .inView(let view) = phase, view.number == number, view.chosen == nil,
            member.node == number.coordinator
        else { return }
        view.chosen = position
        view.source = source
        view.committed = min(committed, position.index)
        view.since = now
        // A log that goes on behind the chosen one was stated too late to count: what follows is not committed.
        if log.contains(position), position.index >= commit {
            log.truncate(from: position.index + 1)
            align(view)
        } else {
            fetch(view)
        }
    }

    /// The log is the chosen one, durably.
    func align(_ view: View) {
        view.isAligned = true
        view.aligning = nil
        view.durable = log.last
        knownCommitted = max(knownCommitted, view.committed)
        let backlog = view.backlog
        view.backlog = []
        for index in proposals.indices where log.has(me, proposals[index].sequence) {
            proposals[index].isUnderWay = true
        }
        for delivered in backlog { append(view, delivered) }
        sendAck(view)
        sendProposals()
        commitIfPossible(view)
    }

    /// Retries, and decides without those who stay silent.
    func tickView(_ view: View) {
        if view.chosen == nil {
            if now.milliseconds(since: view.since) >= Agreement.gatherMilliseconds { chooseIfPossible(view) }
        } else if !view.isAligned, view.aligning == nil, let fetchedAt = view.fetchedAt,
            now.milliseconds(since: fetchedAt) >= Agreement.retryMilliseconds
        {
            fetch(view)
        }
    }
}
