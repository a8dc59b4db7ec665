// Reads: each block comes from the newest generation of the path that holds it, from memory or from its file, and is
// verified against its checksum. A read never changes what is stored.
import Model

/// Where the blocks of a copy come from, for one path. Kept for copies with several generations.
final class BlockMap {
    var view = ComposedView()
    /// The file that holds the block; meaningless where it is not held.
    var files = [UInt32](repeating: 0, count: blocksPerObject)
}

/// Composed maps by object and path, oldest forgotten first.
struct ViewCache {
    private var maps: [ObjectId: [(path: GenerationPath, map: BlockMap)]] = [:]
    private var order: [ObjectId] = []
    private var next = 0

    func map(_ object: ObjectId, _ path: GenerationPath) -> BlockMap? {
        maps[object]?.first { $0.path == path }?.map
    }
    mutating func insert(_ object: ObjectId, _ path: GenerationPath, _ map: BlockMap, limit: Int) {
        if maps[object] == nil { order.append(object) }
        maps[object, default: []].append((path, map))
        if maps[object]!.count > 4 { maps[object]!.removeFirst() }
        while order.count - next > limit {
            maps[order[next]] = nil
            next += 1
        }
        if next > 1024 {
            order.removeFirst(next)
            next = 0
        }
    }
    mutating func drop(_ object: ObjectId) {
        if maps.isEmpty || maps[object] == nil { return }
        maps[object] = []
    }
    /// Follows a change of `sheet`: in place where it is the top of the path, which shows all its blocks.
    mutating func changed(_ sheet: Sheet, _ blocks: BlockRange?) {
        guard !maps.isEmpty, let all = maps[sheet.key.object], !all.isEmpty else { return }
        guard let blocks, all.allSatisfy({ $0.path.top == sheet.generation || !$0.path.contains(sheet.generation) }),
            blocks.indices.allSatisfy({ sheet.held[$0] && !sheet.pending[$0] })
        else { return drop(sheet.key.object) }
        for (path, map) in all where path.contains(sheet.generation) {
            for block in blocks.indices {
                map.view.held[block] = true
                map.view.zero[block] = sheet.zero[block]
                map.view.pending[block] = false
                map.view.corrupt[block] = false
                map.view.checksums[block] = sheet.checksums[block]
                map.files[block] = sheet.key.file
            }
        }
    }
}

extension BlockMap {
    /// Composes `sheets`, newest first.
    convenience init(_ sheets: [Sheet]) {
        self.init()
        var open = BlockBitmap.full
        for sheet in sheets {
            if sheet.isDamaged {
                // What it holds is not known: nothing below it may be shown either.
                view.corrupt.formUnion(open)
                open = .empty
            }
            var pending = sheet.pending
            pending.formIntersection(open)
            view.pending.formUnion(pending)
            open.subtract(pending)
            var held = sheet.held
            held.formIntersection(open)
            view.held.formUnion(held)
            open.subtract(held)
            var block = held.firstIndex(from: 0, where: true)
            while let at = block {
                view.zero[at] = sheet.zero[at]
                view.checksums[at] = sheet.checksums[at]
                files[at] = sheet.key.file
                block = held.firstIndex(from: at + 1, where: true)
            }
            for chunk in 0..<chunksPerObject where view.chunkVersions[chunk] == .zero {
                view.chunkVersions[chunk] = Version(rawValue: sheet.chunkVersions[chunk])
            }
        }
        for chunk in 0..<chunksPerObject
        where view.pending.containsAny(.chunk(chunk)) && !Saboteur.isOn(.believePendingChunks) {
            view.chunkVersions[chunk] = .zero
        }
    }
}

/// One read on its way.
private final class ReadJob {
    let object: ObjectId
    let path: GenerationPath
    let blocks: BlockRange
    let buffer: Buffer
    let offset: Int
    let completion: (Result<ReadOutcome, StoreError>) -> Void
    var outcome = ReadOutcome()
    /// Blocks (relative) whose data must match their checksum.
    var expected = BlockBitmap()
    var left = 0
    var mutations: UInt64 = 0
    var attempts = 0

    init(
        _ object: ObjectId, _ path: GenerationPath, _ blocks: BlockRange, _ buffer: Buffer, _ offset: Int,
        _ completion: @escaping (Result<ReadOutcome, StoreError>) -> Void
    ) {
        self.object = object
        self.path = path
        self.blocks = blocks
        self.buffer = buffer
        self.offset = offset
        self.completion = completion
    }
}

extension ObjectStore {
    private static let maximumAttempts = 16

    /// Reads `blocks` as `path` shows them into `into` at `bufferOffset` (a multiple of a block). Data of blocks that
    /// are not held is zero-filled; the checksums go to `into.checksums`. Errors: `dead` only.
    package func read(
        object: ObjectId, path: GenerationPath, blocks: BlockRange, into: Buffer, bufferOffset: Int,
        completion: @escaping (Result<ReadOutcome, StoreError>) -> Void
    ) {
        precondition(
            bufferOffset >= 0 && bufferOffset % blockSize == 0 && bufferOffset + blocks.byteCount <= into.capacity)
        guard isOpen else { return later { completion(.failure(.dead)) } }
        counters.reads += 1
        counters.readBytes += UInt64(blocks.byteCount)
        start(ReadJob(object, path, blocks, into, bufferOffset, completion))
    }

    private func start(_ job: ReadJob) {
        job.attempts += 1
        if let entry = index[job.object], !entry.generations.isEmpty {
            // The common case: one generation, its header in memory.
            if entry.generations.count == 1 {
                let item = entry.generations[0]
                if !job.path.contains(Generation(item.generation)) { return readNothing(job) }
                if let sheet = sheets[FileKey(object: job.object, file: item.file)] {
                    touch(sheet)
                    return read(job, sheet)
                }
            } else if let map = views.map(job.object, job.path) {
                return read(job, map)
            }
            let select = { [self] in index[job.object]?.files(in: job.path) ?? [] }
            withSheets(job.object, select: select) { [self] sheets in
                if isDead { return job.completion(.failure(.dead)) }
                if sheets.isEmpty { return readNothing(job) }
                if sheets.count == 1 { return read(job, sheets[0]) }
                let map = BlockMap(sheets)
                views.insert(job.object, job.path, map, limit: configuration.viewCacheCount)
                read(job, map)
            }
        } else {
            readNothing(job)
        }
    }

    private func readNothing(_ job: ReadJob) {
        job.outcome = ReadOutcome()
        for block in 0..<job.blocks.count { zeroFill(job, block) }
        later { job.completion(.success(job.outcome)) }
    }
    private func zeroFill(_ job: ReadJob, _ block: Int) {
        let at = job.offset + block * blockSize
        job.buffer.fillZero(at..<at + blockSize)
        job.buffer.checksums[at / blockSize] = zeroBlockChecksum
    }

    private func read(_ job: ReadJob, _ sheet: Sheet) {
        read(job, sheet: sheet) { block in
            if sheet.isDamaged { return .corrupt }
            if sheet.pending[block] { return .pending }
            if !sheet.held[block] { return .absent }
            if sheet.zero[block] { return .zero }
            return .data(sheet.key.file, sheet.checksums[block])
        }
    }
    private func read(_ job: ReadJob, _ map: BlockMap) {
        read(job, sheet: nil) { block in
            if map.view.corrupt[block] { return .corrupt }
            if map.view.pending[block] { return .pending }
            if !map.view.held[block] { return .absent }
            if map.view.zero[block] { return .zero }
            return .data(map.files[block], map.view.checksums[block])
        }
    }

    private enum Source {
        case absent, zero, pending, corrupt
        case data(UInt32, UInt32)
    }

    /// Fills the buffer from memory, and from the files in as few reads as there are runs.
    private func read(_ job: ReadJob, sheet: Sheet?, _ source: (Int) -> Source) {
        job.outcome = ReadOutcome()
        job.expected = BlockBitmap()
        job.mutations = mutations
        job.left = 1
        var run: (file: UInt32, first: Int, count: Int)?
        var current: Sheet? = sheet
        for block in 0..<job.blocks.count {
            let at = job.offset + block * blockSize
            let inObject = job.blocks.first + block
            switch source(inObject) {
            case .absent: zeroFill(job, block)
            case .zero:
                zeroFill(job, block)
                job.outcome.held[block] = true
            case .pending:
                zeroFill(job, block)
                job.outcome.pending[block] = true
            case .corrupt:
                zeroFill(job, block)
                job.outcome.corrupt[block] = true
            case .data(let file, let checksum):
                job.outcome.held[block] = true
                job.expected[block] = true
                job.buffer.checksums[at / blockSize] = checksum
                if current?.key.file != file { current = sheets[FileKey(object: job.object, file: file)] }
                if let item = current?.overlay[inObject], let buffer = item.buffer {
                    (job.buffer.bytes + at).copyMemory(from: buffer.bytes + item.offset, byteCount: blockSize)
                } else if let open = run, open.file == file, open.first + open.count == block {
                    run!.count += 1
                } else {
                    if let run { readRun(job, run.file, run.first, run.count) }
                    run = (file, block, 1)
                }
            }
        }
        if let run { readRun(job, run.file, run.first, run.count) }
        job.left -= 1
        if job.left == 0 { later { [self] in check(job) } }
    }

    private func readRun(_ job: ReadJob, _ file: UInt32, _ first: Int, _ count: Int) {
        job.left += 1
        disk.submit(
            .read(
                .object(job.object, Generation(file)),
                offset: UInt64(Sheet.dataOffset + (job.blocks.first + first) * blockSize), buffer: job.buffer,
                bufferOffset: job.offset + first * blockSize, count: count * blockSize)
        ) { [self] result in
            // An error or a short read leaves something that does not match its checksum, or is right by chance.
            if case .failure(let errno) = result {
                noteReadFailure(FileKey(object: job.object, file: file), errno)
                for block in first..<first + count { poison(job, block) }
            } else if case .success(.bytes(let bytes)) = result, bytes < count * blockSize {
                for block in first + bytes / blockSize..<first + count { poison(job, block) }
            }
            job.left -= 1
            if job.left == 0 { check(job) }
        }
    }
    /// Makes sure that a block whose data did not come fails its check.
    private func poison(_ job: ReadJob, _ block: Int) { job.outcome.corrupt[block] = true }

    private func check(_ job: ReadJob) {
        if isDead { return job.completion(.failure(.dead)) }
        var block = job.expected.firstIndex(from: 0, where: true)
        var isFine = true
        while let at = block {
            let position = job.offset + at * blockSize
            if job.outcome.corrupt[at]
                || crc32c(job.buffer.bytes + position, count: blockSize)
                    != job.buffer.checksums[position / blockSize]
            {
                job.outcome.corrupt[at] = true
                isFine = false
            }
            block = job.expected.firstIndex(from: at + 1, where: true)
        }
        if !isFine {
            // Perhaps a write, a merge or a removal overtook the read: then the present state says something else.
            if mutations != job.mutations, job.attempts < ObjectStore.maximumAttempts { return start(job) }
            for at in 0..<job.blocks.count where job.outcome.corrupt[at] {
                job.outcome.held[at] = false
                zeroFill(job, at)
                counters.corruptBlocks += 1
            }
        }
        job.outcome.isWhole = true
        for at in 0..<job.blocks.count where !job.outcome.held[at] {
            job.outcome.isWhole = false
            break
        }
        job.completion(.success(job.outcome))
    }

    /// The copy as `path` shows it, composed over its generations. Errors: `dead` only.
    package func view(
        object: ObjectId, path: GenerationPath, completion: @escaping (Result<ComposedView, StoreError>) -> Void
    ) {
        guard isOpen else { return later { completion(.failure(.dead)) } }
        let select = { [self] in index[object]?.files(in: path) ?? [] }
        later { [self] in
            withSheets(object, select: select) { [self] sheets in
                if isDead { return completion(.failure(.dead)) }
                completion(.success(BlockMap(sheets).view))
            }
        }
    }

    /// Checks a copy: its headers as they are on disk, and (`deep`) every block's data against its checksum.
    package func verify(
        object: ObjectId, deep: Bool, completion: @escaping (Result<VerifyOutcome, StoreError>) -> Void
    ) {
        guard isOpen else { return later { completion(.failure(.dead)) } }
        let generations = index[object].map { Array($0.generations) } ?? []
        verify(object, generations[...], deep, VerifyOutcome(generations: []), completion)
    }
    private func verify(
        _ object: ObjectId, _ rest: ArraySlice<IndexGeneration>, _ deep: Bool, _ outcome: VerifyOutcome,
        _ completion: @escaping (Result<VerifyOutcome, StoreError>) -> Void
    ) {
        guard let item = rest.first else { return later { completion(.success(outcome)) } }
        let key = FileKey(object: object, file: item.file)
        let header = pool.buffer(Sheet.dataOffset)
        disk.submit(
            .read(key.storeFile, offset: 0, buffer: header, bufferOffset: 0, count: Sheet.dataOffset)
        ) { [self] result in
            if isDead { return completion(.failure(.dead)) }
            var finding = VerifyOutcome.Finding(
                generation: Generation(item.generation), headerIsFine: true, corrupt: BlockBitmap())
            if let now = index.generation(key), now.stamp > 0 {
                var count = 0
                if case .success(.bytes(let n)) = result { count = n }
                if case .failure(let errno) = result { noteReadFailure(key, errno) }
                if isDead { return completion(.failure(.dead)) }
                let probe = Sheet(key: key, generation: Generation(now.generation))
                // A checkpoint may just have moved on: its slot is at least as new as what was read before.
                adopt(header, count: count, into: probe, item)
                finding.headerIsFine = !probe.isDamaged && sheets[key]?.isDamaged != true
            }
            guard deep else {
                var outcome = outcome
                outcome.generations.append(finding)
                return verify(object, rest.dropFirst(), deep, outcome, completion)
            }
            let generation = Generation(item.generation)
            let path = GenerationPath(
                top: generation,
                hidden: generation.rawValue > 1 ? [Generation(0)...Generation(generation.rawValue - 1)] : [])
            scan(object, path, 0, finding) { [self] finding in
                guard let finding else { return completion(.failure(.dead)) }
                var outcome = outcome
                outcome.generations.append(finding)
                verify(object, rest.dropFirst(), deep, outcome, completion)
            }
        }
    }
    /// Reads one generation in pieces of 64 blocks.
    private func scan(
        _ object: ObjectId, _ path: GenerationPath, _ first: Int, _ finding: VerifyOutcome.Finding,
        _ completion: @escaping (VerifyOutcome.Finding?) -> Void
    ) {
        guard first < blocksPerObject else { return completion(finding) }
        let blocks = BlockRange(first: first, count: 64)
        read(object: object, path: path, blocks: blocks, into: pool.buffer(blocks.byteCount), bufferOffset: 0) {
            [self] result in
            guard case .success(let outcome) = result else { return completion(nil) }
            var finding = finding
            for block in 0..<64 where outcome.corrupt[block] { finding.corrupt[first + block] = true }
            scan(object, path, first + 64, finding, completion)
        }
    }
}
