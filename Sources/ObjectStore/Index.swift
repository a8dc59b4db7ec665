// The index of a store's copies, in memory: what there is, at which version, in which state. It answers without I/O.
// It never decides; it states what it was told.
import Model

/// One generation of a copy.
struct IndexGeneration: Hashable, Sendable {
    var generation: UInt32
    /// The number in the file's name.
    var file: UInt32
    var version: UInt64 = 0
    /// The checkpoint that last made its header durable; 0: none yet, all of it is in the journal.
    var stamp: UInt32 = 0
    /// Blocks with data.
    var allocated: UInt16 = 0
}

struct IndexEntry: Sendable {
    var version: UInt64 = 0
    var trust: UInt32 = 0
    var state = CopyState.complete
    /// Ascending by generation.
    var generations: [IndexGeneration] = []
}

struct Index {
    private(set) var objects: [UInt32: [UInt32: IndexEntry]] = [:]
    private(set) var count = 0
    /// Bumped by `distrustAll`: entries with a lower one are not verified.
    var trustGeneration: UInt32 = 1
    /// Fenced terms by volume.
    var terms: [UInt32: UInt32] = [:]

    subscript(_ object: ObjectId) -> IndexEntry? {
        objects[object.volume.rawValue]?[object.index]
    }
    /// Changes the entry of `object` in place, making one (verified, complete) if there is none.
    mutating func update<T>(_ object: ObjectId, _ body: (inout IndexEntry) -> T) -> T {
        let fresh = IndexEntry(trust: trustGeneration)
        let before = objects[object.volume.rawValue]?.count ?? 0
        let result = body(
            &objects[object.volume.rawValue, default: [:]][object.index, default: fresh])
        count += objects[object.volume.rawValue]!.count - before
        return result
    }
    /// Changes an existing generation of `object`; does nothing if it is gone.
    mutating func updateFile(_ key: FileKey, _ body: (inout IndexGeneration) -> Void) {
        guard let entry = self[key.object], let at = entry.generations.firstIndex(where: { $0.file == key.file })
        else { return }
        body(&objects[key.object.volume.rawValue]![key.object.index]!.generations[at])
    }
    @discardableResult
    mutating func remove(_ object: ObjectId) -> IndexEntry? {
        guard let old = objects[object.volume.rawValue]?.removeValue(forKey: object.index) else { return nil }
        count -= 1
        if objects[object.volume.rawValue]!.isEmpty { objects[object.volume.rawValue] = nil }
        return old
    }
    mutating func insert(_ object: ObjectId, _ entry: IndexEntry) {
        if objects[object.volume.rawValue, default: [:]].updateValue(entry, forKey: object.index) == nil { count += 1 }
    }
    mutating func reserve(volume: UInt32, count: Int) {
        objects[volume, default: [:]].reserveCapacity(count)
    }
    func volumes() -> [UInt32] { objects.keys.sorted() }
    func indices(of volume: UInt32) -> [UInt32] { objects[volume]?.keys.sorted() ?? [] }
}

extension IndexEntry {
    func file(of generation: Generation) -> UInt32? {
        generations.first { $0.generation == generation.rawValue }?.file
    }
    /// Files of the generations that `path` looks through, newest first.
    func files(in path: GenerationPath) -> [UInt32] {
        var files: [UInt32] = []
        for item in generations.reversed() where path.contains(Generation(item.generation)) { files.append(item.file) }
        return files
    }
    mutating func insert(_ item: IndexGeneration) {
        let at = generations.firstIndex { $0.generation > item.generation } ?? generations.count
        generations.insert(item, at: at)
    }
}
