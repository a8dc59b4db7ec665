// The index on disk: one image of all entries, terms and the trust generation, with the place in the journal from
// which it must be brought up to date. See sheepfold-store-format(7).
import Model

struct IndexImage {
    static let magic: UInt64 = 0x5845_444e_4950_4853  // "SHPINDEX"
    static let headBytes = 64
    static let entryBytes = 32
    /// A number beyond this is no checkpoint's.
    static let highestCheckpoint: UInt32 = 1 << 31
    static let generationBytes = 24
    /// The largest image that is read: some 60 million copies.
    static let limitBytes = 4 << 30

    var checkpoint: UInt32 = 0
    /// Every record from here on must be replayed.
    var startLsn: UInt64 = 1
    var nextSequence: UInt64 = 1
    /// Records up to this one were durable when the image was written: one that is missing is damage.
    var durableLsn: UInt64 = 0
    var index = Index()
    /// Files whose whole state must be in the journal.
    var headerless: [FileKey] = []

    /// The number in the first page of an image, which nothing has checked; 0 where there is none.
    static func checkpoint(ofPage bytes: UnsafeRawPointer, count: Int) -> UInt32 {
        guard count >= headBytes, UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self)) == magic else { return 0 }
        return UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
    }

    /// Nil: not a valid image of this store. Without `entries` only the checksum and the head are looked at.
    static func decode(_ bytes: [UInt8], store: UInt64, entries: Bool = true) -> IndexImage? {
        bytes.withUnsafeBytes { raw -> IndexImage? in
            guard let base = raw.baseAddress, raw.count >= headBytes + 4 else { return nil }
            func get<T: FixedWidthInteger>(_ offset: Int, _ type: T.Type = T.self) -> T {
                T(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: T.self))
            }
            let end = raw.count - 4
            guard get(0, UInt64.self) == magic, get(8, UInt32.self) == storeFormatVersion,
                get(12, UInt32.self) <= highestCheckpoint, get(16, UInt64.self) == store,
                get(24, UInt64.self) > 0, Sane.isNumber(get(24)), get(32, UInt64.self) > 0, Sane.isNumber(get(32)),
                get(40, UInt32.self) <= Sane.highestTrust, get(end, UInt32.self) == crc32c(base, count: end)
            else { return nil }
            var image = IndexImage()
            image.checkpoint = get(12)
            image.startLsn = get(24)
            image.nextSequence = get(32)
            image.durableLsn = get(56)
            guard image.startLsn > 0, Sane.isNumber(image.startLsn), image.nextSequence > 0,
                Sane.isNumber(image.nextSequence)
            else { return nil }
            guard entries else { return image }
            image.index = Index(trustGeneration: get(40))
            let termCount = Int(get(44, UInt32.self))
            let objectCount = get(48, UInt64.self)
            var at = headBytes
            guard termCount <= (end - at) / 8 else { return nil }
            for _ in 0..<termCount {
                image.index.terms[get(at)] = min(get(at + 4), Term.maximum)
                at += 8
            }
            guard objectCount <= UInt64(end - at) / UInt64(entryBytes) else { return nil }
            var last: ObjectId?
            for _ in 0..<objectCount {
                guard end - at >= entryBytes else { return nil }
                let object = ObjectId(rawValue: get(at))
                let generationCount = Int(get(at + 20, UInt32.self))
                guard let state = CopyState(rawValue: get(at + 24)), Sane.isVersion(get(at + 8)),
                    generationCount <= (end - at - entryBytes) / generationBytes
                else { return nil }
                // They ascend, in every image that was written.
                guard last.map({ $0 < object }) ?? true || image.index[object] == nil else { return nil }
                last = max(last ?? object, object)
                let entry = image.index.add(
                    object, version: get(at + 8), trust: min(get(at + 16), image.index.trustGeneration), state: state)
                at += entryBytes
                for _ in 0..<generationCount {
                    let item = IndexGeneration(
                        generation: get(at), file: get(at + 4), version: get(at + 8), stamp: get(at + 16),
                        allocated: get(at + 20))
                    guard item.generation > 0, Sane.isVersion(item.version) else { return nil }
                    if item.stamp == 0 { image.headerless.append(FileKey(object: object, file: item.file)) }
                    if let last = entry.generations.last, last.generation >= item.generation { return nil }
                    entry.generations.insert(item)
                    at += generationBytes
                }
            }
            return at == end ? image : nil
        }
    }
}

/// Builds an image piece by piece, while the index changes: each entry is as it was when it was added.
struct IndexImageBuilder {
    private(set) var bytes: [UInt8]
    private var objectCount: UInt64 = 0

    init(checkpoint: UInt32, store: UInt64, startLsn: UInt64, nextSequence: UInt64, index: Index) {
        bytes = []
        bytes.reserveCapacity(
            IndexImage.headBytes + index.terms.count * 8
                + index.count * (IndexImage.entryBytes + IndexImage.generationBytes) + 64)
        put(IndexImage.magic)
        put(storeFormatVersion)
        put(checkpoint)
        put(store)
        put(startLsn)
        put(nextSequence)
        put(index.trustGeneration)
        put(UInt32(index.terms.count))
        put(UInt64(0))
        put(UInt64(0))
        for volume in index.terms.keys.sorted() {
            put(volume)
            put(index.terms[volume]!)
        }
    }
    private mutating func put<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
    mutating func add(_ object: UInt64, _ entry: IndexEntry) {
        objectCount += 1
        put(object)
        put(entry.version)
        put(entry.trust)
        put(UInt32(entry.generations.count))
        put(UInt64(entry.state.rawValue))
        for item in entry.generations {
            put(item.generation)
            put(item.file)
            put(item.version)
            put(item.stamp)
            put(item.allocated)
            put(UInt16(0))
        }
    }
    mutating func finish(durableLsn: UInt64) -> [UInt8] {
        for (value, offset) in [(objectCount, 48), (durableLsn, 56)] {
            withUnsafeBytes(of: value.littleEndian) { part in
                for i in 0..<8 { bytes[offset + i] = part[i] }
            }
        }
        put(crc32c(bytes))
        return bytes
    }
}
