// How two nodes prove to each other, before anything else is said, that they have the cluster's key: a mutual
// challenge-response, as a state machine without cryptography, randomness or time of its own. The proofs cover all that
// was said before them, so nothing of it (the versions offered, too) can be changed on the way.
//
//   initiator                                              responder
//   hello (versions, cluster, from, to, nonce)      ->
//                  <-  challenge (version, cluster, from, nonce, proof of the responder)
//   proof (proof of the initiator)                  ->
//                                                   <-     welcome (window)
//
// Either side may answer with a refusal instead, which says why, and the connection ends. A key is never shown, a proof
// holds for one connection only (fresh nonces of both sides), for one direction (its label), and for these two lives
// (incarnations) of these two nodes.
import Model

/// Who speaks, and what it offers.
package struct HandshakeIdentity: Hashable, Sendable {
    package var cluster: ClusterId
    package var node: NodeId
    /// This life of the process.
    package var incarnation: UInt64
    package var versions: ClosedRange<UInt8>
    /// Bytes of requests and of answers to them that the other side may have on their way here.
    package var windowBytes: UInt32

    package init(
        cluster: ClusterId, node: NodeId, incarnation: UInt64, versions: ClosedRange<UInt8> = WireFormat.versions,
        windowBytes: UInt32 = 8 << 20
    ) {
        self.cluster = cluster
        self.node = node
        self.incarnation = incarnation
        self.versions = versions
        self.windowBytes = windowBytes
    }
}

/// Who the other side has proved to be, and what was agreed.
package struct PeerIdentity: Hashable, Sendable {
    package let node: NodeId
    package let incarnation: UInt64
    package let protocolVersion: UInt8
    /// Bytes that the other side takes; 0 towards a responder, which asks for nothing.
    package let windowBytes: UInt32
    package init(node: NodeId, incarnation: UInt64, protocolVersion: UInt8, windowBytes: UInt32) {
        self.node = node
        self.incarnation = incarnation
        self.protocolVersion = protocolVersion
        self.windowBytes = windowBytes
    }
}

/// Why a handshake ended without an agreement. Numbers are part of the format.
package enum Refusal: UInt8, Error, Sendable, CaseIterable {
    case otherCluster = 1
    case wrongKey = 2
    case wrongNode = 3
    case unknownNode = 4
    case ownNode = 5
    case versionTooOld = 6
    case versionTooNew = 7
    case malformed = 8

    /// For people.
    package var reason: String {
        switch self {
        case .otherCluster: "it belongs to another cluster"
        case .wrongKey: "it does not have the cluster's key"
        case .wrongNode: "another node answers at this address"
        case .unknownNode: "it is no node of this cluster"
        case .ownNode: "it is this node itself, or one that uses its number"
        case .versionTooOld: "it only speaks older versions of the protocol"
        case .versionTooNew: "it only speaks newer versions of the protocol"
        case .malformed: "what it sent is no handshake"
        }
    }
}

package struct Handshake {
    package enum Role: Hashable, Sendable {
        /// Connects to this node.
        case initiator(to: NodeId)
        case responder
    }
    package enum Outcome: Sendable {
        case send(Frame)
        /// Agreed; the frame, if any, goes out before everything else.
        case established(PeerIdentity, Frame?)
        /// The connection ends, after the frame, if any, has gone out. `isOurs`: this side has refused.
        case refused(Refusal, isOurs: Bool, Frame?)
    }
    private enum State {
        case start
        case awaitingHello
        case awaitingChallenge
        case awaitingProof(PeerIdentity)
        case awaitingWelcome(PeerIdentity)
        case over
    }
    package static let nonceBytes = 32
    package static let proofBytes = 32

    private let role: Role
    private let own: HandshakeIdentity
    private let nonce: [UInt8]
    /// HMAC-SHA256 under the cluster's key.
    private let authenticate: ([UInt8]) -> [UInt8]
    /// Whether a node of this number is in the cluster.
    private let isKnown: (NodeId) -> Bool
    private var state = State.start
    /// All that was said before the proofs.
    private var transcript: [UInt8] = []

    /// `nonce`: 32 fresh random bytes. `authenticate`: HMAC-SHA256 under the cluster's key, 32 bytes.
    package init(
        role: Role, own: HandshakeIdentity, nonce: [UInt8], isKnown: @escaping (NodeId) -> Bool = { _ in true },
        authenticate: @escaping ([UInt8]) -> [UInt8]
    ) {
        precondition(nonce.count == Handshake.nonceBytes, "a nonce of another length")
        self.role = role
        self.own = own
        self.nonce = nonce
        self.isKnown = isKnown
        self.authenticate = authenticate
    }

    /// The frame to begin with, of an initiator.
    package mutating func start() -> Frame? {
        guard case .start = state else { return nil }
        guard case .initiator(let node) = role else {
            state = .awaitingHello
            return nil
        }
        var body = ByteWriter()
        body.write(own.versions.lowerBound)
        body.write(own.versions.upperBound)
        body.write(UInt16(0))
        body.write(own.cluster)
        body.write(own.node.rawValue)
        body.write(node.rawValue)
        body.write(own.incarnation)
        body.writeRaw(nonce)
        transcript = body.bytes
        state = .awaitingChallenge
        return Frame(FrameHeader(.hello), body: body.bytes)
    }

    package mutating func receive(_ frame: Frame) -> Outcome {
        if frame.header.kind == .refusal {
            state = .over
            return .refused(frame.body.first.flatMap(Refusal.init) ?? .malformed, isOurs: false, nil)
        }
        do {
            guard frame.payload == nil else { throw Refusal.malformed }
            switch (state, frame.header.kind) {
            case (.awaitingHello, .hello): return try receiveHello(frame.body)
            case (.awaitingChallenge, .challenge): return try receiveChallenge(frame.body)
            case (.awaitingProof(let peer), .proof): return try receiveProof(frame.body, peer)
            case (.awaitingWelcome(let peer), .welcome): return try receiveWelcome(frame.body, peer)
            default: throw Refusal.malformed
            }
        } catch {
            state = .over
            let refusal = error as? Refusal ?? .malformed
            return .refused(
                refusal, isOurs: true, Frame(FrameHeader(.refusal), body: [refusal.rawValue, 0, 0, 0]))
        }
    }

    // MARK: the responder

    private mutating func receiveHello(_ body: [UInt8]) throws -> Outcome {
        var reader = ByteReader(body)
        let oldest = try reader.read(UInt8.self)
        let newest = try reader.read(UInt8.self)
        guard try reader.read(UInt16.self) == 0, oldest <= newest, oldest > 0 else { throw Refusal.malformed }
        let cluster = try reader.readClusterId()
        let from = NodeId(try reader.read())
        let to = NodeId(try reader.read())
        let incarnation = try reader.read(UInt64.self)
        let theirs = try reader.readRaw(Handshake.nonceBytes)
        try reader.expectEnd()
        guard cluster == own.cluster else { throw Refusal.otherCluster }
        guard to == own.node else { throw Refusal.wrongNode }
        guard from != own.node else { throw Refusal.ownNode }
        guard isKnown(from) else { throw Refusal.unknownNode }
        guard newest >= own.versions.lowerBound else { throw Refusal.versionTooOld }
        guard oldest <= own.versions.upperBound else { throw Refusal.versionTooNew }
        // An echo of this side's own nonce proves nothing.
        guard theirs != nonce else { throw Refusal.malformed }
        let version = min(newest, own.versions.upperBound)
        var answer = ByteWriter()
        answer.write(version)
        answer.write(own.versions.lowerBound)
        answer.write(own.versions.upperBound)
        answer.write(UInt8(0))
        answer.write(own.cluster)
        answer.write(own.node.rawValue)
        answer.write(own.windowBytes)
        answer.write(own.incarnation)
        answer.writeRaw(nonce)
        transcript = body + answer.bytes
        answer.writeRaw(proof(of: "responder"))
        state = .awaitingProof(
            PeerIdentity(node: from, incarnation: incarnation, protocolVersion: version, windowBytes: 0))
        return .send(Frame(FrameHeader(.challenge), body: answer.bytes))
    }

    private mutating func receiveProof(_ body: [UInt8], _ peer: PeerIdentity) throws -> Outcome {
        guard isEqual(body, proof(of: "initiator")) else { throw Refusal.wrongKey }
        state = .over
        var answer = ByteWriter()
        answer.write(own.windowBytes)
        return .established(peer, Frame(FrameHeader(.welcome), body: answer.bytes))
    }

    // MARK: the initiator

    private mutating func receiveChallenge(_ body: [UInt8]) throws -> Outcome {
        guard body.count > Handshake.proofBytes, case .initiator(let expected) = role else {
            throw Refusal.malformed
        }
        var reader = ByteReader(body)
        let version = try reader.read(UInt8.self)
        let oldest = try reader.read(UInt8.self)
        let newest = try reader.read(UInt8.self)
        guard try reader.read(UInt8.self) == 0, oldest <= version, version <= newest else { throw Refusal.malformed }
        let cluster = try reader.readClusterId()
        let node = NodeId(try reader.read())
        let window = try reader.read(UInt32.self)
        let incarnation = try reader.read(UInt64.self)
        let theirs = try reader.readRaw(Handshake.nonceBytes)
        let proofOfTheirs = try reader.readRaw(Handshake.proofBytes)
        try reader.expectEnd()
        guard cluster == own.cluster else { throw Refusal.otherCluster }
        guard node == expected else { throw Refusal.wrongNode }
        guard node != own.node else { throw Refusal.ownNode }
        guard newest >= own.versions.lowerBound else { throw Refusal.versionTooOld }
        guard oldest <= own.versions.upperBound else { throw Refusal.versionTooNew }
        guard own.versions.contains(version) else { throw Refusal.malformed }
        guard theirs != nonce else { throw Refusal.malformed }
        transcript += body.dropLast(Handshake.proofBytes)
        guard isEqual(proofOfTheirs, proof(of: "responder")) else { throw Refusal.wrongKey }
        state = .awaitingWelcome(
            PeerIdentity(node: node, incarnation: incarnation, protocolVersion: version, windowBytes: window))
        return .send(Frame(FrameHeader(.proof), body: proof(of: "initiator")))
    }

    private mutating func receiveWelcome(_ body: [UInt8], _ peer: PeerIdentity) throws -> Outcome {
        var reader = ByteReader(body)
        // The window is in the challenge already, where the proof covers it.
        guard try reader.read(UInt32.self) == peer.windowBytes else { throw Refusal.malformed }
        try reader.expectEnd()
        state = .over
        return .established(peer, nil)
    }

    // MARK: proofs

    private func proof(of role: String) -> [UInt8] {
        let proof = authenticate(Array("sheepfold data 1 \(role)\n".utf8) + transcript)
        precondition(proof.count == Handshake.proofBytes, "a proof of another length")
        return proof
    }
    /// In a time that does not depend on where they differ.
    private func isEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        guard a.count == b.count else { return false }
        var difference: UInt8 = 0
        for i in a.indices { difference |= a[i] ^ b[i] }
        return difference == 0
    }
}
