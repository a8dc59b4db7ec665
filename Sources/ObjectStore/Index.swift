// The index of a store's copies, in memory: what there is, at which version, in which state. It answers without I/O.
// It never decides; it states what it was told. A copy of one generation costs one small allocation.
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

/// The generations of a copy, ascending. Nearly always one, which needs no memory of its own.
struct GenerationList: RandomAccessCollection, Sendable {
    private var first = IndexGeneration(generation: 0, file: 0)
    private var isNotEmpty = false
    private var others: [IndexGeneration] = []

    var startIndex: Int { 0 }
    var endIndex: Int { isNotEmpty ? others.count + 1 : 0 }
    subscript(at: Int) -> IndexGeneration {
        get {
            precondition(isNotEmpty)
            return at == 0 ? first : others[at - 1]
        }
        _modify {
            precondition(isNotEmpty)
            if at == 0 { yield &first } else { yield &others[at - 1] }
        }
    }
    mutating func insert(_ item: IndexGeneration) {
        let at = firstIndex { $0.generation > item.generation } ?? count
        if at > 0 { return others.insert(item, at: at - 1) }
        if isNotEmpty { others.insert(first, at: 0) }
        first = item
        isNotEmpty = true
    }
    @discardableResult
    mutating func remove(at: Int) -> IndexGeneration {
        let old = self[at]
        if at > 0 {
            others.remove(at: at - 1)
        } else if others.isEmpty {
            isNotEmpty = false
        } else {
            first = others.removeFirst()
        }
        if others.isEmpty { others = [] }
        return old
    }
    func position(ofFile file: UInt32) -> Int? {
        guard isNotEmpty else { return nil }
        return first.file == file ? 0 : others.firstIndex { $0.file == file }.map { $0 + 1 }
    }
}

/// What the index knows of one copy. State and trust are changed by the index, which counts them.
final class IndexEntry {
    var version: UInt64
    var generations = GenerationList()
    fileprivate(set) var trust: UInt32
    fileprivate(set) var state: CopyState

    init(version: UInt64 = 0, trust: UInt32, state: CopyState = .complete) {
        self.version = version
        self.trust = trust
        self.state = state
    }
    func file(of generation: Generation) -> UInt32? {
        generations.first { $0.generation == generation.rawValue }?.file
    }
    /// Files of the generations that `path` looks through, newest first.
    func files(in path: GenerationPath) -> [UInt32] {
        var files: [UInt32] = []
        for item in generations.reversed() where path.contains(Generation(item.generation)) { files.append(item.file) }
        return files
    }
}

struct Index {
    private var objects: [UInt32: [UInt32: IndexEntry]] = [:]
    private(set) var count = 0
    /// Copies that are complete and verified.
    private(set) var soundCount = 0
    /// Entries with a lower one are not verified.
    private(set) var trustGeneration: UInt32 = 1
    /// Fenced terms by volume.
    var terms: [UInt32: UInt32] = [:]

    init(trustGeneration: UInt32 = 1) { self.trustGeneration = trustGeneration }

    subscript(_ object: ObjectId) -> IndexEntry? { objects[object.volume.rawValue]?[object.index] }
    func generation(_ key: FileKey) -> IndexGeneration? {
        guard let entry = self[key.object], let at = entry.generations.position(ofFile: key.file) else { return nil }
        return entry.generations[at]
    }
    /// The entry of `object`; a new one (verified, complete) if there is none.
    mutating func entry(_ object: ObjectId) -> IndexEntry {
        if let entry = self[object] { return entry }
        let entry = IndexEntry(trust: trustGeneration)
        insert(object, entry)
        return entry
    }
    /// Changes an existing generation of `object`; does nothing if it is gone.
    func updateFile(_ key: FileKey, _ body: (inout IndexGeneration) -> Void) {
        guard let entry = self[key.object], let at = entry.generations.position(ofFile: key.file) else { return }
        body(&entry.generations[at])
    }
    func removeFile(_ key: FileKey) {
        guard let entry = self[key.object], let at = entry.generations.position(ofFile: key.file) else { return }
        entry.generations.remove(at: at)
    }
    func renumber(_ key: FileKey, to generation: Generation) {
        guard let entry = self[key.object], let at = entry.generations.position(ofFile: key.file) else { return }
        var item = entry.generations.remove(at: at)
        item.generation = generation.rawValue
        entry.generations.insert(item)
    }
    @discardableResult
    mutating func remove(_ object: ObjectId) -> IndexEntry? {
        guard let old = objects[object.volume.rawValue]?.removeValue(forKey: object.index) else { return nil }
        count -= 1
        if isSound(old) { soundCount -= 1 }
        if objects[object.volume.rawValue]!.isEmpty { objects[object.volume.rawValue] = nil }
        return old
    }
    /// Takes an entry for an object that has none.
    mutating func insert(_ object: ObjectId, _ entry: IndexEntry) {
        objects[object.volume.rawValue, default: [:]][object.index] = entry
        count += 1
        if isSound(entry) { soundCount += 1 }
    }
    mutating func reserve(volume: VolumeId, count: Int) {
        objects[volume.rawValue, default: [:]].reserveCapacity(count)
    }
    func volumes() -> [UInt32] { objects.keys.sorted() }
    func indices(of volume: UInt32) -> [UInt32] { objects[volume]?.keys.sorted() ?? [] }

    // MARK: State

    private func isSound(_ entry: IndexEntry) -> Bool { entry.state == .complete && entry.trust == trustGeneration }
    /// `trust`: nil leaves it as it is.
    mutating func setState(_ entry: IndexEntry, _ state: CopyState, trust: UInt32? = nil) {
        if isSound(entry) { soundCount -= 1 }
        entry.state = state
        // Trust from the future would become true by waiting.
        if let trust { entry.trust = min(trust, trustGeneration) }
        if isSound(entry) { soundCount += 1 }
    }
    /// Nothing that is here now is verified any more, unless `generation` is no news.
    mutating func raiseTrust(to generation: UInt32) {
        guard generation > trustGeneration else { return }
        trustGeneration = generation
        soundCount = 0
    }
}
