// A random life of a store, checked against a model. Every operation leaves a state of its object in a history; after
// a power loss the object must stand at one that is at least as new as the last flush saw, after the death of the
// process at one at least as new as what had completed. Nothing may be unreadable, and a version names one content.
import Model
import TestSupport
import Testing

@testable import ObjectStore

struct ModelCopy {
    /// The tag of a block that is to be recovered.
    static let pending = UInt64.max
    /// Block to tag (0: held as zero), by generation.
    var generations: [UInt32: [Int: UInt64]] = [:]
    var version: UInt64 = 0
    var state = CopyState.complete
    var exists = false

    func composed(_ top: UInt32, _ block: Int) -> UInt64? {
        for generation in generations.keys.sorted(by: >) where generation <= top {
            if let tag = generations[generation]![block] { return tag }
        }
        return nil
    }
}

final class Workload {
    static let objectCount = 5
    static let blocks = 48

    let bench: Bench
    var random: Random
    let seed: UInt64
    /// States of each object, oldest first, and from which on one is acceptable.
    var history: [[ModelCopy]]
    var flushed: [Int]
    var completed: [Int]
    var generation: UInt32 = 1
    var sequence: UInt64 = 0
    var tag: UInt64 = 1000
    var outstanding = 0
    /// Removals show at once, before operations that were accepted earlier: reads meanwhile may see a mixture of
    /// operations that have not completed.
    var removals = [Int](repeating: 0, count: objectCount)
    var isRemoving = [Int](repeating: 0, count: objectCount)
    /// Terms that a completed fence named, and that any did.
    var fenced: UInt32 = 0
    var fencing: UInt32 = 0
    /// The disk takes no new blocks: operations go one by one, because a refused one must leave no trace.
    var isDiskFull = false
    var problems: [String] = []

    init(seed: UInt64, _ change: (inout StoreConfiguration) -> Void = { _ in }) {
        self.seed = seed
        random = Random(seed ^ 0xabcdef)
        var configuration = Bench.small()
        configuration.journalMaximumSegments = 4 + random.below(4)
        configuration.memoryLimitBytes = [32, 128, 1024][random.below(3)] << 10
        configuration.syncDelayBytes = [8, 64, 1024][random.below(3)] << 10
        configuration.checkpointIntervalMilliseconds = [3, 20, 200][random.below(3)]
        configuration.dirtyHeaderLimit = [2, 8, 100][random.below(3)]
        change(&configuration)
        bench = Bench(seed: seed, configuration: configuration)
        bench.disk.maximumBufferedWrite = random.chance(percent: 50) ? 4096 : 65536
        history = Array(repeating: [ModelCopy()], count: Workload.objectCount)
        flushed = Array(repeating: 0, count: Workload.objectCount)
        completed = flushed
    }

    func problem(_ text: String) { if problems.count < 5 { problems.append("seed \(seed): \(text)") } }
    func id(_ object: Int) -> ObjectId { ObjectId(VolumeId(3), UInt32(object)) }

    func removal(_ object: Int, _ done: @escaping StoreCompletion) -> StoreCompletion {
        removals[object] += 1
        isRemoving[object] += 1
        return { [self] result in
            isRemoving[object] -= 1
            done(result)
        }
    }

    /// One operation, not waited for.
    func operate() {
        let object = random.below(Workload.objectCount)
        var state = history[object].last!
        let index = history[object].count
        outstanding += 1
        let done: StoreCompletion = { [self] result in
            outstanding -= 1
            switch result {
            case .success: completed[object] = max(completed[object], index)
            case .failure(.full):
                if history[object].count != index + 1 { return problem("full at the wrong time") }
                history[object].removeLast()
            case .failure: break
            }
        }
        let store = bench.store
        switch random.below(128) {
        case 0..<55:
            let count = random.chance(percent: 25) ? 4 + random.below(12) : 1 + random.below(3)
            let first = random.below(Workload.blocks - count + 1)
            sequence += 1
            tag += 100
            state.exists = true
            state.version = Version(term: Term(1), sequence: sequence).rawValue
            for block in 0..<count { state.generations[generation, default: [:]][first + block] = tag + UInt64(block) }
            history[object].append(state)
            bench.write(id(object), generation, sequence, first: first, count: count, tag: tag, completion: done)
        case 55..<67:
            let count = 1 + random.below(20)
            let first = random.below(Workload.blocks - count + 1)
            let keep = random.chance(percent: 60)
            sequence += 1
            state.exists = true
            state.version = Version(term: Term(1), sequence: sequence).rawValue
            for block in 0..<count {
                state.generations[generation, default: [:]][first + block] = keep ? 0 : nil
            }
            history[object].append(state)
            store.discard(
                object: id(object), generation: Generation(generation),
                version: Version(rawValue: state.version), blocks: BlockRange(first: first, count: count),
                keepAsZero: keep, completion: done)
        case 67..<74:
            let known = state.generations.keys.sorted()
            guard let from = known.randomElement(using: &random), from < generation else {
                outstanding -= 1
                generation += 1
                return
            }
            let above = known.filter { $0 > from }.first
            let into = random.chance(percent: 50) ? above ?? generation : min(above ?? generation, from + 1)
            let lower = state.generations.removeValue(forKey: from)!
            if state.generations[into] == nil { state.generations[into] = [:] }
            state.generations[into]!.merge(lower) { upper, _ in upper }
            history[object].append(state)
            store.merge(object: id(object), from: Generation(from), into: Generation(into), completion: done)
        case 74..<77:
            state = ModelCopy()
            history[object].append(state)
            store.remove(object: id(object), generations: nil, completion: removal(object, done))
        case 77..<80:
            let known = state.generations.keys.sorted()
            guard let gone = known.randomElement(using: &random) else {
                outstanding -= 1
                return
            }
            state.generations[gone] = nil
            history[object].append(state)
            store.remove(
                object: id(object), generations: [Generation(gone)], completion: removal(object, done))
        case 80..<84:
            outstanding -= 1
            generation += 1
        case 84..<90:
            let seen = history.map { $0.count - 1 }
            store.flush { [self] result in
                outstanding -= 1
                guard case .success = result else { return }
                for i in seen.indices { flushed[i] = max(flushed[i], seen[i]) }
            }
        case 90..<96:
            let first = random.below(Workload.blocks)
            let count = 1 + random.below(Workload.blocks - first)
            sequence += 1
            state.exists = true
            state.state = .syncing
            state.version = Version(term: Term(1), sequence: sequence).rawValue
            var pending = BlockBitmap()
            for block in first..<first + count {
                pending[block] = true
                state.generations[generation, default: [:]][block] = ModelCopy.pending
            }
            history[object].append(state)
            store.begin(
                sync: id(object), generation: Generation(generation), base: Version(rawValue: state.version),
                pending: pending, completion: done)
        case 96..<108: fill(object, state, done)
        case 108..<111:
            state.state = [.complete, .syncing, .suspect][random.below(3)]
            state.exists = true
            history[object].append(state)
            store.setState(object: id(object), state.state, durable: random.chance(percent: 50), completion: done)
        case 111..<113:
            sequence += 1
            state.exists = true
            state.version = Version(term: Term(1), sequence: sequence).rawValue
            history[object].append(state)
            store.setVersion(object: id(object), Version(rawValue: state.version), completion: done)
        case 113..<115:
            fencing += 1
            let term = fencing
            store.fence(volume: VolumeId(3), term: Term(term)) { [self] result in
                outstanding -= 1
                if case .success = result { fenced = max(fenced, term) }
            }
        default:
            // A read in between must see a state that is at least as new as what had completed.
            let from = completed[object]
            let buffer = bench.pool.buffer(Workload.blocks * blockSize)
            let top = generation
            let before = isRemoving[object] == 0 ? removals[object] : -1
            store.read(
                object: id(object), path: GenerationPath(top: Generation(top)),
                blocks: BlockRange(first: 0, count: Workload.blocks), into: buffer, bufferOffset: 0
            ) { [self] result in
                outstanding -= 1
                guard case .success(let outcome) = result else { return }
                if !outcome.corrupt.isEmpty { problem("corrupt blocks in a read of \(object)") }
                guard before == removals[object] else { return }
                let states = history[object][from...]
                for block in 0..<Workload.blocks where !outcome.corrupt[block] {
                    let word = (buffer.bytes + block * blockSize).load(as: UInt64.self)
                    let value: UInt64? =
                        outcome.pending[block] ? ModelCopy.pending : outcome.held[block] ? word : nil
                    if !states.contains(where: { $0.composed(top, block) == value }) {
                        problem("block \(block) of \(object) reads \(value ?? 0), which it never was")
                    }
                }
            }
        }
    }

    /// Fills some blocks, as a recovery does.
    private func fill(_ object: Int, _ before: ModelCopy, _ done: @escaping StoreCompletion) {
        var state = before
        let first = random.below(Workload.blocks)
        let count = 1 + random.below(min(16, Workload.blocks - first))
        let onlyPending = random.chance(percent: 60)
        let allData = random.chance(percent: 30)
        var held = BlockBitmap()
        var zero = BlockBitmap()
        var changes = false
        tag += 100
        for block in 0..<count {
            held[block] = allData || random.chance(percent: 80)
            zero[block] = !allData && random.chance(percent: 20)
            let old = state.generations[generation]?[first + block]
            guard !onlyPending || old == ModelCopy.pending else { continue }
            changes = true
            state.exists = true
            state.generations[generation, default: [:]][first + block] =
                !held[block] ? nil : zero[block] ? 0 : tag + UInt64(block)
        }
        if changes { history[object].append(state) }
        // One that changes nothing may complete before those accepted earlier.
        let done = changes ? done : { [self] _ in outstanding -= 1 }
        bench.store.fill(
            object: id(object), generation: Generation(generation), firstBlock: first, blockCount: count,
            payload: bench.payload(tag, count: count), held: held, zero: zero,
            chunkVersion: Version(term: Term(1), sequence: sequence), onlyPending: onlyPending, completion: done)
    }

    private func quiet(_ what: String) {
        if isDiskFull {
            for _ in 0..<2000 where outstanding > 0 { _ = bench.step() }
            // Several restarts on a full disk use up the segments: then all waits for space.
            if outstanding > 0, bench.store.journal.freeSegments == 0 {
                isDiskFull = false
                bench.disk.fault = { _ in nil }
                bench.run(what) { outstanding == 0 && !bench.store.isFull }
            }
        }
        bench.run(what) { outstanding == 0 }
        if outstanding > 0 { problem("stuck: \(what)") }
    }
    private func setDiskFull(_ isFull: Bool) {
        if isDiskFull == isFull { return }
        quiet("before the disk changes")
        isDiskFull = isFull
        bench.disk.fault = isFull ? FullDiskTests.fault(.everywhere, bench.disk) : { _ in nil }
        guard !isFull else { return }
        bench.run("space is back") { !bench.store.isFull }
    }
    /// Sets a copy aside; its place in the order of operations shows only at its end.
    private func quarantine() {
        quiet("before a quarantine")
        let object = random.below(Workload.objectCount)
        let result = bench.call("quarantine") { bench.store.quarantine(object: id(object), completion: $0) }
        guard case .success = result else { return problem("quarantine: \(result)") }
        history[object].append(ModelCopy())
        completed[object] = history[object].count - 1
        flushed[object] = history[object].count - 1
    }

    /// Works for a while, then stops in the middle of it.
    func work(_ operations: Int) {
        for _ in 0..<operations where problems.isEmpty {
            if random.chance(percent: 2) { setDiskFull(!isDiskFull) }
            if random.chance(percent: 1), !isDiskFull { quarantine() }
            operate()
            if isDiskFull {
                quiet("an operation on a full disk")
                continue
            }
            if outstanding > 12 || random.chance(percent: 60) { bench.store.endOfBatch() }
            var steps = random.below(6)
            while steps > 0 || outstanding > 16 {
                if !bench.step() { break }
                steps -= 1
            }
        }
    }

    func reopen(power: Bool) {
        if isDiskFull { operate() }
        bench.store.stop()
        if power { bench.machine.losePower() } else { bench.machine.killProcess() }
        if random.chance(percent: 50) {
            isDiskFull = false
            bench.disk.fault = { _ in nil }
        }
        outstanding = 0
        isRemoving = [Int](repeating: 0, count: Workload.objectCount)
        switch bench.open() {
        case .failure(let error): problem("open failed: \(error)")
        case .success(let report): if !report.damage.isEmpty { problem("damage: \(report.damage)") }
        }
        if bench.store.fencedTerm(of: VolumeId(3)).rawValue < fenced { problem("a fenced term is forgotten") }
        if problems.isEmpty { compare(power ? flushed : completed) }
        if problems.isEmpty, power {
            // What was found must be durable from now on.
            bench.flush()
            flushed = history.map { $0.count - 1 }
        }
    }

    /// Every object stands at a state at or after `floor`; that becomes its only state.
    func compare(_ floor: [Int]) {
        for object in 0..<Workload.objectCount {
            let entry = bench.store.entry(id(object))
            var candidates = Array(floor[object]..<history[object].count).filter {
                let state = history[object][$0]
                return state.exists == (entry != nil) && state.version == (entry?.version.rawValue ?? 0)
                    && state.state == (entry?.state ?? .complete)
            }
            if candidates.isEmpty {
                problem(
                    "object \(object) at version \(entry?.version.description ?? "none"), flushed "
                        + "\(history[object][floor[object]].version), last \(history[object].last!.version)")
                continue
            }
            var tops = Array(Set(candidates.flatMap { history[object][$0].generations.keys })).sorted()
            tops.append(generation + 1)
            for top in tops {
                let (tags, outcome) = bench.read(id(object), top: top, first: 0, count: Workload.blocks)
                if !outcome.corrupt.isEmpty {
                    problem("object \(object) is not readable")
                    return
                }
                let before = candidates
                candidates = candidates.filter { at in
                    (0..<Workload.blocks).allSatisfy { history[object][at].composed(top, $0) == tags[$0] }
                }
                if candidates.isEmpty {
                    let state = history[object][before.last!]
                    let bad = (0..<Workload.blocks).first { state.composed(top, $0) != tags[$0] } ?? -1
                    problem(
                        "object \(object) as of \(top): no state fits (\(before.count) did); block \(bad) is "
                            + "\(tags[max(0, bad)] ?? 1), not \(state.composed(top, max(0, bad)) ?? 1)")
                    return
                }
            }
            var state = history[object][candidates.last!]
            // A merge may have been half done: every view is right, but blocks may be in either generation.
            state.generations = [:]
            for item in entry?.generations ?? [] {
                let number = item.generation.rawValue
                let (tags, _) = bench.read(id(object), top: number, only: true, first: 0, count: Workload.blocks)
                state.generations[number] = [:]
                for (block, tag) in tags.enumerated() { state.generations[number]![block] = tag }
            }
            history[object] = [state]
            flushed[object] = 0
            completed[object] = 0
        }
    }

    /// Several lives with an end of each kind.
    func run(lives: Int = 4, operations: Int = 60) {
        bench.opened()
        for _ in 0..<lives where problems.isEmpty {
            work(random.below(operations) + 1)
            if random.chance(percent: 10), !isDiskFull {
                quiet("before the close")
                bench.call("close") { bench.store.close(completion: $0) }
                for i in history.indices {
                    flushed[i] = history[i].count - 1
                    completed[i] = flushed[i]
                }
            }
            reopen(power: random.chance(percent: 60))
        }
    }
}
