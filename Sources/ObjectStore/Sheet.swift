// The header of one object file in memory: what the copy holds in one generation, and the newest blocks that
// are not in the file yet. It never does I/O.
import Model

/// Names an object file: the number is the generation it was made for, or another one where that was taken.
struct FileKey: Hashable, Comparable {
    let object: ObjectId
    let file: UInt32
    static func < (a: Self, b: Self) -> Bool { a.object == b.object ? a.file < b.file : a.object < b.object }
    var storeFile: StoreFile { .object(object, Generation(file)) }
}

/// A block that is not in its file yet; without a buffer: its space is to be deallocated.
struct OverlayBlock {
    let buffer: Buffer?
    let offset: Int
    let lsn: UInt64
}

final class Sheet {
    static let slotBytes = 8192
    static let dataOffset = 16384
    static let magic: UInt64 = 0x4a42_4f50_4545_4853  // "SHEEPOBJ"

    let key: FileKey
    var generation: Generation
    var version = Version.zero
    var held = BlockBitmap()
    var zero = BlockBitmap()
    var pending = BlockBitmap()
    var chunkVersions: InlineArray<64, UInt64> = .init(repeating: 0)
    let checksums: UnsafeMutablePointer<UInt32>
    var overlay: [Int: OverlayBlock] = [:]
    /// Neither header slot can be read.
    var isDamaged = false
    /// Differs from its header on disk.
    var isDirty = false
    var isRemoved = false
    /// Uses that forbid to forget it or to remove its file.
    var pins = 0
    /// The checkpoint whose header is durable; 0: none.
    var stamp: UInt32 = 0
    /// The slot with the durable header; the other one is written next.
    var durableSlot = 1
    /// The replay took the file for a new one. Yet it may have headers, of checkpoints that never ended and whose
    /// numbers come again: the first header goes to both slots.
    var isOfReplay = false
    /// Counts changes, so that a read can tell that it was overtaken.
    var mutations: UInt64 = 0
    /// The last record that dropped a block: until it is durable the file's old data must stay.
    var lastDropLsn: UInt64 = 0
    // Links of the list of clean sheets, least recently used first.
    var newer: Sheet?
    unowned(unsafe) var older: Sheet?
    var isListed = false

    init(key: FileKey, generation: Generation) {
        self.key = key
        self.generation = generation
        checksums = .allocate(capacity: blocksPerObject)
        checksums.initialize(repeating: zeroBlockChecksum, count: blocksPerObject)
    }
    deinit { checksums.deallocate() }

    var allocatedBlocks: Int {
        var data = held
        data.subtract(zero)
        return data.count
    }
    /// Whether the file has (or is about to have) data of this block.
    func hasData(_ block: Int) -> Bool { held[block] && !zero[block] }

    // MARK: Changes, the same when a record is made and when it is replayed

    func applyWrite(first: Int, count: Int, version: UInt64, checksum: (Int) -> UInt32) {
        mutations += 1
        for block in 0..<count {
            held[first + block] = true
            zero[first + block] = false
            pending[first + block] = false
            checksums[first + block] = checksum(block)
        }
        touch(BlockRange(first: first, count: count), version)
    }
    func applyDiscard(_ range: BlockRange, version: UInt64, keepAsZero: Bool) {
        mutations += 1
        for block in range.indices {
            held[block] = keepAsZero
            zero[block] = keepAsZero
            pending[block] = false
            checksums[block] = zeroBlockChecksum
        }
        touch(range, version)
    }
    private func touch(_ range: BlockRange, _ version: UInt64) {
        for chunk in range.chunks { chunkVersions[chunk] = version }
        self.version = Version(rawValue: version)
    }
    func applyBegin(_ blocks: BlockBitmap) {
        mutations += 1
        pending.formUnion(blocks)
        for chunk in 0..<chunksPerObject where blocks.containsAny(.chunk(chunk)) { chunkVersions[chunk] = 0 }
    }
    func applyFill(_ block: Int, _ action: FillAction, checksum: UInt32) {
        switch action {
        case .none: return
        case .drop:
            held[block] = false
            zero[block] = false
            pending[block] = false
            checksums[block] = zeroBlockChecksum
        case .zero:
            held[block] = true
            zero[block] = true
            pending[block] = false
            checksums[block] = zeroBlockChecksum
        case .data:
            held[block] = true
            zero[block] = false
            pending[block] = false
            checksums[block] = checksum
        case .pending: pending[block] = true
        }
        mutations += 1
    }

    // MARK: Header

    /// Writes the slot's 8 KiB to `bytes`.
    func encode(to bytes: UnsafeMutableRawPointer, store: UInt64, stamp: UInt32, state: UInt8, copyVersion: UInt64) {
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: Sheet.slotBytes)
        func put<T: FixedWidthInteger>(_ value: T, _ offset: Int) {
            bytes.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
        }
        put(Sheet.magic, 0)
        put(storeFormatVersion, 8)
        put(generation.rawValue, 12)
        put(key.object.rawValue, 16)
        put(key.file, 24)
        put(stamp, 28)
        put(version.rawValue, 32)
        put(state, 40)
        for word in 0..<16 {
            put(held.words[word], 48 + word * 8)
            put(zero.words[word], 176 + word * 8)
            put(pending.words[word], 304 + word * 8)
        }
        for chunk in 0..<chunksPerObject { put(chunkVersions[chunk], 432 + chunk * 8) }
        for block in 0..<blocksPerObject { put(checksums[block], 944 + block * 4) }
        put(copyVersion, 5040)
        put(store, 5048)
        put(crc32c(bytes, count: 8188), 8188)
    }

    /// What a valid slot says about itself.
    struct SlotFacts {
        let stamp: UInt32
        let generation: UInt32
        let state: UInt8
        let version: UInt64
        let copyVersion: UInt64
    }
    static func facts(_ bytes: UnsafeRawPointer, key: FileKey, store: UInt64) -> SlotFacts? {
        func get<T: FixedWidthInteger>(_ offset: Int, _ type: T.Type = T.self) -> T {
            T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
        }
        guard get(0, UInt64.self) == magic, get(8, UInt32.self) == storeFormatVersion,
            get(16, UInt64.self) == key.object.rawValue, get(24, UInt32.self) == key.file,
            get(5048, UInt64.self) == store, get(28, UInt32.self) <= IndexImage.highestCheckpoint,
            get(12, UInt32.self) > 0, Sane.isVersion(get(32)), Sane.isVersion(get(5040)),
            get(8188, UInt32.self) == crc32c(bytes, count: 8188)
        else { return nil }
        return SlotFacts(
            stamp: get(28), generation: get(12), state: get(40), version: get(32), copyVersion: get(5040))
    }
    /// Takes over a slot that `facts` found valid.
    func decode(_ bytes: UnsafeRawPointer) {
        func get<T: FixedWidthInteger>(_ offset: Int, _ type: T.Type = T.self) -> T {
            T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
        }
        generation = Generation(get(12))
        version = Version(rawValue: get(32))
        for word in 0..<16 {
            held.words[word] = get(48 + word * 8)
            zero.words[word] = get(176 + word * 8)
            pending.words[word] = get(304 + word * 8)
        }
        for chunk in 0..<chunksPerObject { chunkVersions[chunk] = get(432 + chunk * 8) }
        for block in 0..<blocksPerObject { checksums[block] = get(944 + block * 4) }
    }
}
