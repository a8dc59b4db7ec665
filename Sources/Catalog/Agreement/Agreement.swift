// The agreement of a cluster's nodes on one log, over a group that delivers messages in one order to all members of a
// configuration. Delivery is not commit: a member that was paused delivers to itself what nobody else ever sees, and
// messages of a minority arrive after a merge. So an entry is committed when a majority of the voters, counted against
// the lists in the log itself, has said that it is durable there, in the view that it was appended in.
//
// A view is opened by a coordinator after every change of the group's configuration (Agreement+Views). It is bound to
// the ring it was opened in: what belongs to another ring or view is dropped by everyone. Within a view all members
// append the same entries in the order of delivery (Agreement+Entries); a member whose log is not the chosen one
// fetches what it lacks over a connection (Agreement+Transfer).
//
// Why nothing committed is lost: a voter that acks in a view has promised durably to ack nothing older before it
// stated its log; a view goes on only from the latest log stated by a majority; and within a view logs are prefixes of
// each other, because the group's order is total as long as the ring is the same. The chained checksum is the second
// line: an ack counts only for exactly the same log.
//
// It must never use a clock, a socket or a file itself, and never ack what is not durable.
import Model

package final class Agreement {
    package let me: Member
    /// This node's key as a voter.
    package let key: UInt64
    /// The highest view this node goes along with; it acks nothing of a lower one.
    private(set) var promised: ViewNumber
    var log: AgreementLog
    /// Everything up to here is committed, and was handed out.
    package internal(set) var commit: UInt64
    /// Everything up to here is committed, handed out or not; always in the log.
    var knownCommitted: UInt64
    /// The state machine's state at `commit`.
    private let state: () -> [UInt8]

    // The group, as it was last told.
    private var members: [Member] = []
    private(set) var ring: RingId?
    private var quorumRing: RingId?
    private var isQuorate = false

    enum Phase {
        /// No configuration that could go on.
        case apart
        /// The configuration is settled; who is there is being heard.
        case gathering(since: Instant)
        case inView(View)
    }
    private(set) var phase = Phase.apart
    private var heard: [(member: Member, isVoter: Bool, promised: ViewNumber)] = []
    private var reopenAt: Instant?
    private var isActive = false

    /// Own proposals that are not committed, oldest first.
    var proposals: [Proposal] = []
    struct Proposal {
        let sequence: UInt64
        let content: AgreementEntry.Content
        /// Multicast in this view, or in its log already.
        var isUnderWay = false
    }
    enum Storing {
        case promise(ViewNumber)
        case append(upTo: LogPosition)
        case image
    }
    private var storing: [Storing] = []
    var now = Instant(nanoseconds: 0)
    private var effects: [AgreementEffect] = []

    package static let gatherMilliseconds: UInt64 = 1000
    package static let openMilliseconds: UInt64 = 3000
    package static let alignMilliseconds: UInt64 = 10_000
    package static let retryMilliseconds: UInt64 = 1000
    package static let maximumUnderWay = 64

    /// What this node has durably: the highest promise, the image and the log behind it, of which everything up to
    /// `committed` was known as committed (it is handed out when a view goes on from it). `state` gives the state
    /// machine's state at `commit`, whole.
    package init(
        me: Member, key: UInt64, promised: ViewNumber, image: AgreementImage, entries: [AgreementEntry],
        committed: UInt64, state: @escaping () -> [UInt8]
    ) {
        self.me = me
        self.key = key
        self.promised = promised
        log = AgreementLog(image: image, entries: entries)
        commit = image.position.index
        knownCommitted = min(max(commit, committed), log.last.index)
        self.state = state
    }

    /// Whether this node has a say by its own log.
    package var isVoter: Bool { log.lists(committed: knownCommitted).contains { $0.voters.contains(ownVoter) } }
    var ownVoter: Voter { Voter(me.node, key: key) }
    package var isInActiveView: Bool { isActive }
    package var view: ViewNumber? { if case .inView(let view) = phase { view.number } else { nil } }
    package var last: LogPosition { log.last }
    /// The newest list of voters that is committed, and what a change of it must name as `after`.
    package var committedVoters: (voters: [Voter], after: UInt64) {
        (log.voters(at: commit), log.votersIndex(at: commit))
    }
    package func image() -> AgreementImage {
        AgreementImage(
            position: log.position(commit)!, marks: log.sortedMarks(at: commit), voters: log.voters(at: commit),
            votersIndex: log.votersIndex(at: commit),
            state: state())
    }

    // MARK: events

    /// Takes an event in, at a time that never goes back; answers what is to be done, in order.
    package func handle(_ event: AgreementEvent, now: Instant) -> [AgreementEffect] {
        self.now = max(now, self.now)
        switch event {
        case .members(let list):
            members = list.sorted()
            reconsider()
        case .ring(let id):
            ring = id
            reconsider()
        case .quorum(let id, let isQuorate):
            let wasSettled = isSettled
            quorumRing = id
            self.isQuorate = isQuorate
            if isSettled != wasSettled { reconsider() }
        case .disconnected:
            members = []
            ring = nil
            quorumRing = nil
            isQuorate = false
            reconsider()
        case .delivered(let message, let member): deliver(message, from: member)
        case .received(let message, let node): receive(message, from: node)
        case .stored: stored()
        case .propose(let sequence, let content):
            proposals.append(Proposal(sequence: sequence, content: content))
            sendProposals()
        case .tick: tick()
        }
        return takeEffects()
    }
    func takeEffects() -> [AgreementEffect] {
        defer { effects = [] }
        return effects
    }
    func emit(_ effect: AgreementEffect) { effects.append(effect) }

    private var isSettled: Bool {
        ring != nil && ring == quorumRing && isQuorate && members.contains(me)
    }

    /// After any change of the configuration: whatever was under way has ended.
    private func reconsider() {
        leaveView()
        heard = []
        guard isSettled else { return phase = .apart }
        gather()
    }
    private func gather() {
        phase = .gathering(since: now)
        emit(.multicast(.hello(ring: ring!, isVoter: isVoter, promised: promised)))
    }
    private func leaveView() {
        reopenAt = nil
        for index in proposals.indices { proposals[index].isUnderWay = false }
        setActive(false)
    }
    func setActive(_ active: Bool) {
        guard active != isActive else { return }
        isActive = active
        emit(.active(active))
    }

    private func deliver(_ message: AgreementMessage, from member: Member) {
        switch message {
        case .hello(let ring, let isVoter, let promised): hear(member, ring, isVoter, promised)
        case .open(let number, let ring, let members): open(number, ring, members, from: member)
        case .state(let number, let state): takeState(number, state, from: member)
        case .choose(let number, let position, let source, let committed):
            choose(number, position, source, committed, from: member)
        case .entry(let number, let sequence, let content): appendEntry(number, sequence, content, from: member)
        case .ack(let number, let index, let hash): takeAck(number, index, hash, from: member)
        }
    }

    // MARK: who is there

    private func hear(_ member: Member, _ ring: RingId, _ isVoter: Bool, _ promised: ViewNumber) {
        guard ring == self.ring, isSettled else { return }
        heard.removeAll { $0.member.node == member.node }
        heard.append((member, isVoter, promised))
        switch phase {
        case .apart: return
        case .gathering:
            let isComplete = members.allSatisfy { member in heard.contains { $0.member == member } }
            if isComplete { openIfLowest() }
        case .inView(let view):
            // It is not in this view, or fell out of it: the next one takes it in.
            if view.number.coordinator == me.node, reopenAt == nil {
                reopenAt = now.advanced(milliseconds: Agreement.gatherMilliseconds / 4)
            }
        }
    }

    private func openIfLowest() {
        guard isVoter, let lowest = heard.filter(\.isVoter).map(\.member).min(), lowest == me else { return }
        openNext()
    }

    /// Opens a view of its own above all that it has heard of.
    private func openNext() {
        reopenAt = nil
        let round = max(promised.round, heard.map(\.promised.round).max() ?? 0) + 1
        // Who spoke up since, and who takes part already; not who stays silent.
        var present = heard.map(\.member) + [me]
        if case .inView(let view) = phase { present += view.states.map(\.member) }
        let invited = members.filter { present.contains($0) }
        emit(
            .multicast(
                .open(ViewNumber(round: round, coordinator: me.node), ring: ring!, members: invited)))
        // Its delivery is what counts; until then nothing else is to be opened.
        if case .gathering = phase { phase = .gathering(since: now) }
    }

    private func open(_ number: ViewNumber, _ ring: RingId, _ invited: [Member], from member: Member) {
        guard ring == self.ring, isSettled, member.node == number.coordinator else { return }
        guard number > promised else {
            // The opener has not heard how far this node went.
            if number < promised, number.coordinator != me.node {
                emit(.multicast(.hello(ring: ring, isVoter: isVoter, promised: promised)))
            }
            return
        }
        guard invited.contains(me) else { return gather() }
        leaveView()
        promised = number
        // Hellos before this one are answered by it.
        heard.removeAll { entry in invited.contains(entry.member) && entry.member != me }
        heard = heard.filter { $0.member != me }
        phase = .inView(View(number, members: invited, since: now))
        store(.promise(number), .promise(number))
    }

    // MARK: the store

    func store(_ operation: AgreementStoreOperation, _ storing: Storing) {
        self.storing.append(storing)
        emit(.store(operation))
    }
    private func stored() {
        precondition(!storing.isEmpty, "nothing is being stored")
        let done = storing.removeFirst()
        guard case .inView(let view) = phase else { return }
        switch done {
        case .promise(let number): if number == view.number { statesOwnLog(view) }
        case .append(let position): isDurable(view, upTo: position)
        case .image: break
        }
    }

    // MARK: time

    private func tick() {
        switch phase {
        case .apart: return
        case .gathering(let since):
            let waited = now.milliseconds(since: since)
            if waited >= Agreement.openMilliseconds + 500 * rank {
                if isVoter { openNext() } else { gather() }
            } else if waited >= Agreement.gatherMilliseconds {
                openIfLowest()
            }
        case .inView(let view):
            if let reopenAt, now >= reopenAt { return openNext() }
            tickView(view)
            let limit = view.chosen == nil ? Agreement.openMilliseconds : Agreement.alignMilliseconds
            if !isActive, isVoter, now.milliseconds(since: view.since) >= limit + 500 * rank {
                view.since = now
                openNext()
            }
        }
    }
    /// How many voters of the group come before this node, so that they do not all open views at once.
    private var rank: UInt64 {
        UInt64(log.voters.filter { voter in voter.node < me.node && members.contains { $0.node == voter.node } }.count)
    }
}
