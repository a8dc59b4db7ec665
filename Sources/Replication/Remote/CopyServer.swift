// The node that has the stores: takes requests from the gateways of other nodes, has its copies do them, and answers.
// A request that changes something is done once, however often it comes: its answer is kept until the gateway has
// acknowledged it. What a connection brings after a newer one of the same node is there, is not looked at.
import Catalog
import DequeModule
import Model
import ObjectStore
import Wire

package final class CopyServer {
    /// The numbers of a gateway's unanswered requests are less than this apart.
    static let maximumDistance: UInt64 = 65_536

    private struct Store {
        let copy: Copy
        let session: StoreSession
    }
    private let clock: any Clock
    private let pool: BufferPool
    private let windowBytes: Int
    private let heartbeatMilliseconds: UInt64
    /// Ascending by id.
    private var stores: [Store] = []
    /// One of each node: its newest life.
    private var sessions: [ServerSession] = []
    private var isStopped = false
    /// What concerns no store; false: it cannot be read.
    var onMessage: (Frame, PeerIdentity) -> Bool = { _, _ in false }
    /// A node has connected.
    var onConnected: (PeerIdentity) -> Void = { _ in }
    /// Objects of which a gateway elsewhere compares or makes copies, with the last time that it asked for that.
    private var compared: [ObjectId: Instant] = [:]
    private static let comparisonMilliseconds: UInt64 = 30_000
    /// Lines for the log.
    package var log: (String) -> Void = { _ in }

    /// `windowBytes`: what the handshake of this node allows a peer (`HandshakeIdentity`).
    package init(clock: any Clock, pool: BufferPool, windowBytes: Int = 8 << 20, heartbeatMilliseconds: UInt64 = 500) {
        self.clock = clock
        self.pool = pool
        self.windowBytes = windowBytes
        self.heartbeatMilliseconds = heartbeatMilliseconds
        tick()
    }

    package func attach(_ copy: Copy, session: StoreSession) {
        detach(copy.store)
        stores.append(Store(copy: copy, session: session))
        stores.sort { $0.copy.store < $1.copy.store }
    }
    /// The store is not served any more.
    package func detach(_ store: StoreId) {
        stores.removeAll { $0.copy.store == store }
        for session in sessions { session.close(store) }
    }
    package func stop() {
        isStopped = true
        for session in sessions { session.unlink() }
    }

    /// A link on which a node has connected, or is about to.
    package func accept(_ link: any PeerLink) {
        link.onEvent = { [unowned self, unowned link] event in
            guard !isStopped else { return }
            switch event {
            case .connected(let identity): connected(link, identity)
            case .received(let frame):
                guard let session = sessions.first(where: { $0.link === link }) else { return }
                receive(frame, session)
            case .lost: sessions.first { $0.link === link }?.unlink()
            }
        }
    }

    private func connected(_ link: any PeerLink, _ identity: PeerIdentity) {
        if let session = sessions.first(where: { $0.identity.node == identity.node }) {
            let former = session.link
            session.unlink()
            former?.reset("node \(identity.node) has connected anew")
            if session.identity.incarnation == identity.incarnation {
                session.link(to: link, identity)
                onConnected(identity)
                return
            }
            // Another life of the node: what its former one asked for is done, and nobody is told.
            session.isOver = true
            sessions.removeAll { $0 === session }
        }
        let session = ServerSession(identity)
        session.link(to: link, identity)
        sessions.append(session)
        sessions.sort { $0.identity.node < $1.identity.node }
        onConnected(identity)
    }

    private func tick() {
        guard !isStopped else { return }
        for session in sessions { session.beat() }
        clock.after(milliseconds: heartbeatMilliseconds) { [weak self] in self?.tick() }
    }

    // MARK: requests

    private func receive(_ frame: Frame, _ session: ServerSession) {
        let header = frame.header
        if header.kind == .heartbeat { return session.acknowledge(below: header.request) }
        if header.kind == .message {
            if !onMessage(frame, session.identity) { refuse(session, "a message cannot be read") }
            return
        }
        let request: CopyRequest
        do {
            request = try CopyRequest(frame)
        } catch {
            return refuse(session, "a request cannot be read: \(error)")
        }
        guard header.request > 0, header.request < session.acknowledged + 2 * CopyServer.maximumDistance else {
            return refuse(session, "a request's number is out of bounds")
        }
        if case .open(let store, let life) = request { return open(store, life, header, session) }
        guard let lane = session.lane(header.lane) else {
            // It was opened in vain, or is closed.
            return session.send(CopyAnswer.failed(.silent("the store is not open here")).frames(header))
        }
        var kept: KeptAnswer?
        if header.kind.isOnceOnly {
            switch session.admit(header) {
            case .isNew(let place): kept = place
            case .isKnown(let answer):
                if let answer { session.send(answer) }
                return
            case .isImpossible: return refuse(session, "a request came out of order")
            }
        }
        lane.receivedBytes += UInt64(header.payloadBytes)
        guard session.bytesInWork <= 4 * windowBytes + (8 << 20) else {
            return refuse(session, "more is asked for than was allowed")
        }
        let work = ServerWork(session, lane, header, kept)
        perform(request, lane.copy, work)
    }

    private func refuse(_ session: ServerSession, _ reason: String) {
        log("node \(session.identity.node) is disconnected: \(reason)")
        let link = session.link
        session.unlink()
        link?.reset(reason)
    }

    private func open(_ store: StoreId, _ life: StoreSession, _ header: FrameHeader, _ session: ServerSession) {
        let refusal: String
        switch stores.first(where: { $0.copy.store == store }) {
        case nil: refusal = "store \(store) is not there"
        case let known? where known.session != life: refusal = "store \(store) is in another session"
        case let known?:
            session.open(header, known.copy)
            session.stateRoom(header.lane, request: header.request)
            return
        }
        session.close(lane: header.lane)
        session.send(CopyAnswer.failed(.silent(refusal)).frames(header))
    }

    /// Whether a gateway of another node has looked at the object's copies as one does that makes them equal, not long
    /// ago: their generations must stay as they are.
    package func isCompared(_ object: ObjectId) -> Bool {
        guard let last = compared[object] else { return false }
        if clock.now.milliseconds(since: last) < CopyServer.comparisonMilliseconds { return true }
        compared[object] = nil
        return false
    }
    private func noteComparison(_ request: CopyRequest) {
        switch request {
        case .view(let object, _), .beginSync(let object, _, _, _, _), .completeSync(let object, _):
            compared[object] = clock.now
        case .fill(let fill): compared[fill.object] = clock.now
        default: return
        }
        if compared.count > 65_536 {
            compared = compared.filter {
                clock.now.milliseconds(since: $0.value) < CopyServer.comparisonMilliseconds
            }
        }
    }

    private func perform(_ request: CopyRequest, _ copy: Copy, _ work: ServerWork) {
        noteComparison(request)
        let done: (CopyFailure?) -> Void = { work.answer($0.map { .failed($0) } ?? .done) }
        // Requests whose authority the copy does not check itself: an older gateway's must not come after a newer fence.
        if let volume = request.unguardedVolume {
            let fenced = copy.objects.fencedTerm(of: volume)
            if work.header.term < fenced { return work.answer(.failed(.staleTerm(fenced))) }
        }
        switch request {
        case .open: break
        case .write(let write):
            copy.write(write) { result in
                switch result {
                case .success(let written): work.answer(.written(written))
                case .failure(let failure): work.answer(.failed(failure))
                }
            }
        case .read(let object, let path, let blocks): read(copy, object, path, blocks, work)
        case .flush: copy.flush(done)
        case .fence(let volume, let authority):
            copy.fence(volume, authority) { work.answer($0) { .summaries($0) } }
        case .view(let object, let path): copy.view(object, path) { work.answer($0) { .view($0) } }
        case .beginSync(let object, let top, let base, let pending, let authority):
            copy.beginSync(object, top: top, base: base, pending: pending, authority, done)
        case .fill(let fill): copy.fill(fill, done)
        case .completeSync(let object, let authority): copy.completeSync(object, authority, done)
        case .markSuspect(let object): copy.markSuspect(object, done)
        case .stamp(let object, let version): copy.stamp(object, version, done)
        case .verify(let object, let deep): copy.verify(object, deep: deep) { work.answer($0) { .verified($0) } }
        case .reread(let object): copy.reread(object) { work.answer($0) { .looked(isFine: $0) } }
        case .empty(let object): copy.empty(object, done)
        case .remove(let object): copy.remove(object, done)
        }
    }

    private func read(
        _ copy: Copy, _ object: ObjectId, _ path: GenerationPath, _ blocks: BlockRange, _ work: ServerWork
    ) {
        let buffer = pool.buffer(blocks.byteCount)
        copy.read(object, path, blocks, into: buffer, bufferOffset: 0) { result in
            switch result {
            case .failure(let failure): work.answer(.failed(failure))
            case .success(let read):
                var missing = read.absent
                missing.formUnion(read.corrupt)
                if !read.isWhole {
                    // Undefined memory is nobody else's business.
                    for block in blocks.indices where missing[block] {
                        let offset = (block - blocks.first) * blockSize
                        buffer.fillZero(offset..<offset + blockSize)
                        buffer.checksums[block - blocks.first] = zeroBlockChecksum
                    }
                    if missing.containsAll(blocks) { return work.answer(.read(read, nil)) }
                }
                // With the checksums that were stored with them: the gateway checks these again.
                work.answer(.read(read, Payload(buffer: buffer, firstBlock: 0, blockCount: blocks.count)))
            }
        }
    }
}

extension CopyRequest {
    /// The volume of a request that carries a term which the copy does not look at.
    fileprivate var unguardedVolume: VolumeId? {
        switch self {
        case .read(let object, _, _), .view(let object, _), .markSuspect(let object), .stamp(let object, _),
            .verify(let object, _), .reread(let object), .empty(let object), .remove(let object):
            object.volume
        case .fill(let fill): fill.object.volume
        default: nil
        }
    }
}
