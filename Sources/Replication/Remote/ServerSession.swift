// What a server knows of one life of one other node, across its connections: the lanes that it opened, and the answers
// that it may not have got. Plain state; what requests mean is the server's.
import DequeModule
import Model
import ObjectStore
import Wire

/// A store that a gateway has opened.
final class ServerLane {
    let copy: Copy
    /// The number of the request that opened it.
    let openedBy: UInt64
    /// Bytes of blocks that came on it.
    var receivedBytes: UInt64 = 0
    /// Of these, and of reads, what is not answered.
    var bytesInWork = 0
    /// Of the first, blocks that are not stored yet.
    var storingBytes: UInt64 = 0
    /// When room was last stated.
    var statedAt: UInt64 = 0

    init(_ copy: Copy, openedBy: UInt64) {
        self.copy = copy
        self.openedBy = openedBy
    }
    var room: RoomStatement {
        let available = copy.objects.space.level == .full ? 0 : copy.objects.space.availableBytes
        return RoomStatement(
            roomBytes: available - min(available, storingBytes), receivedBytes: receivedBytes)
    }
}

/// A request that changes something, and its answer once it is there.
final class KeptAnswer {
    let id: UInt64
    var answer: [Frame]?
    init(_ id: UInt64) { self.id = id }
}

final class ServerSession {
    private(set) var identity: PeerIdentity
    private(set) var link: (any PeerLink)?
    var isOver = false
    private var lanes: [ServerLane?] = []
    /// Ascending.
    private var kept: Deque<KeptAnswer> = []
    private var highest: UInt64 = 0
    /// All answers to requests below it have been received.
    private(set) var acknowledged: UInt64 = 1

    init(_ identity: PeerIdentity) { self.identity = identity }

    var bytesInWork: Int { lanes.reduce(0) { $0 + ($1?.bytesInWork ?? 0) } }

    // MARK: connections

    func link(to link: any PeerLink, _ identity: PeerIdentity) {
        self.link = link
        self.identity = identity
    }
    func unlink() { link = nil }
    /// What cannot be sent now is asked for again on the next connection.
    func send(_ frames: [Frame]) {
        guard let link else { return }
        for var frame in frames {
            frame.address(request: frame.header.request, version: identity.protocolVersion)
            link.send(frame)
        }
    }
    func beat() {
        guard link != nil else { return }
        send([Frame(FrameHeader(.heartbeat, version: identity.protocolVersion))])
        for i in lanes.indices where lanes[i] != nil { stateRoom(UInt16(i), request: 0) }
    }

    // MARK: lanes

    func lane(_ number: UInt16) -> ServerLane? { Int(number) < lanes.count ? lanes[Int(number)] : nil }
    /// Opened anew, it knows nothing of what was asked on it before.
    func open(_ header: FrameHeader, _ copy: Copy) {
        while lanes.count <= Int(header.lane) { lanes.append(nil) }
        if let lane = lanes[Int(header.lane)], lane.openedBy == header.request, lane.copy === copy { return }
        lanes[Int(header.lane)] = ServerLane(copy, openedBy: header.request)
    }
    func close(lane: UInt16) { if Int(lane) < lanes.count { lanes[Int(lane)] = nil } }
    func close(_ store: StoreId) { for i in lanes.indices where lanes[i]?.copy.store == store { lanes[i] = nil } }

    func stateRoom(_ number: UInt16, request: UInt64) {
        guard let lane = lane(number) else { return }
        lane.statedAt = lane.receivedBytes
        send([lane.room.frame(lane: number, request: request, version: identity.protocolVersion)])
    }

    // MARK: requests that are done once

    enum Admission {
        case isNew(KeptAnswer)
        /// Done, or being done: then the answer follows by itself.
        case isKnown([Frame]?)
        case isImpossible
    }
    func admit(_ header: FrameHeader) -> Admission {
        guard header.request <= highest else {
            highest = header.request
            let place = KeptAnswer(header.request)
            kept.append(place)
            return .isNew(place)
        }
        var low = 0
        var high = kept.count
        while low < high {
            let middle = (low + high) / 2
            if kept[middle].id < header.request { low = middle + 1 } else { high = middle }
        }
        guard low < kept.count, kept[low].id == header.request else { return .isImpossible }
        return .isKnown(kept[low].answer)
    }
    func acknowledge(below id: UInt64) {
        guard id > acknowledged else { return }
        acknowledged = id
        while let first = kept.first, first.id < id { kept.removeFirst() }
    }
    var keptCount: Int { kept.count }
}

/// A request that is being done.
final class ServerWork {
    let header: FrameHeader
    private let session: ServerSession
    private let lane: ServerLane
    private let kept: KeptAnswer?
    private var isAnswered = false

    init(_ session: ServerSession, _ lane: ServerLane, _ header: FrameHeader, _ kept: KeptAnswer?) {
        self.session = session
        self.lane = lane
        self.header = header
        self.kept = kept
        lane.bytesInWork += header.costBytes
        lane.storingBytes += UInt64(header.payloadBytes)
    }

    func answer(_ answer: CopyAnswer) {
        precondition(!isAnswered, "a request was answered twice")
        isAnswered = true
        lane.bytesInWork -= header.costBytes
        lane.storingBytes -= UInt64(header.payloadBytes)
        guard !session.isOver else { return }
        let frames = answer.frames(header)
        kept?.answer = frames
        session.send(frames)
        // A store with little room says so in time, before what was stated last is used up.
        let room = lane.room
        if lane.receivedBytes - lane.statedAt > room.roomBytes / 4, session.lane(header.lane) === lane {
            session.stateRoom(header.lane, request: 0)
        }
    }
    func answer<T>(_ result: Result<T, CopyFailure>, _ make: (T) -> CopyAnswer) {
        switch result {
        case .success(let value): answer(make(value))
        case .failure(let failure): answer(.failed(failure))
        }
    }
}
