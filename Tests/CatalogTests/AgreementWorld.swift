// Nodes that agree on a log over a simulated group (GroupWorld).
// It checks that no two nodes ever commit different entries, none is lost, none committed twice.
import Model
import TestSupport

@testable import Catalog
@testable import Simulator

final class AgreementNode: GroupNode {
    var key: UInt64
    // What survives a crash.
    var promised = ViewNumber.none
    var image: AgreementImage
    var entries: [AgreementEntry] = []
    var committedHint: UInt64 = 0
    // The process.
    var agreement: Agreement?
    var pending: [AgreementStoreOperation] = []
    var digest: UInt32 = 0
    var applied: UInt64 = 0
    var sequence: UInt64 = 0

    override var isAlive: Bool { agreement != nil }
    init(_ id: NodeId, key: UInt64, image: AgreementImage) {
        self.key = key
        self.image = image
        super.init(id)
    }
}

final class AgreementWorld: GroupWorld<AgreementNode> {
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

    typealias Node = AgreementNode
    let options: Options
    // What was seen to be committed.
    private(set) var committed: [AgreementEntry] = []
    private var digests: [UInt32] = [0]
    private var seenProposals: Set<String> = []
    private(set) var viewsOpened = 0
    /// From here on nothing more is proposed.
    var quietAt = UInt64.max

    init(seed: UInt64, _ options: Options) {
        self.options = options
        super.init(seed: seed, isQuorumBlind: options.isQuorumBlind)
        let voters = (1...options.voters).map { Voter(NodeId(UInt32($0)), key: UInt64($0) * 100) }
        let image = AgreementImage(position: .start, marks: [], voters: voters, votersIndex: 0, state: [0, 0, 0, 0])
        nodes = (1...options.nodes).map { Node(NodeId(UInt32($0)), key: UInt64($0) * 100, image: image) }
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

    override func handle(_ node: Node, _ event: AgreementEvent) throws {
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
