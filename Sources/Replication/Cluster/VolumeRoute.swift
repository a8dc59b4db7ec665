// Where the operations of one volume go, as one node sees it: to its own gateway under the lease, to the holder, or they
// wait until one of both is there. Plain state; what happens is the router's (VolumeRouter).
import Catalog
import DequeModule
import Model

/// An operation from its first issue to its answer.
final class RoutedOperation {
    let request: VolumeRequest
    /// Of a read or write: where its bytes are.
    let buffer: Buffer?
    let bufferOffset: Int
    /// From another node: it is never issued under a second term here, for that node decides what becomes of it.
    var isForwarded: Bool { requiredTerm != nil }
    /// The only term under which it may be done here.
    let requiredTerm: Term?
    let order: UInt64
    private var completion: ((VolumeAnswer) -> Void)?
    /// The term of its first issue by this node's gateway.
    var issued: Term?
    /// The term under which it is at the gateway.
    var term = Term.none
    // At another node.
    var holder: Lease?
    var number: UInt64?
    var isDoubted = false

    init(
        _ request: VolumeRequest, buffer: Buffer?, bufferOffset: Int, requiredTerm: Term?, order: UInt64,
        _ completion: @escaping (VolumeAnswer) -> Void
    ) {
        self.request = request
        self.buffer = buffer
        self.bufferOffset = bufferOffset
        self.requiredTerm = requiredTerm
        self.order = order
        self.completion = completion
    }
    func finish(_ answer: VolumeAnswer) {
        let completion = completion
        self.completion = nil
        completion?(answer)
    }
}

final class VolumeRoute {
    enum Phase: Equatable {
        case idle
        /// The gateway is taking the lease.
        case taking
        case held(Term)
        /// Another node wants the lease: what is on its way ends, nothing new begins.
        case giving(Term, to: NodeId)
        /// The lease is over: what was on its way comes to its end first.
        case leaving
    }
    let id: VolumeId
    var phase = Phase.idle
    /// In order; those that were issued before come first.
    var waiting: Deque<RoutedOperation> = []
    /// At the gateway.
    var attempts: [RoutedOperation] = []
    /// Done under the lease, but it could not be said at that moment that it is still held.
    var parked: [(operation: RoutedOperation, answer: VolumeAnswer)] = []
    /// Issued under a lease that is over.
    var lost: [RoutedOperation] = []
    /// At the holder.
    var forwarded: [RoutedOperation] = []
    var openCount = 0
    var isRetryArmed = false
    /// Since when it is waited for a volume that the catalog here has not heard of.
    var unknownSince: Instant?
    /// Who was given the lease, and how long it is left to him.
    var favoured: (node: NodeId, until: Instant)?
    var heldSince = Instant(nanoseconds: 0)

    // Whether the lease should be elsewhere. Writes of this node and of others since the window began.
    var windowStart = Instant(nanoseconds: 0)
    var ownWrites = 0
    var othersWrites: [(node: NodeId, count: Int)] = []
    var formerOwnWrites = 0
    // Writes that this node has had the holder do.
    var sentWrites = 0
    var mayAskAt = Instant(nanoseconds: 0)
    var isAsking = false
    // Snapshots with others.
    var prepared: PreparedVolume?

    init(_ id: VolumeId) { self.id = id }

    func enqueue(_ operation: RoutedOperation) {
        var position = waiting.count
        while position > 0, waiting[position - 1].order > operation.order { position -= 1 }
        waiting.insert(operation, at: position)
    }
    var isAtRest: Bool {
        waiting.isEmpty && attempts.isEmpty && parked.isEmpty && lost.isEmpty && forwarded.isEmpty && prepared == nil
    }

    func countWrite(by node: NodeId, isOwn: Bool, now: Instant) {
        if now.milliseconds(since: windowStart) >= 500 {
            windowStart = now
            formerOwnWrites = ownWrites
            ownWrites = 0
            othersWrites = []
        }
        if isOwn {
            ownWrites += 1
        } else if let index = othersWrites.firstIndex(where: { $0.node == node }) {
            othersWrites[index].count += 1
        } else {
            othersWrites.append((node, 1))
        }
    }
}

/// A volume whose gate is closed for a snapshot that another node makes of several.
final class PreparedVolume {
    let number: UInt64
    let coordinator: NodeId
    let term: Term
    var hasGate = false
    var isDrained = false
    var answer: ((VolumeAnswer) -> Void)?
    init(number: UInt64, coordinator: NodeId, term: Term) {
        self.number = number
        self.coordinator = coordinator
        self.term = term
    }
}
