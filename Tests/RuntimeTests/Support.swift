// What the tests of this target share: a loop that ends or fails, a directory that goes away, operations that
// wait. Nothing here may wait without a limit.
import Glibc
import Model
import Testing

@testable import Runtime

/// A directory under /tmp (or `base`), removed with everything in it.
final class TemporaryDirectory {
    let path: String
    init(in base: String = "/tmp") {
        var template = Array((base + "/runtime-test-XXXXXX").utf8CString)
        precondition(mkdtemp(&template) != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    deinit { TemporaryDirectory.remove(path) }

    private static func remove(_ path: String) {
        for name in (try? Directory.names(path)) ?? [] {
            let entry = path + "/" + name
            if unlink(entry) != 0 { remove(entry) }
        }
        rmdir(path)
    }
}

/// A file system in memory, mounted on a directory for the time of a test; needs root, as the mount's tests do.
final class MountedDirectory {
    private let directory = TemporaryDirectory()
    var path: String { directory.path }
    init(_ type: String, _ options: String) throws {
        guard mount("none", directory.path, type, 0, options) == 0 else { throw Errno.last }
    }
    deinit { umount2(directory.path, Int32(MNT_DETACH)) }
}

extension EventLoop {
    /// Runs until `condition` holds; records a failure after 60 s.
    func run(until condition: @escaping () -> Bool, sourceLocation: SourceLocation = #_sourceLocation) {
        if condition() { return }
        // The hook stays; what it waits for must not, because it often holds the loop.
        var waiting: (() -> Bool)? = condition
        onEndOfBatch { [unowned self] in if let waiting, waiting() { self.stop() } }
        let limit = timer(afterMilliseconds: 60_000) { [unowned self] in
            Issue.record("nothing happened for 60 s", sourceLocation: sourceLocation)
            self.stop()
        }
        run()
        waiting = nil
        cancel(limit)
    }
}

/// A claimed store in a temporary directory, with its loop.
final class TestStore {
    let directory: TemporaryDirectory
    let loop: EventLoop
    let store: StoreDirectory
    var path: String { directory.path }

    init(in base: String = "/tmp", descriptorLimit: Int = 1024, faults: (any FaultInjector)? = nil) throws {
        directory = TemporaryDirectory(in: base)
        loop = try EventLoop()
        store = try StoreDirectory(
            StoreDirectory.claim(directory.path), loop: loop, descriptorLimit: descriptorLimit, faults: faults)
    }

    func result(of operation: DiskOperation) -> Result<DiskOutcome, Errno> {
        var result: Result<DiskOutcome, Errno>?
        store.submit(operation) { result = $0 }
        #expect(result == nil, "completed inside submit")
        loop.run(until: { result != nil })
        return result ?? .failure(Errno(-1))
    }
    func perform(_ operation: DiskOperation) throws { _ = try result(of: operation).get() }
    func error(of operation: DiskOperation) -> Errno? {
        if case .failure(let error) = result(of: operation) { return error }
        return nil
    }
    func files(_ kind: StoreFileKind) throws -> [StoreFile] {
        guard case .files(let files) = try result(of: .list(kind)).get() else { throw Errno.invalid }
        return files
    }
    func contents(_ file: StoreFile, limit: Int = 1 << 24) throws -> [UInt8] {
        guard case .contents(let bytes) = try result(of: .readWhole(file, limit: limit)).get() else {
            throw Errno.invalid
        }
        return bytes
    }
    /// What a read of `count` bytes brings.
    func read(_ file: StoreFile, at offset: UInt64, count: Int) throws -> [UInt8] {
        let buffer = Buffer(capacity: (count + blockSize) / blockSize * blockSize)
        let operation = DiskOperation.read(file, offset: offset, buffer: buffer, bufferOffset: 0, count: count)
        guard case .bytes(let got) = try result(of: operation).get() else { throw Errno.invalid }
        return Array(UnsafeRawBufferPointer(start: buffer.bytes, count: got))
    }
    /// Drops clean pages of `file` from the page cache.
    func makeCold(_ file: StoreFile) throws {
        let open = try FileDescriptor.open(path + "/" + file.path, O_RDONLY)
        try open.synchronize()
        #expect(posix_fadvise(open.raw, 0, 0, POSIX_FADV_DONTNEED) == 0)
    }
}

/// A buffer of `blocks` blocks filled by `byte`, as one slice.
func slice(_ blocks: Int, _ byte: UInt8) -> BufferSlice {
    let buffer = Buffer(capacity: blocks * blockSize)
    memset(buffer.bytes, Int32(byte), buffer.capacity)
    return BufferSlice(buffer, offset: 0, count: buffer.capacity)
}
func object(_ number: UInt32, generation: UInt32 = 1) -> StoreFile {
    .object(ObjectId(VolumeId(7), number), Generation(generation))
}
