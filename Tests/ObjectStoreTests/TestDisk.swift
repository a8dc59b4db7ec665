// A disk in memory for tests of the store: page cache and durable content apart, completions in an order that a seed
// decides, crashes that keep any subset of what was not synced (torn at 512 bytes), errors and bit flips on demand.
// Everything comes from the seed: the same seed gives the same run.
import Model

/// SplitMix64.
struct Random: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 0x1234_5678 }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
    mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
    mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
}

/// Pages of a sparse file.
struct Pages {
    var pages: [Int: [UInt8]] = [:]
    var size = 0

    mutating func write(_ offset: Int, _ bytes: ArraySlice<UInt8>) {
        size = max(size, offset + bytes.count)
        var at = bytes.startIndex
        var position = offset
        while at < bytes.endIndex {
            let inPage = position % 4096
            let count = min(4096 - inPage, bytes.endIndex - at)
            if count == 4096 {
                pages[position / 4096] = Array(bytes[at..<at + count])
            } else {
                pages[position / 4096, default: [UInt8](repeating: 0, count: 4096)]
                    .replaceSubrange(inPage..<inPage + count, with: bytes[at..<at + count])
            }
            at += count
            position += count
        }
    }
    mutating func punch(_ offset: Int, _ count: Int) {
        guard offset < size else { return }
        for page in offset / 4096..<(min(size, offset + count) + 4095) / 4096 { pages[page] = nil }
    }
    func read(_ offset: Int, _ count: Int, into target: UnsafeMutableRawPointer) -> Int {
        let end = min(size, offset + count)
        guard offset < end else { return 0 }
        var position = offset
        while position < end {
            let inPage = position % 4096
            let n = min(4096 - inPage, end - position)
            if let page = pages[position / 4096] {
                page.withUnsafeBytes {
                    (target + (position - offset)).copyMemory(from: $0.baseAddress! + inPage, byteCount: n)
                }
            } else {
                (target + (position - offset)).initializeMemory(as: UInt8.self, repeating: 0, count: n)
            }
            position += n
        }
        return end - offset
    }
}

final class TestDisk: Disk, Clock {
    private enum Change {
        case write(Int, [UInt8])
        case punch(Int, Int)
    }
    private final class File {
        var durable = Pages()
        var cache = Pages()
        var unsynced: [Change] = []
        /// Its directory entry is durable.
        var isNamed = false
        func change(_ change: Change) {
            switch change {
            case .write(let offset, let bytes): cache.write(offset, bytes[...])
            case .punch(let offset, let count): cache.punch(offset, count)
            }
            unsynced.append(change)
        }
    }
    private struct Pending {
        let id: UInt64
        let operation: DiskOperation
        let completion: (Result<DiskOutcome, Errno>) -> Void
    }
    private struct Timer {
        let at: UInt64
        let id: UInt64
        let action: () -> Void
    }

    var random: Random
    private var files: [StoreFile: File] = [:]
    /// Files that were removed without a durable directory: they may come back.
    private var removed: [(StoreFile, File)] = []
    private var pending: [Pending] = []
    private var timers: [Timer] = []
    private var nextId: UInt64 = 0
    private(set) var time: UInt64 = 1_000_000_000
    private(set) var operationCount = 0

    var space = DiskSpace(capacityBytes: 1 << 40, availableBytes: 1 << 39)
    var maximumBufferedWrite = 65536
    /// Decides whether an operation fails; asked when it runs.
    var fault: (DiskOperation) -> Errno? = { _ in nil }
    /// Operations that stay on their way as long as this says so.
    var hold: (DiskOperation) -> Bool = { _ in false }
    /// How far ahead of the earliest operation another one may run.
    var window = 8

    init(seed: UInt64) { random = Random(seed) }

    // MARK: Clock
    var now: Instant { Instant(nanoseconds: time) }
    var wallClock: UInt64 { time }
    func after(milliseconds: UInt64, _ action: @escaping () -> Void) {
        nextId += 1
        timers.append(Timer(at: time + milliseconds * 1_000_000, id: nextId, action: action))
    }

    // MARK: Running
    func submit(_ operation: DiskOperation, _ completion: @escaping (Result<DiskOutcome, Errno>) -> Void) {
        nextId += 1
        pending.append(Pending(id: nextId, operation: operation, completion: completion))
    }
    var isIdle: Bool { pending.isEmpty && timers.isEmpty }
    var hasOperations: Bool { pending.contains { !hold($0.operation) } }
    /// What was submitted and has not run.
    var waiting: [DiskOperation] { pending.map(\.operation) }

    /// Runs one operation or timer. False when there is nothing to run.
    func step() -> Bool {
        var ready: [Int] = []
        var sawAppend = false
        for (i, item) in pending.enumerated().prefix(window) where !hold(item.operation) {
            if case .append = item.operation {
                if sawAppend { continue }
                sawAppend = true
            }
            ready.append(i)
        }
        let due = timers.indices.min { (timers[$0].at, timers[$0].id) < (timers[$1].at, timers[$1].id) }
        if let due, ready.isEmpty || timers[due].at <= time {
            let timer = timers.remove(at: due)
            time = max(time, timer.at)
            timer.action()
            return true
        }
        guard !ready.isEmpty else { return false }
        let item = pending.remove(at: ready[random.below(ready.count)])
        time += UInt64(random.below(200_000))
        operationCount += 1
        if let errno = fault(item.operation) {
            item.completion(.failure(errno))
        } else {
            item.completion(run(item.operation))
        }
        return true
    }

    private func file(_ name: StoreFile) -> File {
        if let file = files[name] { return file }
        let file = File()
        files[name] = file
        return file
    }
    private func bytes(_ write: FileWrite) -> [UInt8] {
        var all: [UInt8] = []
        for slice in write.slices {
            all.append(
                contentsOf: UnsafeRawBufferPointer(start: slice.buffer.bytes + slice.offset, count: slice.count))
        }
        return all
    }

    private func run(_ operation: DiskOperation) -> Result<DiskOutcome, Errno> {
        switch operation {
        case .append(let write):
            precondition(write.offset % 4096 == 0, "an append that is not aligned")
            let data = bytes(write)
            precondition(data.count % 4096 == 0, "an append of partial pages")
            precondition(Int(write.offset) + data.count <= file(write.file).cache.size, "an append beyond its segment")
            file(write.file).change(.write(Int(write.offset), data))
            return .success(.done)
        case .write(let writes):
            for write in writes { file(write.file).change(.write(Int(write.offset), bytes(write))) }
            return .success(.done)
        case .writeDirect(let writes):
            for write in writes {
                precondition(write.offset % 4096 == 0 && write.slices.allSatisfy { $0.offset % 4096 == 0 })
                file(write.file).change(.write(Int(write.offset), bytes(write)))
            }
            return .success(.done)
        case .read(let name, let offset, let buffer, let bufferOffset, let count):
            precondition(bufferOffset + count <= buffer.capacity)
            guard let file = files[name] else { return .failure(.noEntry) }
            return .success(.bytes(file.cache.read(Int(offset), count, into: buffer.bytes + bufferOffset)))
        case .sync(let names):
            for name in names { if let file = files[name] { sync(name, file) } }
            return .success(.done)
        case .createWritten(let name, let size):
            let file = File()
            file.cache.size = Int(size)
            file.durable.size = Int(size)
            file.isNamed = true
            files[name] = file
            return .success(.done)
        case .replace(let name, let contents):
            let file = File()
            file.cache.write(0, contents[...])
            file.durable = file.cache
            file.isNamed = true
            files[name] = file
            return .success(.done)
        case .readWhole(let name, let limit):
            guard let file = files[name] else { return .failure(.noEntry) }
            guard file.cache.size <= limit else { return .failure(.fileTooBig) }
            return .success(.contents(contents(name)!))
        case .punch(let name, let offset, let count):
            guard let file = files[name] else { return .failure(.noEntry) }
            file.change(.punch(Int(offset), Int(count)))
            return .success(.done)
        case .remove(let names, let syncDirectory):
            for name in names {
                if let file = files.removeValue(forKey: name), file.isNamed, !syncDirectory {
                    removed.append((name, file))
                }
            }
            return .success(.done)
        case .rename(let name, let to):
            guard let file = files.removeValue(forKey: name) else { return .failure(.noEntry) }
            file.isNamed = true
            files[to] = file
            return .success(.done)
        case .appendSynced(let name, let offset, let contents):
            file(name).change(.write(Int(offset), contents))
            sync(name, file(name))
            return .success(.done)
        case .list(let kind):
            return .success(.files(list(kind)))
        }
    }
    private func sync(_ name: StoreFile, _ file: File) {
        file.unsynced = []
        file.durable = file.cache
        file.isNamed = true
        removed.removeAll { $0.0 == name }
    }

    func list(_ kind: StoreFileKind) -> [StoreFile] {
        files.keys.filter {
            switch ($0, kind) {
            case (.journal, .journal), (.object, .object), (.index, .index), (.catalogState, .catalogState),
                (.catalogLog, .catalogLog), (.quarantine, .quarantine):
                true
            default: false
            }
        }.sorted { "\($0)" < "\($1)" }
    }

    /// Whether the write goes only where the file has data.
    func isAllocated(_ write: FileWrite) -> Bool {
        guard let file = files[write.file] else { return false }
        let count = write.slices.reduce(0) { $0 + $1.count }
        return (Int(write.offset) / 4096..<(Int(write.offset) + count) / 4096).allSatisfy {
            file.cache.pages[$0] != nil
        }
    }

    // MARK: Ends

    /// The process dies: what it had submitted may or may not still happen; the page cache stays.
    func kill() {
        for item in pending where random.chance(50) { _ = run(item.operation) }
        pending = []
        timers = []
    }

    /// The power goes: of what was not synced, any sectors may have reached the disk.
    func crash() {
        for item in pending {
            // Atomic and durable ones happen or not; of others any part.
            if random.chance(50) { _ = run(item.operation) }
        }
        pending = []
        timers = []
        for (name, file) in removed where random.chance(50) && files[name] == nil { files[name] = file }
        removed = []
        let mode = random.below(4)
        for name in files.keys.sorted(by: { "\($0)" < "\($1)" }) {
            let file = files[name]!
            if !file.isNamed, random.chance(50) {
                files[name] = nil
                continue
            }
            var after = file.durable
            for change in file.unsynced {
                let whole = random.chance(50)
                if mode == 0 || (mode == 1 && !whole) { continue }
                switch change {
                case .write(let offset, let bytes):
                    if mode == 1 || mode == 3 && whole {
                        after.write(offset, bytes[...])
                    } else {
                        for sector in stride(from: 0, to: bytes.count, by: 512) where random.chance(50) {
                            after.write(offset + sector, bytes[sector..<min(bytes.count, sector + 512)])
                        }
                    }
                case .punch(let offset, let count): if whole { after.punch(offset, count) }
                }
            }
            file.durable = after
            file.cache = after
            file.unsynced = []
            file.isNamed = true
        }
    }

    /// What was submitted and has not run never happens.
    func forget() { pending = [] }
    func sync(_ name: StoreFile) { if let file = files[name] { sync(name, file) } }

    // MARK: Tampering
    func contents(_ name: StoreFile) -> [UInt8]? {
        guard let file = files[name] else { return nil }
        var bytes = [UInt8](repeating: 0, count: file.cache.size)
        _ = bytes.withUnsafeMutableBytes {
            file.cache.read(0, $0.count, into: $0.baseAddress ?? UnsafeMutableRawPointer(bitPattern: 8)!)
        }
        return bytes
    }
    func replace(_ name: StoreFile, _ contents: [UInt8]) { _ = run(.replace(name, contents: contents)) }
    func flipBit(_ name: StoreFile, _ offset: Int, _ bit: UInt8 = 0) {
        var byte: UInt8 = 0
        let file = files[name]!
        withUnsafeMutableBytes(of: &byte) { _ = file.cache.read(offset, 1, into: $0.baseAddress!) }
        file.cache.write(offset, [byte ^ (1 << bit)])
        file.durable.write(offset, [byte ^ (1 << bit)])
    }
    func delete(_ name: StoreFile) { files[name] = nil }
    func exists(_ name: StoreFile) -> Bool { files[name] != nil }
}
