// The object file's header, the index image and the superblock, each alone: what decodes is encoded again and is the
// same. Large ones are changed in places, so that inputs stay small.
import Model

@testable import ObjectStore

private let sampleKey = FileKey(object: ObjectId(VolumeId(1), 3), file: 2)

private func sampleSlot() -> [UInt8] {
    let sheet = Sheet(key: sampleKey, generation: Generation(2))
    sheet.applyWrite(first: 0, count: 20, version: Version(term: Term(1), sequence: 7).rawValue) { UInt32($0) }
    sheet.applyDiscard(BlockRange(first: 4, count: 3), version: 9, keepAsZero: true)
    return encodedSlot(sheet, Sheet.SlotFacts(stamp: 5, generation: 2, state: 0, version: 9, copyVersion: 9))
}
private func encodedSlot(_ sheet: Sheet, _ facts: Sheet.SlotFacts) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Sheet.slotBytes)
    bytes.withUnsafeMutableBytes {
        sheet.encode(
            to: $0.baseAddress!, store: 7, stamp: facts.stamp, state: facts.state, copyVersion: facts.copyVersion)
    }
    return bytes
}

private func encodedImage(_ image: IndexImage) -> [UInt8] {
    var builder = IndexImageBuilder(
        checkpoint: image.checkpoint, store: 7, startLsn: image.startLsn, nextSequence: image.nextSequence,
        index: image.index)
    for volume in image.index.volumes() {
        for item in image.index.indices(of: volume) {
            let object = ObjectId(VolumeId(volume), item)
            builder.add(object.rawValue, image.index[object]!)
        }
    }
    return builder.finish(durableLsn: image.durableLsn)
}
private func sampleImage() -> [UInt8] {
    var image = IndexImage()
    image.checkpoint = 4
    image.startLsn = 9
    image.nextSequence = 3
    image.index.terms = [1: 2, 2: 5]
    for i in 0..<UInt32(3) {
        let entry = image.index.entry(ObjectId(VolumeId(1), i))
        entry.version = 100 + UInt64(i)
        for generation in 1...(i + 1) {
            entry.generations.insert(
                IndexGeneration(generation: generation, file: generation, version: 9, stamp: i, allocated: 4))
        }
    }
    return encodedImage(image)
}

private func sampleSuperblock() -> [UInt8] {
    Superblock(
        identity: StoreIdentity(clusterId: ClusterId(high: 1, low: 2), storeId: StoreId(7), createdWallClock: 5),
        segmentBytes: 1 << 20, session: StoreSession(bootId: ClusterId(high: 3, low: 4), incarnation: 5),
        lastBootId: ClusterId(high: 3, low: 4), isClean: true
    ).encode()
}

/// Puts the checksum at the end right.
func sealEnd(_ bytes: inout [UInt8]) {
    guard bytes.count >= 4 else { return }
    bytes.put(crc32c(Array(bytes.dropLast(4))), at: bytes.count - 4)
}

extension FuzzTarget {
    /// Input: one byte (1: the checksum is put right), then places that are changed in a valid slot.
    static let header = FuzzTarget(
        name: "header", summary: "a header slot of an object file", maximumBytes: 4096,
        seeds: {
            [[1], [1] + FuzzInput.patchBytes(48, [0xff, 0xff]), [1] + FuzzInput.patchBytes(28, [9, 0, 0, 0])]
                + [0, 12, 32, 40, 176, 304, 432, 944, 5040].map {
                    [1] + FuzzInput.patchBytes($0, [UInt8](repeating: 0xff, count: 8))
                }
        }
    ) { input in
        var input = input
        let flags = input.byte()
        var bytes = sampleSlot()
        input.patch(&bytes)
        if flags & 1 != 0 { bytes.put(crc32c(Array(bytes[..<8188])), at: 8188) }
        return withExactCopy(bytes) { memory -> String? in
            guard let facts = Sheet.facts(memory, key: sampleKey, store: 7) else { return nil }
            let sheet = Sheet(key: sampleKey, generation: Generation(facts.generation))
            sheet.decode(memory)
            guard UInt16(exactly: sheet.allocatedBlocks) != nil else { return "more blocks than an object has" }
            var again = encodedSlot(sheet, facts)
            let (first, second) = again.withUnsafeMutableBytes { raw -> (Sheet.SlotFacts?, Sheet) in
                let other = Sheet(key: sampleKey, generation: Generation(0))
                other.decode(raw.baseAddress!)
                return (Sheet.facts(raw.baseAddress!, key: sampleKey, store: 7), other)
            }
            guard let first, "\(first)" == "\(facts)" else { return "\(facts) became \(first as Any)" }
            return encodedSlot(second, first) == again ? nil : "a header changed by coding it twice"
        }
    }

    /// Input: flags (1: the checksum is put right, 2: raw bytes instead of places changed in a valid image).
    static let index = FuzzTarget(
        name: "index", summary: "an image of the index", maximumBytes: 8192,
        seeds: {
            [[1], [0], [3] + sampleImage()]
                + [12, 24, 32, 40, 44, 48, 64, 80, 84, 88, 104, 112].map {
                    [1] + FuzzInput.patchBytes($0, [0xff, 0xff, 0xff, 0xff])
                }
        }
    ) { input in
        var input = input
        let flags = input.byte()
        var bytes = flags & 2 == 0 ? sampleImage() : input.rest()
        input.patch(&bytes)
        if flags & 1 != 0 { sealEnd(&bytes) }
        guard let image = IndexImage.decode(bytes, store: 7) else { return nil }
        guard image.index.count <= bytes.count / IndexImage.entryBytes else { return "more entries than bytes" }
        let again = encodedImage(image)
        guard let copy = IndexImage.decode(again, store: 7) else { return "an encoded image cannot be decoded" }
        guard copy.index.count == image.index.count, copy.index.soundCount == image.index.soundCount else {
            return "entries were lost"
        }
        return encodedImage(copy) == again ? nil : "an image changed by coding it twice"
    }

    /// Input: flags (1: the checksum is put right), then the superblock.
    static let superblock = FuzzTarget(
        name: "superblock", summary: "a store's superblock", maximumBytes: 256,
        seeds: { [[1] + sampleSuperblock(), [0] + sampleSuperblock()] }
    ) { input in
        var input = input
        let flags = input.byte()
        var bytes = input.rest()
        if flags & 1 != 0 { sealEnd(&bytes) }
        guard case .success(let block) = Superblock.decode(bytes) else { return nil }
        guard case .success(let copy) = Superblock.decode(block.encode()) else {
            return "an encoded superblock cannot be decoded"
        }
        return "\(copy)" == "\(block)" ? nil : "\(block) became \(copy)"
    }
}
