// A whole store, opened from a disk whose files were changed: journal segments, headers, images, superblock, data. It
// must open or refuse, and say why; what it then serves matches its checksums, and unless a checksum was put right
// after the change, is something that was once written to that very block. An opened store takes writes, closes, and
// opens again.
import Model
import TestSupport

@testable import ObjectStore

/// The files of a store, and what was ever written to each block.
struct SampleStore {
    let disk: MemoryDisk
    var files: [StoreFile] = []
    /// By object and block: the words that filled it.
    var history: [UInt64: [Int: Set<UInt64>]] = [:]

    static let configuration: StoreConfiguration = {
        var configuration = StoreConfiguration()
        configuration.bootId = ClusterId(high: 9, low: 9)
        configuration.journalSegmentBytes = 256 << 10
        configuration.journalMaximumSegments = 5
        configuration.memoryLimitBytes = 64 << 10
        configuration.headerCacheCount = 2
        configuration.viewCacheCount = 2
        configuration.directWriteBytes = 16 << 10
        configuration.checkpointIntervalMilliseconds = 1000
        configuration.sweepDelayMilliseconds = 2000
        return configuration
    }()
    static let identity = StoreIdentity(
        clusterId: ClusterId(high: 1, low: 2), storeId: StoreId(7), createdWallClock: 5)
    static let objects = [ObjectId(VolumeId(1), 0), ObjectId(VolumeId(1), 1), ObjectId(VolumeId(2), 0)]

    /// Closed; stopped with much in its journal; and closed with a journal that went round.
    nonisolated(unsafe) static let all: [SampleStore] = [
        make(closes: true, rounds: 1), make(closes: false, rounds: 1), make(closes: false, rounds: 4),
    ]

    private static func make(closes: Bool, rounds: Int) -> SampleStore {
        let run = StoreRun(seed: 3)
        var sample = SampleStore(disk: run.disk)
        var formatted: Result<Void, StoreError>?
        ObjectStore.format(run.disk, identity: identity, configuration: configuration) { formatted = $0 }
        run.until { formatted != nil }
        guard case .success = formatted, case .success = run.open() else { fatalError("no sample store") }
        var sequence: UInt64 = 0
        func write(_ object: ObjectId, _ generation: UInt32, _ first: Int, _ count: Int) {
            sequence += 1
            for block in first..<first + count {
                sample.history[object.rawValue, default: [:]][block, default: []].insert(
                    StoreRun.tag(sequence, block - first))
            }
            run.write(object, generation, Version(term: Term(1), sequence: sequence), first, count, sequence)
        }
        for round in 0..<rounds {
            for (at, object) in objects.enumerated() {
                let generation = UInt32(round * 2 + 1)
                write(object, generation, at, 3)
                write(object, generation, 20, 4)
                write(object, generation + 1, 1, 2)
                sequence += 1
                run.call {
                    run.store.discard(
                        object: object, generation: Generation(generation + 1),
                        version: Version(term: Term(1), sequence: sequence),
                        blocks: BlockRange(first: 21, count: 2), keepAsZero: true, completion: $0)
                }
            }
            run.call { run.store.fence(volume: VolumeId(1), term: Term(UInt32(round + 2)), completion: $0) }
        }
        var pending = BlockBitmap()
        pending.insert(BlockRange(first: 30, count: 5))
        sequence += 1
        run.call {
            run.store.begin(
                sync: objects[2], generation: Generation(UInt32(rounds * 2)),
                base: Version(term: Term(1), sequence: sequence),
                pending: pending, completion: $0)
        }
        let payload = run.payload(sequence, count: 2)
        for block in 0..<2 {
            sample.history[objects[2].rawValue, default: [:]][30 + block, default: []].insert(
                StoreRun.tag(sequence, block))
        }
        var held = BlockBitmap()
        held.insert(BlockRange(first: 0, count: 2))
        run.call {
            run.store.fill(
                object: objects[2], generation: Generation(UInt32(rounds * 2)), firstBlock: 30, blockCount: 2,
                payload: payload,
                held: held, zero: BlockBitmap(), chunkVersion: Version(term: Term(1), sequence: sequence),
                onlyPending: true, completion: $0)
        }
        if rounds > 1 {
            run.call {
                run.store.merge(
                    object: objects[0], from: Generation(1), into: Generation(2), completion: $0)
            }
            run.call { run.store.remove(object: objects[1], generations: [Generation(1)], completion: $0) }
        }
        run.call { run.store.flush(completion: $0) }
        if closes { run.call { run.store.close(completion: $0) } } else { run.store.stop() }
        sample.files = run.disk.allFiles
        return sample
    }
}

extension MemoryDisk {
    /// In an order that is always the same.
    fileprivate var allFiles: [StoreFile] {
        [.superblock] + [.index, .journal, .object, .quarantine].flatMap(list)
    }
}

/// One store on one disk in memory.
final class StoreRun {
    let machine: VirtualMachine
    let disk: MemoryDisk
    /// A pool keeps its memory for ever, so one serves all.
    private static let pool = BufferPool(limitBytes: 8 << 20)
    var pool: BufferPool { StoreRun.pool }
    private(set) var store: ObjectStore
    private(set) var isStuck = false
    private(set) var failure: StoreError?

    init(seed: UInt64) {
        machine = VirtualMachine(seed: seed)
        disk = machine.makeDisk()
        store = ObjectStore(
            disk: disk, clock: machine, pool: StoreRun.pool, configuration: SampleStore.configuration
        ) { _ in }
    }

    static func tag(_ sequence: UInt64, _ block: Int) -> UInt64 { sequence << 16 | UInt64(block) | 1 << 60 }

    func end() {
        store.stop()
        store.endOfBatch()
        machine.killProcess()
    }

    func until(_ done: () -> Bool) {
        var steps = 0
        store.endOfBatch()
        while !done() {
            steps += 1
            guard steps < 50_000, machine.step() else {
                isStuck = true
                return
            }
            store.endOfBatch()
        }
    }
    func open() -> Result<StoreReport, StoreError> {
        failure = nil
        store.endOfBatch()
        store = ObjectStore(
            disk: disk, clock: machine, pool: StoreRun.pool, configuration: SampleStore.configuration
        ) { [unowned self] in failure = $0 }
        var result: Result<StoreReport, StoreError>?
        store.open { result = $0 }
        until { result != nil }
        return result ?? .failure(.dead)
    }
    @discardableResult
    func call(_ body: (@escaping StoreCompletion) -> Void) -> Result<Void, StoreError> {
        var result: Result<Void, StoreError>?
        body { result = $0 }
        until { result != nil }
        return result ?? .failure(.dead)
    }
    func payload(_ sequence: UInt64, count: Int) -> Payload {
        let buffer = pool.buffer(count * blockSize)
        for block in 0..<count {
            (buffer.bytes + block * blockSize).bindMemory(to: UInt64.self, capacity: 512)
                .update(repeating: StoreRun.tag(sequence, block), count: 512)
        }
        buffer.computeChecksums(0..<count)
        return Payload(buffer: buffer, firstBlock: 0, blockCount: count)
    }
    @discardableResult
    func write(
        _ object: ObjectId, _ generation: UInt32, _ version: Version, _ first: Int, _ count: Int, _ sequence: UInt64
    ) -> Result<Void, StoreError> {
        call {
            store.write(
                ObjectWrite(
                    object: object, generation: Generation(generation), version: version, firstBlock: first,
                    payload: payload(sequence, count: count)), completion: $0)
        }
    }
    /// Nil: the store is dead.
    func read(_ object: ObjectId, _ blocks: BlockRange) -> (buffer: Buffer, outcome: ReadOutcome)? {
        let buffer = pool.buffer(blocks.byteCount)
        buffer.bytes.initializeMemory(as: UInt8.self, repeating: 0xee, count: blocks.byteCount)
        var result: Result<ReadOutcome, StoreError>?
        store.read(
            object: object, path: GenerationPath(top: Generation(.max)), blocks: blocks, into: buffer, bufferOffset: 0
        ) { result = $0 }
        until { result != nil }
        guard case .success(let outcome) = result else { return nil }
        return (buffer, outcome)
    }
    func view(_ object: ObjectId) {
        var isDone = false
        store.view(object: object, path: GenerationPath(top: Generation(.max))) { _ in isDone = true }
        until { isDone }
    }
    func verify(_ object: ObjectId, deep: Bool) {
        var isDone = false
        store.verify(object: object, deep: deep) { _ in isDone = true }
        until { isDone }
    }
}

/// Changes of the files, as an input says them.
private struct StoreDamage {
    let sample: SampleStore
    /// By their place in the sample.
    private(set) var changed: [Int: [UInt8]] = [:]
    /// Some change had its checksum put right.
    private(set) var isForged = false

    init(_ sample: SampleStore, _ input: inout FuzzInput) {
        self.sample = sample
        var left = 12
        while !input.isAtEnd, left > 0 {
            left -= 1
            let at = Int(input.byte()) % sample.files.count
            var bytes = self.bytes(at)
            switch input.byte() % 8 {
            case 0, 1: input.patchOnce(&bytes)
            case 2: bytes.removeLast(Int(input.number(UInt32.self)) % (bytes.count + 1))
            case 3: bytes = [UInt8](repeating: input.byte(), count: bytes.count)
            // What another file has: an older image, a stranger's header.
            case 4: bytes = self.bytes(Int(input.byte()) % sample.files.count)
            case 5:
                let page = Int(input.byte()) * blockSize
                for i in bytes.indices.dropFirst(page).prefix(blockSize) { bytes[i] = 0 }
            default: forge(&input, sample.files[at], &bytes)
            }
            changed[at] = bytes
        }
    }
    private func bytes(_ at: Int) -> [UInt8] { changed[at] ?? sample.disk.contents(sample.files[at]) ?? [] }

    func write(to disk: MemoryDisk) {
        disk.takeFiles(of: sample.disk)
        for at in changed.keys.sorted() { disk.replace(sample.files[at], changed[at]!) }
    }

    private mutating func forge(_ input: inout FuzzInput, _ file: StoreFile, _ bytes: inout [UInt8]) {
        isForged = true
        switch file {
        case .superblock, .index:
            input.patchOnce(&bytes)
            sealEnd(&bytes)
        case .journal:
            let starts = StoreDamage.records(bytes)
            let chosen = Int(input.byte())
            guard chosen > 0, !starts.isEmpty else {
                var head = Array(bytes.prefix(48))
                input.patchOnce(&head)
                guard head.count == 48 else { return }
                bytes.replaceSubrange(0..<48, with: head)
                bytes.put(crc32c(head), at: 48)
                return
            }
            let start = starts[(chosen - 1) % starts.count]
            let length = Int(bytes.get(start + 8, UInt32.self))
            var record = Array(bytes[start..<min(start + length, bytes.count)])
            input.patchOnce(&record)
            bytes.replaceSubrange(start..<start + record.count, with: record)
            sealRecord(&bytes, at: start, lengths: true)
        default:
            let slot = Int(input.byte() & 1) * Sheet.slotBytes
            guard bytes.count >= slot + Sheet.slotBytes else { return }
            var header = Array(bytes[slot..<slot + Sheet.slotBytes])
            input.patchOnce(&header)
            header.put(crc32c(Array(header[..<8188])), at: 8188)
            bytes.replaceSubrange(slot..<slot + Sheet.slotBytes, with: header)
        }
    }

    private static func records(_ bytes: [UInt8]) -> [Int] {
        bytes.withUnsafeBytes { raw in
            var starts: [Int] = []
            var position = SegmentHeader.bytes
            while position + Record.headerBytes <= raw.count,
                let record = Record.decode(raw.baseAddress! + position, available: raw.count - position)
            {
                starts.append(position)
                position += record.length
            }
            return starts
        }
    }
}

extension FuzzTarget {
    /// Input: which sample store, then changes: file, kind, and what the kind needs (see StoreDamage).
    static let store = FuzzTarget(
        name: "store", summary: "a store on a damaged disk", maximumBytes: 1024,
        seeds: {
            var seeds: [[UInt8]] = [[0], [1], [2]]
            func forge(_ sample: Int, _ file: Int, _ record: UInt8?, _ offset: Int) -> [UInt8] {
                [UInt8(sample), UInt8(file), 6] + (record.map { [$0] } ?? [])
                    + FuzzInput.patchBytes(
                        offset, [UInt8](repeating: 0xff, count: offset == 24 || offset == 16 ? 8 : 4))
            }
            for (number, sample) in SampleStore.all.enumerated() {
                for (at, file) in sample.files.enumerated() {
                    seeds.append([UInt8(number), UInt8(at), 0] + FuzzInput.patchBytes(100, [1, 2, 3]))
                    seeds.append([UInt8(number), UInt8(at), 2] + littleEndian(UInt32(5000)))
                    switch (file, number) {
                    case (.superblock, 0), (.index(0), 0):
                        for offset in [16, 24, 32, 40, 48, 56, 72, 80, 88] {
                            seeds.append(forge(number, at, nil, offset))
                        }
                    case (.journal(0), 1):
                        for record in UInt8(0)..<5 {
                            for offset in [5, 16, 24, 32, 48, 52, 56, 64, 72] {
                                seeds.append(forge(number, at, record, offset))
                            }
                        }
                    case (.object(ObjectId(VolumeId(1), 0), _), 2):
                        for offset in [12, 28, 32, 40, 48, 176, 304, 5040] {
                            seeds.append(forge(number, at, 0, offset))
                        }
                    default: break
                    }
                }
            }
            return seeds
        }
    ) { input in
        var input = input
        let sample = SampleStore.all[Int(input.byte()) % SampleStore.all.count]
        let damage = StoreDamage(sample, &input)
        let run = StoreRun(seed: 5)
        // What still waits would keep all of it in memory.
        defer { run.end() }
        damage.write(to: run.disk)

        switch run.open() {
        case .failure(let error):
            if run.isStuck { return "the opening does not end" }
            let text = error.sheepError
            return text.what.isEmpty || text.why.isEmpty || text.remedy.isEmpty ? "a refusal without words" : nil
        case .success(let report):
            if report.objectCount > 10_000 { return "more copies than were there" }
        }
        let history = damage.isForged ? nil : sample.history
        var objects = SampleStore.objects
        run.store.forEach { entry in
            if objects.count < 8, !objects.contains(entry.object) { objects.append(entry.object) }
        }
        if let problem = serve(run, objects, history) { return problem }
        if let problem = change(run, objects) { return problem }
        // Whatever it was: after it was closed well, it opens again.
        guard case .success = run.call({ run.store.close(completion: $0) }) else { return stop(run, "closing") }
        switch run.open() {
        case .failure(let error): return "a store that was closed does not open: \(error)"
        case .success: break
        }
        if let problem = serve(run, objects, history) { return problem }
        return run.isStuck ? "it hangs" : nil
    }

    /// Why a store may have stopped: its disk failed (files that it knows are gone), and it said so.
    private static func stop(_ run: StoreRun, _ what: String) -> String? {
        if run.isStuck { return "\(what) does not end" }
        return run.failure == nil ? "\(what) failed without a failure of the store" : nil
    }

    private static func serve(
        _ run: StoreRun, _ objects: [ObjectId], _ history: [UInt64: [Int: Set<UInt64>]]?
    ) -> String? {
        for object in objects {
            run.view(object)
            run.verify(object, deep: false)
            guard let (buffer, outcome) = run.read(object, BlockRange(first: 0, count: 48)) else {
                return stop(run, "a read")
            }
            for block in 0..<48 {
                let bytes = buffer.bytes + block * blockSize
                let isData = outcome.held[block]
                if isData && (outcome.pending[block] || outcome.corrupt[block]) { return "a block in two states" }
                guard isData || buffer.isZero(block: block) else { return "a block that is not held is not zero" }
                guard !isData || crc32c(bytes, count: blockSize) == buffer.checksums[block] else {
                    return "block \(block) does not match its checksum"
                }
                let word = bytes.load(as: UInt64.self)
                let isOurs = block == 40 && word == StoreRun.tag(0xabc, 0)
                if let history, word != 0, !isOurs, history[object.rawValue]?[block]?.contains(word) != true {
                    return "block \(block) of \(object) was never written like this: \(word)"
                }
            }
        }
        return run.isStuck ? "a read does not end" : nil
    }

    /// A store that opened works.
    private static func change(_ run: StoreRun, _ objects: [ObjectId]) -> String? {
        for object in objects {
            let entry = run.store.entry(object)
            let version = entry?.version ?? .zero
            let next = version.following(in: Term(max(1, version.term.rawValue)))
            let generation = entry?.generations.last?.generation.rawValue ?? 1
            guard case .success = run.write(object, max(1, generation), next, 40, 1, 0xabc) else {
                return stop(run, "a write")
            }
            guard case .success = run.call({ run.store.flush(completion: $0) }) else { return stop(run, "a flush") }
            guard let (buffer, outcome) = run.read(object, BlockRange(first: 40, count: 1)) else {
                return stop(run, "a read")
            }
            if let generations = entry?.generations, generations.count > 1 {
                let merged = run.call {
                    run.store.merge(
                        object: object, from: generations[0].generation, into: generations[1].generation,
                        completion: $0)
                }
                switch merged {
                case .success: break
                // Into a header that cannot be read nothing is merged; the copy says that it has one.
                case .failure(.damaged) where run.store.entry(object)?.state != .complete: break
                default: return stop(run, "a merge")
                }
            }
            let isRight = outcome.held[0] && buffer.bytes.load(as: UInt64.self) == StoreRun.tag(0xabc, 0)
            guard isRight || outcome.corrupt[0] else { return "what was written is not what is read" }
        }
        return nil
    }
}
