// The handshake: two ends with the same key agree; everybody else is refused, with the reason, and learns nothing.
import Model
import TestSupport
import Testing

@testable import Wire

@Suite struct HandshakeTests {
    private let cluster = ClusterId(high: 1, low: 2)
    /// What the machine does with it must not depend on what it is; here any function of key and message will do.
    private func authenticate(_ key: UInt64) -> ([UInt8]) -> [UInt8] {
        { message in
            var random = Random(key ^ UInt64(crc32c(message)) << 20 ^ UInt64(message.count))
            return (0..<4).flatMap { _ in withUnsafeBytes(of: random.next()) { Array($0) } }
        }
    }
    private func identity(_ node: UInt32, versions: ClosedRange<UInt8> = 1...1) -> HandshakeIdentity {
        HandshakeIdentity(cluster: cluster, node: NodeId(node), incarnation: UInt64(node) * 11, versions: versions)
    }
    private func nonce(_ seed: UInt8) -> [UInt8] { [UInt8](repeating: seed, count: 32) }

    private struct Ends {
        var initiator: Result<PeerIdentity, WireConnection.End>?
        var responder: Result<PeerIdentity, WireConnection.End>?
        var passed: [Frame] = []
    }
    /// Runs both ends against each other; `change` may replace frames on their way.
    private func run(
        _ a: HandshakeIdentity, to: UInt32 = 2, _ b: HandshakeIdentity, keyA: UInt64 = 7, keyB: UInt64 = 7,
        isKnown: @escaping (NodeId) -> Bool = { _ in true }, change: (Frame) -> Frame = { $0 }
    ) -> Ends {
        let pool = BufferPool(limitBytes: 0)
        let initiator = WireConnection(
            handshake: Handshake(
                role: .initiator(to: NodeId(to)), own: a, nonce: nonce(1), authenticate: authenticate(keyA)), pool: pool
        )
        let responder = WireConnection(
            handshake: Handshake(
                role: .responder, own: b, nonce: nonce(2), isKnown: isKnown, authenticate: authenticate(keyB)),
            pool: pool)
        var ends = Ends()
        var queue: [(toResponder: Bool, Frame)] = []
        initiator.output = { queue.append((true, $0)) }
        responder.output = { queue.append((false, $0)) }
        initiator.onEstablished = { ends.initiator = .success($0) }
        responder.onEstablished = { ends.responder = .success($0) }
        initiator.onEnd = { ends.initiator = .failure($0) }
        responder.onEnd = { ends.responder = .failure($0) }
        initiator.onFrame = { _ in Issue.record("a frame nobody has sent") }
        responder.onFrame = { _ in Issue.record("a frame nobody has sent") }
        responder.start()
        initiator.start()
        while !queue.isEmpty {
            let (toResponder, frame) = queue.removeFirst()
            let changed = change(frame)
            ends.passed.append(changed)
            changed.encoded.withUnsafeBytes { (toResponder ? responder : initiator).receive($0) }
        }
        return ends
    }
    private func refused(_ refusal: Refusal, isOurs: Bool) -> Result<PeerIdentity, WireConnection.End> {
        .failure(.refused(refusal, isOurs: isOurs))
    }

    @Test func twoNodesWithTheKeyAgree() {
        let ends = run(identity(1), identity(2))
        #expect(
            ends.initiator
                == .success(PeerIdentity(node: NodeId(2), incarnation: 22, protocolVersion: 1, windowBytes: 8 << 20)))
        #expect(
            ends.responder
                == .success(PeerIdentity(node: NodeId(1), incarnation: 11, protocolVersion: 1, windowBytes: 0))
        )
        #expect(ends.passed.map(\.header.kind) == [.hello, .challenge, .proof, .welcome])
    }

    @Test func theNewestVersionOfBothIsSpoken() {
        guard case .success(let peer)? = run(identity(1, versions: 1...3), identity(2, versions: 2...5)).initiator
        else {
            Issue.record("no agreement")
            return
        }
        #expect(peer.protocolVersion == 3)
    }

    @Test func versionsThatDoNotMeetAreRefused() {
        let old = run(identity(1, versions: 1...1), identity(2, versions: 2...3))
        #expect(old.responder == refused(.versionTooOld, isOurs: true))
        #expect(old.initiator == refused(.versionTooOld, isOurs: false))
        let new = run(identity(1, versions: 4...5), identity(2, versions: 2...3))
        #expect(new.responder == refused(.versionTooNew, isOurs: true))
    }

    @Test func aNodeOfAnotherClusterIsRefused() {
        var other = identity(1)
        other.cluster = ClusterId(high: 1, low: 3)
        let ends = run(other, identity(2))
        #expect(ends.responder == refused(.otherCluster, isOurs: true))
        #expect(ends.initiator == refused(.otherCluster, isOurs: false))
        #expect(!ends.passed.contains { $0.header.kind == .challenge })
    }

    @Test func aNodeWithoutTheKeyIsRefused() {
        // The responder shows its proof first: an initiator without the key cannot check it, and goes.
        let ends = run(identity(1), identity(2), keyA: 8)
        #expect(ends.initiator == refused(.wrongKey, isOurs: true))
        #expect(ends.responder == refused(.wrongKey, isOurs: false))
    }

    @Test func anInitiatorThatGuessesItsProofIsRefused() {
        let ends = run(
            identity(1), identity(2),
            change: { frame in
                frame.header.kind == .proof ? Frame(frame.header, body: [UInt8](repeating: 7, count: 32)) : frame
            })
        #expect(ends.responder == refused(.wrongKey, isOurs: true))
    }

    @Test func theProofOfOneSideIsNotThatOfTheOther() {
        var reflected: [UInt8] = []
        let ends = run(
            identity(1), identity(2),
            change: { frame in
                if frame.header.kind == .challenge { reflected = Array(frame.body.suffix(32)) }
                return frame.header.kind == .proof ? Frame(frame.header, body: reflected) : frame
            })
        #expect(ends.responder == refused(.wrongKey, isOurs: true))
    }

    @Test func anotherNodeThanMeantIsRefused() {
        #expect(run(identity(1), to: 3, identity(2)).responder == refused(.wrongNode, isOurs: true))
        // One that takes the call all the same is found out by its challenge.
        let ends = run(
            identity(1), identity(3),
            change: { frame in
                guard frame.header.kind == .hello else { return frame }
                var body = frame.body
                body[24] = 3
                return Frame(frame.header, body: body)
            })
        #expect(ends.initiator == refused(.wrongNode, isOurs: true))
    }

    @Test func unknownNodesAndOneselfAreRefused() {
        let unknown = run(identity(1), identity(2), isKnown: { $0 != NodeId(1) })
        #expect(unknown.responder == refused(.unknownNode, isOurs: true))
        #expect(run(identity(2), identity(2)).responder == refused(.ownNode, isOurs: true))
    }

    /// Each byte of each frame, changed on its way: there is no agreement about what was not said.
    @Test func whatIsChangedOnTheWayIsNotAgreedOn() {
        for kind in [FrameKind.hello, .challenge, .proof, .welcome] {
            var size = 0
            var position = 0
            repeat {
                let ends = run(
                    identity(1, versions: 1...2), identity(2, versions: 1...2),
                    change: { frame in
                        guard frame.header.kind == kind else { return frame }
                        size = frame.body.count
                        var body = frame.body
                        body[position] ^= 1
                        return Frame(frame.header, body: body)
                    })
                if case .success? = ends.initiator { Issue.record("\(kind), byte \(position)") }
                // The last word is the responder's: it may think that all is well.
                if case .success? = ends.responder, kind != .welcome { Issue.record("\(kind), byte \(position)") }
                position += 1
            } while position < size
        }
    }

    /// What was recorded of one connection proves nothing on another.
    @Test func aRecordedConnectionCannotBePlayedAgain() {
        let recorded = run(identity(1), identity(2)).passed.filter { [.hello, .proof].contains($0.header.kind) }
        var handshake = Handshake(
            role: .responder, own: identity(2), nonce: nonce(3), authenticate: authenticate(7))
        _ = handshake.start()
        _ = handshake.receive(recorded[0])
        guard case .refused(.wrongKey, isOurs: true, _) = handshake.receive(recorded[1]) else {
            Issue.record("an old proof was taken")
            return
        }
    }

    @Test func framesOutOfTurnAndGarbageEndIt() {
        for kind in FrameKind.allCases where kind.isHandshake {
            for length in [0, 1, 4, 31, 32, 33, 76, 77, 120, 200] {
                var handshake = Handshake(
                    role: .responder, own: identity(2), nonce: nonce(2), authenticate: authenticate(7))
                _ = handshake.start()
                let outcome = handshake.receive(
                    Frame(FrameHeader(kind), body: [UInt8](repeating: 1, count: length)))
                guard case .refused = outcome else {
                    Issue.record("\(kind) of \(length) bytes")
                    continue
                }
                guard case .refused = handshake.receive(Frame(FrameHeader(.hello))) else {
                    Issue.record("it goes on after the end")
                    continue
                }
            }
        }
    }
}
