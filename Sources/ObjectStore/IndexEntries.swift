// Where the entries of the index are: side by side in chunks, and a table of their numbers for each volume. A copy
// costs 48 bytes here and 11 to 21 in its table, whatever the allocator does with other memory around them.
// It never looks at what an entry says.
import Model

/// An entry as it lies in memory.
struct EntryRecord {
    var version: UInt64
    var generations = GenerationList()
    var trust: UInt32
    var state: CopyState

    init(version: UInt64, trust: UInt32, state: CopyState) {
        self.version = version
        self.trust = trust
        self.state = state
    }
}

/// Entries by number. A chunk whose entries are all gone is given back.
final class EntryPool {
    private struct Chunk {
        /// Nil: given back.
        var records: UnsafeMutablePointer<EntryRecord>?
        /// Bit set: the place is in use.
        var used = InlineArray<16, UInt64>(repeating: 0)
        var count = 0
    }
    /// Places in a chunk: 48 KiB of entries.
    private static let chunkCount = 1024

    private var chunks: [Chunk] = []
    /// Chunks with free places; the last one is filled first.
    private var open: [Int] = []
    private var vacant: [Int] = []

    deinit {
        for (at, chunk) in chunks.enumerated() {
            guard let records = chunk.records else { continue }
            for place in 0..<EntryPool.chunkCount where isUsed(at, place) { (records + place).deinitialize(count: 1) }
            records.deallocate()
        }
    }

    subscript(number: UInt32) -> UnsafeMutablePointer<EntryRecord> {
        chunks[Int(number) / EntryPool.chunkCount].records! + Int(number) % EntryPool.chunkCount
    }

    func add(_ record: EntryRecord) -> UInt32 {
        let at = open.last ?? makeChunk()
        var word = 0
        while chunks[at].used[word] == .max { word += 1 }
        let place = word << 6 + (~chunks[at].used[word]).trailingZeroBitCount
        chunks[at].used[word] |= 1 << UInt64(place & 63)
        chunks[at].count += 1
        if chunks[at].count == EntryPool.chunkCount { open.removeLast() }
        (chunks[at].records! + place).initialize(to: record)
        return UInt32(at * EntryPool.chunkCount + place)
    }

    func remove(_ number: UInt32) {
        let at = Int(number) / EntryPool.chunkCount
        let place = Int(number) % EntryPool.chunkCount
        precondition(isUsed(at, place), "an entry is removed once")
        (chunks[at].records! + place).deinitialize(count: 1)
        chunks[at].used[place >> 6] &= ~(1 << UInt64(place & 63))
        chunks[at].count -= 1
        if chunks[at].count == EntryPool.chunkCount - 1 { open.append(at) }
        guard chunks[at].count == 0 else { return }
        chunks[at].records!.deallocate()
        chunks[at].records = nil
        open.removeAll { $0 == at }
        vacant.append(at)
    }

    private func isUsed(_ chunk: Int, _ place: Int) -> Bool {
        chunks[chunk].used[place >> 6] >> UInt64(place & 63) & 1 != 0
    }

    private func makeChunk() -> Int {
        let records = UnsafeMutablePointer<EntryRecord>.allocate(capacity: EntryPool.chunkCount)
        let at = vacant.popLast() ?? chunks.count
        precondition(at < Int(UInt32.max) / EntryPool.chunkCount, "more copies than a store can have")
        if at == chunks.count { chunks.append(Chunk()) }
        chunks[at].records = records
        open.append(at)
        return at
    }
}

/// The numbers of one volume's entries, by hash of the object's index: open addressing with linear probing, and
/// removal that shifts back what follows (Knuth, The Art of Computer Programming, volume 3, 6.4, algorithm R).
struct EntryTable {
    private struct Slot {
        var index: UInt32 = 0
        /// 0: empty, else the entry's number plus one.
        var number: UInt32 = 0
    }
    /// A power of two of them.
    private var slots: [Slot] = []
    private(set) var count = 0
    var isEmpty: Bool { count == 0 }

    /// Eight neighbouring indices have neighbouring places, a cache line of them: whole volumes are looked through in
    /// order. The groups are spread by the finalizer of MurmurHash3.
    private func home(_ index: UInt32) -> Int {
        var hash = index >> 3
        hash = (hash ^ hash >> 16) &* 0x85eb_ca6b
        hash = (hash ^ hash >> 13) &* 0xc2b2_ae35
        hash = hash ^ hash >> 16
        return Int(hash << 3 | index & 7) & (slots.count - 1)
    }
    private func position(_ index: UInt32) -> Int? {
        guard !slots.isEmpty else { return nil }
        return slots.withUnsafeBufferPointer { slots in
            var at = home(index)
            while slots[at].number != 0 {
                if slots[at].index == index { return at }
                at = (at + 1) & (slots.count - 1)
            }
            return nil
        }
    }
    func find(_ index: UInt32) -> UInt32? { position(index).map { slots[$0].number - 1 } }

    /// Takes the number of an index that is not there yet.
    mutating func insert(_ index: UInt32, _ number: UInt32) {
        if (count + 1) * 4 > slots.count * 3 { resize(max(4, slots.count * 2)) }
        put(Slot(index: index, number: number + 1))
        count += 1
    }
    private mutating func put(_ slot: Slot) {
        var at = home(slot.index)
        while slots[at].number != 0 { at = (at + 1) & (slots.count - 1) }
        slots[at] = slot
    }
    private mutating func resize(_ size: Int) {
        let old = slots
        slots = [Slot](repeating: Slot(), count: size)
        for slot in old where slot.number != 0 { put(slot) }
    }

    /// The number that was there.
    mutating func remove(_ index: UInt32) -> UInt32? {
        guard var hole = position(index) else { return nil }
        let number = slots[hole].number - 1
        let mask = slots.count - 1
        var at = (hole + 1) & mask
        while slots[at].number != 0 {
            // What could also be found at the hole goes there.
            if (at - home(slots[at].index)) & mask >= (at - hole) & mask {
                slots[hole] = slots[at]
                hole = at
            }
            at = (at + 1) & mask
        }
        slots[hole] = Slot()
        count -= 1
        if slots.count > 16, count * 8 < slots.count { resize(slots.count / 4) }
        return number
    }

    /// Index and number of each entry, ascending by index.
    func sorted() -> [(index: UInt32, number: UInt32)] {
        var keys: [UInt64] = []
        keys.reserveCapacity(count)
        for slot in slots where slot.number != 0 { keys.append(UInt64(slot.index) << 32 | UInt64(slot.number - 1)) }
        keys.sort()
        return keys.map { (UInt32(truncatingIfNeeded: $0 >> 32), UInt32(truncatingIfNeeded: $0)) }
    }
}
