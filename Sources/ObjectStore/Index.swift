// The index of a store's copies, in memory: what there is, at which version, in which state. It answers without I/O.
// It never decides; it states what it was told. A copy of one generation costs no allocation of its own: entries live
// side by side in chunks (EntryPool), found by a table of their numbers for each volume (EntryTable).
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
    // The two that every write needs, plain: an access through the subscript allocates.
    mutating func raiseVersion(at: Int, to version: UInt64) {
        precondition(isNotEmpty)
        if at == 0 {
            first.version = Swift.max(first.version, version)
        } else {
            others[at - 1].version = Swift.max(others[at - 1].version, version)
        }
    }
    mutating func setAllocated(at: Int, _ count: UInt16) {
        precondition(isNotEmpty)
        if at == 0 { first.allocated = count } else { others[at - 1].allocated = count }
    }
    func position(ofFile file: UInt32) -> Int? {
        guard isNotEmpty else { return nil }
        return first.file == file ? 0 : others.firstIndex { $0.file == file }.map { $0 + 1 }
    }
}

/// What the index knows of one copy: a place in the index, valid until the copy is removed, so it must not be kept.
/// State and trust are changed by the index, which counts them.
struct IndexEntry {
    private let record: UnsafeMutablePointer<EntryRecord>
    init(_ record: UnsafeMutablePointer<EntryRecord>) { self.record = record }

    var version: UInt64 {
        get { record.pointee.version }
        nonmutating set { record.pointee.version = newValue }
    }
    var generations: GenerationList {
        get { record.pointee.generations }
        nonmutating _modify { yield &record.pointee.generations }
    }
    func raiseVersion(at: Int, to version: UInt64) { record.pointee.generations.raiseVersion(at: at, to: version) }
    func setAllocated(at: Int, _ count: UInt16) { record.pointee.generations.setAllocated(at: at, count) }
    fileprivate(set) var trust: UInt32 {
        get { record.pointee.trust }
        nonmutating set { record.pointee.trust = newValue }
    }
    fileprivate(set) var state: CopyState {
        get { record.pointee.state }
        nonmutating set { record.pointee.state = newValue }
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

final class Index {
    private var tables: [UInt32: EntryTable] = [:]
    private let pool = EntryPool()
    private(set) var count = 0
    /// Copies that are complete and verified.
    private(set) var soundCount = 0
    /// Entries with a lower one are not verified.
    private(set) var trustGeneration: UInt32 = 1
    /// Fenced terms by volume.
    var terms: [UInt32: UInt32] = [:]

    init(trustGeneration: UInt32 = 1) { self.trustGeneration = trustGeneration }

    subscript(_ object: ObjectId) -> IndexEntry? {
        guard let number = tables[object.volume.rawValue]?.find(object.index) else { return nil }
        return IndexEntry(pool[number])
    }
    func generation(_ key: FileKey) -> IndexGeneration? {
        guard let entry = self[key.object], let at = entry.generations.position(ofFile: key.file) else { return nil }
        return entry.generations[at]
    }
    /// The entry of `object`; a new one (verified, complete) if there is none.
    func entry(_ object: ObjectId) -> IndexEntry {
        self[object] ?? add(object, version: 0, trust: trustGeneration, state: .complete)
    }
    /// Changes an existing generation of `object`; does nothing if it is gone.
    func updateFile(_ key: FileKey, _ body: (inout IndexGeneration) -> Void) {
        guard let entry = self[key.object], let at = entry.generations.position(ofFile: key.file) else { return }
        body(&entry.generations[at])
    }
    /// Blocks with data in an existing generation; does nothing if it is gone.
    func setAllocated(_ key: FileKey, _ count: UInt16) {
        guard let entry = self[key.object], let at = entry.generations.position(ofFile: key.file) else { return }
        entry.setAllocated(at: at, count)
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
    /// The generations that the copy had; nil where there was none.
    @discardableResult
    func remove(_ object: ObjectId) -> GenerationList? {
        let volume = object.volume.rawValue
        guard let number = tables[volume]?.remove(object.index) else { return nil }
        if tables[volume]!.isEmpty { tables[volume] = nil }
        count -= 1
        if isSound(IndexEntry(pool[number])) { soundCount -= 1 }
        let generations = pool[number].pointee.generations
        pool.remove(number)
        return generations
    }
    /// A new entry for an object that has none.
    func add(_ object: ObjectId, version: UInt64, trust: UInt32, state: CopyState) -> IndexEntry {
        let number = pool.add(EntryRecord(version: version, trust: trust, state: state))
        tables[object.volume.rawValue, default: EntryTable()].insert(object.index, number)
        let entry = IndexEntry(pool[number])
        count += 1
        if isSound(entry) { soundCount += 1 }
        return entry
    }
    func count(of volume: UInt32) -> Int { tables[volume]?.count ?? 0 }
    /// Ascending.
    func volumes() -> [UInt32] { tables.keys.sorted() }
    /// Ascending.
    func indices(of volume: UInt32) -> [UInt32] { tables[volume]?.sorted().map(\.index) ?? [] }
    /// Ascending. The index must not change meanwhile.
    func forEach(in volume: UInt32, _ body: (ObjectId, IndexEntry) -> Void) {
        for (index, number) in tables[volume]?.sorted() ?? [] {
            body(ObjectId(VolumeId(volume), index), IndexEntry(pool[number]))
        }
    }

    // MARK: State

    private func isSound(_ entry: IndexEntry) -> Bool { entry.state == .complete && entry.trust == trustGeneration }
    /// `trust`: nil leaves it as it is.
    func setState(_ entry: IndexEntry, _ state: CopyState, trust: UInt32? = nil) {
        if isSound(entry) { soundCount -= 1 }
        entry.state = state
        // Trust from the future would become true by waiting.
        if let trust { entry.trust = min(trust, trustGeneration) }
        if isSound(entry) { soundCount += 1 }
    }
    /// Nothing that is here now is verified any more, unless `generation` is no news.
    func raiseTrust(to generation: UInt32) {
        guard generation > trustGeneration else { return }
        trustGeneration = generation
        soundCount = 0
    }
}
