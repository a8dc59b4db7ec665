// One store's disk for the real process: what the page cache can answer is done at once on the loop's thread,
// what may block goes to a lane of its own kind, so that a journal sync never waits behind a checkpoint.
// Completions come from the loop's queue, never from inside `submit`.
import CSheep
import Glibc
import Model

package final class StoreDirectory: Disk {
    package private(set) var space: DiskSpace
    package private(set) var loss: Errno?
    package let maximumBufferedWrite: Int
    package let path: String

    private let loop: EventLoop
    /// Nil when it is closed.
    private var files: StoreFiles?
    private var canReadCached = true
    private var hasWritten = true
    private var refresh: LoopTimer?
    private var hasBeenSeen = false

    // Threads start at the first job.
    private let syncLane: DiskThread
    private let dataLane: DiskThread
    private let readLane: DiskThread
    private let backgroundLane: DiskThread

    /// Makes the directory's folders if they are missing. At most about `descriptorLimit` files are kept open.
    package init(
        _ claim: StoreClaim, loop: EventLoop, descriptorLimit: Int = 1024, faults: (any FaultInjector)? = nil
    ) throws(SheepError) {
        let files: StoreFiles
        do {
            files = try StoreFiles(claim: claim, descriptorLimit: descriptorLimit, faults: faults)
        } catch {
            throw SheepError(
                error, what: "cannot prepare the store \(claim.path)", why: error.message,
                remedy: "check the directory's permissions and its disk")
        }
        self.files = files
        maximumBufferedWrite = files.maximumBufferedWrite
        self.loop = loop
        path = claim.path
        syncLane = DiskThread(name: "store-sync", poster: loop.poster)
        dataLane = DiskThread(name: "store-data", poster: loop.poster)
        readLane = DiskThread(name: "store-read", poster: loop.poster, width: 4)
        backgroundLane = DiskThread(name: "store-back", poster: loop.poster)
        space = files.space() ?? DiskSpace(capacityBytes: 0, availableBytes: 0)
        refreshLater(afterMilliseconds: 1000)
    }

    /// Open descriptors of store files, for status.
    package var openDescriptorCount: Int { files?.openCount ?? 0 }

    /// Closes all files and gives the claim back, once what is on its way has ended. What is asked afterwards fails
    /// (EBADF).
    package func close() {
        files = nil
        if let refresh { loop.cancel(refresh) }
        refresh = nil
    }

    package func submit(
        _ operation: DiskOperation, _ completion: @escaping (Result<DiskOutcome, Errno>) -> Void
    ) {
        guard let files else { return loop.enqueue { completion(.failure(.badDescriptor)) } }
        switch operation {
        case .append(let write):
            noteWrite()
            let result = diskResult { () throws(Errno) in
                try files.write(write, creating: false)
                return .done
            }
            loop.enqueue { completion(result) }
        case .read(let file, let offset, let buffer, let bufferOffset, let count):
            precondition(bufferOffset >= 0 && count >= 0 && bufferOffset + count <= buffer.capacity)
            let outcome = readCached(files, file, offset, buffer.bytes + bufferOffset, count)
            if outcome.isComplete {
                loop.enqueue { completion(.success(.bytes(outcome.bytes))) }
            } else {
                let rest = DiskOperation.read(
                    file, offset: offset + UInt64(outcome.bytes), buffer: buffer,
                    bufferOffset: bufferOffset + outcome.bytes, count: count - outcome.bytes)
                readLane.submit(StoreJob(files, rest, already: outcome.bytes, completion))
            }
        case .sync(let named):
            lane(forSyncOf: named).submit(StoreJob(files, operation, completion))
        case .appendSynced:
            noteWrite()
            syncLane.submit(StoreJob(files, operation, completion))
        case .write, .writeDirect, .punch, .remove, .rename:
            noteWrite()
            dataLane.submit(StoreJob(files, operation, completion))
        case .createWritten, .replace, .readWhole, .list:
            noteWrite()
            backgroundLane.submit(StoreJob(files, operation, completion))
        }
    }

    private func lane(forSyncOf files: [StoreFile]) -> DiskThread {
        for file in files {
            switch file {
            case .journal, .catalogLog, .catalogState: continue
            case .superblock, .object, .index, .quarantine: return backgroundLane
            }
        }
        return syncLane
    }

    /// Reads what needs no disk. Complete: all of it, or all up to the end of the file.
    private func readCached(
        _ files: StoreFiles, _ file: StoreFile, _ offset: UInt64, _ bytes: UnsafeMutableRawPointer, _ count: Int
    ) -> (bytes: Int, isComplete: Bool) {
        // An injected fault is given out by the thread.
        guard canReadCached, files.faults == nil || files.faults!.fault(for: .read, file) == nil,
            let open = files.openCached(file)
        else { return (0, false) }
        defer { files.release(open) }
        var done = 0
        while done < count {
            let from = off_t(offset) + off_t(done)
            let got =
                files.isMemoryFileSystem
                ? pread(open.descriptor, bytes + done, count - done, from)
                : csheep_pread_cached(open.descriptor, bytes + done, count - done, from)
            if got == 0 { return (done, true) }
            if got < 0 {
                if errno == EINTR { continue }
                if errno == EOPNOTSUPP { canReadCached = false }
                return (done, false)
            }
            done += got
        }
        return (done, true)
    }

    /// Looks a second after something was written, else every ten seconds.
    private func refreshLater(afterMilliseconds delay: UInt64) {
        if let refresh { loop.cancel(refresh) }
        refresh = loop.timer(afterMilliseconds: delay) { [weak self] in self?.refreshSpace() }
    }
    private func noteWrite() {
        guard !hasWritten else { return }
        hasWritten = true
        refreshLater(afterMilliseconds: 1000)
    }
    private func refreshSpace() {
        guard let files else { return }
        hasWritten = false
        refreshLater(afterMilliseconds: 10_000)
        readLane.submit({ (files.space(), files.isThere()) }) { [weak self] space, isThere in
            guard let self else { return }
            if let space { self.space = space }
            if isThere {
                hasBeenSeen = true
            } else if hasBeenSeen {
                loss = .noEntry
            }
        }
    }
}

/// One operation on its way through a lane.
private final class StoreJob: DiskJob, @unchecked Sendable {
    private let files: StoreFiles
    private let operation: DiskOperation
    /// Bytes that were read before.
    private let already: Int
    private var completion: ((Result<DiskOutcome, Errno>) -> Void)?
    private var result: Result<DiskOutcome, Errno> = .success(.done)

    init(
        _ files: StoreFiles, _ operation: DiskOperation, already: Int = 0,
        _ completion: @escaping (Result<DiskOutcome, Errno>) -> Void
    ) {
        self.files = files
        self.operation = operation
        self.already = already
        self.completion = completion
    }

    override func perform() { result = diskResult { () throws(Errno) in try outcome() } }
    override func complete() {
        let completion = self.completion!
        self.completion = nil
        completion(result)
    }

    private func outcome() throws(Errno) -> DiskOutcome {
        switch operation {
        case .append(let write): try files.write(write, creating: false)
        case .write(let writes): for write in writes { try files.write(write, creating: true) }
        case .writeDirect(let writes): for write in writes { try files.writeDirect(write) }
        case .read(let file, let offset, let buffer, let bufferOffset, let count):
            return .bytes(already + (try files.read(file, offset, buffer.bytes + bufferOffset, count)))
        case .sync(let named): try files.sync(named)
        case .createWritten(let file, let size): try files.createWritten(file, size: size)
        case .replace(let file, let contents): try files.replace(file, contents: contents)
        case .readWhole(let file, let limit): return .contents(try files.readWhole(file, limit: limit))
        case .punch(let file, let offset, let count): try files.punch(file, offset: offset, count: count)
        case .remove(let named, let syncDirectory): try files.remove(named, syncDirectory: syncDirectory)
        case .rename(let from, let to): try files.rename(from, to: to)
        case .appendSynced(let file, let offset, let contents):
            try files.appendSynced(file, offset: offset, contents: contents)
        case .list(let kind): return .files(try files.list(kind))
        }
        return .done
    }
}

private func diskResult(_ body: () throws(Errno) -> DiskOutcome) -> Result<DiskOutcome, Errno> {
    do { return .success(try body()) } catch { return .failure(error) }
}
