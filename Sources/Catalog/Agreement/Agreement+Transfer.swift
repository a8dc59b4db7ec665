// What a member lacks of the chosen log comes from one that has it, over a connection. Only what differs is replaced:
// an entry that is the same stays where it is, so that a crash in the middle loses nothing that may be committed.
import Model

extension Agreement {
    func fetch(_ view: View) {
        guard let chosen = view.chosen, let source = view.source else { return }
        // Whoever stated that log has it; the coordinator's choice first.
        let holders =
            [source] + view.states.filter { $0.state.last == chosen }.map(\.member.node).filter { $0 != source }
        let others = holders.filter { $0 != me.node }
        guard !others.isEmpty else { return }
        view.fetchedAt = now
        emit(
            .send(
                others[view.fetches % others.count],
                .fetch(view.number, from: log.position(commit)!, to: chosen)))
        view.fetches += 1
    }

    func receive(_ message: TransferMessage, from node: NodeId) {
        guard case .inView(let view) = phase else { return }
        switch message {
        case .fetch(let number, let from, let to):
            guard number == view.number, view.isAligned else { return }
            if log.contains(from) {
                let entries = log.entries(after: from.index).prefix(Int(to.index - min(to.index, from.index)))
                emit(.send(node, .entries(number, Array(entries))))
            } else {
                // Behind the image's position, what is chosen and beyond it is not needed.
                let entries = log.entries(after: commit).prefix(Int(to.index - min(to.index, commit)))
                emit(.send(node, .image(number, image(), Array(entries))))
            }
        case .entries(let number, let entries):
            guard number == view.number, isWaiting(view), isChosen(view, entries, after: log.position(commit)!) else {
                return
            }
            take(view, entries)
        case .image(let number, let image, let entries):
            guard number == view.number, isWaiting(view), image.position.index > commit, !image.voters.isEmpty else {
                return
            }
            // The source may have committed beyond what was chosen.
            guard
                isChosen(view, entries, after: image.position)
                    || (entries.isEmpty && image.position.index > view.chosen!.index)
            else { return }
            install(view, image, entries)
        }
    }
    private func isWaiting(_ view: View) -> Bool { view.chosen != nil && !view.isAligned && view.aligning == nil }
    private func isChosen(_ view: View, _ entries: [AgreementEntry], after start: LogPosition) -> Bool {
        AgreementLog.isChain(entries, after: start) && (entries.last?.position ?? start) == view.chosen
    }

    private func take(_ view: View, _ entries: [AgreementEntry]) {
        let fresh = Array(entries.drop { log.contains($0.position) })
        log.truncate(from: (fresh.first?.index ?? view.chosen!.index + 1))
        for entry in fresh { log.append(entry) }
        guard !fresh.isEmpty else { return align(view) }
        view.aligning = log.last
        store(.append(fresh, committed: knownCommitted), .append(upTo: log.last))
    }

    private func install(_ view: View, _ image: AgreementImage, _ entries: [AgreementEntry]) {
        log = AgreementLog(image: image, entries: entries)
        commit = image.position.index
        knownCommitted = commit
        // What the state contains is done.
        let mark = image.marks.first { $0.origin == me }
        proposals.removeAll { $0.sequence <= mark?.sequence ?? 0 }
        emit(.install(image))
        view.aligning = log.last
        store(.image(image, keepsEntries: false), .image)
        store(.append(entries, committed: knownCommitted), .append(upTo: log.last))
    }

    /// The state is written whole, and the log begins behind it; `keeping` entries stay for members that lag.
    package func compact(keeping: UInt64) -> [AgreementEffect] {
        store(.image(image(), keepsEntries: true), .image)
        if commit > keeping { log.compact(to: commit - keeping) }
        return takeEffects()
    }
}
