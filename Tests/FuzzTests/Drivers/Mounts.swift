// A whole mount without a kernel: any requests in any order, each answered exactly once and in the end; what it keeps
// for the next process can be taken up by that, also when it is not what was kept.
import Catalog
import Fuse
import Logging
import Model
import OrderedCollections

@testable import Filesystem

private final class MountRun {
    let volumes: FuzzVolumes
    let filesystem: Filesystem
    let socket: SocketSession
    private(set) var kept: [UInt8] = []

    init(_ state: CatalogState, keeps: Bool = true) {
        volumes = FuzzVolumes(state)
        let uses = VolumeUses(service: volumes, clock: volumes)
        guard
            let filesystem = try? Filesystem(
                service: volumes, uses: uses, clock: volumes, pool: SocketSession.pool, options: MountOptions(),
                mountId: 7,
                logger: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }, text: { $0.name })
        else { fatalError("no mount") }
        self.filesystem = filesystem
        socket = SocketSession.serving(filesystem)
        if keeps { filesystem.keepState = { [unowned self] in kept = $0 } }
        volumes.batchEnd = { [unowned filesystem] in
            filesystem.keepChanges()
            filesystem.answerHeld()
        }
    }

    /// A process may end with requests unanswered; nothing else may drop one.
    deinit { if socket.hasPendingReplies { socket.retire() } }

    private var unanswered: Set<UInt64> = []
    /// Sends one request; nil, or what went wrong.
    func send(_ opcode: UInt32, node: UInt64, unique: UInt64, resend: Bool, _ body: [UInt8]) -> String? {
        let raw = unique | (resend ? 1 << 63 : 0)
        if FuseOpcode(rawValue: opcode)?.expectsAnswer ?? true { unanswered.insert(raw) }
        socket.receive(FuseBytes.request(opcode, unique: raw, node: node, body))
        return collect()
    }
    func collect() -> String? {
        guard volumes.drain() else { return "the requests' work has no end" }
        guard let answers = socket.answers() else { return "an answer of another length than it says" }
        for answer in answers where unanswered.remove(answer.unique) == nil {
            return "request \(answer.unique) was answered twice, or nobody waits for it"
        }
        return nil
    }
    /// Requests that wait for somebody's lock may wait.
    func finish(waiting: Set<UInt64>) -> String? {
        let left = unanswered.subtracting(waiting)
        return left.isEmpty ? nil : "requests without an answer: \(left.sorted())"
    }
}

extension FuzzTarget {
    /// Input: requests. Each: opcode (8 bits), node (8 bits: one of those that are there; 255: 64 bits follow), flags
    /// (8 bits: 1 sent again, 2 another process takes over first), length (16 bits), body.
    static let filesystem = FuzzTarget(
        name: "filesystem", summary: "FUSE requests to a whole mount", maximumBytes: 4096,
        seeds: {
            func one(_ opcode: FuseOpcode, _ body: [UInt8], node: UInt8 = 0, flags: UInt8 = 0) -> [UInt8] {
                [UInt8(opcode.rawValue), node, flags] + littleEndian(UInt16(body.count)) + body
            }
            let open = one(.open, littleEndian(UInt64(0x8002)), node: 1)
            var seeds: [[UInt8]] = []
            var several: [[UInt8]] = [open, open]
            for (number, item) in FuseBytes.bodies.enumerated() where item.opcode != .initialize {
                seeds.append(one(item.opcode, item.body))
                seeds.append(open + one(item.opcode, item.body, node: 1))
                several[number % 2] += one(item.opcode, item.body, node: 1, flags: number % 7 == 0 ? 2 : 0)
            }
            return seeds + several
        }
    ) { input in
        var input = input
        var state = SampleCatalog.stateWithoutStores
        var run = MountRun(state)
        var unique: UInt64 = 2
        var waiting: Set<UInt64> = []
        var left = 48
        while !input.isAtEnd, left > 0 {
            left -= 1
            let opcode = UInt32(input.byte())
            let selector = input.byte()
            let node = selector == 255 ? input.number(UInt64.self) : nodes[Int(selector) % nodes.count]
            let flags = input.byte()
            let body = input.take(Int(input.number(UInt16.self)))
            if flags & 2 != 0 {
                // The process is gone; another one takes up what was kept, and all that waited comes again.
                state = run.volumes.state
                let kept = run.kept
                run.socket.retire()
                run = MountRun(state)
                waiting = []
                if !kept.isEmpty {
                    do { try run.filesystem.importState(kept) } catch { return "kept state is refused: \(error)" }
                }
                if let problem = run.collect() { return problem }
            }
            if flags & 1 == 0 { unique += 2 }
            let raw = unique | (flags & 1 != 0 ? 1 << 63 : 0)
            if opcode == FuseOpcode.setlkw.rawValue { waiting.insert(raw) }
            if let problem = run.send(opcode, node: node, unique: unique, resend: flags & 1 != 0, body) {
                return problem
            }
        }
        if let problem = run.finish(waiting: waiting) { return problem }
        if let problem = run.volumes.state.inconsistency() { return "an inconsistent catalog: \(problem)" }
        return nil
    }
    /// What there is in the sample.
    private static let nodes: [UInt64] = [
        1, 1 << 60 | 1 << 28, 1 << 60 | 2 << 28, 1 << 60 | 1 << 28 | 2, 1 << 60 | 2 << 28 | 1, 1 << 60 | 3 << 28,
        2 << 60 | 2 << 28, 2 << 60 | 3 << 28, 3 << 60 | 1 << 28, 3 << 60 | 2 << 28, 2, 16, 17, 5 << 60 | 1 << 28,
        6 << 60 | 1 << 28, 6 << 60 | 1 << 28 | 2, 4 << 60 | 2 << 28 | UInt64(Node.hash(ofTag: "all")),
        1 << 60 | 5 << 28,
    ]

    /// Input: the state that a mount kept for the process after it.
    static let kept = FuzzTarget(
        name: "kept", summary: "what a mount keeps for the next process", maximumBytes: 4096,
        seeds: {
            let run = MountRun(SampleCatalog.stateWithoutStores)
            var seeds: [[UInt8]] = [run.filesystem.exportState()]
            var unique: UInt64 = 2
            for (opcode, node) in [
                (FuseOpcode.open, 1), (.setlk, 1), (.write, 1), (.write, 1), (.open, 3), (.setlk, 2),
            ] {
                unique += 2
                for (at, item) in FuseBytes.bodies.enumerated() where item.opcode == opcode {
                    _ = run.send(
                        opcode.rawValue, node: nodes[node], unique: unique + UInt64(at * 100), resend: false, item.body)
                }
                seeds.append(run.filesystem.exportState())
            }
            return seeds
        }
    ) { input in
        let run = MountRun(SampleCatalog.stateWithoutStores)
        do { try run.filesystem.importState(input.bytes) } catch { return nil }
        if let problem = run.collect() { return problem }
        let state = run.filesystem.exportState()
        let next = MountRun(run.volumes.state)
        do { try next.filesystem.importState(state) } catch { return "exported state is refused: \(error)" }
        guard next.filesystem.exportState().count == state.count else { return "something was lost between processes" }
        guard next.filesystem.openFileCount == run.filesystem.openFileCount else { return "open files were lost" }
        // All that can be done to what is open.
        var unique: UInt64 = 2
        for (opcode, body) in FuseBytes.bodies where opcode != .initialize && opcode != .setlkw {
            unique += 2
            let target = unique % 4 == 0 ? nodes[1] : nodes[3]
            if let problem = next.send(opcode.rawValue, node: target, unique: unique, resend: false, body) {
                return problem
            }
        }
        next.filesystem.close()
        if let problem = next.collect() { return problem }
        return next.finish(waiting: [])
    }
}
