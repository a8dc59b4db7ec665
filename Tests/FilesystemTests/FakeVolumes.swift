// A volume service in memory, exact and slow: blocks in dictionaries by generation, the catalog by its real `apply`.
// Answers come when the queue is drained, never from inside a call. Nothing here may be cleverer than the contract.
import Catalog
import Glibc
import Model
import OrderedCollections
import Replication

/// What is to happen next, in order, and the time.
final class World: Clock {
    var queue: [() -> Void] = []
    private var timers: [(at: UInt64, action: () -> Void)] = []
    private(set) var nanoseconds: UInt64 = 1_000_000_000
    var now: Instant { Instant(nanoseconds: nanoseconds) }
    var wallClock: UInt64 { 1_700_000_000_000_000_000 + nanoseconds }
    /// Called when the queue is empty, as the loop's end of a batch is.
    var batchHooks: [() -> Void] = []
    private var atEnd: [() -> Void] = []

    func later(_ action: @escaping () -> Void) { queue.append(action) }
    /// What the end of the batch brings, before the other hooks get their turn: the copies' answers.
    func atEndOfBatch(_ action: @escaping () -> Void) { atEnd.append(action) }
    private func endBatch() {
        queue += atEnd
        atEnd = []
        for hook in batchHooks { hook() }
    }
    /// Nothing that was begun goes on: the process is dead.
    func forgetAll() {
        queue = []
        atEnd = []
    }
    func after(milliseconds: UInt64, _ action: @escaping () -> Void) {
        timers.append((nanoseconds + milliseconds * 1_000_000, action))
    }
    func drain() {
        repeat {
            while !queue.isEmpty {
                let ready = queue
                queue = []
                for action in ready { action() }
            }
            endBatch()
        } while !queue.isEmpty
    }
    /// One action of the queue, or the end of the batch; false: there was nothing to do.
    private var isBatchOpen = false
    func step() -> Bool {
        if !queue.isEmpty {
            isBatchOpen = true
            queue.removeFirst()()
            return true
        }
        guard isBatchOpen else { return false }
        isBatchOpen = false
        endBatch()
        return true
    }
    func advance(milliseconds: UInt64) {
        nanoseconds += milliseconds * 1_000_000
        let due = timers.filter { $0.at <= nanoseconds }
        timers.removeAll { $0.at <= nanoseconds }
        for timer in due { timer.action() }
        drain()
    }
}

final class FakeCatalog: CatalogProposer {
    private(set) var state: CatalogState
    private let world: World
    private var observers: [([CatalogChange]) -> Void] = []
    /// Every command that was applied, for tests that count them.
    private(set) var commands: [CatalogCommand] = []

    init(world: World) {
        self.world = world
        var settings = Settings()
        settings.copies = 3
        state = CatalogState(
            clusterId: ClusterId(high: 1, low: 2), settings: settings,
            rootAttributes: FileAttributes(uid: 0, gid: 0, mode: 0o755, time: 0))
    }
    func propose(_ command: CatalogCommand, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void) {
        world.later { [self] in
            let (answer, changes) = state.apply(command, request: request)
            commands.append(command)
            for observer in observers { observer(changes) }
            world.later { completion(answer) }
        }
    }
    func observe(_ observer: @escaping ([CatalogChange]) -> Void) { observers.append(observer) }
}

final class FakeVolumes: VolumeService {
    private let world: World
    private let fake: FakeCatalog
    var catalog: any CatalogProposer { fake }
    var commands: [CatalogCommand] { fake.commands }
    /// Written blocks; an empty one is zeros that hide what lies below.
    private var blocks: [VolumeId: [Generation: [UInt64: [UInt8]]]] = [:]
    private var opens: [VolumeId: Int] = [:]
    private(set) var flushes = 0
    private(set) var durableWrites = 0
    /// Fails the next write with this.
    var nextWriteError: Errno?

    init(world: World) {
        self.world = world
        fake = FakeCatalog(world: world)
    }
    /// Another process's service over the same cluster.
    init(world: World, takingOver other: FakeVolumes) {
        self.world = world
        fake = other.fake
        blocks = other.blocks
    }

    // MARK: Views

    private func path(_ view: VolumeView) -> (VolumeId, GenerationPath, parentBytes: UInt64)? {
        guard let record = fake.state.volumes[view.volume] else { return nil }
        switch view {
        case .current: return (record.id, record.currentPath, record.parent?.visibleBytes ?? 0)
        case .snapshot(_, let generation):
            guard let snapshot = record.snapshot(generation) else { return nil }
            return (record.id, snapshot.path, snapshot.parentVisibleBytes)
        }
    }
    private func block(_ view: VolumeView, _ index: UInt64) -> [UInt8]? {
        guard let (id, path, parentBytes) = path(view) else { return nil }
        for (generation, held) in (blocks[id] ?? [:]).sorted(by: { $0.key > $1.key }) where path.contains(generation) {
            if let block = held[index] { return block.isEmpty ? nil : block }
        }
        guard let parent = fake.state.volumes[id]?.parent, index * 4096 < parentBytes else { return nil }
        guard var block = block(.snapshot(parent.volume, parent.generation), index) else { return nil }
        let visible = parentBytes - index * 4096
        if visible < 4096 { for i in Int(visible)..<4096 { block[i] = 0 } }
        return block
    }
    private func dataBlocks(_ view: VolumeView) -> Set<UInt64> {
        guard let (id, path, parentBytes) = path(view) else { return [] }
        var indices: Set<UInt64> = []
        for (generation, held) in blocks[id] ?? [:] where path.contains(generation) { indices.formUnion(held.keys) }
        if parentBytes > 0, let parent = fake.state.volumes[id]?.parent {
            indices.formUnion(dataBlocks(.snapshot(parent.volume, parent.generation)))
        }
        return indices.filter { block(view, $0) != nil }
    }
    private func store(_ id: VolumeId, _ index: UInt64, _ bytes: [UInt8]) {
        guard let generation = fake.state.volumes[id]?.generation else { return }
        blocks[id, default: [:]][generation, default: [:]][index] = bytes
    }
    /// Reads without asking the world.
    func bytes(_ view: VolumeView, _ offset: UInt64, _ count: Int) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(count)
        var position = offset
        while result.count < count {
            let start = Int(position % 4096)
            let take = min(4096 - start, count - result.count)
            if let block = block(view, position / 4096) {
                result += block[start..<start + take]
            } else {
                result += [UInt8](repeating: 0, count: take)
            }
            position += UInt64(take)
        }
        return result
    }
    private func put(_ id: VolumeId, _ offset: UInt64, _ bytes: [UInt8]) {
        var done = 0
        while done < bytes.count {
            let position = offset + UInt64(done)
            let start = Int(position % 4096)
            let take = min(4096 - start, bytes.count - done)
            var block = block(.current(id), position / 4096) ?? [UInt8](repeating: 0, count: 4096)
            block.replaceSubrange(start..<start + take, with: bytes[done..<done + take])
            store(id, position / 4096, block)
            done += take
        }
    }
    private func zero(_ id: VolumeId, _ offset: UInt64, _ end: UInt64) {
        for index in dataBlocks(.current(id)) where index * 4096 < end && (index + 1) * 4096 > offset {
            let from = max(offset, index * 4096), to = min(end, (index + 1) * 4096)
            if to - from == 4096 {
                store(id, index, [])
            } else {
                put(id, from, [UInt8](repeating: 0, count: Int(to - from)))
            }
        }
    }
    private func size(_ view: VolumeView) -> UInt64 {
        guard let record = fake.state.volumes[view.volume] else { return 0 }
        switch view {
        case .current: return record.size
        case .snapshot(_, let generation): return record.snapshot(generation)?.size ?? 0
        }
    }

    // MARK: VolumeService

    func read(
        _ view: VolumeView, offset: UInt64, count: Int, into buffer: Buffer, bufferOffset: Int,
        _ completion: @escaping (Errno?) -> Void
    ) {
        world.later { [self] in
            guard path(view) != nil else { return completion(.inputOutput) }
            precondition(offset + UInt64(count) <= size(view), "a read beyond the size")
            bytes(view, offset, count).withUnsafeBytes { bytes in
                _ = memcpy(buffer.bytes + bufferOffset, bytes.baseAddress!, count)
            }
            completion(nil)
        }
    }
    func write(
        _ volume: VolumeId, offset: UInt64, count: Int, from buffer: Buffer, bufferOffset: Int, durable: Bool,
        _ completion: @escaping (Errno?) -> Void
    ) {
        world.later { [self] in
            if let error = nextWriteError {
                nextWriteError = nil
                return completion(error)
            }
            guard offset + UInt64(count) <= size(.current(volume)) else { return completion(.fileTooBig) }
            if durable { durableWrites += 1 }
            put(
                volume, offset,
                Array(UnsafeRawBufferPointer(start: buffer.bytes + bufferOffset, count: count)))
            world.atEndOfBatch { completion(nil) }
        }
    }
    func flush(_ volume: VolumeId, _ completion: @escaping (Errno?) -> Void) {
        flushes += 1
        world.later { completion(nil) }
    }
    func discard(_ volume: VolumeId, offset: UInt64, count: UInt64, _ completion: @escaping (Errno?) -> Void) {
        world.later { [self] in
            zero(volume, offset, offset + count)
            completion(nil)
        }
    }
    func resize(_ volume: VolumeId, size: UInt64, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void)
    {
        fake.propose(.resize(volume, size: size), request: request) { [self] answer in
            if let from = fake.state.volumes[volume]?.trimFrom {
                zero(volume, from, .max)
                fake.propose(.trimmed(volume), request: nil) { _ in completion(answer) }
            } else {
                completion(answer)
            }
        }
    }
    func copy(
        from source: VolumeView, offset: UInt64, to volume: VolumeId, at destination: UInt64, count: UInt64,
        _ completion: @escaping (Result<UInt64, Errno>) -> Void
    ) {
        world.later { [self] in
            let take = min(count, 8 << 20)
            put(volume, destination, bytes(source, offset, Int(take)))
            completion(.success(take))
        }
    }
    func seek(_ view: VolumeView, offset: UInt64, data: Bool, _ completion: @escaping (Result<UInt64, Errno>) -> Void) {
        world.later { [self] in
            let size = size(view)
            guard offset < size else { return completion(.failure(.noPosition)) }
            let held = dataBlocks(view)
            if data {
                let found = held.filter { ($0 + 1) * 4096 > offset && $0 * 4096 < size }.min()
                guard let found else { return completion(.failure(.noPosition)) }
                return completion(.success(max(offset, found * 4096)))
            }
            var index = offset / 4096
            while held.contains(index) { index += 1 }
            completion(.success(min(size, max(offset, index * 4096))))
        }
    }
    func allocatedBytes(_ view: VolumeView, _ completion: @escaping (UInt64) -> Void) {
        world.later { [self] in
            guard let (id, path, _) = path(view) else { return completion(0) }
            var indices: Set<UInt64> = []
            for (generation, held) in blocks[id] ?? [:] where path.contains(generation) {
                for (index, block) in held where !block.isEmpty { indices.insert(index) }
            }
            completion(UInt64(indices.count) * 4096)
        }
    }
    func snapshot(
        _ volumes: [VolumeId], tag: String, group: DirectoryId?, replaceExisting: Bool, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        let members = volumes.map { id in
            SnapshotRequest(
                volume: id, term: fake.state.volumes[id]?.term ?? .none, replaceExisting: replaceExisting)
        }
        fake.propose(
            .snapshot(members: members, tag: tag, group: group, wallClock: world.wallClock), request: request,
            completion)
    }
    func cloneCurrent(
        _ volume: VolumeId, directory: DirectoryId, name: String, attributes: FileAttributes, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        fake.propose(
            .cloneCurrent(
                source: volume, term: fake.state.volumes[volume]?.term ?? .none, directory: directory, name: name,
                attributes: attributes, wallClock: world.wallClock), request: request, completion)
    }
    func rollback(_ volume: VolumeId, tag: String, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void)
    {
        fake.propose(
            .rollback(volume: volume, term: fake.state.volumes[volume]?.term ?? .none, tag: tag), request: request,
            completion)
    }
    func flatten(
        _ volume: VolumeId, progress: @escaping (UInt64, UInt64) -> Void,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        world.later { [self] in
            for index in dataBlocks(.current(volume)) {
                if let block = block(.current(volume), index) { store(volume, index, block) }
            }
            fake.propose(
                .flattened(volume: volume, term: fake.state.volumes[volume]?.term ?? .none), request: nil, completion)
        }
    }
    func opened(_ volume: VolumeId) { opens[volume, default: 0] += 1 }
    func closed(_ volume: VolumeId) {
        opens[volume, default: 0] -= 1
        precondition(opens[volume]! >= 0, "closed more often than opened")
    }
    func openCount(_ volume: VolumeId) -> Int { opens[volume, default: 0] }
    var space: VolumeSpace { VolumeSpace(capacityBytes: 300 << 30, availableBytes: 200 << 30) }
}
