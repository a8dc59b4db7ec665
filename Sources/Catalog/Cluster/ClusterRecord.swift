// What the replicated state machine knows beside the catalog: who votes, which sessions are open, and the last answers to
// each node's own proposals. Like the catalog it is changed by committed entries only, alike on every node, and travels
// with the catalog's state in an image.
//
// The answers: a node has at most `Agreement.maximumUnderWay` proposals in the log whose outcome it has not heard. When
// it gets the state whole, the answers to these are in it, also those that the catalog itself does not remember.
import Model
import OrderedCollections

package struct ClusterRecord: Hashable, Sendable {
    /// The newest committed list of voters, and the index of the entry that brought it.
    package private(set) var voters: [Voter] = []
    package private(set) var votersIndex: UInt64 = 0
    /// Ascending by node.
    package private(set) var sessions: [SessionRecord] = []
    /// Who was given a volume's lease last.
    private var holders: OrderedDictionary<VolumeId, HolderRecord> = [:]
    private var answers: OrderedDictionary<NodeId, Answers> = [:]

    private struct Answers: Hashable, Sendable {
        var incarnation: UInt64
        /// Ascending by sequence.
        var last: [Answer] = []
    }
    private struct Answer: Hashable, Sendable {
        let sequence: UInt64
        let answer: CommandAnswer
    }

    package init(voters: [Voter], votersIndex: UInt64) {
        self.voters = voters
        self.votersIndex = votersIndex
    }

    package func session(of node: NodeId) -> SessionRecord? { sessions.first { $0.session.node == node } }
    package func isOpen(_ session: NodeSession) -> Bool {
        openRecord(session) != nil
    }
    package func openRecord(_ session: NodeSession) -> SessionRecord? {
        guard let record = self.session(of: session.node), record.session == session, record.isOpen else { return nil }
        return record
    }
    package func holder(of volume: VolumeId) -> HolderRecord? { holders[volume] }
    /// Volumes whose lease ended with the session of its holder and that nobody has taken since, in a fixed order.
    package var expiredVolumes: [VolumeId] { holders.values.filter(\.isExpired).map(\.volume) }
    /// The answer to a proposal of a process, if it is among the last ones.
    package func answer(to origin: Member, _ sequence: UInt64) -> CommandAnswer? {
        guard let answers = answers[origin.node], answers.incarnation == origin.incarnation else { return nil }
        return answers.last.first { $0.sequence == sequence }?.answer
    }

    /// Applies the entry behind `state.index`. Throws when it cannot be read: a newer version made it, and this node
    /// must not go on.
    package mutating func apply(
        _ entry: AgreementEntry, to state: inout CatalogState
    ) throws(DecodeError) -> (CommandAnswer, [CatalogChange]) {
        var answer = CommandAnswer.done
        var changes: [CatalogChange] = []
        switch entry.content {
        case .opening: _ = state.apply(.none, request: nil)
        case .voters(let list, let after):
            _ = state.apply(.none, request: nil)
            // As the agreement's log decides it: one that another change overtook is void.
            if after == votersIndex {
                voters = list
                votersIndex = entry.index
            } else {
                answer = .refused(.overtaken)
            }
        case .command(let bytes):
            (answer, changes) = perform(try ClusterCommand(decoding: bytes), &state)
            for case .volumeRemoved(let id) in changes where state.volumes[id] == nil { holders[id] = nil }
        }
        remember(entry, answer)
        return (answer, changes)
    }

    private mutating func perform(
        _ command: ClusterCommand, _ state: inout CatalogState
    ) -> (CommandAnswer, [CatalogChange]) {
        switch command {
        case .catalog(.acquireLease(_, let node, let incarnation), let request) where !holds(node, incarnation):
            // A lease without a session could never be taken over. EAGAIN is not remembered for its request id.
            _ = state.apply(.none, request: nil)
            if let request, let earlier = state.answered[request] { return (earlier.answer, []) }
            return (.refused(.noSession(node)), [])
        case .catalog(.acquireLease(let id, let node, let incarnation), let request):
            let result = state.apply(.acquireLease(id, node: node, incarnation: incarnation), request: request)
            if case .term(let term) = result.0 { granted(id, node, incarnation, term, &state) }
            return result
        case .catalog(let command, let request): return state.apply(command, request: request)
        case .underTerm(let id, let term, let command, let request):
            guard state.volumes[id]?.term == term else { return refuseMoved(request, &state) }
            return state.apply(command, request: request)
        case .underTerms(let digest, let command):
            guard state.termsDigest == digest else { return refuseMoved(nil, &state) }
            return state.apply(command, request: nil)
        case .inEpoch(let epoch, let command):
            guard epoch == state.map.epoch else {
                let answer = state.apply(.none, request: nil).0
                do throws(SheepError) { try state.requireEpoch(epoch) } catch { return (.refused(error), []) }
                return (answer, [])
            }
            return state.apply(command, request: nil)
        case .openSession(let session):
            _ = state.apply(.none, request: nil)
            if isOpen(session) { return (.done, []) }
            if let known = self.session(of: session.node), known.session >= session {
                return (.refused(.noSession(session.node)), [])
            }
            set(SessionRecord(session: session, isOpen: true, leaseMilliseconds: state.settings.leaseMilliseconds))
            expire(session.node, state)
            return (.done, state.releaseLeases(of: session.node))
        case .endSession(let session, let voters):
            _ = state.apply(.none, request: nil)
            guard var record = openRecord(session) else { return (.done, []) }
            if let voters, voters != votersIndex { return (.refused(.overtaken), []) }
            record.isOpen = false
            set(record)
            expire(session.node, state)
            return (.done, state.releaseLeases(of: session.node))
        }
    }
    private mutating func refuseMoved(
        _ request: RequestId?, _ state: inout CatalogState
    ) -> (CommandAnswer, [CatalogChange]) {
        _ = state.apply(.none, request: nil)
        if let request, let earlier = state.answered[request] { return (earlier.answer, []) }
        return (.refused(.leaseMoved), [])
    }
    private mutating func granted(
        _ id: VolumeId, _ node: NodeId, _ incarnation: UInt64, _ term: Term, _ state: inout CatalogState
    ) {
        // Clones read a removed volume through its holder, like any other.
        state.grantHidden(id, node, incarnation, term)
        let since = holders[id].flatMap { $0.node == node ? $0.since : nil } ?? term
        holders[id] = HolderRecord(volume: id, node: node, since: since, isExpired: false)
    }
    private mutating func expire(_ node: NodeId, _ state: CatalogState) {
        for (id, volume) in state.volumes where volume.lease?.node == node { holders[id]?.isExpired = true }
    }
    private func holds(_ node: NodeId, _ incarnation: UInt64) -> Bool {
        guard let record = session(of: node) else { return false }
        return record.isOpen && record.session.incarnation == incarnation
    }
    private mutating func set(_ record: SessionRecord) {
        sessions.removeAll { $0.session.node == record.session.node }
        sessions.append(record)
        sessions.sort { $0.session < $1.session }
    }
    private mutating func remember(_ entry: AgreementEntry, _ answer: CommandAnswer) {
        guard entry.sequence > 0 else { return }
        let node = entry.origin.node
        if answers[node]?.incarnation != entry.origin.incarnation {
            answers[node] = Answers(incarnation: entry.origin.incarnation)
        }
        answers[node]!.last.append(Answer(sequence: entry.sequence, answer: answer))
        let surplus = answers[node]!.last.count - Agreement.maximumUnderWay
        if surplus > 0 { answers[node]!.last.removeFirst(surplus) }
    }

    // MARK: images

    /// The state of an image: this record, then the catalog's.
    package func encoded(with state: CatalogState) -> [UInt8] {
        var w = ByteWriter()
        w.write(agreementFormatVersion)
        w.write(all: voters) { $0.write($1) }
        w.write(votersIndex)
        w.write(all: sessions) { w, record in
            w.write(record.session)
            w.write(record.isOpen)
            w.write(record.leaseMilliseconds)
        }
        w.write(all: holders.values) { w, holder in
            w.write(holder.volume)
            w.write(holder.node)
            w.write(holder.since)
            w.write(holder.isExpired)
        }
        w.write(all: answers.elements) { w, element in
            w.write(element.key)
            w.write(element.value.incarnation)
            w.write(all: element.value.last) { w, answer in
                w.write(answer.sequence)
                w.write(answer.answer)
            }
        }
        w.write(state.encoded())
        return w.bytes
    }
    /// Fails on bytes that `encoded` cannot have made.
    package static func decode(_ bytes: [UInt8]) throws(DecodeError) -> (ClusterRecord, CatalogState) {
        var r = ByteReader(bytes)
        guard try r.read(UInt16.self) == agreementFormatVersion else { throw .badValue("version") }
        let voters = try r.voters()
        var record = ClusterRecord(voters: voters, votersIndex: try r.counter())
        record.sessions = try r.all(29) { r throws(DecodeError) in
            SessionRecord(session: try r.nodeSession(), isOpen: try r.readBool(), leaseMilliseconds: try r.counter())
        }
        guard zip(record.sessions, record.sessions.dropFirst()).allSatisfy({ $0.session.node < $1.session.node }) else {
            throw .badValue("sessions")
        }
        for _ in 0..<(try r.readCount(minimumSize: 13)) {
            let holder = HolderRecord(
                volume: try r.volumeId(), node: try r.nodeId(), since: try r.term(), isExpired: try r.readBool())
            guard record.holders.updateValue(holder, forKey: holder.volume) == nil else { throw .badValue("holders") }
        }
        for _ in 0..<(try r.readCount(minimumSize: 16)) {
            let node = try r.nodeId()
            var answers = Answers(incarnation: try r.read())
            answers.last = try r.all(9) { r throws(DecodeError) in
                Answer(sequence: try r.counter(), answer: try r.answer())
            }
            guard record.answers.updateValue(answers, forKey: node) == nil else { throw .badValue("answers") }
        }
        let state = try CatalogState(decoding: try r.readBytes())
        guard r.remaining == 0 else { throw .badValue("bytes behind the state") }
        return (record, state)
    }
}

extension AgreementImage {
    /// What a new cluster starts behind: this catalog, with these voters. Its position is no other cluster's, so that a
    /// node that has nothing always gets the state whole.
    package static func founding(_ state: CatalogState, voters: [Voter]) -> AgreementImage {
        var state = state
        if state.index == 0 { _ = state.apply(.none, request: nil) }
        let bytes = ClusterRecord(voters: voters.sorted(), votersIndex: state.index).encoded(with: state)
        return AgreementImage(
            position: LogPosition(view: .none, index: state.index, hash: crc32c(bytes)), marks: [],
            voters: voters.sorted(), votersIndex: state.index, state: bytes)
    }
}

/// The node that was given the lease of a volume last.
package struct HolderRecord: Hashable, Sendable {
    package let volume: VolumeId
    package let node: NodeId
    /// Its first term since another node held the volume: what it issued under this one or later nobody has overtaken.
    package let since: Term
    /// The lease ended with the node's session, and nobody has taken the volume since.
    package var isExpired: Bool
}

extension CatalogState {
    /// Of all volumes and their terms: it changes with each lease that is given, and with each volume that is made or goes.
    package var termsDigest: UInt64 {
        var digest: UInt64 = 0xcbf2_9ce4_8422_2325
        for volume in volumes.values {
            digest = (digest ^ UInt64(volume.id.rawValue)) &* 0x100_0000_01b3
            digest = (digest ^ UInt64(volume.term.rawValue)) &* 0x100_0000_01b3
        }
        return digest
    }
}

extension SheepError {
    static let leaseMoved = SheepError(
        .tryAgain, what: "Nothing was changed.", why: "A lease moved on while this was asked.", remedy: "Try again.")
    static let overtaken = SheepError(
        .tryAgain, what: "Nothing was changed.", why: "The list of voters changed while this was asked.",
        remedy: "Try again.")
    static func noSession(_ node: NodeId) -> SheepError {
        SheepError(
            .tryAgain, what: "Nothing was changed.", why: "Node \(node) has lost its session in the cluster.",
            remedy: "Try again when it has opened the next one.")
    }
}
