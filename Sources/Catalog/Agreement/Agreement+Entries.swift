// Entries of an open view: appended by all members in the order of delivery, acked by voters when they are durable,
// committed when majorities have said so.
import Model

extension Agreement {
    /// Multicasts what was proposed here and is not under way.
    func sendProposals() {
        guard case .inView(let view) = phase, view.isAligned else { return }
        var underWay = proposals.count(where: \.isUnderWay)
        for index in proposals.indices where !proposals[index].isUnderWay {
            guard underWay < Agreement.maximumUnderWay else { return }
            underWay += 1
            proposals[index].isUnderWay = true
            emit(.multicast(.entry(view.number, sequence: proposals[index].sequence, proposals[index].content)))
        }
    }

    func appendEntry(
        _ number: ViewNumber, _ sequence: UInt64, _ content: AgreementEntry.Content, from member: Member
    ) {
        guard case .inView(let view) = phase, view.number == number, view.chosen != nil,
            view.members.contains(member)
        else { return }
        let delivered = Delivered(origin: member, sequence: sequence, content: content)
        if view.isAligned { append(view, delivered) } else { view.backlog.append(delivered) }
    }
    func append(_ view: View, _ delivered: Delivered) {
        // Twice: re-sent, or in a fetched log that was ahead of the deliveries here. The log alone decides it, so all
        // members do so alike.
        if delivered.content == .opening {
            guard log.last.view < view.number else { return }
        } else {
            guard delivered.sequence > 0, !log.has(delivered.origin, delivered.sequence) else { return }
        }
        let entry = log.next(
            view: view.number, origin: delivered.origin, sequence: delivered.sequence, delivered.content)
        log.append(entry)
        store(.append([entry], committed: knownCommitted), .append(upTo: entry.position))
    }

    func isDurable(_ view: View, upTo position: LogPosition) {
        if let aligning = view.aligning {
            if aligning == position { align(view) }
            return
        }
        // An append of an earlier view ends here too.
        guard view.isAligned, position.view == view.number else { return }
        view.durable = position
        sendAck(view)
    }

    /// One ack at a time: the next one says all that became durable meanwhile.
    func sendAck(_ view: View) {
        guard view.ackUnderWay == nil, let durable = view.durable, isVoter else { return }
        let said = view.acks.first { $0.node == me.node }
        guard said == nil || said!.index < durable.index else { return }
        view.ackUnderWay = durable.index
        emit(.multicast(.ack(view.number, index: durable.index, hash: durable.hash)))
    }

    func takeAck(_ number: ViewNumber, _ index: UInt64, _ hash: UInt32, from member: Member) {
        guard case .inView(let view) = phase, view.number == number, view.members.contains(member) else { return }
        if let old = view.acks.firstIndex(where: { $0.node == member.node }) {
            guard view.acks[old].index < index else { return }
            view.acks.remove(at: old)
        }
        view.acks.append((member.node, index, hash))
        if member == me {
            view.ackUnderWay = nil
            sendAck(view)
        }
        commitIfPossible(view)
    }

    func commitIfPossible(_ view: View) {
        guard view.isAligned else { return }
        let index = committedIndex(view)
        if index > knownCommitted, log.position(index)!.view == view.number { knownCommitted = index }
        handOut()
        // Also where the state came whole, from behind this view's first entry.
        if log.position(commit)!.view == view.number { setActive(true) }
        sendProposals()
    }
    private func handOut() {
        let newlyCommitted = log.entries(after: commit).prefix(Int(knownCommitted - commit))
        commit = knownCommitted
        for entry in newlyCommitted {
            if entry.origin == me { proposals.removeAll { $0.sequence == entry.sequence } }
            emit(.commit(entry))
        }
    }

    /// The highest index that majorities have durably: up to a change of the voters the list before it decides, from
    /// there on both, until the change is committed.
    private func committedIndex(_ view: View) -> UInt64 {
        let first = log.lists.lastIndex { $0.index <= knownCommitted } ?? 0
        var committed = knownCommitted
        var limit = UInt64.max
        for number in first..<log.lists.count {
            let end = number + 1 < log.lists.count ? log.lists[number + 1].index - 1 : log.last.index
            limit = min(limit, majorityIndex(view, log.lists[number].voters))
            committed = max(committed, min(limit, end))
            if limit <= end { break }
        }
        return committed
    }
    private func majorityIndex(_ view: View, _ voters: [Voter]) -> UInt64 {
        guard !voters.isEmpty else { return 0 }
        let acked = voters.map { voter -> UInt64 in
            guard let ack = view.acks.first(where: { $0.node == voter.node }),
                view.state(of: voter.node)?.key == voter.key, log.position(ack.index)?.hash == ack.hash
            else { return 0 }
            return ack.index
        }
        return acked.sorted(by: >)[voters.count / 2]
    }
}
