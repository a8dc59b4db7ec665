// A store of another node, as the gateway sees it: the same requests as to a local copy, over the link to its node. Every
// request is answered, late or as silent, and never from inside the call. A copy that has been silent once stays so; when
// its store is back, it is another one.
import Catalog
import DequeModule
import Model
import ObjectStore
import Wire

package final class RemoteCopy: CopyChannel {
    package let store: StoreId
    /// The life of the store that is meant, as the map knows it. Another one refuses every request.
    package let session: StoreSession
    private unowned let peer: RemotePeer
    private(set) var lane: UInt16 = 0
    /// Not sent yet, in order.
    var waiting: Deque<PendingRequest> = []
    var bytesOnTheWay = 0
    var writesOnTheWay = 0
    /// The newest map under which a write has been sent.
    var writesEpoch = Epoch(0)
    /// Writes that the peer has refused, because its map is newer, wait for this node's.
    var hasBeenRefused = false
    /// Why it does not answer.
    package private(set) var silence: String?
    /// Its node has answered that it is not there, or not in this session: that it does not answer cannot be said.
    private(set) var isRefused = false
    /// Told once, when the store was found not to answer; before any request fails.
    private let onSilent: (RemoteCopy, String) -> Void
    private let onOpen: (RemoteCopy) -> Void
    private var isOpen = false
    /// The terms under which the volumes were fenced through this copy: requests that do not say theirs carry it, so that
    /// one that comes late, after another gateway's fence, is refused.
    private var terms: [VolumeId: Term] = [:]
    /// What the store last said: bytes that it has room for, and how many it had received of this lane then.
    private var stated: (roomBytes: UInt64, receivedBytes: UInt64) = (0, 0)
    /// Bytes of blocks that were asked to be stored.
    private var askedBytes: UInt64 = 0

    /// `onOpen`: the store is there, in this session. `onSilent`: see `RemoteStores`.
    package init(
        store: StoreId, session: StoreSession, peer: RemotePeer, onOpen: @escaping (RemoteCopy) -> Void,
        onSilent: @escaping (RemoteCopy, String) -> Void
    ) {
        self.store = store
        self.session = session
        self.peer = peer
        self.onOpen = onOpen
        self.onSilent = onSilent
        lane = peer.addLane(self)
        open()
    }

    // MARK: beginning and end

    /// To a life of the peer that does not know this copy.
    func open() {
        isOpen = false
        stated = (0, 0)
        askedBytes = waiting.reduce(0) { $0 + UInt64($1.frame.header.payloadBytes) }
        peer.submit(self, CopyRequest.open(store, session).frame(lane: lane, term: .none), first: true) {
            [self] frame throws(DecodeError) in
            if frame.header.kind == .failed {
                let answer = try CopyAnswer(frame, volume: VolumeId(0))
                return { [self] in
                    isRefused = true
                    if case .failed(.silent(let reason)) = answer {
                        silence(reason, isReported: true)
                    } else {
                        silence("it is not there", isReported: true)
                    }
                }
            }
            let room = try RoomStatement(frame)
            return { [self] in
                stated = (room.roomBytes, room.receivedBytes)
                isOpen = true
                onOpen(self)
            }
        } fail: { _ in
        }
    }

    /// False: what the store said of its room cannot be read.
    func heard(_ frame: Frame) -> Bool {
        guard let room = try? RoomStatement(frame) else { return false }
        // Before the store is open here, it is about an earlier user of the lane.
        if isOpen { stated = (room.roomBytes, room.receivedBytes) }
        return true
    }

    /// Nothing is asked of the store any more; what was asked fails.
    package func silence(_ reason: String, isReported: Bool) {
        guard silence == nil else { return }
        silence = reason
        isOpen = false
        if isReported { onSilent(self, reason) }
        peer.closeLane(self, .silent(reason))
    }

    private func submit(
        _ request: CopyRequest, _ volume: VolumeId, fail: @escaping (CopyFailure) -> Void,
        _ answer: @escaping PendingRequest.Reader
    ) {
        if let silence {
            peer.clock.after(milliseconds: 0) { fail(.silent(silence)) }
            return
        }
        let frame = request.frame(lane: lane, term: terms[volume] ?? .none)
        askedBytes += UInt64(frame.header.payloadBytes)
        peer.submit(self, frame, answer: answer, fail: fail)
    }

    /// For requests that are answered by done or a failure.
    private func submit(_ request: CopyRequest, _ volume: VolumeId, _ reply: @escaping (CopyFailure?) -> Void) {
        submit(request, volume, fail: reply) { frame throws(DecodeError) in
            switch try CopyAnswer(frame, volume: volume) {
            case .done: return { reply(nil) }
            case .failed(let failure): return { reply(failure) }
            default: throw .badValue("answer of another kind")
            }
        }
    }

    // MARK: requests

    /// By what the store last said, less what it had not received then: never too much.
    package func admits(_ object: ObjectId, _ generation: Generation, _ blocks: BlockRange) -> Bool {
        let unreceived = askedBytes - min(askedBytes, stated.receivedBytes)
        return unreceived + UInt64(blocks.byteCount) <= stated.roomBytes
    }

    package func write(_ request: CopyWrite, _ reply: @escaping (Result<CopyWritten, CopyFailure>) -> Void) {
        submit(.write(request), request.object.volume, fail: { reply(.failure($0)) }) { frame throws(DecodeError) in
            // The usual case, without taking the frame apart.
            if frame.header.kind == .written {
                let written = CopyWritten(isComplete: frame.header.flags.contains(.first))
                return { reply(.success(written)) }
            }
            guard case .failed(let failure) = try CopyAnswer(frame, volume: request.object.volume) else {
                throw .badValue("answer of another kind")
            }
            return { reply(.failure(failure)) }
        }
    }

    package func read(
        _ object: ObjectId, _ path: GenerationPath, _ blocks: BlockRange, into buffer: Buffer, bufferOffset: Int,
        _ reply: @escaping (Result<CopyRead, CopyFailure>) -> Void
    ) {
        submit(.read(object, path, blocks), object.volume, fail: { reply(.failure($0)) }) {
            frame throws(DecodeError) in
            switch try CopyAnswer(frame, volume: object.volume) {
            case .failed(let failure): return { reply(.failure(failure)) }
            case .read(let outcome, let payload):
                guard frame.header.blocks == blocks else { throw .badValue("other blocks") }
                return {
                    // The caller's memory is written to only while it waits for it.
                    let checksums = buffer.checksums + bufferOffset / blockSize
                    if let payload {
                        (buffer.bytes + bufferOffset).copyMemory(from: payload.bytes, byteCount: payload.byteCount)
                        checksums.update(
                            from: payload.buffer.checksums + payload.firstBlock, count: payload.blockCount)
                    } else {
                        buffer.fillZero(bufferOffset..<bufferOffset + blocks.byteCount)
                        checksums.update(repeating: zeroBlockChecksum, count: blocks.count)
                    }
                    reply(.success(outcome))
                }
            default: throw .badValue("answer of another kind")
            }
        }
    }

    package func flush(_ reply: @escaping (CopyFailure?) -> Void) { submit(.flush, VolumeId(0), reply) }

    package func fence(
        _ volume: VolumeId, _ authority: Authority, _ reply: @escaping (Result<[CopySummary], CopyFailure>) -> Void
    ) {
        terms[volume] = authority.term
        collect(.fence(volume, authority), volume) { (answer: CopyAnswer) -> [CopySummary]? in
            if case .summaries(let part) = answer { part } else { nil }
        } _: {
            reply($0)
        }
    }

    package func view(
        _ object: ObjectId, _ path: GenerationPath, _ reply: @escaping (Result<ComposedView, CopyFailure>) -> Void
    ) {
        submit(.view(object, path), object.volume, fail: { reply(.failure($0)) }) { frame throws(DecodeError) in
            switch try CopyAnswer(frame, volume: object.volume) {
            case .view(let view): return { reply(.success(view)) }
            case .failed(let failure): return { reply(.failure(failure)) }
            default: throw .badValue("answer of another kind")
            }
        }
    }

    package func beginSync(
        _ object: ObjectId, top: Generation, base: Version, pending: BlockBitmap, _ authority: Authority,
        _ reply: @escaping (CopyFailure?) -> Void
    ) {
        submit(.beginSync(object, top: top, base: base, pending: pending, authority), object.volume, reply)
    }
    package func fill(_ fill: CopyFill, _ reply: @escaping (CopyFailure?) -> Void) {
        submit(.fill(fill), fill.object.volume, reply)
    }
    package func completeSync(
        _ object: ObjectId, _ authority: Authority, _ reply: @escaping (CopyFailure?) -> Void
    ) {
        submit(.completeSync(object, authority), object.volume, reply)
    }
    package func markSuspect(_ object: ObjectId, _ reply: @escaping (CopyFailure?) -> Void) {
        submit(.markSuspect(object), object.volume, reply)
    }
    package func stamp(_ object: ObjectId, _ version: Version, _ reply: @escaping (CopyFailure?) -> Void) {
        submit(.stamp(object, version), object.volume, reply)
    }
    package func verify(
        _ object: ObjectId, deep: Bool, _ reply: @escaping (Result<VerifyOutcome, CopyFailure>) -> Void
    ) {
        collect(.verify(object, deep: deep), object.volume) { (answer: CopyAnswer) -> [VerifyOutcome.Finding]? in
            if case .verified(let part) = answer { part.generations } else { nil }
        } _: {
            reply($0.map { VerifyOutcome(findings: $0) })
        }
    }
    package func reread(_ object: ObjectId, _ reply: @escaping (Result<Bool, CopyFailure>) -> Void) {
        submit(.reread(object), object.volume, fail: { reply(.failure($0)) }) { frame throws(DecodeError) in
            switch try CopyAnswer(frame, volume: object.volume) {
            case .looked(let isFine): return { reply(.success(isFine)) }
            case .failed(let failure): return { reply(.failure(failure)) }
            default: throw .badValue("answer of another kind")
            }
        }
    }
    package func empty(_ object: ObjectId, _ reply: @escaping (CopyFailure?) -> Void) {
        submit(.empty(object), object.volume, reply)
    }
    package func remove(_ object: ObjectId, _ reply: @escaping (CopyFailure?) -> Void) {
        submit(.remove(object), object.volume, reply)
    }

    /// For requests whose answer may come in several frames. A request that is sent again is answered from the start.
    private func collect<T>(
        _ request: CopyRequest, _ volume: VolumeId, part: @escaping (CopyAnswer) -> [T]?,
        _ reply: @escaping (Result<[T], CopyFailure>) -> Void
    ) {
        var all: [T] = []
        var connection = peer.connectionCount
        submit(request, volume, fail: { reply(.failure($0)) }) { [unowned peer] frame throws(DecodeError) in
            if connection != peer.connectionCount {
                connection = peer.connectionCount
                all = []
            }
            let answer = try CopyAnswer(frame, volume: volume)
            if case .failed(let failure) = answer { return { reply(.failure(failure)) } }
            guard let items = part(answer) else { throw .badValue("answer of another kind") }
            all += items
            return frame.header.flags.contains(.more) ? nil : { reply(.success(all)) }
        }
    }
}

/// What a store says of its room, unasked or as the answer to `open`.
struct RoomStatement {
    /// Bytes that it can take besides what it has received.
    var roomBytes: UInt64
    /// Bytes of blocks that it has received on this lane.
    var receivedBytes: UInt64

    func frame(lane: UInt16, request: UInt64, version: UInt8) -> Frame {
        var header = FrameHeader(.room, version: version)
        header.lane = lane
        header.request = request
        var body = ByteWriter()
        body.write(roomBytes)
        body.write(receivedBytes)
        return Frame(header, body: body.bytes)
    }
    init(roomBytes: UInt64, receivedBytes: UInt64) {
        self.roomBytes = roomBytes
        self.receivedBytes = receivedBytes
    }
    init(_ frame: Frame) throws(DecodeError) {
        guard frame.header.kind == .room else { throw .badValue("no statement of room") }
        var reader = ByteReader(frame.body)
        roomBytes = try reader.read()
        receivedBytes = try reader.read()
        try reader.expectEnd()
    }
}
