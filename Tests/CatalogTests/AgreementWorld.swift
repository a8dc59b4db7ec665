// Nodes that agree on a log over a simulated group, by one seed in virtual time. The group behaves as Corosync's CPG
// does: members that move on together from a ring have delivered the same of it; a member that was paused delivers to
// itself what nobody else saw; what a minority sent is delivered after a merge; the callback of the quorum comes before
// or after that of the members, and seconds late in a minority; a process that is stopped stays a member.
// It checks that no two nodes ever commit different entries, none is lost, none committed twice.
import Model
import TestSupport

@testable import Catalog

struct AgreementFailure: Error, CustomStringConvertible {
    let description: String
}

final class AgreementWorld {
    struct Options {
        var nodes = 3
        var voters = 3
        /// Every side of a partition believes to be the majority: our own count alone must keep it safe.
        var isQuorumBlind = false
        var seconds = 60
        var faults = true
        var changesVoters = true
        var imageEvery: UInt64 = 20
        /// Tests of the checkers: each breaks one rule.
        var sabotage: Sabotage?
    }
    enum Sabotage: CaseIterable {
        /// Entries are said to be durable before they are.
        case ackBeforeDurable
        /// A promise is answered, but not kept over a crash.
        case forgetPromise
        /// A node that lost its log votes as the one that had it.
        case keepKey
    }

    // MARK: nodes

    final class Node {
        let id: NodeId
        var incarnation: UInt64 = 0
        var key: UInt64
        // What survives a crash.
        var promised = ViewNumber.none
        var image: AgreementImage
        var entries: [AgreementEntry] = []
        var committedHint: UInt64 = 0
        // The process.
        var agreement: Agreement?
        var isPaused = false
        var pending: [AgreementStoreOperation] = []
        var events: [AgreementEvent] = []
        var digest: UInt32 = 0
        var applied: UInt64 = 0
        var sequence: UInt64 = 0
        var outgoing: [AgreementMessage] = []
        // The host.
        var component = 0
        var ring: Ring?
        var isCorosyncPaused = false
        var delivered = 0

        var member: Member { Member(id, incarnation: incarnation) }
        init(_ id: NodeId, key: UInt64, image: AgreementImage) {
            self.id = id
            self.key = key
            self.image = image
        }
    }
    final class Ring {
        let id: RingId
        let nodes: [NodeId]
        var processes: [Member] = []
        /// Ordered messages and changes of the processes.
        var stream: [StreamItem] = []
        init(_ id: RingId, nodes: [NodeId]) {
            self.id = id
            self.nodes = nodes
        }
    }
    enum StreamItem {
        case message(AgreementMessage, from: Member)
        case members([Member])
    }

    var nodes: [Node] = []
    var random: Random
    let options: Options
    private(set) var now: UInt64 = 0
    private var queue: [(at: UInt64, order: UInt64, action: () throws -> Void)] = []
    private var order: UInt64 = 0
    private var ringSequence: UInt64 = 1
    // What was seen to be committed.
    private(set) var committed: [AgreementEntry] = []
    private var digests: [UInt32] = [0]
    private var seenProposals: Set<String> = []
    private(set) var viewsOpened = 0
    var isHealed = false
    /// From here on nothing more is proposed.
    var quietAt = UInt64.max
    var trace: [String]?

    init(seed: UInt64, _ options: Options) {
        random = Random(seed)
        self.options = options
        let voters = (1...options.voters).map { Voter(NodeId(UInt32($0)), key: UInt64($0) * 100) }
        let image = AgreementImage(position: .start, marks: [], voters: voters, votersIndex: 0, state: [0, 0, 0, 0])
        nodes = (1...options.nodes).map { Node(NodeId(UInt32($0)), key: UInt64($0) * 100, image: image) }
    }

    func node(_ id: NodeId) -> Node { nodes[Int(id.rawValue) - 1] }
    func note(_ text: @autoclosure () -> String) {
        if trace != nil { trace!.append("\(now / 1_000_000) ms: \(text())") }
    }

    // MARK: time

    func later(_ milliseconds: Double, _ action: @escaping () throws -> Void) {
        order += 1
        let item = (at: now + UInt64(milliseconds * 1_000_000), order: order, action: action)
        // A binary heap by (at, order).
        queue.append(item)
        var child = queue.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard (queue[child].at, queue[child].order) < (queue[parent].at, queue[parent].order) else { break }
            queue.swapAt(child, parent)
            child = parent
        }
    }
    private func next() -> (at: UInt64, order: UInt64, action: () throws -> Void)? {
        guard let first = queue.first else { return nil }
        queue.swapAt(0, queue.count - 1)
        queue.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < queue.count {
                if (queue[child].at, queue[child].order) < (queue[least].at, queue[least].order) { least = child }
            }
            if least == parent { break }
            queue.swapAt(parent, least)
            parent = least
        }
        return first
    }
    func run(until end: UInt64) throws {
        while let first = queue.first, first.at <= end {
            let item = next()!
            now = item.at
            try item.action()
        }
        now = end
    }
    func milliseconds(_ low: Double, _ high: Double) -> Double {
        low + Double(random.below(1000)) / 1000 * (high - low)
    }

    // MARK: processes

    func boot() {
        for node in nodes { startProcess(node) }
        formRings()
    }

    func startProcess(_ node: Node) {
        node.incarnation += 1
        node.pending = []
        node.events = []
        node.outgoing = []
        node.isPaused = false
        node.sequence = 0
        node.digest = AgreementWorld.value(node.image.state)
        node.applied = node.image.position.index
        node.agreement = Agreement(
            me: node.member, key: node.key, promised: node.promised, image: node.image, entries: node.entries,
            committed: node.committedHint
        ) { [unowned node] in AgreementWorld.bytes(node.digest) }
        note("\(node.id) starts, \(node.entries.count) entries behind \(node.image.position)")
        if let ring = node.ring { join(node, ring) }
        tick(node, node.incarnation)
        propose(node, node.incarnation)
    }
    private static func value(_ bytes: [UInt8]) -> UInt32 { bytes.reduce(0) { $0 << 8 | UInt32($1) } }
    private static func bytes(_ value: UInt32) -> [UInt8] { [24, 16, 8, 0].map { UInt8(value >> $0 & 255) } }

    private func tick(_ node: Node, _ incarnation: UInt64) {
        later(milliseconds(50, 250)) { [self] in
            guard node.incarnation == incarnation, node.agreement != nil else { return }
            if !node.isPaused { try handle(node, .tick) }
            tick(node, incarnation)
        }
    }
    private func propose(_ node: Node, _ incarnation: UInt64) {
        later(milliseconds(20, 800)) { [self] in
            guard node.incarnation == incarnation, node.agreement != nil else { return }
            if !node.isPaused, node.sequence < 40 || isHealed { try proposeCommand(node) }
            if now < quietAt { propose(node, incarnation) }
        }
    }
    func proposeCommand(_ node: Node) throws {
        guard let agreement = node.agreement else { return }
        node.sequence += 1
        var content = AgreementEntry.Content.command([UInt8(node.id.rawValue)] + AgreementWorld.bytes(random32()))
        if options.changesVoters, !isHealed, random.chance(percent: 8) {
            let (voters, after) = agreement.committedVoters
            if let changed = changed(voters) { content = .voters(changed, after: after) }
        }
        try handle(node, .propose(sequence: node.sequence, content))
    }
    private func random32() -> UInt32 { UInt32(truncatingIfNeeded: random.next()) }
    /// One more, one less, or one that lost its log again with its new key.
    private func changed(_ voters: [Voter]) -> [Voter]? {
        if let stale = voters.firstIndex(where: { node($0.node).key != $0.key }) {
            var changed = voters
            // Out first; it comes back in a change of its own.
            changed.remove(at: stale)
            return changed
        }
        let others = nodes.filter { node in !voters.contains { $0.node == node.id } }
        if let other = others.isEmpty ? nil : Optional(random.pick(others)), voters.count < 5,
            voters.count < 3 || random.chance(percent: 50)
        {
            return (voters + [Voter(other.id, key: other.key)]).sorted()
        }
        guard voters.count > 2 else { return nil }
        return voters.filter { $0 != random.pick(voters) }.count == voters.count - 1
            ? Array(voters.dropLast()) : voters.dropFirst().sorted()
    }

    /// The process dies; of what it was storing, a part is there.
    func crash(_ node: Node) {
        guard node.agreement != nil else { return }
        note("\(node.id) crashes")
        node.agreement = nil
        var done = random.below(node.pending.count + 1)
        while done > 0 {
            apply(node.pending.removeFirst(), node)
            done -= 1
        }
        if case .append(let entries, let committed)? = node.pending.first, entries.count > 1, random.chance(percent: 50)
        {
            apply(.append(Array(entries.prefix(random.below(entries.count))), committed: committed), node)
        }
        node.pending = []
        node.events = []
        node.outgoing = []
        if let ring = node.ring { leave(node, ring) }
    }
    /// The disk is replaced too: another key, and an empty log.
    func wipe(_ node: Node) {
        note("\(node.id) loses its log")
        node.promised = .none
        node.entries = []
        node.committedHint = 0
        node.image = AgreementImage(
            position: .start, marks: [],
            voters: (1...options.voters).map { Voter(NodeId(UInt32($0)), key: UInt64($0) * 100) },
            votersIndex: 0, state: [0, 0, 0, 0])
        if options.sabotage != .keepKey { node.key += 1 }
    }

    private func apply(_ operation: AgreementStoreOperation, _ node: Node) {
        switch operation {
        case .promise(let number):
            if options.sabotage != .forgetPromise { node.promised = max(node.promised, number) }
        case .append(let entries, let committed):
            node.committedHint = committed
            guard let first = entries.first else { return }
            node.entries.removeAll { $0.index >= first.index }
            precondition((node.entries.last?.index ?? node.image.position.index) == first.index - 1, "a gap on disk")
            node.entries += entries
        case .image(let image, let keepsEntries):
            node.image = image
            node.entries.removeAll { !keepsEntries || $0.index <= image.position.index }
        }
    }

    // MARK: effects

    func handle(_ node: Node, _ event: AgreementEvent) throws {
        guard let agreement = node.agreement else { return }
        try perform(node, agreement.handle(event, now: Instant(nanoseconds: now)))
    }
    private func perform(_ node: Node, _ effects: [AgreementEffect]) throws {
        let incarnation = node.incarnation
        for effect in effects {
            switch effect {
            case .multicast(let message):
                if case .open = message { viewsOpened += 1 }
                node.outgoing.append(message)
                later(milliseconds(0.1, 3)) { [self] in
                    if node.incarnation == incarnation { order(node) }
                }
            case .send(let to, let message):
                later(milliseconds(0.2, 5)) { [self] in
                    let peer = self.node(to)
                    guard peer.component == node.component, !random.chance(percent: isHealed ? 0 : 10) else { return }
                    let copies = random.chance(percent: 5) ? 2 : 1
                    for _ in 0..<copies { push(peer, .received(message, from: node.id)) }
                }
            case .store(let operation):
                node.pending.append(operation)
                if node.pending.count == 1 { completeStore(node, incarnation) }
                if options.sabotage == .ackBeforeDurable, case .append = operation {
                    // The core believes that it is there; the disk has it later, or never.
                    node.events.append(.stored)
                    later(0) { [self] in try drain(node) }
                }
            case .commit(let entry): try committed(node, entry)
            case .install(let image): try installed(node, image)
            case .active(let isActive):
                note(
                    "\(node.id) \(isActive ? "active" : "not active") in \(node.agreement!.view.map(\.description) ?? "-")"
                )
            }
        }
        if let agreement = node.agreement, node.pending.isEmpty, options.sabotage != .ackBeforeDurable,
            agreement.commit >= node.image.position.index + options.imageEvery
        {
            try perform(node, agreement.compact(keeping: UInt64(random.below(2)) * 5))
        }
    }
    private func completeStore(_ node: Node, _ incarnation: UInt64) {
        later(random.chance(percent: 3) ? milliseconds(100, 2000) : milliseconds(0.1, 8)) { [self] in
            guard node.incarnation == incarnation, node.agreement != nil, !node.pending.isEmpty else { return }
            let operation = node.pending.removeFirst()
            apply(operation, node)
            var isSaid = false
            if options.sabotage == .ackBeforeDurable, case .append = operation { isSaid = true }
            if !isSaid { push(node, .stored) }
            if !node.pending.isEmpty { completeStore(node, incarnation) }
        }
    }
    /// An event for a process; a stopped one gets it when it goes on.
    func push(_ node: Node, _ event: AgreementEvent) {
        guard node.agreement != nil else { return }
        node.events.append(event)
        let incarnation = node.incarnation
        later(milliseconds(0, 1)) { [self] in if node.incarnation == incarnation { try drain(node) } }
    }
    func drain(_ node: Node) throws {
        while !node.isPaused, node.agreement != nil, !node.events.isEmpty {
            try handle(node, node.events.removeFirst())
        }
    }

    // MARK: the group

    /// The next message of a member gets its place in the ring's order, and goes to all that are still in that ring.
    private func order(_ node: Node) {
        guard let ring = node.ring, !node.outgoing.isEmpty, node.agreement != nil else { return }
        if node.isCorosyncPaused { return }
        let message = node.outgoing.removeFirst()
        append(.message(message, from: node.member), ring)
    }
    private func append(_ item: StreamItem, _ ring: Ring) {
        ring.stream.append(item)
        let count = ring.stream.count
        for id in ring.nodes {
            later(milliseconds(0.1, 4)) { [self] in
                let node = node(id)
                if node.ring === ring, !node.isCorosyncPaused,
                    node.component == self.node(ring.nodes[0]).component
                        || random.chance(percent: 50)
                {
                    deliver(node, ring, upTo: count)
                }
            }
        }
    }
    /// Everything of the ring's order up to there that the node has not delivered.
    private func deliver(_ node: Node, _ ring: Ring, upTo count: Int) {
        while node.delivered < count {
            let item = ring.stream[node.delivered]
            node.delivered += 1
            switch item {
            case .message(let message, let from): push(node, .delivered(message, from: from))
            case .members(let members): if members.contains(node.member) { push(node, .members(members)) }
            }
        }
    }
    private func join(_ node: Node, _ ring: Ring) {
        ring.processes.removeAll { $0.node == node.id }
        ring.processes.append(node.member)
        // The initial callbacks: who is there, the ring, and the quorum's in any order.
        append(.members(ring.processes.sorted()), ring)
        push(node, .ring(ring.id))
        tellQuorum(node, ring)
    }
    private func leave(_ node: Node, _ ring: Ring) {
        let member = node.member
        later(4) { [self] in
            guard ring.processes.contains(member) else { return }
            ring.processes.removeAll { $0 == member }
            append(.members(ring.processes.sorted()), ring)
        }
    }
    private func tellQuorum(_ node: Node, _ ring: Ring) {
        let isQuorate = options.isQuorumBlind || 2 * ring.nodes.count > nodes.count
        later(isQuorate ? milliseconds(0, 15) : milliseconds(0, 3000)) { [self] in
            if node.ring === ring { push(node, .quorum(ring.id, isQuorate: isQuorate)) }
        }
    }

    /// New rings after a change of who can reach whom. Members that stay together have delivered the same of the old.
    func formRings() {
        var groups: [(component: Int, nodes: [Node])] = []
        for node in nodes where !node.isCorosyncPaused {
            if let at = groups.firstIndex(where: { $0.component == node.component }) {
                groups[at].nodes.append(node)
            } else {
                groups.append((node.component, [node]))
            }
        }
        for group in groups {
            let ids = group.nodes.map(\.id)
            // Nobody new and nobody gone: the ring stays.
            if let ring = group.nodes[0].ring, ring.nodes == ids, group.nodes.allSatisfy({ $0.ring === ring }) {
                continue
            }
            for node in group.nodes {
                guard let old = node.ring else { continue }
                let together = group.nodes.filter { $0.ring === old }
                deliver(node, old, upTo: together.map(\.delivered).max()!)
            }
            // Sides of a split may well have the same sequence.
            let sequence = ringSequence + UInt64(random.below(2))
            ringSequence = sequence + 3
            let ring = Ring(RingId(representative: ids[0], sequence: sequence), nodes: ids)
            note("ring \(ring.id): \(ids)")
            for node in group.nodes {
                node.ring = ring
                node.delivered = 0
                if node.agreement != nil { ring.processes.append(node.member) }
            }
            ring.processes.sort()
            for node in group.nodes {
                let isEarly = random.chance(percent: 50)
                if isEarly { tellQuorum(node, ring) }
                push(node, .members(ring.processes))
                push(node, .ring(ring.id))
                if !isEarly { tellQuorum(node, ring) }
                // What was waiting to be sent is sent now, in the new ring.
                let incarnation = node.incarnation
                for _ in node.outgoing {
                    later(milliseconds(0.1, 5)) { [self] in if node.incarnation == incarnation { order(node) } }
                }
            }
        }
    }
    /// A paused corosync goes on: it delivers to itself what it sent, before it learns that the ring has moved on.
    func resumeCorosync(_ node: Node) {
        guard node.isCorosyncPaused else { return }
        if let ring = node.ring, !ring.nodes.isEmpty, node.agreement != nil {
            for message in node.outgoing.prefix(random.below(node.outgoing.count + 1)) {
                push(node, .delivered(message, from: node.member))
                node.outgoing.removeFirst()
            }
        }
        node.isCorosyncPaused = false
        // A ring of its own first, then the others'.
        node.ring = nil
        later(milliseconds(1, 200)) { [self] in formRings() }
    }

    // MARK: checks

    private func committed(_ node: Node, _ entry: AgreementEntry) throws {
        guard entry.index == node.applied + 1 else {
            throw AgreementFailure(description: "\(node.id) commits \(entry.index) behind \(node.applied)")
        }
        node.applied = entry.index
        node.digest = AgreementWorld.mix(node.digest, entry)
        if entry.index <= UInt64(committed.count) {
            let known = committed[Int(entry.index) - 1]
            guard known == entry else {
                throw AgreementFailure(
                    description: "\(node.id) commits \(entry) where another committed \(known)")
            }
            return
        }
        committed.append(entry)
        digests.append(node.digest)
        if case .opening = entry.content { return }
        guard seenProposals.insert("\(entry.origin) \(entry.sequence)").inserted else {
            throw AgreementFailure(description: "proposal \(entry.sequence) of \(entry.origin) is committed twice")
        }
    }
    private static func mix(_ digest: UInt32, _ entry: AgreementEntry) -> UInt32 {
        (digest &* 31) ^ entry.hash
    }
    private func installed(_ node: Node, _ image: AgreementImage) throws {
        let index = image.position.index
        guard index <= UInt64(committed.count), index > node.applied else {
            throw AgreementFailure(description: "\(node.id) gets a state at \(index), which is not committed or is old")
        }
        guard index == 0 || committed[Int(index) - 1].position == image.position,
            digests[Int(index)] == AgreementWorld.value(image.state)
        else {
            throw AgreementFailure(description: "\(node.id) gets a state at \(index) that is not the committed one")
        }
        node.applied = index
        node.digest = AgreementWorld.value(image.state)
    }
}
