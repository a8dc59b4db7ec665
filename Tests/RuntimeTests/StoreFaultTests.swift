// What a store's disk does when the disk does not: injected errors, a failed sync, a full disk, the order of
// syncs, few descriptors, two processes.
import CSheep
import Glibc
import Model
import Testing

@testable import Runtime

/// Notes what it is asked for, and fails what it is told to.
private final class Recorder: FaultInjector {
    struct State {
        var asked: [(DiskOperationKind, StoreFile?)] = []
        var failing: [DiskOperationKind: Errno] = [:]
        var dropSyncs = false
    }
    let state = Locked(State())

    func fault(for operation: DiskOperationKind, _ file: StoreFile?) -> Errno? {
        state.withLock {
            $0.asked.append((operation, file))
            return $0.failing[operation]
        }
    }
    var dropSyncs: Bool { state.withLock { $0.dropSyncs } }
    func fail(_ operation: DiskOperationKind, _ error: Errno?) { state.withLock { $0.failing[operation] = error } }

    /// The syncs since the last call: a file's name, or "folder".
    func takeSyncs() -> [String] {
        state.withLock { state in
            defer { state.asked = [] }
            return state.asked.filter { $0.0 == .sync }.map { $0.1?.name ?? "folder" }
        }
    }
}

private func write(_ file: StoreFile, _ byte: UInt8 = 1) -> DiskOperation {
    .write([FileWrite(file: file, offset: 0, slices: [slice(1, byte)])])
}

struct StoreFaultTests {
    @Test func aNewFilesFolderIsSyncedAfterItAndOnlyOnce() throws {
        let recorder = Recorder()
        let test = try TestStore(faults: recorder)
        try test.perform(write(object(1)))
        try test.perform(.sync([object(1)]))
        #expect(recorder.takeSyncs() == [object(1).name, "folder"])
        try test.perform(write(object(1)))
        try test.perform(.sync([object(1)]))
        #expect(recorder.takeSyncs() == [object(1).name])
        // Another generation of the same object lies in the same folder.
        try test.perform(write(object(1, generation: 2)))
        try test.perform(.sync([object(1, generation: 2), object(1)]))
        #expect(recorder.takeSyncs() == [object(1, generation: 2).name, object(1).name, "folder"])
    }

    @Test func durableOperationsSyncTheFileBeforeItsFolder() throws {
        let recorder = Recorder()
        let test = try TestStore(faults: recorder)
        try test.perform(.createWritten(.journal(1), size: 4096))
        #expect(recorder.takeSyncs() == [StoreFile.journal(1).name, "folder"])
        try test.perform(.replace(.superblock, contents: [1]))
        #expect(recorder.takeSyncs() == ["superblock", "folder"])
        try test.perform(.appendSynced(.catalogLog(1), offset: 0, contents: [1]))
        #expect(recorder.takeSyncs() == [StoreFile.catalogLog(1).name, "folder"])
        try test.perform(.appendSynced(.catalogLog(1), offset: 1, contents: [1]))
        #expect(recorder.takeSyncs() == [StoreFile.catalogLog(1).name])
        try test.perform(write(object(1)))
        #expect(recorder.takeSyncs() == [])
        try test.perform(.rename(object(1), to: .quarantine(ObjectId(VolumeId(7), 1), .first)))
        #expect(recorder.takeSyncs() == ["folder", "folder"])
        try test.perform(.remove([.quarantine(ObjectId(VolumeId(7), 1), .first)], syncDirectory: false))
        #expect(recorder.takeSyncs() == [])
        try test.perform(.remove([.journal(1)], syncDirectory: true))
        #expect(recorder.takeSyncs() == ["folder"])
    }

    @Test func injectedErrorsAreGivenOut() throws {
        let recorder = Recorder()
        let test = try TestStore(faults: recorder)
        try test.perform(write(object(1)))
        let read = DiskOperation.read(object(1), offset: 0, buffer: Buffer(capacity: 4096), bufferOffset: 0, count: 9)
        recorder.fail(.read, .inputOutput)
        #expect(test.error(of: read) == .inputOutput)
        #expect(test.error(of: .readWhole(object(1), limit: 1 << 20)) == .inputOutput)
        recorder.fail(.read, nil)
        #expect(test.error(of: read) == nil)
        recorder.fail(.write, .noSpace)
        #expect(test.error(of: write(object(1))) == .noSpace)
        #expect(test.error(of: .append(FileWrite(file: .journal(1), offset: 0, slices: []))) == .noSpace)
        recorder.fail(.write, nil)
        #expect(test.error(of: write(object(1))) == nil)
    }

    @Test func afterAFailedSyncNoSyncEverSucceeds() throws {
        let recorder = Recorder()
        let test = try TestStore(faults: recorder)
        try test.perform(write(object(1)))
        try test.perform(.sync([object(1)]))
        recorder.fail(.sync, .noSpace)
        #expect(test.error(of: .sync([object(1)])) == .noSpace)
        recorder.fail(.sync, nil)
        _ = recorder.takeSyncs()
        #expect(test.error(of: .sync([object(1)])) == .inputOutput)
        #expect(test.error(of: .sync([])) == .inputOutput)
        #expect(test.error(of: .appendSynced(.catalogLog(1), offset: 0, contents: [1])) == .inputOutput)
        #expect(test.error(of: .createWritten(.journal(1), size: 4096)) == .inputOutput)
        #expect(test.error(of: .replace(.superblock, contents: [1])) == .inputOutput)
        #expect(test.error(of: .remove([object(1)], syncDirectory: true)) == .inputOutput)
        #expect(recorder.takeSyncs() == [], "a failed sync was tried again")
        // What is there stays readable.
        #expect(try test.read(object(1), at: 0, count: 10).count == 10)
    }

    @Test func droppedSyncsReportSuccess() throws {
        let recorder = Recorder()
        recorder.state.withLock { $0.dropSyncs = true }
        let test = try TestStore(faults: recorder)
        try test.perform(write(object(1)))
        try test.perform(.sync([object(1)]))
    }

    @Test func aFailedSegmentIsNotLeftBehind() throws {
        let recorder = Recorder()
        let test = try TestStore(faults: recorder)
        recorder.fail(.sync, .inputOutput)
        #expect(test.error(of: .createWritten(.journal(1), size: 65536)) == .inputOutput)
        #expect(try test.files(.journal) == [])
    }

    @Test func faultsComeFromTheControlFile() throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/faults"
        func set(_ text: String) throws {
            let file = try FileDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC)
            try file.writeFully(text, at: 0)
        }
        let faults = FaultFile(path: path)
        let (a, b) = (faults.injector(store: "/a"), faults.injector(store: "/b"))
        #expect(a.fault(for: .read, nil) == nil)
        try set("# a comment\neio-read /a\nenospc\n\ndrop-syncs /b # another\n")
        #expect(a.fault(for: .read, nil) == nil, "read before reload")
        faults.reload()
        #expect(a.fault(for: .read, nil) == .inputOutput)
        #expect(b.fault(for: .read, nil) == nil)
        #expect(b.fault(for: .write, nil) == .noSpace)
        #expect(a.fault(for: .sync, nil) == nil)
        #expect(b.dropSyncs && !a.dropSyncs)
        try set("eio-sync /a\neio-write")
        faults.reload()
        #expect(a.fault(for: .sync, nil) == .inputOutput)
        #expect(a.fault(for: .write, nil) == .inputOutput)
        #expect(b.fault(for: .sync, nil) == nil)
        unlink(path)
        faults.reload()
        #expect(a.fault(for: .sync, nil) == nil)
    }

    @Test func aRealFullDiskIsNoSpaceAndWhatIsThereStaysReadable() throws {
        let mounted = try MountedDirectory("tmpfs", "size=4m")
        let test = try TestStore(in: mounted.path)
        try test.perform(write(object(1), 9))
        let large = FileWrite(file: object(2), offset: 0, slices: [slice(512, 1), slice(1024, 2)])
        #expect(test.error(of: .write([large])) == .noSpace)
        #expect(test.error(of: .createWritten(.journal(1), size: 8 << 20)) == .noSpace)
        #expect(try test.files(.journal) == [])
        #expect(try test.read(object(1), at: 0, count: blockSize) == [UInt8](repeating: 9, count: blockSize))
        try test.perform(.sync([object(1)]))
    }

    @Test func spaceFollowsWhatIsWritten() throws {
        let mounted = try MountedDirectory("tmpfs", "size=4m")
        let test = try TestStore(in: mounted.path)
        let before = test.store.space
        #expect(before.capacityBytes == 4 << 20)
        try test.perform(.createWritten(.journal(1), size: 1 << 20))
        test.loop.run(until: { test.store.space.availableBytes + 1 << 20 <= before.availableBytes })
        #expect(test.store.space.capacityBytes == 4 << 20)
    }

    /// ramfs knows neither O_DIRECT nor RWF_NOWAIT nor holes.
    @Test func aSimpleFileSystemIsServedByPlainCalls() throws {
        let mounted = try MountedDirectory("ramfs", "")
        let test = try TestStore(in: mounted.path)
        for number in 0..<2 as Range<UInt32> {
            let direct = FileWrite(file: object(number), offset: 4096, slices: [slice(40, 5)])
            try test.perform(.writeDirect([direct]))
            let five = [UInt8](repeating: 5, count: 40 * blockSize)
            #expect(try test.read(object(number), at: 4096, count: 41 * blockSize) == five)
        }
        try test.perform(.punch(object(0), offset: 8192, count: 1 << 20))
        let block = [UInt8](repeating: 5, count: blockSize)
        let expected: [UInt8] = block + [UInt8](repeating: 0, count: 39 * blockSize)
        #expect(try test.read(object(0), at: 4096, count: 41 * blockSize) == expected)
        try test.perform(.createWritten(.journal(1), size: 100_000))
        #expect(try test.contents(.journal(1)).count == 100_000)
    }

    @Test func fewDescriptorsServeManyFilesOnAllLanes() throws {
        let test = try TestStore(descriptorLimit: 8)
        let count: UInt32 = 300
        var completions = 0
        var failures: [Errno] = []
        func submit(_ operation: DiskOperation) {
            test.store.submit(operation) { result in
                if case .failure(let error) = result { failures.append(error) }
                completions += 1
            }
        }
        for number in 0..<count { submit(write(object(number), UInt8(truncatingIfNeeded: number))) }
        test.loop.run(until: { completions == Int(count) })
        #expect(failures == [])
        // Data, background and read lane and the loop's thread side by side.
        completions = 0
        var wrong = 0
        for number in 0..<count {
            let direct = FileWrite(file: object(number), offset: UInt64(blockSize), slices: [slice(1, 3)])
            submit(number % 2 == 0 ? .writeDirect([direct]) : .write([direct]))
            submit(.sync([object(count - 1 - number)]))
            let buffer = Buffer(capacity: blockSize)
            let read = DiskOperation.read(
                object(number * 7 % count), offset: 0, buffer: buffer, bufferOffset: 0, count: blockSize)
            test.store.submit(read) { result in
                let expected = UInt8(truncatingIfNeeded: number * 7 % count)
                guard case .success(.bytes(blockSize)) = result, buffer.bytes.load(as: UInt8.self) == expected else {
                    wrong += 1
                    completions += 1
                    return
                }
                completions += 1
            }
        }
        test.loop.run(until: { completions == Int(count) * 3 })
        #expect(failures == [])
        #expect(wrong == 0)
        #expect(test.store.openDescriptorCount <= 8)
        for number in 0..<count {
            #expect(try test.read(object(number), at: UInt64(blockSize), count: 1) == [3])
        }
    }

    @Test func aFileInUseIsNotClosedByTheCache() throws {
        let directory = TemporaryDirectory()
        func open(_ name: String) throws -> Int32 {
            try FileDescriptor.open(directory.path + "/" + name, O_RDWR | O_CREAT).release()
        }
        let cache = DescriptorCache(limit: 2)
        let held = cache.insert(object(0), try open("0"))
        for number in 1..<10 as Range<UInt32> {
            cache.release(cache.insert(object(number), try open("\(number)")), wrote: false)
        }
        #expect(cache.openCount == 2)
        #expect(fcntl(held.descriptor, F_GETFD) >= 0)
        // Forgotten while in use: still open for its user, opened anew for the next.
        cache.forget(object(0))
        #expect(cache.acquire(object(0)) == nil)
        #expect(fcntl(held.descriptor, F_GETFD) >= 0)
        cache.release(held, wrote: true)
        #expect(cache.openCount <= 2)
    }

    @Test func aProcessOutOfDescriptorsClosesUnusedFiles() throws {
        let directory = TemporaryDirectory()
        let cache = DescriptorCache(limit: 100)
        let held = cache.insert(object(0), try FileDescriptor.open(directory.path + "/0", O_RDWR | O_CREAT).release())
        for number in 1..<50 as Range<UInt32> {
            let descriptor = try FileDescriptor.open(directory.path + "/\(number)", O_RDWR | O_CREAT).release()
            cache.release(cache.insert(object(number), descriptor), wrote: true)
        }
        cache.closeUnused()
        #expect(cache.openCount == 1)
        #expect(fcntl(held.descriptor, F_GETFD) >= 0)
        cache.release(held, wrote: false)
    }

    @Test func writtenFilesOutliveCleanOnesInTheCache() throws {
        let directory = TemporaryDirectory()
        let cache = DescriptorCache(limit: 4)
        for number in 0..<20 as Range<UInt32> {
            let descriptor = try FileDescriptor.open(directory.path + "/\(number)", O_RDWR | O_CREAT).release()
            cache.release(cache.insert(object(number), descriptor), wrote: number < 3)
        }
        for number in 0..<3 as Range<UInt32> {
            let open = cache.acquire(object(number))
            #expect(open != nil)
            if let open { cache.release(open, wrote: false) }
        }
        #expect(cache.openCount == 4)
    }
}

struct StoreClaimTests {
    @Test func aClaimedStoreIsRefusedWithTheHoldersNumber() throws {
        let directory = TemporaryDirectory()
        let claim = try StoreDirectory.claim(directory.path)
        let error = #expect(throws: SheepError.self) { try StoreDirectory.claim(directory.path) }
        #expect(error?.errno == .busy)
        #expect(error?.why.contains("process \(getpid()) ") == true)
        withExtendedLifetime(claim) {}
    }

    @Test func aClaimEndsWithItsObject() throws {
        let directory = TemporaryDirectory()
        var claim: StoreClaim? = try StoreDirectory.claim(directory.path)
        #expect(claim?.path == directory.path)
        claim = nil
        claim = try StoreDirectory.claim(directory.path)
        #expect(claim != nil)
    }

    @Test func aClaimEndsWithTheOtherProcessHoweverItEnds() throws {
        let directory = TemporaryDirectory()
        let lock = directory.path + "/lock"
        var child: pid_t = 0
        let words = ["flock", "--no-fork", lock, "sleep", "60"]
        let arguments = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        #expect(posix_spawnp(&child, "flock", nil, nil, arguments, nil) == 0)
        // The claim succeeds until the other process has the lock.
        var refused: SheepError?
        for _ in 0..<5000 where refused == nil {
            do { _ = try StoreDirectory.claim(directory.path) } catch { refused = error }
            usleep(1000)
        }
        #expect(refused?.errno == .busy)
        kill(child, SIGKILL)
        var status: Int32 = 0
        #expect(waitpid(child, &status, 0) == child)
        _ = try StoreDirectory.claim(directory.path)
    }

    @Test func aClaimMakesTheDirectoryButNotItsParent() throws {
        let directory = TemporaryDirectory()
        let claim = try StoreDirectory.claim(directory.path + "/new/")
        withExtendedLifetime(claim) {}
        let error = #expect(throws: SheepError.self) { try StoreDirectory.claim(directory.path + "/a/b") }
        #expect(error?.errno == .noEntry)
        _ = try FileDescriptor.open(directory.path + "/file", O_CREAT | O_WRONLY)
        #expect(throws: SheepError.self) { try StoreDirectory.claim(directory.path + "/file") }
    }
}
