// What nodes of a cluster say to each other, as bytes: random messages of every kind come back as they were; what is
// cut, changed or another cluster's is refused, or another message that is said again in the same bytes.
import Model
import TestSupport
import Testing

@testable import Catalog

private struct Sampler {
    var random: Random
    let cluster = ClusterId(high: 5, low: 6)

    mutating func number() -> UInt64 { random.pick([0, 1, 7, 1 << 32, 1 << 62, random.next() >> 1]) }
    mutating func node() -> NodeId { NodeId(UInt32(truncatingIfNeeded: random.next())) }
    mutating func session() -> NodeSession { NodeSession(node(), incarnation: random.next(), number: number()) }
    mutating func storeSession() -> StoreSession {
        StoreSession(bootId: ClusterId(high: random.next(), low: random.next()), incarnation: random.next())
    }
    mutating func view() -> ViewNumber { ViewNumber(round: number(), coordinator: node()) }
    mutating func ring() -> RingId { RingId(representative: node(), sequence: random.next()) }
    mutating func position() -> LogPosition {
        LogPosition(view: view(), index: number(), hash: UInt32(truncatingIfNeeded: random.next()))
    }
    mutating func voters() -> [Voter] {
        (0..<UInt32(random.below(4))).map { Voter(NodeId($0 * 3 + 1), key: random.next()) }
    }
    mutating func bytes() -> [UInt8] { (0..<random.below(40)).map { _ in UInt8(truncatingIfNeeded: random.next()) } }
    mutating func content() -> AgreementEntry.Content {
        switch random.below(3) {
        case 0: .opening
        case 1: .voters(voters(), after: number())
        default: .command(bytes())
        }
    }
    mutating func entries() -> [AgreementEntry] {
        (0..<random.below(4)).map { _ in
            AgreementEntry(
                index: number(), view: view(), origin: Member(node(), incarnation: random.next()), sequence: number(),
                content: content(), hash: UInt32(truncatingIfNeeded: random.next()))
        }
    }

    mutating func lease() -> LeaseMessage {
        switch random.below(5) {
        case 0: .heartbeat(session(), sequence: number(), voters: number())
        case 1: .ack(session(), sequence: number(), voters: number(), key: random.next())
        case 2: .refused(session())
        case 3: .request(session(), voters: number())
        default: .promise(session(), voters: number(), key: random.next())
        }
    }
    mutating func report() -> ReachReport {
        var own: [StoreId: StoreSession] = [:]
        var failed: [StoreId: String] = [:]
        var sights: [StoreId: ReachReport.Sight] = [:]
        for _ in 0..<random.below(4) { own[StoreId(1 + number())] = storeSession() }
        for _ in 0..<random.below(3) { failed[StoreId(1 + number())] = random.pick(["", "kaputt", "größer"]) }
        for _ in 0..<random.below(6) {
            sights[StoreId(1 + number())] = random.chance(percent: 50) ? .missing : .reached(milliseconds: number())
        }
        return ReachReport(
            node: node(), isActive: random.chance(percent: 50), own: own, failed: failed, sights: sights)
    }
    mutating func agreement() -> AgreementMessage {
        switch random.below(6) {
        case 0: return .hello(ring: ring(), isVoter: random.chance(percent: 50), promised: view())
        case 1: return .open(view(), ring: ring(), members: [Member(node(), incarnation: 1)])
        case 2:
            let lists = (0...UInt64(random.below(3))).map { VoterList(index: $0 * 9, voters: voters()) }
            let key: UInt64? = random.chance(percent: 50) ? nil : random.next()
            return .state(view(), MemberState(last: position(), commit: number(), key: key, lists: lists))
        case 3: return .choose(view(), position(), source: node(), committed: number())
        case 4: return .entry(view(), sequence: number(), content())
        default: return .ack(view(), index: number(), hash: 7)
        }
    }
    mutating func transfer() -> TransferMessage {
        switch random.below(3) {
        case 0: return .fetch(view(), from: position(), to: position())
        case 1: return .entries(view(), entries())
        default:
            let position = position()
            let image = AgreementImage(
                position: position, marks: [ProposalMark(origin: Member(node(), incarnation: 2), sequence: number())],
                voters: voters(), votersIndex: position.index / 2, state: bytes())
            return .image(view(), image, entries())
        }
    }
}

struct MessageTests {
    /// `decode` answers what the bytes are, and those in which that is said again; nil where they are refused.
    private func check<Message: Equatable>(
        _ random: inout Random, _ message: Message, _ encode: (Message, ClusterId) -> [UInt8],
        _ decode: ([UInt8], ClusterId) throws(DecodeError) -> Message
    ) {
        let cluster = ClusterId(high: 5, low: 6)
        let bytes = encode(message, cluster)
        #expect((try? decode(bytes, cluster)) == message)
        #expect((try? decode(bytes, ClusterId(high: 5, low: 7))) == nil)
        let cut = random.below(bytes.count)
        #expect((try? decode(Array(bytes.prefix(cut)), cluster)) == nil, "cut to \(cut)")
        #expect((try? decode(bytes + [0], cluster)) == nil)
        for _ in 0..<8 {
            var damaged = bytes
            damaged[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
            guard let other = try? decode(damaged, cluster) else { continue }
            #expect(encode(other, cluster) == damaged)
        }
    }

    @Test func messagesComeBackAndDamagedOnesAreRefused() {
        var sampler = Sampler(random: Random(11))
        var random = Random(12)
        for _ in 0..<300 {
            check(&random, sampler.lease(), { $0.encoded($1) }) { bytes, cluster throws(DecodeError) in
                try LeaseMessage(decoding: bytes, cluster)
            }
            check(&random, sampler.report(), { $0.encoded($1) }) { bytes, cluster throws(DecodeError) in
                try ReachReport(decoding: bytes, cluster)
            }
            check(&random, sampler.agreement(), { $0.encoded($1) }) { bytes, cluster throws(DecodeError) in
                try AgreementMessage(decoding: bytes, cluster)
            }
            check(&random, sampler.transfer(), { $0.encoded($1) }) { bytes, cluster throws(DecodeError) in
                try TransferMessage(decoding: bytes, cluster)
            }
        }
    }

    @Test func aLongReasonIsCutAtACharacter() throws {
        let cluster = ClusterId(high: 5, low: 6)
        let reason = String(repeating: "ß", count: 700)
        let report = ReachReport(node: NodeId(1), isActive: true, own: [:], failed: [StoreId(2): reason], sights: [:])
        let back = try ReachReport(decoding: report.encoded(cluster), cluster)
        #expect(back.failed[StoreId(2)] == String(repeating: "ß", count: 256))
    }
}
