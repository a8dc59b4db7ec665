// What nodes of a cluster say to each other and keep of their agreement: whatever comes is a message that is said again
// in the same bytes, or an error; a kept member and a shared state that were taken from outside can be worked with.
import Model

@testable import Catalog

extension FuzzTarget {
    /// Input: 0 (the version and the cluster are put before it) or another byte (they are not), then a message.
    private static func messages<Message: Equatable & Sendable>(
        _ name: String, _ summary: String, _ samples: @escaping @Sendable () -> [[UInt8]],
        decode: @escaping @Sendable ([UInt8]) throws(DecodeError) -> Message,
        encode: @escaping @Sendable (Message) -> [UInt8]
    ) -> FuzzTarget {
        FuzzTarget(
            name: name, summary: summary, maximumBytes: 4096,
            seeds: {
                let all = samples()
                return all.map { [0] + $0.dropFirst(headerBytes.count) } + all.prefix(1).map { [1] + $0 }
            }
        ) { input in
            var input = input
            let bytes = (input.byte() == 0 ? headerBytes : []) + input.rest()
            guard let message = try? decode(bytes) else { return nil }
            return encode(message) == bytes ? nil : "it is said again in other bytes: \(message)"
        }
    }
    private static let headerBytes: [UInt8] = {
        var writer = ByteWriter()
        writer.writeAgreementHeader(SampleCluster.cluster)
        return writer.bytes
    }()

    static let agreement = messages(
        "agreement", "messages of the agreement in the group",
        { SampleCluster.messages.map { $0.encoded(SampleCluster.cluster) } },
        decode: { bytes throws(DecodeError) in try AgreementMessage(decoding: bytes, SampleCluster.cluster) },
        encode: { $0.encoded(SampleCluster.cluster) })
    static let transfer = messages(
        "transfer", "logs and images of the agreement between two nodes",
        { SampleCluster.transfers.map { $0.encoded(SampleCluster.cluster) } },
        decode: { bytes throws(DecodeError) in try TransferMessage(decoding: bytes, SampleCluster.cluster) },
        encode: { $0.encoded(SampleCluster.cluster) })
    static let lease = messages(
        "lease", "heartbeats of sessions, and what voters answer",
        { SampleCluster.leases.map { $0.encoded(SampleCluster.cluster) } },
        decode: { bytes throws(DecodeError) in try LeaseMessage(decoding: bytes, SampleCluster.cluster) },
        encode: { $0.encoded(SampleCluster.cluster) })
    static let reach = messages(
        "reach", "what a node says of the stores that it reaches",
        { SampleCluster.reports.map { $0.encoded(SampleCluster.cluster) } },
        decode: { bytes throws(DecodeError) in try ReachReport(decoding: bytes, SampleCluster.cluster) },
        encode: { $0.encoded(SampleCluster.cluster) })

    /// Input: one byte (1: on a state with stores), then commands of the cluster, each behind its length (16 bits).
    static let decision = FuzzTarget(
        name: "decision", summary: "commands of the cluster, and what they do to the shared state", maximumBytes: 4096,
        seeds: {
            let all = SampleCluster.decisions.map { $0.encoded() }.map { littleEndian(UInt16($0.count)) + $0 }
            return all.map { [0] + $0 } + all.suffix(6).map { [1] + $0 } + [[0] + all.reversed().flatMap { $0 }]
        }
    ) { input in
        var input = input
        var state = input.byte() & 1 != 0 ? SampleCatalog.state : SampleCatalog.stateWithoutStores
        var record = ClusterRecord(voters: [Voter(NodeId(1), key: 1)], votersIndex: 1)
        var left = 24
        while !input.isAtEnd, left > 0 {
            left -= 1
            let bytes = input.take(Int(input.number(UInt16.self)))
            if let command = try? ClusterCommand(decoding: bytes) {
                guard let copy = try? ClusterCommand(decoding: command.encoded()), copy == command else {
                    return "\(command) does not come back"
                }
            }
            if let problem = apply(bytes, &record, &state) { return problem }
        }
        return problem(with: record, state)
    }

    /// Input: flags (1: places changed in a sample; else raw bytes), then that.
    static let shared = FuzzTarget(
        name: "shared", summary: "the state that all nodes share, as an image has it", maximumBytes: 8192,
        seeds: {
            [[1], [0] + SampleCluster.shared]
                + stride(from: 0, to: 200, by: 8).map {
                    [1] + FuzzInput.patchBytes($0, [0xff, 0xff, 0xff, 0x7f])
                }
        }
    ) { input in
        var input = input
        var bytes: [UInt8]
        if input.byte() & 1 != 0 {
            bytes = SampleCluster.shared
            input.patch(&bytes)
        } else {
            bytes = input.rest()
        }
        guard case (var record, var state)? = try? ClusterRecord.decode(bytes) else { return nil }
        for decision in SampleCluster.decisions.suffix(6) {
            if let problem = apply(decision.encoded(), &record, &state) { return problem }
        }
        return problem(with: record, state)
    }

    private static func apply(
        _ bytes: [UInt8], _ record: inout ClusterRecord, _ state: inout CatalogState
    ) -> String? {
        let before = state.index
        let entry = AgreementEntry(
            index: before + 1, view: ViewNumber(round: 1, coordinator: NodeId(1)),
            origin: Member(NodeId(2), incarnation: 9), sequence: before + 1, content: .command(bytes), hash: 0)
        guard let (answer, changes) = try? record.apply(entry, to: &state) else { return nil }
        if state.index != before + 1 { return "a command without a number" }
        if case .refused = answer, !changes.isEmpty { return "a refused command changed something" }
        return state.inconsistency().map { "after a command: \($0)" }
    }
    private static func problem(with record: ClusterRecord, _ state: CatalogState) -> String? {
        let bytes = record.encoded(with: state)
        guard let (other, copy) = try? ClusterRecord.decode(bytes) else { return "a shared state does not come back" }
        return other == record && copy.encoded() == state.encoded() ? nil : "a shared state changed by coding it"
    }

    /// Input: flags (1: places changed in a sample member; 2: commands, each behind its length (16 bits), which are
    /// replayed; 4: the same as a log behind an image, of which places are changed; else raw bytes), then that.
    static let member = FuzzTarget(
        name: "member", summary: "what a node keeps of the agreement: an image of it, and the log behind that",
        maximumBytes: 8192,
        seeds: {
            let encoded = SampleCluster.member.encoded()
            let commands = SampleCluster.memberCommands.map(SampleCluster.encoded)
                .map { littleEndian(UInt16($0.count)) + $0 }
            return [[1], [0] + encoded, [2] + commands.flatMap { $0 }, [4] + commands.flatMap { $0 }]
                + commands.map { [2] + $0 }
                + stride(from: 0, to: 120, by: 4).map { [1] + FuzzInput.patchBytes($0, [0xff, 0xff, 0xff, 0x7f]) }
        }
    ) { input in
        var input = input
        let flags = input.byte()
        if flags & 6 == 0 {
            var bytes = flags & 1 != 0 ? SampleCluster.member.encoded() : []
            if flags & 1 != 0 { input.patch(&bytes) } else { bytes = input.rest() }
            guard let member = try? StoredMember(decoding: bytes) else { return nil }
            return problem(with: member)
        }
        var commands: [[UInt8]] = []
        while !input.isAtEnd, commands.count < 8 { commands.append(input.take(Int(input.number(UInt16.self)))) }
        if flags & 4 != 0 { return checkLog(commands, &input) }
        var member = SampleCluster.blankMember
        for bytes in commands {
            var reader = ByteReader(bytes)
            guard let command = try? StoredMember.Command(&reader), reader.remaining == 0 else { continue }
            guard SampleCluster.encoded(command) == bytes else { return "\(command) is said again in other bytes" }
            member.replay(command, request: nil)
        }
        return member.isWhole ? problem(with: member) : nil
    }

    private static func checkLog(_ commands: [[UInt8]], _ input: inout FuzzInput) -> String? {
        typealias Format = StateLogFormat<StoredMember>
        let start = Format.Image(promised: 1, view: 1, hash: 17, state: SampleCluster.blankMember)
        var log: [UInt8] = []
        var hash = start.hash
        for (at, bytes) in commands.enumerated() {
            var reader = ByteReader(bytes)
            guard let command = try? StoredMember.Command(&reader), reader.remaining == 0 else { break }
            let index = start.state.index + 1 + UInt64(at)
            log += Format.encode(
                LogEntry(index: index, view: 1, incarnation: 1, batch: index, request: nil, command: command),
                SampleCluster.cluster, hash: &hash)
        }
        input.patch(&log)
        let found: Format.Image?
        do throws(SheepError) { found = try StateLog<StoredMember>.replay(log, onto: start) } catch {
            return error.what.isEmpty || error.why.isEmpty ? "a refusal without words" : nil
        }
        guard let found, found.state.isWhole else { return nil }
        if found.position < start.position { return "the log went back" }
        return problem(with: found.state)
    }

    /// What a node does with it at its start.
    private static func problem(with member: StoredMember) -> String? {
        let bytes = member.encoded()
        guard let copy = try? StoredMember(decoding: bytes), copy == member else {
            return "a member changed by coding it"
        }
        var log = AgreementLog(image: member.image, entries: member.entries)
        log.append(log.next(view: member.promised, origin: Member(NodeId(1), incarnation: 1), sequence: 1, .opening))
        return log.last.index == member.image.position.index + UInt64(member.entries.count) + 1
            ? nil : "a gap in the log"
    }
}
