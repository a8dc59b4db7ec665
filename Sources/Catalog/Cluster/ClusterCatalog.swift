// The catalog of a cluster, on one of its nodes: the state machine over the agreement with the other nodes (Agreement)
// and this node's durable log of it (MemberLog). Nothing is answered or shown before it is committed. A proposal that
// cannot be committed now waits, through changes of views and of the majority; it is answered exactly once, with what
// the state machine of every node says, and never before.
//
// It must never answer what it does not know: when the node's own log fails, everything under way ends with EIO, and
// this catalog takes part in nothing any more. It is called on one thread and calls nothing back from inside a call.
import Model

/// What carries the messages of the agreement. It never calls back from inside a call.
package protocol ClusterTransport: AnyObject {
    /// To all members of the group, in one order, this node included. Never drops a message of a ring silently.
    func multicast(_ message: AgreementMessage)
    /// Over a connection, which may lose it.
    func send(_ message: TransferMessage, to node: NodeId)
}

package final class ClusterCatalog: CatalogProposer {
    package private(set) var state: CatalogState
    /// Voters, sessions and what else is agreed on beside the catalog.
    package private(set) var record: ClusterRecord
    package let me: Member
    package let log: MemberLog
    /// Nil: this node has stopped taking part.
    private(set) var agreement: Agreement?
    /// Why it has stopped.
    package private(set) var stopped: SheepError?
    /// This node must leave the group: its log failed, or it met what it cannot read.
    package var onStop: (SheepError) -> Void = { _ in }
    /// After each committed entry, and after a state that came whole (nil).
    var onApply: (AgreementEntry?, CommandAnswer) -> Void = { _, _ in }
    /// Sessions or voters may have changed.
    package var onRecordChange: () -> Void = {}
    private let clock: any Clock
    private unowned let transport: any ClusterTransport
    private let imageInterval: Int
    private var observers: [([CatalogChange]) -> Void] = []
    /// Own proposals that have no answer yet, ascending.
    private var waiting: [(sequence: UInt64, completion: (CommandAnswer) -> Void)] = []
    private var sequence: UInt64 = 0
    private var inbox: [AgreementEvent] = []
    private var isHandling = false
    /// An image that was received, and its state; it is installed when the agreement takes it.
    private var decoded: (bytes: [UInt8], record: ClusterRecord, state: CatalogState)?
    private var bytesSinceImage = 0
    private var imageBytes = 0
    private var isWritingImage = false
    private var votersKnownSince: Instant
    /// How many entries behind an image stay in memory for members that lag.
    private static let entriesKept: UInt64 = 1000

    /// `log`: open. `incarnation`: the life of this process, greater than any before on this node. After
    /// `imageInterval` bytes of commands the state is written whole. Throws when the log's image cannot be read.
    package init(
        log: MemberLog, incarnation: UInt64, clock: any Clock, transport: any ClusterTransport,
        imageInterval: Int = 1 << 20
    ) throws(SheepError) {
        self.log = log
        self.clock = clock
        self.transport = transport
        self.imageInterval = imageInterval
        let member = log.member
        me = Member(member.node, incarnation: incarnation)
        votersKnownSince = clock.now
        if member.image.state.isEmpty {
            state = CatalogState(
                clusterId: member.clusterId, settings: Settings(),
                rootAttributes: FileAttributes(uid: 0, gid: 0, mode: 0o755, time: 0))
            record = ClusterRecord(voters: [], votersIndex: 0)
        } else {
            do throws(DecodeError) { (record, state) = try ClusterRecord.decode(member.image.state) } catch {
                throw SheepError(
                    .notSupported, what: "The catalog cannot be read.",
                    why: "A newer Sheepfold wrote it, or it is damaged.", remedy: "Run the newer version.")
            }
        }
        imageBytes = member.image.state.count
        agreement = Agreement(
            me: me, key: member.key, promised: member.promised, image: member.image, entries: member.entries,
            committed: member.committed
        ) { [unowned self] in record.encoded(with: state) }
    }

    /// Whether proposals are being committed now.
    package var isActive: Bool { agreement?.isInActiveView ?? false }
    /// The number of the list of voters that holds here; nil while this node's log has a change of it that is not
    /// known to be committed, or no list at all. Leases are counted under a list only (see LeaseVoter).
    package var settledVoters: UInt64? {
        guard let agreement, !record.voters.isEmpty, agreement.log.lists.last!.index == record.votersIndex else {
            return nil
        }
        return record.votersIndex
    }
    package var isVoter: Bool { record.voters.contains(Voter(me.node, key: log.key)) }

    // MARK: what happens

    /// The group's members, ring and quorum, its messages, and those of other nodes' agreement. A caller that reads
    /// messages from a network checks their sender first.
    package func handle(_ event: AgreementEvent) {
        switch event {
        case .stored, .propose: preconditionFailure("an event of the catalog's own")
        case .received(.image(_, let image, _), _):
            // Who takes an image has it as its state: one that cannot be read is not taken.
            guard let (record, state) = try? ClusterRecord.decode(image.state), state.index == image.position.index,
                state.clusterId == log.clusterId, record.voters == image.voters,
                record.votersIndex == image.votersIndex
            else { return }
            decoded = (image.state, record, state)
        default: break
        }
        process(event)
    }
    /// At least every 250 ms.
    package func tick() { process(.tick) }

    private func process(_ event: AgreementEvent) {
        inbox.append(event)
        guard !isHandling else { return }
        isHandling = true
        while let agreement, !inbox.isEmpty {
            for effect in agreement.handle(inbox.removeFirst(), now: clock.now) { perform(effect) }
            if inbox.isEmpty { compactIfNeeded() }
        }
        decoded = nil
        isHandling = false
    }

    private func perform(_ effect: AgreementEffect) {
        guard stopped == nil else { return }
        switch effect {
        case .multicast(let message): transport.multicast(message)
        case .send(let node, let message): transport.send(message, to: node)
        case .store(let operation): store(operation)
        case .commit(let entry): commit(entry)
        case .install(let image): install(image)
        case .active: break
        }
    }
    private func store(_ operation: AgreementStoreOperation) {
        log.perform(operation) { [weak self] error in
            guard let self, stopped == nil else { return }
            if case .image = operation { isWritingImage = false }
            if let error { stop(error) } else { process(.stored) }
        }
    }

    private func commit(_ entry: AgreementEntry) {
        precondition(entry.index == state.index + 1, "a gap before a committed entry")
        let before = (record.votersIndex, record.sessions)
        let answer: CommandAnswer
        let changes: [CatalogChange]
        do throws(DecodeError) {
            (answer, changes) = try record.apply(entry, to: &state)
        } catch {
            return stop(
                SheepError(
                    .notSupported, what: "This node does not go on.",
                    why: "The catalog has an entry that it cannot read: a newer Sheepfold made it.",
                    remedy: "Run the newer version here too."))
        }
        if case .command(let bytes) = entry.content { bytesSinceImage += bytes.count }
        onApply(entry, answer)
        if before.0 != record.votersIndex { votersKnownSince = clock.now }
        if before.0 != record.votersIndex || before.1 != record.sessions { onRecordChange() }
        if !changes.isEmpty { for observer in observers { observer(changes) } }
        if entry.origin == me { answerProposal(entry.sequence, answer) }
    }

    /// The state comes whole: observers hear what is different, and own proposals that are in it are answered from it.
    private func install(_ image: AgreementImage) {
        guard let decoded, decoded.bytes == image.state else { preconditionFailure("an image that nobody read") }
        let old = state
        state = decoded.state
        if decoded.record.votersIndex != record.votersIndex { votersKnownSince = clock.now }
        record = decoded.record
        imageBytes = image.state.count
        bytesSinceImage = 0
        onApply(nil, .done)
        onRecordChange()
        let changes = state.changes(since: old)
        if !changes.isEmpty { for observer in observers { observer(changes) } }
        let mark = image.marks.first { $0.origin == me }?.sequence ?? 0
        while let first = waiting.first, first.sequence <= mark {
            answerProposal(first.sequence, record.answer(to: me, first.sequence) ?? .refused(.unknownOutcome))
        }
    }

    private func compactIfNeeded() {
        guard let agreement, !isWritingImage, bytesSinceImage > max(imageInterval, imageBytes) else { return }
        bytesSinceImage = 0
        isWritingImage = true
        for effect in agreement.compact(keeping: ClusterCatalog.entriesKept) { perform(effect) }
    }

    /// Its log or its version fails this node.
    private func stop(_ error: SheepError) {
        guard stopped == nil else { return }
        stopped = error
        agreement = nil
        inbox = []
        let left = waiting
        waiting = []
        for (_, completion) in left { completion(.refused(.unknownOutcome)) }
        onStop(error)
    }

    // MARK: proposals

    package func observe(_ observer: @escaping ([CatalogChange]) -> Void) { observers.append(observer) }

    /// The answer comes when the command is committed, however long that takes; EIO when this node's own log failed
    /// meanwhile, and what became of the command is not known here. Repeated with the same request id, by whatever
    /// process, it has one outcome.
    package func propose(
        _ command: CatalogCommand, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void
    ) {
        if case .setCatalogStores = command {
            return refuse(
                SheepError(
                    .notPermitted, what: "The list of stores that hold the catalog was not changed.",
                    why: "In a cluster each node keeps its own.", remedy: "Attach or detach a store."), completion)
        }
        propose(.catalog(command, request), completion)
    }

    package func propose(_ command: ClusterCommand, _ completion: @escaping (CommandAnswer) -> Void) {
        let bytes = command.encoded()
        if bytes.count > ClusterCommand.maximumBytes {
            return refuse(
                SheepError(
                    .tooBig, what: "The command is too large.",
                    why: "It has \(bytes.count) bytes; \(ClusterCommand.maximumBytes) are allowed.",
                    remedy: "Name fewer volumes at a time."), completion)
        }
        propose(.command(bytes), completion)
    }

    /// Changes the voters by one node. Refused (EAGAIN) until the last change is a lease and its drift old by this node's
    /// clock: leases count on a majority of a list having a voter in common with that of the next one only.
    package func propose(voters: [Voter], _ completion: @escaping (CommandAnswer) -> Void) {
        let wanted = voters.sorted()
        let leases = record.sessions.filter(\.isOpen).map(\.leaseMilliseconds) + [state.settings.leaseMilliseconds]
        let apart = LeaseTimes(leaseMilliseconds: leases.max()!).voterMilliseconds
        let difference =
            wanted.count { !record.voters.contains($0) } + record.voters.count { !wanted.contains($0) }
        guard difference == 1, !wanted.isEmpty, Set(wanted.map(\.node)).count == wanted.count else {
            return refuse(
                SheepError(
                    .invalid, what: "The voters were not changed.", why: "They change by one node at a time.",
                    remedy: "Add or remove one."), completion)
        }
        guard let settled = settledVoters, clock.now.milliseconds(since: votersKnownSince) >= apart else {
            return refuse(
                SheepError(
                    .tryAgain, what: "The voters were not changed.", why: "They changed a moment ago.",
                    remedy: "Try again in \(apart / 1000 + 1) s."), completion)
        }
        propose(.voters(wanted, after: settled), completion)
    }

    private func propose(_ content: AgreementEntry.Content, _ completion: @escaping (CommandAnswer) -> Void) {
        if let stopped { return refuse(stopped, completion) }
        sequence += 1
        waiting.append((sequence, completion))
        process(.propose(sequence: sequence, content))
    }
    private func refuse(_ error: SheepError, _ completion: @escaping (CommandAnswer) -> Void) {
        clock.after(milliseconds: 0) { completion(.refused(error)) }
    }
    private func answerProposal(_ sequence: UInt64, _ answer: CommandAnswer) {
        guard let index = waiting.firstIndex(where: { $0.sequence == sequence }) else { return }
        waiting.remove(at: index).completion(answer)
    }
    /// Proposals that have no answer yet.
    package var waitingCount: Int { waiting.count }
}

extension SheepError {
    static let unknownOutcome = SheepError(
        .inputOutput, what: "It is not known here whether this was done.",
        why: "This node's log of the catalog failed while it was being asked.",
        remedy: "Look at what is there, from another node.")
}
