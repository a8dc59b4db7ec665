// A store on a test disk, driven step by step, with helpers that make calls look synchronous.
import Model
import TestSupport
import Testing

@testable import ObjectStore

let testIdentity = StoreIdentity(
    clusterId: ClusterId(high: 1, low: 2), storeId: StoreId(77), createdWallClock: 5)

final class Bench {
    let machine: VirtualMachine
    let disk: MemoryDisk
    var store: ObjectStore
    var configuration: StoreConfiguration
    let pool = BufferPool(limitBytes: 1 << 22)
    var failures: [StoreError] = []

    static func small() -> StoreConfiguration {
        var configuration = StoreConfiguration()
        configuration.bootId = ClusterId(high: 9, low: 9)
        configuration.journalSegmentBytes = 256 << 10
        configuration.journalMaximumSegments = 6
        configuration.memoryLimitBytes = 128 << 10
        configuration.headerCacheCount = 3
        configuration.viewCacheCount = 2
        configuration.dirtyHeaderLimit = 12
        configuration.syncDelayBytes = 64 << 10
        configuration.directWriteBytes = 16 << 10
        configuration.checkpointIntervalMilliseconds = 40
        configuration.sweepDelayMilliseconds = 20
        return configuration
    }

    init(seed: UInt64, configuration: StoreConfiguration = Bench.small(), format: Bool = true) {
        machine = VirtualMachine(seed: seed)
        disk = machine.makeDisk()
        self.configuration = configuration
        store = ObjectStore(disk: disk, clock: machine, pool: pool, configuration: configuration) { _ in }
        if format {
            var result: Result<Void, StoreError>?
            ObjectStore.format(disk, identity: testIdentity, configuration: configuration) { result = $0 }
            while result == nil, machine.step() {}
            guard case .success = result else { fatalError("format failed") }
        }
    }

    func step() -> Bool {
        let ran = machine.step()
        store.endOfBatch()
        return ran
    }
    /// Runs until `done`; fails the test if nothing is left to run before.
    func run(_ what: String = "", until done: () -> Bool) {
        store.endOfBatch()
        var steps = 0
        while !done() {
            steps += 1
            if !step() || steps > 20_000 {
                Issue.record("stuck: \(what): \(store.stateForTests)")
                return
            }
        }
    }
    func settle() {
        store.endOfBatch()
        while disk.hasOperations { _ = step() }
    }

    func open() -> Result<StoreReport, StoreError> {
        store = ObjectStore(disk: disk, clock: machine, pool: pool, configuration: configuration) { [self] in
            failures.append($0)
        }
        var result: Result<StoreReport, StoreError>?
        store.open { result = $0 }
        run("open") { result != nil }
        return result ?? .failure(.dead)
    }
    @discardableResult
    func opened() -> StoreReport {
        switch open() {
        case .success(let report): return report
        case .failure(let error): fatalError("open: \(error)")
        }
    }
    /// One call that ends in a completion.
    @discardableResult
    func call(_ what: String = "", _ body: (@escaping StoreCompletion) -> Void) -> Result<Void, StoreError> {
        var result: Result<Void, StoreError>?
        body { result = $0 }
        run(what) { result != nil }
        return result ?? .failure(.dead)
    }

    func payload(_ tag: UInt64, count: Int) -> Payload {
        let buffer = pool.buffer(count * blockSize)
        for block in 0..<count {
            (buffer.bytes + block * blockSize).bindMemory(to: UInt64.self, capacity: 512)
                .update(repeating: tag &+ UInt64(block), count: 512)
        }
        buffer.computeChecksums(0..<count)
        return Payload(buffer: buffer, firstBlock: 0, blockCount: count)
    }
    func write(
        _ object: ObjectId, _ generation: UInt32, _ sequence: UInt64, first: Int, count: Int, tag: UInt64,
        completion: @escaping StoreCompletion
    ) {
        store.write(
            ObjectWrite(
                object: object, generation: Generation(generation),
                version: Version(term: Term(1), sequence: sequence), firstBlock: first,
                payload: payload(tag, count: count)), completion: completion)
    }
    @discardableResult
    func write(
        _ object: ObjectId, _ generation: UInt32, _ sequence: UInt64, first: Int, count: Int, tag: UInt64
    ) -> Result<Void, StoreError> {
        call("write") { write(object, generation, sequence, first: first, count: count, tag: tag, completion: $0) }
    }
    @discardableResult
    func flush() -> Result<Void, StoreError> { call("flush") { store.flush(completion: $0) } }

    /// The tags of the blocks, nil where nothing is held; 0 for zeros.
    func read(_ object: ObjectId, top: UInt32 = .max, only: Bool = false, first: Int, count: Int) -> (
        tags: [UInt64?], outcome: ReadOutcome
    ) {
        let buffer = pool.buffer(count * blockSize)
        (buffer.bytes).initializeMemory(as: UInt8.self, repeating: 0xee, count: count * blockSize)
        var result: Result<ReadOutcome, StoreError>?
        store.read(
            object: object,
            path: GenerationPath(
                top: Generation(top), hidden: only ? [Generation(0)...Generation(top - 1)] : []),
            blocks: BlockRange(first: first, count: count),
            into: buffer, bufferOffset: 0
        ) { result = $0 }
        run("read") { result != nil }
        guard case .success(let outcome) = result else { return ([], ReadOutcome()) }
        var tags: [UInt64?] = []
        for block in 0..<count {
            let words = (buffer.bytes + block * blockSize).bindMemory(to: UInt64.self, capacity: 512)
            if outcome.pending[block] {
                tags.append(ModelCopy.pending)
            } else if outcome.held[block] {
                tags.append(words[0])
                if words[511] != words[0] { Issue.record("a torn block") }
            } else {
                tags.append(nil)
                if words[0] != 0 || words[511] != 0 { Issue.record("a block that is not held is not zero") }
            }
        }
        return (tags, outcome)
    }
}
extension ObjectStore {
    var stateForTests: String {
        "unstaged \(unstaged.count) queues \(queues.count) waiters \(flushWaiters.count) roomless \(roomWaiters.count)+\(reserveWaiters.count) "
            + "overlay \(overlaySheets.count) applying \(isApplying) graves \(graves.count) checkpoint "
            + "\(checkpoint.map { "\($0.phase)" } ?? "none") next \(journal.nextLsn) appended \(journal.appendedLsn) "
            + "durable \(journal.durableLsn) available \(journal.availableSegments) start \(startLsn)/\(previousStartLsn)"
            + " segments \(journal.segments.map(\.firstLsn)) full \(isFull) loading \(loading.count)"
    }
}
