// Samples of what nodes of a cluster say to each other and keep: one of every kind, made as a cluster makes them.
import Model

@testable import Catalog

enum SampleCluster {
    static let cluster = SampleCatalog.cluster
    private static let view = ViewNumber(round: 7, coordinator: NodeId(2))
    private static let ring = RingId(representative: NodeId(1), sequence: 40)
    private static let voters = [Voter(NodeId(1), key: 11), Voter(NodeId(2), key: 12), Voter(NodeId(3), key: 13)]
    static let session = NodeSession(NodeId(2), incarnation: 9, number: 3)
    private static let storeSession = StoreSession(bootId: ClusterId(high: 7, low: 7), incarnation: 1)

    static let decisions: [ClusterCommand] =
        (SampleCatalog.commands + SampleCatalog.others).map { .catalog($0, RequestId(client: 1, number: 2)) } + [
            .catalog(.none, nil), .openSession(session), .endSession(session, voters: 5),
            .endSession(session, voters: nil),
            .inEpoch(Epoch(3), .storeDown(StoreId(1), reason: "r", wallClock: 1)),
        ]
    static let image = AgreementImage.founding(SampleCatalog.stateWithoutStores, voters: voters)
    /// Follow the image.
    static let entries: [AgreementEntry] = {
        var log = AgreementLog(image: image)
        let contents: [AgreementEntry.Content] = [
            .opening, .command(ClusterCommand.openSession(session).encoded()),
            .command(
                ClusterCommand.catalog(
                    .createDirectory(
                        parent: .root, name: "x", attributes: FileAttributes(uid: 0, gid: 0, mode: 0, time: 0)), nil
                ).encoded()),
            .voters(Array(voters.prefix(2)), after: image.votersIndex),
        ]
        for (number, content) in contents.enumerated() {
            let member = Member(NodeId(2), incarnation: 9)
            log.append(log.next(view: view, origin: member, sequence: UInt64(number), content))
        }
        return Array(log.entries)
    }()

    static let messages: [AgreementMessage] = [
        .hello(ring: ring, isVoter: true, promised: view),
        .open(view, ring: ring, members: [Member(NodeId(1), incarnation: 4), Member(NodeId(2), incarnation: 9)]),
        .state(
            view,
            MemberState(
                last: entries.last!.position, commit: 3, key: 11,
                lists: [VoterList(index: 1, voters: voters), VoterList(index: 2, voters: [])])),
        .state(
            view,
            MemberState(last: .start, commit: 0, key: nil, lists: [VoterList(index: 0, voters: voters)])),
        .choose(view, entries.last!.position, source: NodeId(1), committed: 2),
        .entry(view, sequence: 4, .command([1, 2, 3])), .entry(view, sequence: 5, .opening),
        .entry(view, sequence: 6, .voters(voters, after: 2)), .ack(view, index: 9, hash: 0xdead),
    ]
    static let transfers: [TransferMessage] = [
        .fetch(view, from: .start, to: entries.last!.position), .entries(view, entries),
        .image(view, image, Array(entries.prefix(2))),
        .image(
            view,
            AgreementImage(
                position: LogPosition(view: view, index: 5, hash: 1),
                marks: [ProposalMark(origin: Member(NodeId(1), incarnation: 4), sequence: 8)], voters: voters,
                votersIndex: 5, state: [1, 2, 3]), []),
    ]
    static let leases: [LeaseMessage] = [
        .heartbeat(session, sequence: 100, voters: 5), .ack(session, sequence: 100, voters: 5, key: 11),
        .refused(session), .request(session, voters: 5), .promise(session, voters: 5, key: 12),
    ]
    static let reports: [ReachReport] = [
        ReachReport(node: NodeId(1), isActive: false, own: [:], sights: [:]),
        ReachReport(
            node: NodeId(2), isActive: true, own: [StoreId(1): storeSession, StoreId(9): storeSession],
            failed: [StoreId(3): "no such device"],
            sights: [StoreId(4): .missing, StoreId(5): .reached(milliseconds: 7_000)]),
    ]

    static let memberCommands: [StoredMember.Command] = [
        .none, .setCatalogStores([StoreId(1), StoreId(2)]), .promise(view),
        .append(Array(entries.prefix(3)), committed: entries[1].index), .sessionPromise(session),
        .append([], committed: entries[2].index), .append(Array(entries.suffix(2)), committed: 0),
    ]
    static let blankMember = StoredMember(
        clusterId: cluster, node: NodeId(1), key: 11, image: image, stores: [StoreId(1)])
    static let member: StoredMember = {
        var member = blankMember
        for command in memberCommands { member.replay(command, request: nil) }
        return member
    }()
    static func encoded(_ command: StoredMember.Command) -> [UInt8] {
        var writer = ByteWriter()
        command.encode(&writer)
        return writer.bytes
    }

    /// The state of an image after its first entries.
    static let shared: [UInt8] = {
        guard var (record, state) = try? ClusterRecord.decode(image.state) else { fatalError("no image") }
        for entry in entries { _ = try? record.apply(entry, to: &state) }
        return record.encoded(with: state)
    }()
}
