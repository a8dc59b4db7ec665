// Sessions of nodes by the clocks of the voters, in two steps, and the holder's own check.
//
// Each node sends heartbeats for its session to the voters, over connections (the group stalls for seconds when a node
// fails). A voter acks them; when its own clock says that it has acked none for a lease and the drift (nor started, nor
// become a voter, in that time), it may promise, durably, to ack none of that session any more. With the promises of a
// majority somebody proposes the end of the session; committed, it frees its leases for others. The holder counts from
// the time it SENT the last heartbeat that a majority acked, and asks `isHeld` when an operation completes.
//
// Why no two nodes hold at once: a majority that acked and a majority that promised have a voter in common, and that
// voter promised only a lease after its ack, which was after the sending. Majorities of one list of voters, or of two
// that differ by one voter. So acks and promises count under a settled list only: a voter whose log has a change of the
// list that it does not know to be committed says nothing, and so no majority goes on under a list after the next one
// is committed; the end of a session is void under another list than the one it was promised under; and the list
// changes again only a lease later (ClusterCatalog).
//
// It must never send an ack before its promises were read from the disk, or a promise before it is durable.
import Model
import OrderedCollections

package enum LeaseMessage: Hashable, Sendable {
    /// `sequence` counts the sender's heartbeats; `voters` is the number of the list that it counts under.
    case heartbeat(NodeSession, sequence: UInt64, voters: UInt64)
    /// `key`: of the sender as a voter.
    case ack(NodeSession, sequence: UInt64, voters: UInt64, key: UInt64)
    /// This voter has promised to ack that session no more: its node had better open the next one.
    case refused(NodeSession)
    /// Asks for a promise.
    case request(NodeSession, voters: UInt64)
    case promise(NodeSession, voters: UInt64, key: UInt64)
}

/// What the sessions are kept with: the catalog for what is agreed, connections, and the node's log.
package protocol LeaseTransport: AnyObject {
    /// Over a connection, which may lose it; to this node itself too, never from inside the call.
    func send(_ message: LeaseMessage, to node: NodeId)
}

package final class LeaseKeeper {
    private let catalog: ClusterCatalog
    private let clock: any Clock
    private unowned let transport: any LeaseTransport
    private var me: NodeId { catalog.me.node }
    /// Of an open session.
    private func times(_ session: NodeSession) -> LeaseTimes? {
        catalog.record.openRecord(session).map { LeaseTimes(leaseMilliseconds: $0.leaseMilliseconds) }
    }

    // The holder.
    /// The session that this process wants: open, or being opened.
    package private(set) var session: NodeSession
    private var isOpening = false
    private var sequence: UInt64 = 0
    private var lastHeartbeat: Instant?
    /// Heartbeats that no majority has acked, oldest first.
    private var sent: [Heartbeat] = []
    /// When the last one was sent that a majority acked.
    private var heldSince: Instant?
    private struct Heartbeat {
        let sequence: UInt64
        let voters: UInt64
        let at: Instant
        var acks: [Voter] = []
    }
    private static let heartbeatsKept = 64

    // The voter.
    /// When this node last acked a heartbeat of each other's session, ascending by node.
    private var acked: [(session: NodeSession, at: Instant)] = []
    /// When this node first saw each open session of others.
    private var opened: [(session: NodeSession, at: Instant)] = []
    /// Since when this node counts as a voter under the current key.
    private var votingSince: Instant?
    private let startedAt: Instant
    private var promises: [NodeSession]

    // Whoever ends the sessions of others.
    private var requests: [Request] = []
    private struct Request {
        let session: NodeSession
        let voters: UInt64
        var promises: [Voter] = []
        var isProposed = false
        var askedAt: Instant
    }

    package init(catalog: ClusterCatalog, clock: any Clock, transport: any LeaseTransport) {
        self.catalog = catalog
        self.clock = clock
        self.transport = transport
        startedAt = clock.now
        promises = catalog.log.sessionPromises
        session = NodeSession(catalog.me.node, incarnation: catalog.me.incarnation, number: 1)
    }

    // MARK: the holder

    /// Whether this node's session holds at this moment: what it read or wrote under a lease may be answered. To be asked
    /// when an operation completes, immediately before its answer goes out.
    package var isHeld: Bool {
        guard !isEnding, let times = times(session), let heldSince else { return false }
        return clock.now < heldSince.advanced(milliseconds: times.holderMilliseconds)
    }
    /// Whether this node holds the volume's lease at this moment.
    package func holds(_ volume: VolumeId) -> Bool {
        guard let lease = catalog.state.volumes[volume]?.lease else { return false }
        return lease.node == me && lease.incarnation == session.incarnation && isHeld
            && !givenUp.contains { $0.volume == volume && $0.term >= lease.term }
    }
    /// Leases that this node is giving back: another node may hold them before this one hears that it is done.
    private var givenUp: [(volume: VolumeId, term: Term)] = []
    /// Gives a lease back. From this call on the node does not hold it, whatever becomes of the command.
    package func release(_ volume: VolumeId, term: Term, _ completion: @escaping (CommandAnswer) -> Void) {
        givenUp.removeAll { $0.volume == volume }
        givenUp.append((volume, term))
        catalog.propose(.releaseLease(volume, term: term), request: nil, completion)
    }

    /// The process ends: its session does, so that nobody waits for it.
    package func endSession(_ completion: @escaping () -> Void) {
        guard catalog.record.isOpen(session), catalog.isActive else {
            return clock.after(milliseconds: 0, completion)
        }
        isEnding = true
        catalog.propose(.endSession(session, voters: nil)) { _ in completion() }
    }
    private var isEnding = false

    private func tickHolder() {
        guard !isEnding else { return }
        let now = clock.now
        guard let times = times(session) else { return openSession() }
        guard let voters = catalog.settledVoters else { return }
        if let lastHeartbeat, now.milliseconds(since: lastHeartbeat) < times.heartbeatMilliseconds { return }
        lastHeartbeat = now
        sequence += 1
        sent.append(Heartbeat(sequence: sequence, voters: voters, at: now))
        if sent.count > LeaseKeeper.heartbeatsKept { sent.removeFirst() }
        for voter in catalog.record.voters {
            transport.send(.heartbeat(session, sequence: sequence, voters: voters), to: voter.node)
        }
    }
    /// A session that was ended is never used again; the process takes the next one.
    private func openSession() {
        guard !isOpening, catalog.isActive else { return }
        if let known = catalog.record.session(of: me), known.session >= session { advance(beyond: known.session) }
        isOpening = true
        sent = []
        heldSince = nil
        catalog.propose(.openSession(session)) { [weak self] _ in self?.isOpening = false }
    }
    private func advance(beyond known: NodeSession) {
        session = NodeSession(me, incarnation: session.incarnation, number: max(session.number, known.number) + 1)
    }

    private func takeAck(_ session: NodeSession, _ sequence: UInt64, _ voters: UInt64, _ voter: Voter) {
        guard session == self.session, voters == catalog.settledVoters, catalog.record.voters.contains(voter),
            let index = sent.firstIndex(where: { $0.sequence == sequence && $0.voters == voters }),
            !sent[index].acks.contains(voter)
        else { return }
        sent[index].acks.append(voter)
        guard 2 * sent[index].acks.count > catalog.record.voters.count else { return }
        let at = sent[index].at
        if heldSince.map({ $0 < at }) ?? true { heldSince = at }
        sent.removeFirst(index + 1)
    }

    // MARK: the voter

    private var ownVoter: Voter { Voter(me, key: catalog.log.key) }
    /// This node's say, under the list that it knows; nil while it has none.
    private var say: UInt64? {
        guard let voters = catalog.settledVoters, catalog.record.voters.contains(ownVoter) else { return nil }
        return voters
    }
    /// Since when this voter has heard nothing of a session, at the earliest.
    private func silentSince(_ session: NodeSession) -> Instant {
        var since = max(startedAt, votingSince ?? clock.now)
        if let last = acked.first(where: { $0.session.node == session.node }) { since = max(since, last.at) }
        // One that was opened a moment ago has had no time for a heartbeat.
        guard let times = times(session), let at = opened.first(where: { $0.session == session })?.at else {
            return clock.now
        }
        let heard = at.advanced(milliseconds: 4 * times.heartbeatMilliseconds).nanoseconds
        let lease = times.voterMilliseconds * 1_000_000
        return max(since, Instant(nanoseconds: heard > lease ? heard - lease : 0))
    }
    private func isSilent(_ session: NodeSession) -> Bool {
        guard let times = times(session) else { return false }
        return clock.now >= silentSince(session).advanced(milliseconds: times.voterMilliseconds)
    }

    private func takeHeartbeat(_ session: NodeSession, _ sequence: UInt64, _ voters: UInt64, from node: NodeId) {
        guard session.node == node, voters == say else { return }
        if let promise = promises.first(where: { $0.node == node }), promise >= session {
            return transport.send(.refused(session), to: node)
        }
        // One that the state has not heard of yet, or that has ended there, is nothing to ack.
        guard catalog.record.isOpen(session) else { return }
        acked.removeAll { $0.session.node == node }
        acked.append((session, clock.now))
        acked.sort { $0.session < $1.session }
        transport.send(.ack(session, sequence: sequence, voters: voters, key: catalog.log.key), to: node)
    }

    private func takeRequest(_ session: NodeSession, _ voters: UInt64, from node: NodeId) {
        guard voters == say, catalog.record.isOpen(session) else { return }
        let answer = { [weak self] in
            guard let self, voters == say else { return }
            transport.send(.promise(session, voters: voters, key: catalog.log.key), to: node)
        }
        if recorded.contains(where: { $0.node == session.node && $0 >= session }) { return answer() }
        guard isSilent(session) else { return }
        // From now on; said when it is durable.
        if !promises.contains(where: { $0.node == session.node && $0 >= session }) {
            promises.removeAll { $0.node == session.node }
            promises.append(session)
            promises.sort()
        }
        catalog.log.record(promise: session) { error in if error == nil { answer() } }
    }
    /// Promises that are durable.
    private var recorded: [NodeSession] { catalog.log.sessionPromises }

    // MARK: ending the sessions of others

    /// Sessions that this voter has not heard of for long are ended; voters begin one after the other.
    private func tickOthers() {
        guard let voters = say, catalog.isActive else {
            requests = []
            return
        }
        requests.removeAll { $0.voters != voters || !catalog.record.isOpen($0.session) }
        let rank = catalog.record.voters.firstIndex(of: ownVoter) ?? 0
        for record in catalog.record.sessions where record.isOpen && record.session.node != me {
            let session = record.session
            let times = LeaseTimes(leaseMilliseconds: record.leaseMilliseconds)
            let begin = silentSince(session).advanced(
                milliseconds: times.voterMilliseconds + UInt64(rank) * times.heartbeatMilliseconds)
            guard clock.now >= begin else { continue }
            if let index = requests.firstIndex(where: { $0.session == session }) {
                let isDue = clock.now.milliseconds(since: requests[index].askedAt) >= 2 * times.heartbeatMilliseconds
                guard isDue, !requests[index].isProposed else { continue }
                requests[index].askedAt = clock.now
            } else {
                requests.append(Request(session: session, voters: voters, askedAt: clock.now))
            }
            for voter in catalog.record.voters { transport.send(.request(session, voters: voters), to: voter.node) }
        }
    }

    private func takePromise(_ session: NodeSession, _ voters: UInt64, _ voter: Voter) {
        guard voters == catalog.settledVoters, catalog.record.voters.contains(voter),
            let index = requests.firstIndex(where: { $0.session == session && $0.voters == voters }),
            !requests[index].promises.contains(voter), !requests[index].isProposed
        else { return }
        requests[index].promises.append(voter)
        guard 2 * requests[index].promises.count > catalog.record.voters.count else { return }
        requests[index].isProposed = true
        catalog.propose(.endSession(session, voters: voters)) { [weak self] _ in
            self?.requests.removeAll { $0.session == session }
        }
    }

    // MARK: what happens

    package func receive(_ message: LeaseMessage, from node: NodeId) {
        watchVoters()
        switch message {
        case .heartbeat(let session, let sequence, let voters):
            takeHeartbeat(session, sequence, voters, from: node)
        case .ack(let session, let sequence, let voters, let key):
            takeAck(session, sequence, voters, Voter(node, key: key))
        case .refused(let session):
            guard session == self.session, !isOpening, !isHeld else { return }
            // A majority may have promised or not: the next session is free of it either way.
            advance(beyond: session)
        case .request(let session, let voters): takeRequest(session, voters, from: node)
        case .promise(let session, let voters, let key): takePromise(session, voters, Voter(node, key: key))
        }
    }
    /// At least twice per heartbeat.
    package func tick() {
        watchVoters()
        tickHolder()
        tickOthers()
    }
    private func watchVoters() {
        opened.removeAll { !catalog.record.isOpen($0.session) }
        for record in catalog.record.sessions where record.isOpen && record.session.node != me {
            if !opened.contains(where: { $0.session == record.session }) { opened.append((record.session, clock.now)) }
        }
        if !catalog.record.voters.contains(ownVoter) {
            votingSince = nil
        } else if votingSince == nil {
            votingSince = clock.now
        }
    }
}
