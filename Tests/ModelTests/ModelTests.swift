// The small things that everything stands on: checksums, bitmaps, versions, coding. Known vectors where there are any.
import Model
import Testing

@Suite struct ChecksumTests {
    /// The vectors of RFC 3720, appendix B.4 (iSCSI uses the same CRC32C).
    @Test func knownVectors() {
        #expect(crc32c([UInt8](repeating: 0, count: 32)) == 0x8a91_36aa)
        #expect(crc32c([UInt8](repeating: 0xff, count: 32)) == 0x62a8_ab43)
        #expect(crc32c((0..<32).map { UInt8($0) }) == 0x46dd_794e)
        #expect(crc32c((0..<32).reversed().map { UInt8($0) }) == 0x113f_db5c)
        #expect(crc32c(Array("123456789".utf8)) == 0xe306_9283)
    }

    /// The interleaved path for long inputs gives what the plain one gives byte for byte, at every length and cut.
    @Test func longInputsAgreeWithPieces() {
        var random = SplitMix(seed: 7)
        let bytes = (0..<13_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        for length in [0, 1, 7, 8, 9, 4079, 4080, 4081, 4096, 8160, 8192, 12_240, 13_000] {
            let whole = crc32c(Array(bytes[..<length]))
            var pieces: UInt32 = 0
            var at = 0
            while at < length {
                let step = min(length - at, 1 + Int(random.next() % 97))
                pieces = crc32c(Array(bytes[at..<at + step]), seed: pieces)
                at += step
            }
            #expect(whole == pieces)
        }
    }

    @Test func zeroBlock() {
        let buffer = Buffer(capacity: 2 * blockSize)
        buffer.fillZero(0..<2 * blockSize)
        buffer.computeChecksums(0..<2)
        #expect(buffer.checksums[0] == zeroBlockChecksum && buffer.checksums[1] == zeroBlockChecksum)
        #expect(buffer.isZero(block: 1))
        buffer.bytes.storeBytes(of: 1, toByteOffset: 2 * blockSize - 1, as: UInt8.self)
        #expect(!buffer.isZero(block: 1) && buffer.isZero(block: 0))
    }
}

@Suite struct BitmapTests {
    @Test func blockBitmapAgreesWithASet() {
        var random = SplitMix(seed: 3)
        var bitmap = BlockBitmap()
        var model: Set<Int> = []
        for _ in 0..<2_000 {
            let first = Int(random.next() % 1024)
            let range = BlockRange(first: first, count: 1 + Int(random.next() % UInt64(min(70, 1024 - first))))
            if random.next() % 2 == 0 {
                bitmap.insert(range)
                model.formUnion(range.indices)
            } else {
                bitmap.remove(range)
                model.subtract(range.indices)
            }
            #expect(bitmap.count == model.count)
            let from = Int(random.next() % 1024)
            #expect(bitmap.firstIndex(from: from, where: true) == (from..<1024).first { model.contains($0) })
            #expect(bitmap.firstIndex(from: from, where: false) == (from..<1024).first { !model.contains($0) })
            #expect(bitmap.containsAll(range) == range.indices.allSatisfy { model.contains($0) })
            #expect(bitmap.containsAny(range) == range.indices.contains { model.contains($0) })
        }
        #expect(BlockBitmap.full.count == 1024 && BlockBitmap.empty.isEmpty)
    }

    @Test func rangeSetOperations() {
        var a = RangeSet()
        a[RangeIndex(0)] = true
        a[RangeIndex(65_535)] = true
        var b = RangeSet.full
        #expect(b.isSuperset(of: a) && !a.isSuperset(of: b) && a.count == 2)
        b.subtract(a)
        #expect(b.count == 65_534 && !b[RangeIndex(65_535)])
        b.formIntersection(a)
        #expect(b.isEmpty)
    }
}

@Suite struct IdentifierTests {
    @Test func versionsCompareByTermFirst() {
        let old = Version(term: Term(1), sequence: 900)
        let new = Version(term: Term(2), sequence: 3)
        #expect(old < new && new.term == Term(2) && new.sequence == 3)
        #expect(old.following(in: Term(2)) == Version(term: Term(2), sequence: 901))
        #expect(Version.zero < old)
    }

    @Test func objectIdsSpreadOverRanges() {
        var counts = [Int](repeating: 0, count: 16)
        for index in 0..<16_000 { counts[Int(ObjectId(VolumeId(5), UInt32(index)).range.rawValue >> 12)] += 1 }
        #expect(counts.allSatisfy { (850...1150).contains($0) })
        let id = ObjectId(VolumeId(7), 9)
        #expect(id.volume == VolumeId(7) && id.index == 9)
    }

    @Test func pathsHideWhatARollbackHid() {
        let path = GenerationPath(top: Generation(9), hidden: [Generation(3)...Generation(6)])
        #expect(path.contains(Generation(2)) && path.contains(Generation(7)) && path.contains(Generation(9)))
        #expect(!path.contains(Generation(3)) && !path.contains(Generation(6)) && !path.contains(Generation(10)))
    }
}

@Suite struct ByteCodingTests {
    @Test func whatIsWrittenIsRead() throws {
        var writer = ByteWriter()
        writer.write(UInt8(7))
        writer.write(UInt64.max - 1)
        writer.write(true)
        writer.write("Größe")
        writer.write(UInt16(0x1234))
        var reader = ByteReader(writer.bytes)
        #expect(try reader.read(UInt8.self) == 7)
        #expect(try reader.read(UInt64.self) == .max - 1)
        #expect(try reader.readBool())
        #expect(try reader.readString() == "Größe")
        #expect(try reader.read(UInt16.self) == 0x1234)
        #expect(reader.remaining == 0)
    }

    @Test func hostileLengthsAreRefused() {
        var reader = ByteReader([0xff, 0xff, 0xff, 0xff, 1])
        #expect(throws: DecodeError.self) { try reader.readBytes() }
        var count = ByteReader([0xff, 0xff, 0xff, 0x7f, 1, 2, 3])
        #expect(throws: DecodeError.self) { try count.readCount(minimumSize: 8) }
        var text = ByteReader([2, 0, 0, 0, 0xc3, 0x28])
        #expect(throws: DecodeError.self) { try text.readString() }
        var flag = ByteReader([2])
        #expect(throws: DecodeError.self) { try flag.readBool() }
    }
}

@Suite struct BufferTests {
    @Test func memoryComesBackToItsPool() {
        let pool = BufferPool(limitBytes: 1 << 20)
        var first: Buffer? = pool.buffer(5_000)
        let address = first!.bytes
        #expect(first!.capacity >= 5_000 && Int(bitPattern: address) % blockSize == 0)
        first = nil
        #expect(pool.buffer(5_000).bytes == address)
    }
}

/// A small random generator with a seed (SplitMix64).
private struct SplitMix {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var x = state
        x = (x ^ (x >> 30)) &* 0xbf58_476d_1ce4_e5b9
        x = (x ^ (x >> 27)) &* 0x94d0_49bb_1331_11eb
        return x ^ (x >> 31)
    }
}
