// A member's log in memory: entries behind an image, chained by a checksum, and the lists of voters in it. Knows no
// view change and no message.
import Model

package struct AgreementLog: Sendable {
    /// The state that the log starts behind.
    private(set) var base: LogPosition
    private(set) var entries: [AgreementEntry] = []
    /// Changes of the voters, ascending by index, the image's first. Never empty.
    private(set) var lists: [VoterList]
    /// How far each node's proposals are, at the image and at the end.
    private var baseMarks: [NodeId: ProposalMark] = [:]
    private var marks: [NodeId: ProposalMark] = [:]

    /// `image`: what the log follows. Entries must continue it.
    package init(image: AgreementImage, entries: [AgreementEntry] = []) {
        base = image.position
        for mark in image.marks { baseMarks[mark.origin.node] = mark }
        marks = baseMarks
        lists = [VoterList(index: image.votersIndex, voters: image.voters)]
        for entry in entries { append(entry) }
    }

    package var last: LogPosition { entries.last?.position ?? base }

    /// The position of an index, if the log still has it.
    package func position(_ index: UInt64) -> LogPosition? {
        if index == base.index { return base }
        return entry(index)?.position
    }
    package func entry(_ index: UInt64) -> AgreementEntry? {
        guard index > base.index, index <= last.index else { return nil }
        return entries[Int(index - base.index - 1)]
    }
    package func contains(_ position: LogPosition) -> Bool { self.position(position.index) == position }
    /// Everything behind an index that the log has.
    package func entries(after index: UInt64) -> ArraySlice<AgreementEntry> {
        precondition(index >= base.index && index <= last.index, "not in the log")
        return entries[Int(index - base.index)...]
    }

    /// The entry that would follow.
    package func next(
        view: ViewNumber, origin: Member, sequence: UInt64, _ content: AgreementEntry.Content
    ) -> AgreementEntry {
        let index = last.index + 1
        let hash = AgreementLog.hash(last.hash, index, view, origin, sequence, content)
        return AgreementEntry(
            index: index, view: view, origin: origin, sequence: sequence, content: content, hash: hash)
    }

    package static func hash(
        _ previous: UInt32, _ index: UInt64, _ view: ViewNumber, _ origin: Member, _ sequence: UInt64,
        _ content: AgreementEntry.Content
    ) -> UInt32 {
        var writer = ByteWriter()
        for value in [index, view.round, UInt64(view.coordinator.rawValue), UInt64(origin.node.rawValue)] {
            writer.write(value)
        }
        writer.write(origin.incarnation)
        writer.write(sequence)
        switch content {
        case .opening: writer.write(UInt8(0))
        case .voters(let voters, let after):
            writer.write(UInt8(1))
            writer.write(after)
            for voter in voters {
                writer.write(voter.node.rawValue)
                writer.write(voter.key)
            }
        case .command(let bytes):
            writer.write(UInt8(2))
            writer.write(bytes)
        }
        return crc32c(writer.bytes, seed: previous)
    }
    /// Whether entries follow a position one after the other, with the right checksums and no view going back.
    package static func isChain(_ entries: some Sequence<AgreementEntry>, after start: LogPosition) -> Bool {
        var previous = start
        for entry in entries {
            let hash = hash(
                previous.hash, entry.index, entry.view, entry.origin, entry.sequence, entry.content)
            guard entry.index == previous.index + 1, entry.hash == hash, entry.view >= previous.view else {
                return false
            }
            previous = entry.position
        }
        return true
    }

    package mutating func append(_ entry: AgreementEntry) {
        precondition(entry.index == last.index + 1, "a gap in the log")
        entries.append(entry)
        AgreementLog.mark(&marks, entry)
        // One that another change overtook changes nothing.
        if case .voters(let voters, let after) = entry.content, after == lists.last!.index {
            lists.append(VoterList(index: entry.index, voters: voters))
        }
    }
    /// Drops everything from an index on.
    package mutating func truncate(from index: UInt64) {
        precondition(index > base.index, "below the image")
        guard index <= last.index else { return }
        entries.removeSubrange(Int(index - base.index - 1)...)
        marks = marks(at: last.index)
        lists.removeAll { $0.index >= index && $0.index > base.index }
    }
    /// The log starts behind a later position that it has.
    package mutating func compact(to index: UInt64) {
        guard index > base.index, let position = position(index) else { return }
        baseMarks = marks(at: index)
        entries.removeSubrange(..<Int(index - base.index))
        base = position
        while lists.count > 1, lists[1].index <= index { lists.removeFirst() }
    }

    // MARK: proposals

    /// Whether a proposal is in the log, or was overtaken by a later life of its node.
    package func has(_ origin: Member, _ sequence: UInt64) -> Bool {
        guard let mark = marks[origin.node] else { return false }
        return (origin.incarnation, sequence) <= (mark.origin.incarnation, mark.sequence)
    }
    private func marks(at index: UInt64) -> [NodeId: ProposalMark] {
        var marks = baseMarks
        for entry in entries.prefix(Int(index - base.index)) { AgreementLog.mark(&marks, entry) }
        return marks
    }
    /// For an image at this index.
    package func sortedMarks(at index: UInt64) -> [ProposalMark] {
        marks(at: index).values.sorted { $0.origin < $1.origin }
    }
    private static func mark(_ marks: inout [NodeId: ProposalMark], _ entry: AgreementEntry) {
        guard entry.sequence > 0 else { return }
        marks[entry.origin.node] = ProposalMark(origin: entry.origin, sequence: entry.sequence)
    }

    // MARK: voters

    /// The list in force from an index on: the newest change at or before it.
    package func votersIndex(at index: UInt64) -> UInt64 { lists.last { $0.index <= index }?.index ?? lists[0].index }
    package func voters(at index: UInt64) -> [Voter] { lists.last { $0.index <= index }?.voters ?? lists[0].voters }
    package var voters: [Voter] { lists.last!.voters }
    /// Lists that have a say when everything up to `commit` is committed: the newest, and each that it or another
    /// change that is not committed yet follows.
    package func lists(committed commit: UInt64) -> [VoterList] { lists.inForce(committed: commit) }
}

extension [VoterList] {
    func inForce(committed commit: UInt64) -> [VoterList] { Array(self[(lastIndex { $0.index <= commit } ?? 0)...]) }
    /// Whether these are a majority of every list.
    func haveMajority(of present: [Voter]) -> Bool {
        !isEmpty && allSatisfy { list in 2 * list.voters.count(where: { present.contains($0) }) > list.voters.count }
    }
}
