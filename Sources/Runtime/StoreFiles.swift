// The blocking half of a store's disk: every operation as system calls on the files of one directory, from any
// thread. It must never retry a sync that failed: the kernel has marked the pages clean, what they held is lost.
import CSheep
import Glibc
import Model
import Synchronization

final class StoreFiles: Sendable {
    let isMemoryFileSystem: Bool
    let maximumBufferedWrite: Int
    let faults: (any FaultInjector)?

    private let claim: StoreClaim
    private let root: FileDescriptor
    private let cache: DescriptorCache
    private let folders = Locked(FolderStates())
    private let hasFailed = Atomic<Bool>(false)
    private let directRefused = Atomic<Bool>(false)

    /// For each folder: how many entries it got, and up to which of them it was synced. The first sync in a folder
    /// always syncs it, because a killed process before this one may have left entries.
    private struct FolderStates {
        var created = [UInt64](repeating: 1, count: StoreFolder.count)
        var synced = [UInt64](repeating: 0, count: StoreFolder.count)
    }
    private static let ext4Type: UInt64 = 0xef53
    private static let memoryType: UInt64 = 0x0102_1994
    private static let zeros = Buffer(zeros: 65536)

    init(claim: StoreClaim, descriptorLimit: Int, faults: (any FaultInjector)?) throws(Errno) {
        self.claim = claim
        self.faults = faults
        root = try Directory.open(claim.path)
        cache = DescriptorCache(limit: descriptorLimit)
        let type = csheep_file_system_type(root.raw)
        isMemoryFileSystem = type == StoreFiles.memoryType
        maximumBufferedWrite = type == StoreFiles.ext4Type ? 65536 : 1 << 20
        try makeFolders()
    }

    private func makeFolders() throws(Errno) {
        // The last folder is made when all others are there and durable.
        if (try? Directory.open(StoreFolder.quarantine.path, in: root.raw)) != nil { return }
        try Directory.create("objects", in: root.raw)
        for index in 0..<StoreFolder.quarantine.index {
            try Directory.create(StoreFolder(index: index).path, in: root.raw)
        }
        try Directory.synchronize("objects", in: root.raw)
        try root.synchronize()
        try Directory.create(StoreFolder.quarantine.path, in: root.raw)
        try root.synchronize()
    }

    var openCount: Int { cache.openCount }

    /// Capacity and what is left of the file system.
    func space() -> DiskSpace? {
        var state = statvfs()
        guard fstatvfs(root.raw, &state) == 0 else { return nil }
        return DiskSpace(
            capacityBytes: UInt64(state.f_blocks) * UInt64(state.f_frsize),
            availableBytes: UInt64(state.f_bavail) * UInt64(state.f_frsize))
    }

    /// Whether the names are still there. Files that are open go on working after their directory was deleted, so
    /// that nothing else would tell of it.
    func isThere() -> Bool { faccessat(root.raw, StoreFile.superblock.path, F_OK, 0) == 0 || errno != ENOENT }

    // MARK: Open files

    /// Opens `file` without waiting for a disk; nil when that needs a disk, or fails.
    func openCached(_ file: StoreFile) -> OpenFile? {
        if let open = cache.acquire(file) { return open }
        let descriptor = csheep_open_cached(root.raw, file.path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
        return descriptor >= 0 ? cache.insert(file, descriptor) : nil
    }

    func release(_ open: OpenFile) { cache.release(open, wrote: false) }

    private func open(_ file: StoreFile, creating: Bool) throws(Errno) -> OpenFile {
        if let open = cache.acquire(file) { return open }
        do {
            return cache.insert(file, try openPath(file, O_RDWR))
        } catch {
            guard creating, error == .noEntry else { throw error }
        }
        try check(.create, file)
        let made = try openPath(file, O_RDWR | O_CREAT)
        folders.withLock { $0.created[file.folder.index] += 1 }
        return cache.insert(file, made)
    }

    /// Opens it anew. A process that is out of descriptors gives up those of files not in use.
    private func openPath(_ file: StoreFile, _ flags: Int32) throws(Errno) -> Int32 {
        do {
            return try FileDescriptor.open(file.path, flags | O_NOFOLLOW, in: root.raw).release()
        } catch {
            guard error == Errno(EMFILE) || error == Errno(ENFILE) else { throw error }
            cache.closeUnused()
            return try FileDescriptor.open(file.path, flags | O_NOFOLLOW, in: root.raw).release()
        }
    }

    private func check(_ operation: DiskOperationKind, _ file: StoreFile?) throws(Errno) {
        if let faults, let fault = faults.fault(for: operation, file) { throw fault }
    }

    // MARK: Reading

    func read(
        _ file: StoreFile, _ offset: UInt64, _ bytes: UnsafeMutableRawPointer, _ count: Int
    ) throws(Errno) -> Int {
        try check(.read, file)
        let open = try open(file, creating: false)
        defer { cache.release(open, wrote: false) }
        return try readFully(open.descriptor, bytes, count, at: offset)
    }

    func readWhole(_ file: StoreFile, limit: Int) throws(Errno) -> [UInt8] {
        try check(.read, file)
        let open = try FileDescriptor.open(file.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, in: root.raw)
        let state = try open.status()
        guard state.st_mode & S_IFMT == S_IFREG else { throw .invalid }
        guard state.st_size <= limit else { throw .fileTooBig }
        var failure: Errno?
        let contents = [UInt8](unsafeUninitializedCapacity: Int(state.st_size)) { buffer, count in
            count = 0
            guard let base = buffer.baseAddress else { return }
            do throws(Errno) { count = try open.readFully(base, buffer.count, at: 0) } catch { failure = error }
        }
        if let failure { throw failure }
        return contents
    }

    func list(_ kind: StoreFileKind) throws(Errno) -> [StoreFile] {
        try check(.list, nil)
        var files: [StoreFile] = []
        let paths: [StoreFolder]
        switch kind {
        case .journal: paths = [.journal]
        case .catalogState, .catalogLog: paths = [.catalog]
        case .quarantine: paths = [.quarantine]
        case .index: paths = [.root]
        case .object: paths = (0...255).map(StoreFolder.init(index:))
        }
        for folder in paths {
            try Directory.forEachName(folder.path, in: root.raw) { name in
                if let file = StoreFile.parse(name, kind: kind), file.folder == folder { files.append(file) }
            }
        }
        return files.sorted(by: StoreFile.isBefore)
    }

    // MARK: Writing

    /// Through the page cache.
    func write(_ write: FileWrite, creating: Bool) throws(Errno) {
        try check(.write, write.file)
        let open = try open(write.file, creating: creating && write.file.isCreatedByWrite)
        defer { cache.release(open, wrote: true) }
        try writeSlices(open.descriptor, write.slices, at: write.offset, limit: maximumBufferedWrite)
    }

    /// Past the page cache, where the file system lets us.
    func writeDirect(_ write: FileWrite) throws(Errno) {
        precondition(
            write.offset % UInt64(blockSize) == 0
                && write.slices.allSatisfy { $0.offset % blockSize == 0 && $0.count % blockSize == 0 },
            "a direct write is whole blocks")
        guard !directRefused.load(ordering: .relaxed) else { return try self.write(write, creating: true) }
        try check(.write, write.file)
        let open = try open(write.file, creating: write.file.isCreatedByWrite)
        defer { cache.release(open, wrote: true) }
        do {
            try writeSlices(try direct(open), write.slices, at: write.offset, limit: 1 << 20)
        } catch {
            guard error == .invalid || error == .notSupported else { throw error }
            directRefused.store(true, ordering: .relaxed)
            try writeSlices(open.descriptor, write.slices, at: write.offset, limit: maximumBufferedWrite)
        }
    }

    private func direct(_ open: OpenFile) throws(Errno) -> Int32 {
        let known = cache.direct(open)
        if known >= 0 { return known }
        return cache.insertDirect(open, try openPath(open.file, O_RDWR | csheep_o_direct()))
    }

    private func writeSlices(
        _ descriptor: Int32, _ slices: [BufferSlice], at start: UInt64, limit: Int
    ) throws(Errno) {
        let capacity = min(slices.count, 64)
        var slice = 0
        var done = 0  // bytes of that slice
        var offset = start
        while true {
            while slice < slices.count, slices[slice].count == done {
                slice += 1
                done = 0
            }
            guard slice < slices.count else { return }
            let (put, failure) = withUnsafeTemporaryAllocation(of: iovec.self, capacity: capacity) { parts in
                var count = 0
                var room = limit
                var skip = done
                for next in slices[slice...] {
                    guard count < capacity, room > 0 else { break }
                    let length = min(next.count - skip, room)
                    parts[count] = iovec(
                        iov_base: next.buffer.bytes + next.offset + skip, iov_len: length)
                    count += 1
                    room -= length
                    skip = 0
                }
                let put = csheep_pwritev(descriptor, parts.baseAddress!, Int32(count), off_t(offset))
                return (put, errno)
            }
            if put < 0 {
                if failure == EINTR { continue }
                throw Errno(failure)
            }
            guard put > 0 else { throw .inputOutput }
            offset += UInt64(put)
            var left = put
            while left > 0 {
                let step = min(left, slices[slice].count - done)
                done += step
                left -= step
                if done == slices[slice].count {
                    slice += 1
                    done = 0
                }
            }
        }
    }

    /// A journal segment: its blocks are written, so that a later sync has no extents to convert.
    func createWritten(_ file: StoreFile, size: UInt64) throws(Errno) {
        try checkAlive()
        try check(.write, file)
        let isNew = faccessat(root.raw, file.path, F_OK, 0) != 0
        let open = try open(file, creating: true)
        defer { cache.release(open, wrote: false) }
        do throws(Errno) {
            _ = try retrying { ftruncate(open.descriptor, off_t(size)) }
            if csheep_preallocate(open.descriptor, off_t(size)) != 0, errno == ENOSPC { throw Errno.noSpace }
            var offset: UInt64 = 0
            while offset < size {
                let count = Int(min(UInt64(StoreFiles.zeros.capacity), size - offset))
                try writeFully(open.descriptor, StoreFiles.zeros.bytes, count, at: offset, limit: count)
                offset += UInt64(count)
            }
            try synchronize(open.descriptor, file)
            try synchronizeFolder(file.folder)
        } catch {
            if isNew { try? remove([file], syncDirectory: false) }
            throw error
        }
    }

    func replace(_ file: StoreFile, contents: [UInt8]) throws(Errno) {
        try checkAlive()
        try check(.write, file)
        let temporary = file.path + ".new"
        do {
            let open = try FileDescriptor.open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, in: root.raw)
            try write(contents, to: open.raw, at: 0)
            try synchronize(open.raw, file)
        } catch {
            unlinkat(root.raw, temporary, 0)
            throw error
        }
        cache.forget(file)
        _ = try retrying { renameat(root.raw, temporary, root.raw, file.path) }
        cache.forget(file)
        folders.withLock { $0.created[file.folder.index] += 1 }
        try synchronizeFolder(file.folder)
    }

    func appendSynced(_ file: StoreFile, offset: UInt64, contents: [UInt8]) throws(Errno) {
        try checkAlive()
        try check(.write, file)
        let open = try open(file, creating: true)
        defer { cache.release(open, wrote: false) }
        try write(contents, to: open.descriptor, at: offset)
        try synchronize(open.descriptor, file)
        try synchronizeFolder(file.folder)
    }

    private func write(_ contents: [UInt8], to descriptor: Int32, at offset: UInt64) throws(Errno) {
        var failure: Errno?
        contents.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            do throws(Errno) {
                try writeFully(descriptor, base, bytes.count, at: offset, limit: maximumBufferedWrite)
            } catch { failure = error }
        }
        if let failure { throw failure }
    }

    func punch(_ file: StoreFile, offset: UInt64, count: UInt64) throws(Errno) {
        try check(.write, file)
        guard count > 0 else { return }
        let open = try open(file, creating: false)
        defer { cache.release(open, wrote: true) }
        do {
            _ = try retrying { csheep_punch(open.descriptor, off_t(offset), off_t(count)) }
        } catch {
            guard error == .notSupported else { throw error }
            try overwriteWithZeros(open.descriptor, offset, count)
        }
    }

    /// Where the file system cannot make holes.
    private func overwriteWithZeros(_ descriptor: Int32, _ start: UInt64, _ count: UInt64) throws(Errno) {
        var state = stat()
        guard fstat(descriptor, &state) == 0 else { throw .last }
        var offset = start
        let end = min(start + count, UInt64(state.st_size))
        while offset < end {
            let step = Int(min(UInt64(StoreFiles.zeros.capacity), end - offset))
            try writeFully(descriptor, StoreFiles.zeros.bytes, step, at: offset, limit: step)
            offset += UInt64(step)
        }
    }

    // MARK: Names

    func remove(_ files: [StoreFile], syncDirectory: Bool) throws(Errno) {
        if syncDirectory { try checkAlive() }
        var changed: Set<StoreFolder> = []
        for file in files {
            try check(.remove, file)
            cache.forget(file)
            if unlinkat(root.raw, file.path, 0) != 0, errno != ENOENT { throw .last }
            cache.forget(file)
            if syncDirectory { changed.insert(file.folder) }
        }
        folders.withLock { states in for folder in changed { states.created[folder.index] += 1 } }
        for folder in changed { try synchronizeFolder(folder) }
    }

    func rename(_ from: StoreFile, to: StoreFile) throws(Errno) {
        try checkAlive()
        try check(.remove, from)
        for file in [from, to] { cache.forget(file) }
        _ = try retrying { renameat(root.raw, from.path, root.raw, to.path) }
        for file in [from, to] { cache.forget(file) }
        folders.withLock { states in
            states.created[to.folder.index] += 1
            if from.folder != to.folder { states.created[from.folder.index] += 1 }
        }
        // The new name first: between the two a crash may show both, never neither.
        try synchronizeFolder(to.folder)
        try synchronizeFolder(from.folder)
    }

    // MARK: Syncing

    func sync(_ files: [StoreFile]) throws(Errno) {
        try checkAlive()
        var touched: [StoreFolder] = []
        if files.count > 1 { startWriting(files) }
        for file in files {
            let open: OpenFile
            do { open = try self.open(file, creating: false) } catch {
                if error == .noEntry { continue }
                throw error
            }
            defer { cache.release(open, wrote: false) }
            cache.markClean(open)
            try synchronize(open.descriptor, file)
            if !touched.contains(file.folder) { touched.append(file.folder) }
        }
        for folder in touched { try synchronizeFolder(folder) }
    }

    /// Lets the kernel begin to write all of `files`, so that it allocates their space in one transaction of the file
    /// system and not in one for each: with ext4 that makes the sync of many new files several times as quick. The sync
    /// that follows waits, and learns of every error.
    private func startWriting(_ files: [StoreFile]) {
        for file in files {
            guard let open = try? open(file, creating: false) else { continue }
            csheep_start_writing(open.descriptor)
            cache.release(open, wrote: false)
        }
    }

    private func checkAlive() throws(Errno) {
        if hasFailed.load(ordering: .acquiring) { throw .inputOutput }
    }

    private func synchronize(_ descriptor: Int32, _ file: StoreFile) throws(Errno) {
        try synchronizing(file) { () throws(Errno) in _ = try retrying { fdatasync(descriptor) } }
    }

    /// Syncs the folder if it got or lost entries since it was last synced.
    private func synchronizeFolder(_ folder: StoreFolder) throws(Errno) {
        // Only what was counted before the sync began is covered by it; the mark moves when it has succeeded.
        let (created, synced) = folders.withLock { ($0.created[folder.index], $0.synced[folder.index]) }
        guard synced < created else { return }
        try synchronizing(nil) { () throws(Errno) in
            if folder == .root {
                try root.synchronize()
            } else {
                try Directory.synchronize(folder.path, in: root.raw)
            }
        }
        folders.withLock { $0.synced[folder.index] = max($0.synced[folder.index], created) }
    }

    private func synchronizing(_ file: StoreFile?, _ body: () throws(Errno) -> Void) throws(Errno) {
        do {
            try checkAlive()
            if let faults {
                try check(.sync, file)
                if faults.dropSyncs { return }
            }
            try body()
        } catch {
            hasFailed.store(true, ordering: .releasing)
            throw error
        }
    }
}

extension StoreFile {
    /// Whether a plain write makes the file; a journal segment must have been made, written, before.
    fileprivate var isCreatedByWrite: Bool {
        switch self {
        case .object, .index: true
        case .superblock, .journal, .catalogState, .catalogLog, .quarantine: false
        }
    }
}

extension Buffer {
    fileprivate convenience init(zeros count: Int) {
        self.init(capacity: count)
        fillZero(0..<count)
    }
}
