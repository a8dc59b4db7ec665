// A gateway's side of the link to one node: gives requests their numbers, keeps what is on its way within bounds, sends it
// again after a break, and notices a store that does not answer. It knows nothing of what requests mean.
//
//   submit -> lane (waits, in order) -> on its way (window) -> answer
//                                        |  connection lost: again, in order, to the same life of the peer
//                                        |  no answer in time, or another life: the store is silent, all of it fails
//
// Every request is executed once at most by one life of the peer: the server keeps the answers of those that change
// something until they are acknowledged here. So what is sent again after a break cannot be done twice.
import DequeModule
import Model
import Wire

package struct RemoteLimits: Hashable, Sendable {
    /// Bytes of requests and their answers on their way to one peer; what is more waits here, in order.
    package var windowBytes = 8 << 20
    /// A request about blocks that is not answered for so long is a store that does not answer.
    package var dataTimeoutMilliseconds: UInt64 = 2_000
    /// The same for requests that may sync or read much: flush, fence, completion, verification.
    package var controlTimeoutMilliseconds: UInt64 = 10_000
    package var heartbeatMilliseconds: UInt64 = 500
    package init() {}
}

/// A request that was not answered yet.
final class PendingRequest {
    /// 0: not sent yet, or to be sent anew.
    var id: UInt64 = 0
    /// The order in which it was asked for.
    let order: UInt64
    var frame: Frame
    /// Asked for, or sent for the first time.
    var since: Instant
    /// The peer must have this epoch, or has said that it has.
    var epoch: Epoch
    let costBytes: Int
    /// Reads a frame of the answer. The last one gives what is to be called then.
    let answer: Reader
    let fail: (CopyFailure) -> Void
    typealias Reader = (Frame) throws(DecodeError) -> (() -> Void)?

    init(
        order: UInt64, frame: Frame, since: Instant, answer: @escaping Reader, fail: @escaping (CopyFailure) -> Void
    ) {
        self.order = order
        self.frame = frame
        self.since = since
        self.answer = answer
        self.fail = fail
        epoch = frame.header.epoch
        costBytes = frame.header.costBytes
    }
    var kind: FrameKind { frame.header.kind }
    var isWrite: Bool { kind == .write || kind == .discard }
}

package final class RemotePeer {
    package let node: NodeId
    let clock: any Clock
    private let link: any PeerLink
    private let limits: RemoteLimits
    /// By lane.
    private var lanes: [RemoteCopy?] = []
    private var peer: PeerIdentity?
    private var isConnected = false
    private var isStopped = false
    private var disconnectedSince: Instant
    private var lastHeard: Instant
    /// When anything came from it last.
    package private(set) var heardAt: Instant?
    private var lastBeat: Instant
    /// On its way, by number from `firstId` on; nil where it was answered.
    private var sent: Deque<PendingRequest?> = []
    private var firstId: UInt64 = 1
    private var lastOrder: UInt64 = 0
    private var lastAcknowledged: UInt64 = 0
    package private(set) var bytesOnTheWay = 0
    /// The lane that may send first, so that each has its turn.
    private var turn = 0
    private var tickDue: Instant
    /// Of the map, as this node knows it.
    private(set) var epoch = Epoch(0)
    package private(set) var statistics = RemoteStatistics()

    package init(node: NodeId, link: any PeerLink, clock: any Clock, limits: RemoteLimits = RemoteLimits()) {
        self.node = node
        self.link = link
        self.clock = clock
        self.limits = limits
        (disconnectedSince, lastHeard, lastBeat, tickDue) = (clock.now, clock.now, clock.now, clock.now)
        linkSince = clock.now
        link.onEvent = { [weak self] event in self?.handle(event) }
        tick()
    }

    /// Nothing is sent or answered any more.
    package func stop() {
        isStopped = true
        link.onEvent = { _ in }
        for lane in lanes { lane?.silence("this node stops using node \(node)", isReported: false) }
    }

    package var isUp: Bool { isConnected }
    /// Since when there has been a connection, or none.
    package private(set) var linkSince: Instant
    /// The life of the peer that was connected last.
    package var life: UInt64? { peer?.incarnation }
    /// Told of each connection, when what is on its way to its stores has been sent again.
    var onConnected: (PeerIdentity) -> Void = { _ in }
    /// A frame that concerns no store. Without a connection it is lost.
    func send(message frame: Frame) {
        guard isConnected, !isStopped else { return }
        var frame = frame
        frame.address(request: frame.header.request, version: peer!.protocolVersion)
        link.send(frame)
    }
    /// Of this link so far.
    private(set) var connectionCount = 0

    // MARK: lanes

    /// A lane for a copy: the lowest one that is free.
    func addLane(_ copy: RemoteCopy) -> UInt16 {
        if let free = lanes.firstIndex(where: { $0 == nil }) {
            lanes[free] = copy
            return UInt16(free)
        }
        precondition(lanes.count < Int(UInt16.max), "too many stores on one node")
        lanes.append(copy)
        return UInt16(lanes.count - 1)
    }

    /// What was asked for through a copy that is given up fails, in order. The lane is free.
    func closeLane(_ copy: RemoteCopy, _ failure: CopyFailure) {
        guard lanes[Int(copy.lane)] === copy else { return }
        lanes[Int(copy.lane)] = nil
        var requests: [PendingRequest] = []
        for (i, request) in sent.enumerated() {
            guard let request, request.frame.header.lane == copy.lane else { continue }
            requests.append(request)
            sent[i] = nil
            bytesOnTheWay -= request.costBytes
        }
        dropAnswered()
        requests += copy.waiting
        copy.waiting = []
        copy.bytesOnTheWay = 0
        copy.writesOnTheWay = 0
        requests.sort { $0.order < $1.order }
        for request in requests { request.fail(failure) }
        pump()
    }

    /// `first`: before everything that waits.
    func submit(
        _ copy: RemoteCopy, _ frame: Frame, first: Bool = false, answer: @escaping PendingRequest.Reader,
        fail: @escaping (CopyFailure) -> Void
    ) {
        lastOrder += 1
        let request = PendingRequest(
            order: first ? 0 : lastOrder, frame: frame, since: clock.now, answer: answer, fail: fail)
        if first { copy.waiting.prepend(request) } else { copy.waiting.append(request) }
        pump()
    }

    // MARK: sending

    private var windowBytes: Int { min(limits.windowBytes, Int(peer?.windowBytes ?? 0)) }

    /// Sends what may be sent; each lane in order, one request of each in turn.
    private func pump() {
        guard isConnected else { return }
        var idle = 0
        while idle < lanes.count {
            if turn >= lanes.count { turn = 0 }
            if let copy = lanes[turn], let request = next(copy) {
                copy.waiting.removeFirst()
                send(request, copy)
                idle = 0
            } else {
                idle += 1
            }
            turn += 1
        }
    }

    /// The request of this lane that may go out now. No store has more than half of the window, so that one that hangs does
    /// not hold up the others; a request that is larger goes alone.
    private func next(_ copy: RemoteCopy) -> PendingRequest? {
        guard let request = copy.waiting.first, request.epoch <= epoch || !copy.hasBeenRefused else { return nil }
        // A write of a new epoch only when those of older ones are answered: they may have to be sent again before it.
        if request.isWrite, request.epoch > copy.writesEpoch, copy.writesOnTheWay > 0 { return nil }
        let share = lanes.count > 1 ? windowBytes / 2 : windowBytes
        guard bytesOnTheWay == 0 || bytesOnTheWay + request.costBytes <= windowBytes else { return nil }
        guard copy.bytesOnTheWay == 0 || copy.bytesOnTheWay + request.costBytes <= share else { return nil }
        guard UInt64(sent.count) < CopyServer.maximumDistance else { return nil }
        return request
    }

    private func send(_ request: PendingRequest, _ copy: RemoteCopy) {
        request.id = firstId + UInt64(sent.count)
        request.since = clock.now
        sent.append(request)
        bytesOnTheWay += request.costBytes
        copy.bytesOnTheWay += request.costBytes
        if request.isWrite {
            copy.writesOnTheWay += 1
            copy.writesEpoch = max(copy.writesEpoch, request.epoch)
        }
        request.frame.address(request: request.id, version: peer!.protocolVersion)
        statistics.requests += 1
        statistics.largestBytesOnTheWay = max(statistics.largestBytesOnTheWay, bytesOnTheWay)
        link.send(request.frame)
        // The peer keeps the answers until then.
        if request.id - lastAcknowledged > CopyServer.maximumDistance / 4 { beat(clock.now) }
    }

    private func dropAnswered() {
        while let first = sent.first, first == nil {
            sent.removeFirst()
            firstId += 1
        }
    }

    // MARK: what comes

    private func handle(_ event: PeerLinkEvent) {
        guard !isStopped else { return }
        switch event {
        case .connected(let identity): connected(identity)
        case .received(let frame):
            guard isConnected else { return }
            lastHeard = clock.now
            heardAt = lastHeard
            received(frame)
        case .lost:
            guard isConnected else { return }
            isConnected = false
            disconnectedSince = clock.now
            linkSince = clock.now
        }
    }

    private func connected(_ identity: PeerIdentity) {
        guard identity.node == node else { return link.reset("node \(identity.node) answers for node \(node)") }
        let isSameLife = peer.map { $0.incarnation == identity.incarnation } ?? true
        peer = identity
        isConnected = true
        linkSince = clock.now
        connectionCount += 1
        lastHeard = clock.now
        heardAt = lastHeard
        // First of all, so that a life of the peer that knows nothing learns where the numbers are.
        beat(clock.now)
        defer { onConnected(identity) }
        guard isSameLife else { return begunAnew() }
        for case let request? in sent {
            statistics.resent += 1
            request.frame.address(request: request.id, version: identity.protocolVersion)
            link.send(request.frame.asResent)
        }
        pump()
    }

    /// Another life of the peer: it knows nothing of what was on its way, and nobody knows whether it was done. Stores of
    /// which nothing was on its way go on, if they are still in the same session.
    private func begunAnew() {
        var concerned: [RemoteCopy] = []
        for case let copy? in lanes where copy.bytesOnTheWay > 0 { concerned.append(copy) }
        for copy in concerned { copy.silence("node \(node) was started again", isReported: true) }
        precondition(sent.isEmpty, "requests on their way without a store")
        for case let copy? in lanes { copy.open() }
        pump()
    }

    private func received(_ frame: Frame) {
        let header = frame.header
        if header.kind == .heartbeat { return }
        let lane = Int(header.lane)
        guard lane < lanes.count, let copy = lanes[lane] else { return }
        if header.kind == .room, header.request == 0 {
            if !copy.heard(frame) { link.reset("what node \(node) says of its store is no statement of room") }
            return
        }
        guard header.request >= firstId, header.request - firstId < UInt64(sent.count),
            let request = sent[Int(header.request - firstId)], request.frame.header.lane == header.lane
        else { return }  // of a request that was given up, or answered twice
        let deliver: () -> Void
        do throws(DecodeError) {
            if request.isWrite, header.kind == .failed,
                case .failed(.staleEpoch(let theirs)) = try CopyAnswer(frame, volume: VolumeId(0))
            {
                return refused(request, copy, theirs)
            }
            guard let last = try request.answer(frame) else { return }
            deliver = last
        } catch {
            return link.reset("an answer of node \(node) cannot be read: \(error)")
        }
        // Its place is free before anybody who hears the answer asks for more.
        finish(request, copy)
        deliver()
        pump()
    }

    private func finish(_ request: PendingRequest, _ copy: RemoteCopy) {
        guard request.id >= firstId, sent[Int(request.id - firstId)] === request else { return }
        sent[Int(request.id - firstId)] = nil
        dropAnswered()
        bytesOnTheWay -= request.costBytes
        copy.bytesOnTheWay -= request.costBytes
        if request.isWrite { copy.writesOnTheWay -= 1 }
    }

    /// The copy's map is newer than the write's: it goes again, in its place, as soon as this node has that map.
    private func refused(_ request: PendingRequest, _ copy: RemoteCopy, _ theirs: Epoch) {
        finish(request, copy)
        copy.hasBeenRefused = true
        statistics.refusedEpochs += 1
        request.id = 0
        request.epoch = max(theirs, epoch)
        request.frame.renew(epoch: request.epoch)
        var position = 0
        while position < copy.waiting.count, copy.waiting[position].order < request.order { position += 1 }
        copy.waiting.insert(request, at: position)
        pump()
    }

    /// This node's map has changed.
    package func mapChanged(_ epoch: Epoch) {
        self.epoch = epoch
        // A write that a peer has refused is never sent under a map older than this node's.
        for case let copy? in lanes {
            copy.hasBeenRefused = false
            for request in copy.waiting where request.isWrite && request.epoch > Epoch(0) && request.epoch < epoch {
                request.epoch = epoch
                request.frame.renew(epoch: epoch)
            }
            if copy.waiting.contains(where: { $0.epoch > epoch }) { copy.hasBeenRefused = true }
        }
        pump()
    }

    // MARK: time

    /// A quarter of a heartbeat is how exact time-outs are.
    private func tick() {
        guard !isStopped else { return }
        let now = clock.now
        let late = now.milliseconds(since: tickDue)
        let interval = max(1, limits.heartbeatMilliseconds / 4)
        if late > limits.dataTimeoutMilliseconds / 2 {
            // This process stood still: nobody else is to blame.
            grace = now
        }
        if isConnected, now.milliseconds(since: max(lastHeard, grace)) >= limits.dataTimeoutMilliseconds {
            lastHeard = now
            link.reset("nothing was heard of node \(node) for \(limits.dataTimeoutMilliseconds) ms")
        }
        if isConnected, now.milliseconds(since: lastBeat) >= limits.heartbeatMilliseconds { beat(now) }
        findSilent(now)
        tickDue = now.advanced(milliseconds: interval)
        clock.after(milliseconds: interval) { [weak self] in self?.tick() }
    }
    /// Waiting counts from here on.
    private var grace = Instant(nanoseconds: 0)

    private func beat(_ now: Instant) {
        lastBeat = now
        var header = FrameHeader(.heartbeat, version: peer!.protocolVersion)
        // Everything below it that changes something is answered here: its answers need not be kept any more.
        header.request = firstId + UInt64(sent.count)
        for case let request? in sent where request.kind.isOnceOnly {
            header.request = request.id
            break
        }
        lastAcknowledged = header.request
        link.send(Frame(header))
    }

    private func findSilent(_ now: Instant) {
        var silent: [RemoteCopy] = []
        func isOverdue(_ request: PendingRequest) -> Bool {
            let limit =
                isConnected && !request.kind.isData
                ? limits.controlTimeoutMilliseconds : limits.dataTimeoutMilliseconds
            var since = max(request.since, grace)
            // What only waited for its turn has waited for a connection since then; so has what has more time.
            if !isConnected, request.id == 0 || !request.kind.isData { since = max(since, disconnectedSince) }
            return now.milliseconds(since: since) >= limit
        }
        for case let request? in sent where isOverdue(request) {
            guard let copy = lanes[Int(request.frame.header.lane)] else { continue }
            if !silent.contains(where: { $0 === copy }) { silent.append(copy) }
        }
        if !isConnected {
            for case let copy? in lanes where copy.waiting.contains(where: isOverdue) {
                if !silent.contains(where: { $0 === copy }) { silent.append(copy) }
            }
        }
        for copy in silent {
            let how = isConnected ? "does not answer" : "cannot be reached: there is no connection to node \(node)"
            copy.silence("it \(how)", isReported: true)
        }
    }
}

package struct RemoteStatistics: Hashable, Sendable {
    package var requests: UInt64 = 0
    package var resent: UInt64 = 0
    package var refusedEpochs: UInt64 = 0
    package var largestBytesOnTheWay = 0
    package init() {}
}
