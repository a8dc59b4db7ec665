// Each operation of a store's disk on real files: its effect, its order of completion, its errors.
import Glibc
import Model
import Testing

@testable import Runtime

struct StoreDirectoryTests {
    @Test func aNewStoreHasAllFolders() throws {
        let test = try TestStore()
        #expect(try Directory.names(test.path + "/objects").count == 256)
        #expect(try Directory.names(test.path) == ["catalog", "journal", "lock", "objects", "quarantine"])
    }

    @Test func aClosedStoreHasNoOpenFilesAndCanBeClaimedAgain() throws {
        let test = try TestStore()
        try test.perform(.createWritten(.journal(3), size: 65536))
        try test.perform(.write([FileWrite(file: object(1), offset: 8192, slices: [slice(1, 7)])]))
        func openFiles() -> [String] {
            ((try? Directory.names("/proc/self/fd")) ?? []).compactMap { name in
                let target = [UInt8](unsafeUninitializedCapacity: 4096) { buffer, count in
                    let bytes = UnsafeMutableRawPointer(buffer.baseAddress!).assumingMemoryBound(to: CChar.self)
                    count = max(0, readlink("/proc/self/fd/" + name, bytes, 4096))
                }
                let path = String(decoding: target, as: UTF8.self)
                return path.hasPrefix(test.path) ? path : nil
            }
        }
        #expect(openFiles().count > 2)
        #expect(throws: SheepError.self) { try StoreDirectory.claim(test.path) }
        // What is on its way ends as usual.
        var last: Result<DiskOutcome, Errno>?
        test.store.submit(.write([FileWrite(file: object(2), offset: 0, slices: [slice(16, 8)])])) { last = $0 }
        test.store.close()
        test.loop.run(until: { last != nil })
        #expect((try? last?.get()) != nil)
        #expect(test.error(of: .list(.object)) == .badDescriptor)
        #expect(test.error(of: .append(FileWrite(file: .journal(3), offset: 0, slices: []))) == .badDescriptor)
        // A thread may be about to let go of its last job.
        func look() { test.loop.after(milliseconds: 10) { look() } }
        look()
        test.loop.run(until: { openFiles().isEmpty })
        let again = try StoreDirectory(StoreDirectory.claim(test.path), loop: test.loop)
        #expect(again.space.capacityBytes > 0)
    }

    @Test func appendsAreInTheFileAtOnceAndCompleteLater() throws {
        let test = try TestStore()
        try test.perform(.createWritten(.journal(3), size: 65536))
        var order: [Int] = []
        for number in 0..<4 {
            let write = FileWrite(
                file: .journal(3), offset: UInt64(number * blockSize), slices: [slice(1, UInt8(number + 1))])
            test.store.submit(.append(write)) { _ in order.append(number) }
            #expect(order == [])
            // Another open file description sees it: a killed process loses nothing.
            let other = try FileDescriptor.open(test.path + "/journal/0000000000000003.segment", O_RDONLY)
            var byte: UInt8 = 0
            #expect(try other.readFully(&byte, 1, at: UInt64(number * blockSize)) == 1)
            #expect(byte == UInt8(number + 1))
        }
        test.loop.run(until: { order.count == 4 })
        #expect(order == [0, 1, 2, 3])
    }

    @Test func anAppendToASegmentThatWasNotMadeFails() throws {
        let test = try TestStore()
        let write = FileWrite(file: .journal(1), offset: 0, slices: [slice(1, 1)])
        #expect(test.error(of: .append(write)) == .noEntry)
    }

    @Test func aWriteGathersItsSlicesInOrder() throws {
        let test = try TestStore()
        // More slices than one system call takes, more bytes than one buffered write may have, some empty.
        var slices: [BufferSlice] = []
        var expected: [UInt8] = []
        for number in 0..<150 {
            let whole = slice(2, UInt8(number))
            let part = BufferSlice(whole.buffer, offset: 100, count: number % 3 * 2500)
            slices.append(part)
            expected += [UInt8](repeating: UInt8(number), count: part.count)
        }
        try test.perform(.write([FileWrite(file: object(1), offset: 8192, slices: slices)]))
        #expect(try test.contents(object(1)) == [UInt8](repeating: 0, count: 8192) + expected)
    }

    @Test func objectFilesAreSparse() throws {
        let test = try TestStore()
        try test.perform(.write([FileWrite(file: object(1), offset: 4 << 20, slices: [slice(1, 5)])]))
        var state = stat()
        #expect(stat(test.path + "/" + object(1).path, &state) == 0)
        #expect(state.st_size == 4 << 20 + blockSize)
        #expect(state.st_blocks * 512 < 65536)
    }

    @Test(arguments: ["/tmp", "/dev/shm"])
    func directWritesAreReadBack(base: String) throws {
        let test = try TestStore(in: base)
        let writes = (0..<3).map {
            FileWrite(file: object($0), offset: 4096, slices: [slice(16, UInt8($0 + 1)), slice(1, 9)])
        }
        try test.perform(.writeDirect(writes))
        for number in 0..<3 {
            let bytes = try test.read(object(UInt32(number)), at: 4096, count: 17 * blockSize)
            #expect(
                bytes == [UInt8](repeating: UInt8(number + 1), count: 16 * blockSize)
                    + [UInt8](repeating: 9, count: blockSize))
        }
        try test.perform(.sync((0..<3).map { object($0) }))
    }

    @Test(arguments: ["/tmp", "/dev/shm"])
    func readsAreShortOnlyAtTheEndOfTheFile(base: String) throws {
        let test = try TestStore(in: base)
        try test.perform(.write([FileWrite(file: object(1), offset: 0, slices: [slice(3, 7)])]))
        #expect(try test.read(object(1), at: 0, count: 3 * blockSize).count == 3 * blockSize)
        #expect(
            try test.read(object(1), at: UInt64(2 * blockSize), count: 65536) == [UInt8](repeating: 7, count: blockSize)
        )
        #expect(try test.read(object(1), at: 1 << 20, count: 4096) == [])
        #expect(
            test.error(of: .read(object(2), offset: 0, buffer: Buffer(capacity: 4096), bufferOffset: 0, count: 4096))
                == .noEntry)
    }

    @Test func coldAndHalfColdReadsAreComplete() throws {
        let test = try TestStore()
        try test.perform(.write([FileWrite(file: object(1), offset: 0, slices: [slice(64, 7), slice(64, 8)])]))
        let expected = [UInt8](repeating: 7, count: 64 * blockSize) + [UInt8](repeating: 8, count: 64 * blockSize)
        try test.makeCold(object(1))
        #expect(try test.read(object(1), at: 0, count: expected.count + 4096) == expected)
        try test.makeCold(object(1))
        // Warm only the first block, then read across the border.
        _ = try test.read(object(1), at: 0, count: blockSize)
        #expect(try test.read(object(1), at: 0, count: expected.count) == expected)
    }

    @Test func manyColdReadsSideBySideAllComplete() throws {
        let test = try TestStore()
        try test.perform(.write((0..<32).map { FileWrite(file: object($0), offset: 0, slices: [slice(4, UInt8($0))]) }))
        for number in 0..<32 { try test.makeCold(object(UInt32(number))) }
        var right = 0
        var completions = 0
        for number in 0..<32 {
            let buffer = Buffer(capacity: 16384)
            test.store.submit(.read(object(UInt32(number)), offset: 0, buffer: buffer, bufferOffset: 0, count: 16384)) {
                if case .success(.bytes(16384)) = $0, buffer.bytes.load(as: UInt8.self) == UInt8(number) { right += 1 }
                completions += 1
            }
        }
        test.loop.run(until: { completions == 32 })
        #expect(right == 32)
    }

    @Test func aWrittenSegmentIsZerosAndFullyAllocated() throws {
        let test = try TestStore()
        try test.perform(.createWritten(.journal(9), size: 1 << 20))
        #expect(try test.contents(.journal(9)) == [UInt8](repeating: 0, count: 1 << 20))
        var state = stat()
        #expect(stat(test.path + "/journal/0000000000000009.segment", &state) == 0)
        #expect(state.st_blocks * 512 >= 1 << 20)
    }

    @Test func replaceIsWholeAndLeavesNoTemporaryFile() throws {
        let test = try TestStore()
        for contents in [[UInt8](repeating: 1, count: 200_000), [2, 3], []] {
            try test.perform(.replace(.superblock, contents: contents))
            #expect(try test.contents(.superblock) == contents)
        }
        #expect(try !Directory.names(test.path).contains("superblock.new"))
        // A read after a replacement sees the new file, not the open old one.
        try test.perform(.replace(.index(0), contents: [1, 1, 1]))
        #expect(try test.read(.index(0), at: 0, count: 10) == [1, 1, 1])
        try test.perform(.replace(.index(0), contents: [2]))
        #expect(try test.read(.index(0), at: 0, count: 10) == [2])
    }

    @Test func readWholeKnowsItsLimit() throws {
        let test = try TestStore()
        #expect(test.error(of: .readWhole(.superblock, limit: 10)) == .noEntry)
        try test.perform(.replace(.superblock, contents: [1, 2, 3, 4]))
        #expect(try test.contents(.superblock, limit: 4) == [1, 2, 3, 4])
        #expect(test.error(of: .readWhole(.superblock, limit: 3)) == .fileTooBig)
        #expect(mkfifo(test.path + "/index.1", 0o600) == 0)
        #expect(test.error(of: .readWhole(.index(1), limit: 100)) == .invalid)
    }

    @Test(arguments: ["/tmp", "/dev/shm"])
    func punchedRangesReadAsZeros(base: String) throws {
        let test = try TestStore(in: base)
        try test.perform(.write([FileWrite(file: object(1), offset: 0, slices: [slice(32, 7)])]))
        try test.perform(.punch(object(1), offset: UInt64(blockSize), count: UInt64(30 * blockSize)))
        let bytes = try test.contents(object(1))
        #expect(bytes.count == 32 * blockSize)
        let edge = [UInt8](repeating: 7, count: blockSize)
        let hole = [UInt8](repeating: 0, count: 30 * blockSize)
        let expected: [UInt8] = edge + hole + edge
        #expect(bytes == expected)
        #expect(test.error(of: .punch(object(2), offset: 0, count: 4096)) == .noEntry)
    }

    @Test func removedFilesAreGoneAndMissingOnesAreNoError() throws {
        let test = try TestStore()
        try test.perform(.write([FileWrite(file: object(1), offset: 0, slices: [slice(1, 7)])]))
        try test.perform(.remove([object(1), object(2), .journal(5)], syncDirectory: true))
        #expect(try test.files(.object) == [])
        #expect(test.error(of: .readWhole(object(1), limit: 1 << 20)) == .noEntry)
        // Made anew it is a new file.
        try test.perform(.write([FileWrite(file: object(1), offset: 4096, slices: [slice(1, 8)])]))
        #expect(try test.read(object(1), at: 0, count: 4096) == [UInt8](repeating: 0, count: 4096))
    }

    @Test func aRenamedFileIsFoundUnderItsNewNameOnly() throws {
        let test = try TestStore()
        let id = ObjectId(VolumeId(7), 1)
        try test.perform(.write([FileWrite(file: .object(id, .first), offset: 0, slices: [slice(1, 7)])]))
        try test.perform(.rename(.object(id, .first), to: .quarantine(id, .first)))
        #expect(try test.files(.object) == [])
        #expect(try test.files(.quarantine) == [.quarantine(id, .first)])
        #expect(try test.read(.quarantine(id, .first), at: 0, count: 10).count == 10)
        #expect(
            test.error(
                of: .read(.object(id, .first), offset: 0, buffer: Buffer(capacity: 4096), bufferOffset: 0, count: 1))
                == .noEntry)
        #expect(test.error(of: .rename(.object(id, .first), to: .quarantine(id, .first))) == .noEntry)
    }

    @Test func syncedAppendsMakeTheLogAndExtendIt() throws {
        let test = try TestStore()
        try test.perform(.appendSynced(.catalogLog(12), offset: 0, contents: [1, 2, 3]))
        try test.perform(.appendSynced(.catalogLog(12), offset: 3, contents: [4]))
        #expect(try test.contents(.catalogLog(12)) == [1, 2, 3, 4])
    }

    @Test func listsAreAscendingAndIgnoreForeignNames() throws {
        let test = try TestStore()
        let objects = (0..<40 as Range<UInt32>).map { object($0 * 7 % 40, generation: $0 % 3 + 1) }
        try test.perform(.write(objects.map { FileWrite(file: $0, offset: 0, slices: [slice(1, 1)]) }))
        for number in [300, 2, 0xffff_ffff_ffff] as [UInt64] {
            try test.perform(.appendSynced(.catalogLog(number), offset: 0, contents: [1]))
            try test.perform(.replace(.catalogState(number), contents: [1]))
            try test.perform(.createWritten(.journal(number), size: 4096))
        }
        let foreign = [
            "journal/x.segment", "journal/3.segment", "journal/0000000000000003.SEGMENT", "objects/00/README",
            "objects/00/00000007.00000001.00000001.tmp", "catalog/0000000000000001.state.new", "index.01", "index.300",
        ]
        for name in foreign { _ = try FileDescriptor.open(test.path + "/" + name, O_CREAT | O_WRONLY) }
        try test.perform(.replace(.index(1), contents: [1]))
        #expect(try test.files(.journal) == [2, 300, 0xffff_ffff_ffff].map { .journal($0) })
        #expect(try test.files(.catalogLog) == [2, 300, 0xffff_ffff_ffff].map { .catalogLog($0) })
        #expect(try test.files(.catalogState) == [2, 300, 0xffff_ffff_ffff].map { .catalogState($0) })
        #expect(try test.files(.index) == [.index(1)])
        #expect(try test.files(.quarantine) == [])
        let listed = try test.files(.object)
        #expect(Set(listed) == Set(objects) && listed.count == 40)
        #expect(listed == listed.sorted(by: StoreFile.isBefore))
    }

    @Test func syncSkipsMissingFiles() throws {
        let test = try TestStore()
        try test.perform(.write([FileWrite(file: object(1), offset: 0, slices: [slice(1, 1)])]))
        try test.perform(.sync([object(1), object(2), .journal(77)]))
        try test.perform(.sync([]))
    }

    @Test func pathsAreAsDocumented() {
        let id = ObjectId(VolumeId(0xab), 0xcd)
        let low = String(id.hash & 0xff | 0x100, radix: 16).dropFirst()
        #expect(StoreFile.object(id, Generation(2)).path == "objects/\(low)/000000ab.000000cd.00000002")
        #expect(StoreFile.quarantine(id, Generation(2)).path == "quarantine/000000ab.000000cd.00000002")
        #expect(StoreFile.journal(17).path == "journal/0000000000000011.segment")
        #expect(StoreFile.superblock.path == "superblock")
        #expect(StoreFile.index(1).path == "index.1")
        #expect(StoreFile.catalogState(1).path == "catalog/0000000000000001.state")
        #expect(StoreFile.catalogLog(1).path == "catalog/0000000000000001.log")
    }

    @Test func spaceIsThatOfTheFileSystem() throws {
        let test = try TestStore()
        #expect(test.store.space.capacityBytes > 0)
        #expect(test.store.space.availableBytes <= test.store.space.capacityBytes)
    }
}
