// What the agreement keeps and says, as bytes: entries and images on stores and over connections, messages in the group.
// Every tag and count that is read is checked; decoding damaged bytes fails and never traps.
import Model

extension ByteWriter {
    mutating func write(_ v: ViewNumber) {
        write(v.round)
        write(v.coordinator)
    }
    mutating func write(_ v: Member) {
        write(v.node)
        write(v.incarnation)
    }
    mutating func write(_ v: RingId) {
        write(v.representative)
        write(v.sequence)
    }
    mutating func write(_ v: Voter) {
        write(v.node)
        write(v.key)
    }
    mutating func write(_ v: LogPosition) {
        write(v.view)
        write(v.index)
        write(v.hash)
    }
    mutating func write(_ v: AgreementEntry.Content) {
        switch v {
        case .opening: write(UInt8(0))
        case .voters(let voters, let after):
            write(UInt8(1))
            write(all: voters) { $0.write($1) }
            write(after)
        case .command(let bytes):
            write(UInt8(2))
            write(bytes)
        }
    }
    mutating func write(_ v: AgreementEntry) {
        write(v.index)
        write(v.view)
        write(v.origin)
        write(v.sequence)
        write(v.content)
        write(v.hash)
    }
    mutating func write(_ v: AgreementImage) {
        write(v.position)
        write(all: v.marks) { w, mark in
            w.write(mark.origin)
            w.write(mark.sequence)
        }
        write(all: v.voters) { $0.write($1) }
        write(v.votersIndex)
        write(v.state)
    }
    mutating func write(_ v: VoterList) {
        write(v.index)
        write(all: v.voters) { $0.write($1) }
    }
}

extension ByteReader {
    /// Counters keep half of their range, so that counting on never overflows.
    mutating func viewNumber() throws(DecodeError) -> ViewNumber {
        ViewNumber(round: try counter(), coordinator: try nodeId())
    }
    mutating func member() throws(DecodeError) -> Member { Member(try nodeId(), incarnation: try read()) }
    mutating func ringId() throws(DecodeError) -> RingId {
        RingId(representative: try nodeId(), sequence: try read())
    }
    mutating func voter() throws(DecodeError) -> Voter { Voter(try nodeId(), key: try read()) }
    mutating func voters() throws(DecodeError) -> [Voter] {
        let voters = try all(12) { r throws(DecodeError) in try r.voter() }
        guard zip(voters, voters.dropFirst()).allSatisfy({ $0.node < $1.node }) else { throw .badValue("voters") }
        return voters
    }
    mutating func logPosition() throws(DecodeError) -> LogPosition {
        LogPosition(view: try viewNumber(), index: try counter(), hash: try read())
    }
    mutating func entryContent() throws(DecodeError) -> AgreementEntry.Content {
        switch try read(UInt8.self) {
        case 0: return .opening
        case 1:
            let voters = try voters()
            return .voters(voters, after: try counter())
        case 2: return .command(try readBytes())
        default: throw .badValue("entry")
        }
    }
    mutating func agreementEntry() throws(DecodeError) -> AgreementEntry {
        AgreementEntry(
            index: try counter(), view: try viewNumber(), origin: try member(), sequence: try counter(),
            content: try entryContent(), hash: try read())
    }
    mutating func agreementEntries() throws(DecodeError) -> [AgreementEntry] {
        try all(45) { r throws(DecodeError) in try r.agreementEntry() }
    }
    mutating func agreementImage() throws(DecodeError) -> AgreementImage {
        let position = try logPosition()
        let marks = try all(20) { r throws(DecodeError) in
            ProposalMark(origin: try r.member(), sequence: try r.counter())
        }
        let voters = try voters()
        let votersIndex = try counter()
        guard votersIndex <= position.index else { throw .badValue("voters") }
        return AgreementImage(
            position: position, marks: marks, voters: voters, votersIndex: votersIndex, state: try readBytes())
    }
    mutating func voterList() throws(DecodeError) -> VoterList {
        VoterList(index: try counter(), voters: try voters())
    }
}

extension AgreementMessage {
    /// For the group: a tag, the cluster, then the fields.
    package func encoded(_ cluster: ClusterId) -> [UInt8] {
        var w = ByteWriter()
        w.writeAgreementHeader(cluster)
        switch self {
        case .hello(let ring, let isVoter, let promised):
            w.write(UInt8(1))
            w.write(ring)
            w.write(isVoter)
            w.write(promised)
        case .open(let number, let ring, let members):
            w.write(UInt8(2))
            w.write(number)
            w.write(ring)
            w.write(all: members) { $0.write($1) }
        case .state(let number, let state):
            w.write(UInt8(3))
            w.write(number)
            w.write(state.last)
            w.write(state.commit)
            w.write(optional: state.key) { $0.write($1) }
            w.write(all: state.lists) { $0.write($1) }
        case .choose(let number, let position, let source, let committed):
            w.write(UInt8(4))
            w.write(number)
            w.write(position)
            w.write(source)
            w.write(committed)
        case .entry(let number, let sequence, let content):
            w.write(UInt8(5))
            w.write(number)
            w.write(sequence)
            w.write(content)
        case .ack(let number, let index, let hash):
            w.write(UInt8(6))
            w.write(number)
            w.write(index)
            w.write(hash)
        }
        return w.bytes
    }

    /// Fails on what is not a message of this cluster.
    package init(decoding bytes: [UInt8], _ cluster: ClusterId) throws(DecodeError) {
        var r = ByteReader(bytes)
        try r.agreementHeader(cluster)
        switch try r.read(UInt8.self) {
        case 1: self = .hello(ring: try r.ringId(), isVoter: try r.readBool(), promised: try r.viewNumber())
        case 2:
            let number = try r.viewNumber()
            let ring = try r.ringId()
            self = .open(number, ring: ring, members: try r.all(12) { r throws(DecodeError) in try r.member() })
        case 3:
            let number = try r.viewNumber()
            let last = try r.logPosition()
            let commit = try r.counter()
            let key = try r.optional { r throws(DecodeError) in try r.read(UInt64.self) }
            let lists = try r.all(12) { r throws(DecodeError) in try r.voterList() }
            guard !lists.isEmpty, zip(lists, lists.dropFirst()).allSatisfy({ $0.index < $1.index }) else {
                throw .badValue("lists of voters")
            }
            self = .state(number, MemberState(last: last, commit: commit, key: key, lists: lists))
        case 4:
            self = .choose(
                try r.viewNumber(), try r.logPosition(), source: try r.nodeId(), committed: try r.counter())
        case 5: self = .entry(try r.viewNumber(), sequence: try r.counter(), try r.entryContent())
        case 6: self = .ack(try r.viewNumber(), index: try r.counter(), hash: try r.read())
        default: throw .badValue("message")
        }
        guard r.remaining == 0 else { throw .badValue("bytes behind the message") }
    }
}

extension TransferMessage {
    package func encoded(_ cluster: ClusterId) -> [UInt8] {
        var w = ByteWriter()
        w.writeAgreementHeader(cluster)
        switch self {
        case .fetch(let number, let from, let to):
            w.write(UInt8(1))
            w.write(number)
            w.write(from)
            w.write(to)
        case .entries(let number, let entries):
            w.write(UInt8(2))
            w.write(number)
            w.write(all: entries) { $0.write($1) }
        case .image(let number, let image, let entries):
            w.write(UInt8(3))
            w.write(number)
            w.write(image)
            w.write(all: entries) { $0.write($1) }
        }
        return w.bytes
    }

    package init(decoding bytes: [UInt8], _ cluster: ClusterId) throws(DecodeError) {
        var r = ByteReader(bytes)
        try r.agreementHeader(cluster)
        switch try r.read(UInt8.self) {
        case 1: self = .fetch(try r.viewNumber(), from: try r.logPosition(), to: try r.logPosition())
        case 2: self = .entries(try r.viewNumber(), try r.agreementEntries())
        case 3: self = .image(try r.viewNumber(), try r.agreementImage(), try r.agreementEntries())
        default: throw .badValue("message")
        }
        guard r.remaining == 0 else { throw .badValue("bytes behind the message") }
    }
}

/// The version of the messages, and of the formats of a member's log and image.
package let agreementFormatVersion: UInt16 = 1

extension ByteWriter {
    mutating func writeAgreementHeader(_ cluster: ClusterId) {
        write(agreementFormatVersion)
        write(cluster)
    }
}

extension ByteReader {
    mutating func agreementHeader(_ cluster: ClusterId) throws(DecodeError) {
        guard try read(UInt16.self) == agreementFormatVersion else { throw .badValue("version") }
        guard try clusterId() == cluster else { throw .badValue("cluster") }
    }
}
