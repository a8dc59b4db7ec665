// What the agreement of many nodes on one log is made of: views, members, voters, entries, messages. The order comes
// from a group that delivers messages totally ordered (Corosync's CPG), which is not commit: see Agreement.
import Model

/// A configuration of the cluster's nodes by which one coordinator lets a log go on. Compared by round first; the
/// coordinator's id makes it unique, since a coordinator never opens two of the same round.
package struct ViewNumber: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let round: UInt64
    package let coordinator: NodeId
    package init(round: UInt64, coordinator: NodeId) {
        self.round = round
        self.coordinator = coordinator
    }
    package static let none = ViewNumber(round: 0, coordinator: NodeId(0))
    package static func < (a: Self, b: Self) -> Bool { (a.round, a.coordinator) < (b.round, b.coordinator) }
    package var description: String { "\(round).\(coordinator)" }
}

/// A life of a process on a node.
package struct Member: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let node: NodeId
    package let incarnation: UInt64
    package init(_ node: NodeId, incarnation: UInt64) {
        self.node = node
        self.incarnation = incarnation
    }
    package static func < (a: Self, b: Self) -> Bool { (a.node, a.incarnation) < (b.node, b.incarnation) }
    package var description: String { "\(node)/\(incarnation)" }
}

/// The group's own name for a configuration of it. Not an epoch: two sides of a split can have the same sequence.
package struct RingId: Hashable, Sendable, CustomStringConvertible {
    package let representative: NodeId
    package let sequence: UInt64
    package init(representative: NodeId, sequence: UInt64) {
        self.representative = representative
        self.sequence = sequence
    }
    package var description: String { "\(representative).\(sequence)" }
}

/// A node that counts for a commit. `key` is made by the node when it becomes a voter and kept with its log: a node
/// that lost its log has another key, and does not count as the voter it was.
package struct Voter: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let node: NodeId
    package let key: UInt64
    package init(_ node: NodeId, key: UInt64) {
        self.node = node
        self.key = key
    }
    package static func < (a: Self, b: Self) -> Bool { (a.node, a.key) < (b.node, b.key) }
    package var description: String { "\(node)" }
}

/// Where a log ends. Of two logs the later one is the one with the higher view of its last entry, then index.
package struct LogPosition: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let view: ViewNumber
    package let index: UInt64
    /// Of the entry and all before it.
    package let hash: UInt32
    package init(view: ViewNumber, index: UInt64, hash: UInt32) {
        self.view = view
        self.index = index
        self.hash = hash
    }
    package static let start = LogPosition(view: .none, index: 0, hash: 0)
    package static func < (a: Self, b: Self) -> Bool { (a.view, a.index) < (b.view, b.index) }
    package var description: String { "\(view):\(index)" }
}

package struct AgreementEntry: Hashable, Sendable {
    package enum Content: Hashable, Sendable {
        /// The first entry of a view, by which earlier ones become committed.
        case opening
        /// From here on these vote. `after` is the index of the change (or image) that the proposer knew to be
        /// committed and in force: a change that another one overtook is void, by the log alone.
        case voters([Voter], after: UInt64)
        case command([UInt8])
    }
    package let index: UInt64
    package let view: ViewNumber
    package let origin: Member
    /// Counts the origin's proposals from 1; 0 of an opening.
    package let sequence: UInt64
    package let content: Content
    /// Of this entry and all before it.
    package let hash: UInt32
    package var position: LogPosition { LogPosition(view: view, index: index, hash: hash) }
}

/// What a member says of its log when a view opens.
package struct MemberState: Hashable, Sendable {
    package let last: LogPosition
    package let commit: UInt64
    /// Its own key; nil: it never voted.
    package let key: UInt64?
    /// The lists that have a say by its log: the newest, and those before it that it may not have replaced yet.
    package let lists: [VoterList]
}

/// Who votes from an index of the log on.
package struct VoterList: Hashable, Sendable {
    package let index: UInt64
    package let voters: [Voter]
}

/// Multicast in the group; delivered to all members in one order.
package enum AgreementMessage: Hashable, Sendable {
    /// Who is there: sent when a configuration is settled. `promised`: the highest view it may not go below.
    case hello(ring: RingId, isVoter: Bool, promised: ViewNumber)
    case open(ViewNumber, ring: RingId, members: [Member])
    /// The sender has made the view durable, and acks nothing older.
    case state(ViewNumber, MemberState)
    /// The log that the view goes on from, who has it, and how much of it is known to be committed.
    case choose(ViewNumber, LogPosition, source: NodeId, committed: UInt64)
    case entry(ViewNumber, sequence: UInt64, AgreementEntry.Content)
    /// The sender's durable log has everything up to here, and is the same as that of whoever has this hash there.
    case ack(ViewNumber, index: UInt64, hash: UInt32)
}

/// Between two nodes, over a connection that may lose and delay.
package enum TransferMessage: Hashable, Sendable {
    /// The log after `from`, which the asker knows as committed, up to `to`.
    case fetch(ViewNumber, from: LogPosition, to: LogPosition)
    case entries(ViewNumber, [AgreementEntry])
    /// The state at `image`, and the entries behind it.
    case image(ViewNumber, AgreementImage, [AgreementEntry])
}

/// How far the proposals of a node are in a log: of its latest life, up to this one. Ascending by node in an image.
package struct ProposalMark: Hashable, Sendable {
    package let origin: Member
    package let sequence: UInt64
}

/// The state machine's state at a committed position.
package struct AgreementImage: Hashable, Sendable {
    package let position: LogPosition
    package let marks: [ProposalMark]
    /// The newest list, and the index of the entry that brought it.
    package let voters: [Voter]
    package let votersIndex: UInt64
    package let state: [UInt8]
}

/// What happens to a member.
package enum AgreementEvent: Sendable {
    /// The group's members, whole. Whoever is missing is gone, whoever is new may have been away and back.
    case members([Member])
    case ring(RingId)
    /// The cluster manager's view of the majority, with the ring that it belongs to.
    case quorum(RingId, isQuorate: Bool)
    /// The connection to the group is lost: nothing is known until a new `members`.
    case disconnected
    case delivered(AgreementMessage, from: Member)
    case received(TransferMessage, from: NodeId)
    /// The oldest store operation is durable.
    case stored
    case propose(sequence: UInt64, AgreementEntry.Content)
    /// Some time passed; at least every 250 ms.
    case tick
}

/// What a member does.
package enum AgreementEffect: Sendable {
    case multicast(AgreementMessage)
    case send(NodeId, TransferMessage)
    /// Made durable in this order; each is answered by `stored`.
    case store(AgreementStoreOperation)
    /// Committed: to be applied, in this order, exactly once.
    case commit(AgreementEntry)
    /// The state is replaced whole; what follows is committed behind it.
    case install(AgreementImage)
    /// Whether proposals are taken into the log now.
    case active(Bool)
}

package enum AgreementStoreOperation: Hashable, Sendable {
    case promise(ViewNumber)
    /// Everything from the first entry's index on is replaced by these. Up to `committed` all is known as committed.
    case append([AgreementEntry], committed: UInt64)
    /// The log begins behind this state. Entries that follow it are kept if `keepsEntries`.
    case image(AgreementImage, keepsEntries: Bool)
}
