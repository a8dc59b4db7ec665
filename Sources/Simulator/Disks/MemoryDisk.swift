// A disk in memory: page cache and durable content apart, completions in an order that a seed decides, power losses that
// keep any part of what was not synced (torn at 512 bytes), errors, lack of space and bit flips on demand.
// Everything comes from the seed: the same seed gives the same run.
import Model

/// What becomes of a write that the disk says it has done.
package enum WriteFate {
    case lands
    /// Nothing of it is there, and nobody says so.
    case lost
    /// It is where something else was: so many bytes further on.
    case misdirected(Int)
}

package final class MemoryDisk: Disk {
    private enum Change {
        case write(Int, [UInt8])
        case punch(Int, Int)
    }
    private final class File {
        var durable = SparseBytes()
        var cache = SparseBytes()
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
    var random: Random
    private var files: [StoreFile: File] = [:]
    /// Files that were removed without a durable directory: they may come back.
    private var removed: [(StoreFile, File)] = []
    private var pending: [Pending] = []
    private var nextId: UInt64 = 0
    package private(set) var operationCount = 0

    package var space = DiskSpace(capacityBytes: 1 << 40, availableBytes: 1 << 39)
    package var maximumBufferedWrite = 65536
    /// Every operation fails with EIO from now on.
    package var isBroken = false
    /// Decides whether an operation fails; asked when it runs.
    package var fault: (DiskOperation) -> Errno? = { _ in nil }
    /// Decides what becomes of a write to an object's file.
    package var fate: (FileWrite) -> WriteFate = { _ in .lands }
    /// Operations that stay on their way as long as this says so.
    package var hold: (DiskOperation) -> Bool = { _ in false }
    /// A power loss tears synced appends that were on their way, too; else they happen or not.
    package var tearsSyncedAppends = false
    /// How far ahead of the earliest operation another one may run.
    package var window = 8

    package init(seed: UInt64) { random = Random(seed) }

    // MARK: Running
    package func submit(_ operation: DiskOperation, _ completion: @escaping (Result<DiskOutcome, Errno>) -> Void) {
        nextId += 1
        pending.append(Pending(id: nextId, operation: operation, completion: completion))
    }
    package var hasOperations: Bool { pending.contains { !hold($0.operation) } }
    /// What was submitted and has not run.
    package var waiting: [DiskOperation] { pending.map(\.operation) }

    /// Runs one of the first operations that wait; appends stay in order.
    package func runOne() {
        var ready: [Int] = []
        var sawAppend = false
        for (i, item) in pending.enumerated() where !hold(item.operation) {
            if ready.count == window { break }
            if case .append = item.operation {
                if sawAppend { continue }
                sawAppend = true
            }
            ready.append(i)
        }
        guard !ready.isEmpty else { return }
        let item = pending.remove(at: ready[random.below(ready.count)])
        operationCount += 1
        if isBroken { return item.completion(.failure(.inputOutput)) }
        if let errno = fault(item.operation) ?? shortage(item.operation) {
            return item.completion(.failure(errno))
        }
        item.completion(run(item.operation))
    }

    /// ENOSPC for what needs room when none is left.
    private func shortage(_ operation: DiskOperation) -> Errno? {
        guard space.availableBytes == 0 else { return nil }
        switch operation {
        case .write, .writeDirect, .createWritten: return .noSpace
        default: return nil
        }
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
            for write in writes { land(write) }
            return .success(.done)
        case .writeDirect(let writes):
            for write in writes {
                precondition(write.offset % 4096 == 0 && write.slices.allSatisfy { $0.offset % 4096 == 0 })
                land(write)
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
    private func land(_ write: FileWrite) {
        switch fate(write) {
        case .lands: file(write.file).change(.write(Int(write.offset), bytes(write)))
        case .lost: _ = file(write.file)
        case .misdirected(let distance): file(write.file).change(.write(Int(write.offset) + distance, bytes(write)))
        }
    }
    private func sync(_ name: StoreFile, _ file: File) {
        file.unsynced = []
        file.durable = file.cache
        file.isNamed = true
        removed.removeAll { $0.0 == name }
    }

    package func list(_ kind: StoreFileKind) -> [StoreFile] {
        files.keys.filter {
            switch ($0, kind) {
            case (.journal, .journal), (.object, .object), (.index, .index), (.catalogState, .catalogState),
                (.catalogLog, .catalogLog), (.quarantine, .quarantine):
                true
            default: false
            }
        }.sorted { $0.order < $1.order }
    }

    /// Whether the write goes only where the file has data.
    package func isAllocated(_ write: FileWrite) -> Bool {
        guard let file = files[write.file] else { return false }
        let count = write.slices.reduce(0) { $0 + $1.count }
        return file.cache.isAllocated(Int(write.offset)..<Int(write.offset) + count)
    }

    // MARK: Ends

    /// The process dies: what it had submitted may or may not still happen; the page cache stays.
    /// What was submitted has never reached the kernel.
    package func forgetPending() { pending = [] }
    package func killProcess() {
        for item in pending where random.chance(percent: 50) { _ = run(item.operation) }
        pending = []
    }

    /// The power goes: of what was not synced, any sectors may have reached the disk.
    package func losePower() {
        for item in pending {
            // Atomic and durable ones happen or not; of others any part.
            if tearsSyncedAppends, case .appendSynced(let name, let offset, let contents) = item.operation {
                file(name).change(.write(Int(offset), contents))
                continue
            }
            if random.chance(percent: 50) { _ = run(item.operation) }
        }
        pending = []
        for (name, file) in removed where random.chance(percent: 50) && files[name] == nil { files[name] = file }
        removed = []
        let mode = random.below(4)
        for name in files.keys.sorted(by: { $0.order < $1.order }) {
            let file = files[name]!
            if !file.isNamed, random.chance(percent: 50) {
                files[name] = nil
                continue
            }
            var after = file.durable
            for change in file.unsynced {
                let whole = random.chance(percent: 50)
                if mode == 0 || (mode == 1 && !whole) { continue }
                switch change {
                case .write(let offset, let bytes):
                    if mode == 1 || mode == 3 && whole {
                        after.write(offset, bytes[...])
                    } else {
                        for sector in stride(from: 0, to: bytes.count, by: 512) where random.chance(percent: 50) {
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
    package func forget() { pending = [] }
    package func sync(_ name: StoreFile) { if let file = files[name] { sync(name, file) } }

    // MARK: Tampering
    package func contents(_ name: StoreFile) -> [UInt8]? {
        guard let file = files[name] else { return nil }
        var bytes = [UInt8](repeating: 0, count: file.cache.size)
        _ = bytes.withUnsafeMutableBytes {
            file.cache.read(0, $0.count, into: $0.baseAddress ?? UnsafeMutableRawPointer(bitPattern: 8)!)
        }
        return bytes
    }
    package func replace(_ name: StoreFile, _ contents: [UInt8]) { _ = run(.replace(name, contents: contents)) }
    package func flipBit(_ name: StoreFile, _ offset: Int, _ bit: UInt8 = 0) {
        var byte: UInt8 = 0
        let file = files[name]!
        withUnsafeMutableBytes(of: &byte) { _ = file.cache.read(offset, 1, into: $0.baseAddress!) }
        file.cache.write(offset, [byte ^ (1 << bit)])
        file.durable.write(offset, [byte ^ (1 << bit)])
    }
    /// A bit of what is stored in an object's file turns over. Nil: there is none.
    package func rot(_ random: inout Random) -> StoreFile? {
        let candidates = list(.object).filter { files[$0]!.durable.allocatedBytes > 0 }
        guard !candidates.isEmpty else { return nil }
        let name = random.pick(candidates)
        let page = random.pick(files[name]!.durable.pageOffsets)
        flipBit(name, page + random.below(4096), UInt8(random.below(8)))
        return name
    }
    /// Everything is gone: an empty directory.
    package func wipe() {
        files = [:]
        removed = []
        pending = []
    }
    /// Has what `other` has, at little cost: nothing of either changes the other afterwards.
    package func takeFiles(of other: MemoryDisk) {
        files = other.files.mapValues { file in
            let copy = File()
            copy.durable = file.durable
            copy.cache = file.cache
            copy.isNamed = file.isNamed
            return copy
        }
    }
    package func delete(_ name: StoreFile) { files[name] = nil }
    package func exists(_ name: StoreFile) -> Bool { files[name] != nil }
}

extension StoreFile {
    fileprivate var order: (Int, UInt64, UInt32) {
        switch self {
        case .superblock: (0, 0, 0)
        case .journal(let number): (1, number, 0)
        case .object(let object, let generation): (2, object.rawValue, generation.rawValue)
        case .index(let number): (3, UInt64(number), 0)
        case .catalogState(let index): (4, index, 0)
        case .catalogLog(let index): (5, index, 0)
        case .quarantine(let object, let generation): (6, object.rawValue, generation.rawValue)
        }
    }
}
