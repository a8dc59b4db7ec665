// Messages between nodes, and requests that are done once. A request has a number of its sender; it is sent again on each
// new connection to the same life of the node, and done there once: the answer is kept until the sender has said that it
// has it. What became of a request to a life that has ended is not known, and that is what its sender is told.
import Catalog
import DequeModule
import Model
import OrderedCollections
import Wire

/// How a request to another node ended.
enum RequestEnd {
    case answer(VolumeAnswer, Payload?)
    /// The node was started again, or the request was given up: it may have been done or not.
    case unknown
}

final class NodeMessenger {
    private final class Outgoing {
        let number: UInt64
        let term: Term
        let request: VolumeRequest
        let payload: Payload?
        /// The life of the node that it was sent to; nil: not sent yet.
        var life: UInt64?
        var askedAt = Instant(nanoseconds: 0)
        let completion: (RequestEnd) -> Void
        init(
            _ number: UInt64, _ term: Term, _ request: VolumeRequest, _ payload: Payload?,
            _ completion: @escaping (RequestEnd) -> Void
        ) {
            self.number = number
            self.term = term
            self.request = request
            self.payload = payload
            self.completion = completion
        }
        var bytes: Int {
            if case .read(_, _, let count) = request { return count }
            return payload?.byteCount ?? 256
        }
    }
    private final class Peer {
        let link: RemotePeer
        var nextNumber: UInt64 = 1
        var nextMessage: UInt64 = 1
        /// Ascending by number; those beyond the window have not been sent.
        var outgoing: Deque<Outgoing> = []
        init(_ link: RemotePeer) { self.link = link }
    }
    private final class Incoming {
        let life: UInt64
        var assembly = MessageAssembly()
        /// Being done, or done and perhaps not heard of.
        var kept: [UInt64: VolumeAnswer?] = [:]
        var finished: UInt64 = 0
        init(life: UInt64) { self.life = life }
    }
    private let cluster: ClusterId
    private let clock: any Clock
    private var peers: OrderedDictionary<NodeId, Peer> = [:]
    private var incoming: [NodeId: Incoming] = [:]
    /// A request of another node, whose answer goes back.
    var perform: (NodeId, Term, VolumeRequest, Payload?, @escaping (VolumeAnswer, Payload?) -> Void) -> Void = {
        _, _, _, _, _ in
    }
    /// What is no request and no answer.
    var onMessage: (NodeMessage, NodeId) -> Void = { _, _ in }
    static let windowBytes = 8 << 20
    static let windowCount = 1024

    init(cluster: ClusterId, clock: any Clock) {
        self.cluster = cluster
        self.clock = clock
    }

    func add(_ link: RemotePeer) {
        let node = link.node
        peers[node] = Peer(link)
        link.onConnected = { [weak self] identity in self?.connected(node, identity.incarnation) }
    }
    func has(_ node: NodeId) -> Bool { peers[node] != nil }

    /// May be lost.
    func send(_ message: NodeMessage, to node: NodeId) {
        guard let peer = peers[node], peer.link.isUp else { return }
        send(peer, message, nil)
    }
    private func send(_ peer: Peer, _ message: NodeMessage, _ payload: Payload?) {
        guard let frames = message.frames(cluster, number: peer.nextMessage, payload: payload) else { return }
        peer.nextMessage += 1
        for frame in frames { peer.link.send(message: frame) }
    }

    // MARK: requests to others

    /// `completion` is never called from inside. The number answers to `ask(again:)` and `giveUp`.
    @discardableResult
    func request(
        _ request: VolumeRequest, under term: Term, payload: Payload? = nil, to node: NodeId,
        _ completion: @escaping (RequestEnd) -> Void
    ) -> UInt64? {
        guard let peer = peers[node] else {
            clock.after(milliseconds: 0) { completion(.answer(.notHere, nil)) }
            return nil
        }
        let outgoing = Outgoing(peer.nextNumber, term, request, payload, completion)
        peer.nextNumber += 1
        peer.outgoing.append(outgoing)
        pump(peer)
        return outgoing.number
    }

    private func pump(_ peer: Peer) {
        guard peer.link.isUp, let life = peer.link.life else { return }
        var bytes = 0
        for (position, outgoing) in peer.outgoing.enumerated() {
            if bytes > NodeMessenger.windowBytes || position >= NodeMessenger.windowCount { return }
            bytes += outgoing.bytes
            guard outgoing.life == nil else { continue }
            outgoing.life = life
            send(peer, outgoing)
        }
    }
    private func send(_ peer: Peer, _ outgoing: Outgoing) {
        outgoing.askedAt = clock.now
        let finished = peer.outgoing.first?.number ?? outgoing.number
        send(
            peer,
            .request(
                number: outgoing.number, finished: min(finished, outgoing.number), term: outgoing.term,
                outgoing.request), outgoing.payload)
    }

    /// Answers come over another connection than their requests, and may be lost with it: they are asked for.
    func tick() {
        for peer in peers.values where peer.link.isUp {
            for outgoing in peer.outgoing where outgoing.life == peer.link.life {
                guard clock.now.milliseconds(since: outgoing.askedAt) >= NodeMessenger.patienceMilliseconds else {
                    continue
                }
                outgoing.askedAt = clock.now
                send(peer, .ask(number: outgoing.number), nil)
            }
        }
    }
    private static let patienceMilliseconds: UInt64 = 500
    /// Its answer is not waited for any more. False: it has come.
    func giveUp(_ number: UInt64, to node: NodeId) -> Bool {
        guard let peer = peers[node], let position = peer.outgoing.firstIndex(where: { $0.number == number }) else {
            return false
        }
        peer.outgoing.remove(at: position)
        pump(peer)
        return true
    }

    private func connected(_ node: NodeId, _ life: UInt64) {
        guard let peer = peers[node] else { return }
        var lost: [Outgoing] = []
        peer.outgoing.removeAll { outgoing in
            guard let before = outgoing.life, before != life else { return false }
            lost.append(outgoing)
            return true
        }
        for outgoing in peer.outgoing where outgoing.life != nil { send(peer, outgoing) }
        pump(peer)
        for outgoing in lost { clock.after(milliseconds: 0) { outgoing.completion(.unknown) } }
    }

    // MARK: what comes

    /// A node has connected: parts of a message that came before are void.
    func accepted(_ node: NodeId, life: UInt64) {
        if incoming[node]?.life != life { incoming[node] = Incoming(life: life) }
        incoming[node]?.assembly = MessageAssembly()
    }

    /// False: it cannot be read.
    func take(_ frame: Frame, from identity: PeerIdentity) -> Bool {
        if incoming[identity.node]?.life != identity.incarnation { accepted(identity.node, life: identity.incarnation) }
        let from = incoming[identity.node]!
        let message: NodeMessage
        do throws(DecodeError) {
            guard let bytes = try from.assembly.take(frame) else { return true }
            message = try NodeMessage(decoding: bytes, cluster)
        } catch { return false }
        switch message {
        case .request(let number, let finished, let term, let request):
            guard isWhole(request, frame.payload) else { return false }
            perform(request, number, finished, term, frame.payload, from, identity.node)
        case .answer(let number, let answer): answered(number, answer, frame.payload, identity.node)
        case .ask(let number):
            // What is not known was answered once, and would be looked at anew.
            guard number >= from.finished else { return true }
            switch from.kept[number] {
            case .some(.some(let answer)): reply(number, answer, nil, identity.node)
            case .some(nil): break
            case nil: reply(number, .notHere, nil, identity.node)
            }
        default: onMessage(message, identity.node)
        }
        return true
    }
    private func isWhole(_ request: VolumeRequest, _ payload: Payload?) -> Bool {
        guard case .write(_, let offset, let count, _) = request else { return payload == nil }
        return payload?.blockCount == blockCount(offset, count)
    }

    private func perform(
        _ request: VolumeRequest, _ number: UInt64, _ finished: UInt64, _ term: Term, _ payload: Payload?,
        _ from: Incoming, _ node: NodeId
    ) {
        if finished > from.finished {
            from.finished = finished
            from.kept = from.kept.filter { $0.key >= finished }
        }
        // It was answered, and the sender has said so: this one was on its way for long.
        guard number >= from.finished else { return }
        if let known = from.kept[number] {
            if let answer = known { reply(number, answer, nil, node) }
            return
        }
        from.kept.updateValue(nil, forKey: number)
        perform(node, term, request, payload) { [weak self] answer, data in
            guard let self, incoming[node] === from else { return }
            if from.kept[number] != nil {
                if request.isRepeatable {
                    from.kept[number] = nil
                } else {
                    from.kept.updateValue(answer, forKey: number)
                }
            }
            reply(number, answer, data, node)
        }
    }
    private func reply(_ number: UInt64, _ answer: VolumeAnswer, _ payload: Payload?, _ node: NodeId) {
        guard let peer = peers[node] else { return }
        guard peer.link.isUp else { return }
        send(peer, .answer(number: number, answer), payload)
    }

    private func answered(_ number: UInt64, _ answer: VolumeAnswer, _ payload: Payload?, _ node: NodeId) {
        guard let peer = peers[node], let position = peer.outgoing.firstIndex(where: { $0.number == number }) else {
            return
        }
        let outgoing = peer.outgoing[position]
        if case .read(_, let offset, let count) = outgoing.request, case .ended(nil) = answer,
            payload?.blockCount != blockCount(offset, count)
        {
            return
        }
        peer.outgoing.remove(at: position)
        outgoing.completion(.answer(answer, payload))
        pump(peer)
    }
}

/// Blocks that these bytes of a volume touch.
func blockCount(_ offset: UInt64, _ count: Int) -> Int {
    Int((offset + UInt64(count) + UInt64(blockSize) - 1) / UInt64(blockSize) - offset / UInt64(blockSize))
}
