// Up, down and out by what nodes reach: the rules one by one, then random connections among nodes that come and go.
import Model
import OrderedCollections
import TestSupport
import Testing

@testable import Catalog

/// Nodes with a store each (of the same number), one catalog, and connections that a test cuts.
private final class Field {
    final class Time: Clock {
        var milliseconds: UInt64 = 1
        var now: Instant { Instant(nanoseconds: milliseconds * 1_000_000) }
        var wallClock: UInt64 { milliseconds }
        func after(milliseconds: UInt64, _ action: @escaping () -> Void) {}
    }
    let time = Time()
    var state: CatalogState
    let count: Int
    var judges: [StoreJudge] = []
    /// Pairs that do not reach each other, and nodes whose process is dead.
    var cuts: Set<[Int]> = []
    var dead: Set<Int> = []
    var sessions: [UInt64]
    /// Boots of the nodes.
    var boots: [UInt64]
    /// Since when a pair has been as it is.
    private var since: [[Int]: UInt64] = [:]
    var history: [(at: UInt64, store: StoreId, status: StoreStatus)] = []

    init(_ count: Int) {
        self.count = count
        sessions = Array(repeating: 1, count: count + 1)
        boots = Array(repeating: 0, count: count + 1)
        var settings = Settings()
        settings.copies = 2
        settings.downOutIntervalMilliseconds = 60_000
        state = CatalogState(clusterId: boot, settings: settings, rootAttributes: someAttributes)
        for id in 1...count {
            let description = StoreDescription(
                id: StoreId(UInt64(id)), node: NodeId(UInt32(id)), path: "/s", weight: 1 << 40, zone: UInt64(id),
                session: session(id), wallClock: 0)
            _ = state.apply(.addStore(description), request: nil)
            judges.append(StoreJudge(me: NodeId(UInt32(id)), clock: time))
        }
    }
    func session(_ id: Int) -> StoreSession {
        StoreSession(bootId: ClusterId(high: boot.high, low: boot.low + boots[id]), incarnation: sessions[id])
    }
    /// Members of S, and those of them that are current: how many ranges each has.
    func inSync(_ id: Int) -> Int { state.map.store(StoreId(UInt64(id)))!.inSync[copies: 2].count }
    func current(_ id: Int) -> Int { state.map.store(StoreId(UInt64(id)))!.current(copies: 2).count }
    func isCut(_ a: Int, _ b: Int) -> Bool {
        cuts.contains([min(a, b), max(a, b)]) || dead.contains(a) || dead.contains(b)
    }
    func cut(_ a: Int, _ b: Int) { cuts.insert([min(a, b), max(a, b)]) }
    func status(_ id: Int) -> StoreStatus { state.map.store(StoreId(UInt64(id)))!.status }
    var up: [Int] { (1...count).filter { status($0) == .up } }

    private var wasCut: Set<[Int]> = []
    func step() {
        time.milliseconds += 500
        for a in 1...count {
            for b in 1...count where a < b {
                let pair = [a, b]
                if isCut(a, b) != wasCut.contains(pair) {
                    since[pair] = time.milliseconds
                    if isCut(a, b) { wasCut.insert(pair) } else { wasCut.remove(pair) }
                }
            }
        }
        // The group reaches all that live: reports travel where the data does, or through others.
        for a in 1...count where !dead.contains(a) {
            var sights: [StoreId: ReachReport.Sight] = [:]
            for b in 1...count where b != a {
                let duration = time.milliseconds - since[[min(a, b), max(a, b)], default: 0]
                if !isCut(a, b) {
                    sights[StoreId(UInt64(b))] = .reached(milliseconds: duration)
                } else if duration >= 2000 {
                    sights[StoreId(UInt64(b))] = .missing
                }
            }
            let report = ReachReport(
                node: NodeId(UInt32(a)), isActive: true, own: [StoreId(UInt64(a)): session(a)], sights: sights)
            for b in 1...count where !dead.contains(b) { judges[b - 1].take(report) }
        }
        for a in 1...count where !dead.contains(a) {
            for command in judges[a - 1].decide(state.map, state.settings) {
                guard case .inEpoch(let epoch, let command) = command, epoch == state.map.epoch else { continue }
                let before = state.map.stores.map(\.status)
                _ = state.apply(command, request: nil)
                for (store, old) in zip(state.map.stores, before) where store.status != old {
                    history.append((time.milliseconds, store.id, store.status))
                }
            }
        }
    }
    func run(seconds: Int) { for _ in 0..<2 * seconds { step() } }
}

@Suite struct StoreJudgeTests {
    @Test func ofTwoThatMissEachOtherTheLessReachedGoes() {
        let field = Field(4)
        field.run(seconds: 5)
        #expect(field.up == [1, 2, 3, 4])
        // 1 and 2 miss each other; 3 does not reach 1 either.
        field.cut(1, 2)
        field.cut(1, 3)
        field.run(seconds: 10)
        #expect(field.up == [2, 3, 4])
        #expect(field.history.count == 1)
    }
    @Test func ofTwoThatAreReachedAlikeTheHigherGoes() {
        let field = Field(3)
        field.cut(1, 2)
        field.run(seconds: 10)
        #expect(field.up == [1, 3])
    }
    @Test func twoHalvesBecomeOne() {
        let field = Field(4)
        for a in [1, 3] { for b in [2, 4] { field.cut(a, b) } }
        field.run(seconds: 10)
        #expect(field.up == [1, 3])
    }
    @Test func whatADownNodeSaysIsIgnored() {
        let field = Field(3)
        field.dead = [3]
        field.run(seconds: 6)
        #expect(field.up == [1, 2])
        // Back, but it reaches nobody: nobody goes.
        field.dead = []
        field.cut(1, 3)
        field.cut(2, 3)
        field.run(seconds: 30)
        #expect(field.up == [1, 2])
        #expect(field.history.count == 1)
    }
    @Test func itIsUpAgainAfterFiveSecondsThenTenThenTwenty() {
        let field = Field(3)
        var waits: [UInt64] = []
        for _ in 0..<3 {
            field.dead = [2]
            field.run(seconds: 6)
            #expect(field.up == [1, 3])
            field.dead = []
            let back = field.time.milliseconds
            while field.status(2) != .up { field.step() }
            waits.append((field.time.milliseconds - back) / 1000)
        }
        #expect(waits == [5, 10, 20])
    }
    @Test func oneThatStaysAwayIsOutAndComesBack() {
        let field = Field(3)
        field.dead = [3]
        field.run(seconds: 70)
        #expect(field.status(3) == .out)
        field.dead = []
        field.run(seconds: 15)
        #expect(field.up == [1, 2, 3])
    }
    @Test func aNewSessionIsToldAtOnce() {
        let field = Field(3)
        field.run(seconds: 3)
        field.sessions[2] = 7
        field.step()
        #expect(field.state.map.store(StoreId(2))?.session == field.session(2))
        #expect(field.up == [1, 2, 3])
    }
    @Test func oneThatBrokeLeavesSToThoseThatAreSeen() {
        let field = Field(3)
        _ = field.state.apply(
            .createVolume(directory: .root, name: "v", size: 1 << 30, copies: nil, attributes: someAttributes),
            request: nil)
        field.run(seconds: 3)
        let before = field.inSync(2)
        field.boots[2] = 1
        field.sessions[2] = 2
        field.run(seconds: 2)
        #expect(before > 0 && field.inSync(2) == 0)
        #expect(field.current(1) == field.inSync(1) && field.current(3) == field.inSync(3) && field.inSync(1) > 0)
    }
    /// Power comes back; the map still has all of them up, in sessions that are no more.
    @Test func afterAPowerLossOfAllNobodyLeavesSToThoseThatAreNotThereYet() {
        let field = Field(3)
        // Something was written: S means something.
        _ = field.state.apply(
            .createVolume(directory: .root, name: "v", size: 1 << 30, copies: nil, attributes: someAttributes),
            request: nil)
        field.run(seconds: 3)
        let before = (1...3).map(field.inSync)
        for node in 1...3 { field.boots[node] = 1 }
        field.judges = (1...3).map { StoreJudge(me: NodeId($0), clock: field.time) }
        field.dead = [3]
        field.run(seconds: 1)
        #expect(field.up == [1, 2, 3] && (1...3).map(field.inSync) == before)
        // What 1 and 2 alone are members of is current again; the rest waits, also when 3 is down.
        field.run(seconds: 10)
        #expect(field.up == [1, 2] && (1...3).map(field.inSync) == before)
        #expect(field.current(1) < before[0] && field.current(1) > 0)
        field.dead = []
        field.run(seconds: 15)
        #expect(field.up == [1, 2, 3] && (1...3).map(field.inSync) == before && (1...3).map(field.current) == before)
    }
    @Test func aStoreThatItsOwnNodeGivesUpGoesAtOnce() {
        let field = Field(2)
        field.run(seconds: 3)
        field.judges[0].take(
            ReachReport(
                node: NodeId(2), isActive: true, own: [:], failed: [StoreId(2): "EIO"],
                sights: [StoreId(1): .reached(milliseconds: 9000)]))
        let commands = field.judges[0].decide(field.state.map, field.state.settings)
        #expect(commands.count == 1)
        guard case .inEpoch(_, .storeDown(let id, let reason, _))? = commands.first else {
            Issue.record("\(commands)")
            return
        }
        #expect(id == StoreId(2) && reason == "EIO")
        #expect(field.judges[1].decide(field.state.map, field.state.settings).isEmpty)
    }

    /// Whatever is cut: those that stay up reach each other, it comes to rest, and all come back when all is well.
    @Test func itComesToRestWhateverIsCut() {
        for seed in seeds(4) {
            var random = Random(seed)
            let field = Field(3 + random.below(4))
            for _ in 0..<4 {
                field.cuts = []
                field.dead = Set((1...field.count).filter { _ in random.chance(percent: 10) })
                let percent = random.below(60)
                for a in 1...field.count {
                    for b in 1...field.count where a < b && random.chance(percent: percent) { field.cut(a, b) }
                }
                field.run(seconds: 10 + random.below(100))
            }
            field.run(seconds: 200)
            let changes = field.history.count { $0.status != .out }
            field.run(seconds: 200)
            #expect(field.history.count { $0.status != .out } == changes, "seed \(seed): it never rests")
            for a in field.up {
                for b in field.up where a != b { #expect(!field.isCut(a, b), "seed \(seed): \(a) and \(b) are up") }
            }
            #expect(!field.up.isEmpty || field.dead.count == field.count)
            field.cuts = []
            field.dead = []
            field.run(seconds: 700)
            #expect(field.up.count == field.count, "seed \(seed): \(field.up) of \(field.count) are up")
        }
    }
}
