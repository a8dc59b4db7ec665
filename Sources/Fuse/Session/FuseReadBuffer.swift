// The memory that requests are read into: headers in one page, and behind it a buffer that is aligned to a block,
// so that the payload of a WRITE can be used where it landed. All of it is touched and locked before the kernel
// copies into it: a process killed during a page fault there would cost its client an EIO.
import Glibc
import Model
import Runtime

final class FuseReadBuffer {
    /// fuse_in_header and fuse_write_in.
    static let headerByteCount = FuseHeader.byteCount + FuseWrite.headerByteCount
    /// A request that is no WRITE may be as long as the largest write and a page.
    static let bodyByteCount = FuseWrite.maximumSize + blockSize
    /// Payloads up to this are copied into a buffer of their own, so that the large one stays.
    static let copyLimit = 65536

    private let pool: BufferPool
    /// Bodies have a pool of their own: what is locked stays locked while it goes round, and is unlocked when it is given
    /// back. In a pool shared with others ever more of it would be locked.
    private let bodies = BufferPool(limitBytes: 16 * FuseReadBuffer.bodyByteCount) { bytes, count in
        LockedMemory.prefault(bytes, count: count)
    } onFree: { bytes, count in
        munlock(bytes, count)
    }
    private let headers: UnsafeMutableRawPointer
    /// Where requests that are no WRITE are put together. Written by us only, so it needs no locking.
    private let scratch: UnsafeMutableRawPointer
    private(set) var body: Buffer

    init(pool: BufferPool) {
        self.pool = pool
        headers = .allocate(byteCount: 4096, alignment: 4096)
        scratch = .allocate(
            byteCount: FuseReadBuffer.headerByteCount + FuseReadBuffer.bodyByteCount, alignment: 4096)
        body = bodies.buffer(FuseReadBuffer.bodyByteCount)
        LockedMemory.prefault(headers, count: 4096)
    }
    deinit {
        munlock(headers, 4096)
        headers.deallocate()
        scratch.deallocate()
    }

    /// One request from the descriptor: its length, or minus errno.
    func read(_ descriptor: Int32) -> Int {
        withUnsafeTemporaryAllocation(of: iovec.self, capacity: 2) { vectors in
            vectors[0] = iovec(iov_base: headers, iov_len: FuseReadBuffer.headerByteCount)
            vectors[1] = iovec(iov_base: body.bytes, iov_len: FuseReadBuffer.bodyByteCount)
            let count = readv(descriptor, vectors.baseAddress, 2)
            return count >= 0 ? count : Int(-errno)
        }
    }

    /// For tests: what a read of these bytes leaves behind.
    func fill(_ bytes: UnsafeRawBufferPointer) -> Int {
        let count = min(bytes.count, FuseReadBuffer.headerByteCount + FuseReadBuffer.bodyByteCount)
        guard count > 0, let base = bytes.baseAddress else { return 0 }
        let head = min(count, FuseReadBuffer.headerByteCount)
        memcpy(headers, base, head)
        if count > head { memcpy(body.bytes, base + head, count - head) }
        return count
    }

    var headerBytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: headers, count: FuseReadBuffer.headerByteCount)
    }

    /// The whole request of `length` bytes in one piece.
    func contiguous(_ length: Int) -> UnsafeRawBufferPointer {
        let head = FuseReadBuffer.headerByteCount
        if length <= head { return UnsafeRawBufferPointer(start: headers, count: length) }
        memcpy(scratch, headers, head)
        memcpy(scratch + head, body.bytes, length - head)
        return UnsafeRawBufferPointer(start: scratch, count: length)
    }

    /// The payload of the WRITE that was read; afterwards the next request can be read.
    func takePayload(_ count: Int) -> FuseData {
        if count <= FuseReadBuffer.copyLimit {
            let buffer = pool.buffer(max(1, count))
            memcpy(buffer.bytes, body.bytes, count)
            return FuseData(buffer: buffer, offset: 0, count: count)
        }
        let buffer = body
        body = bodies.buffer(FuseReadBuffer.bodyByteCount)
        return FuseData(buffer: buffer, offset: 0, count: count)
    }

    /// Decodes what was read. The header is nil when not even that came whole.
    func decode(_ length: Int) -> (header: FuseHeader?, result: Result<FuseRequest, FuseDecodeError>) {
        guard length >= FuseHeader.byteCount else { return (nil, .failure(.truncated)) }
        var head = FuseReader(UnsafeRawBufferPointer(rebasing: headerBytes[0..<min(length, headerBytes.count)]))
        let header: FuseHeader
        do { header = try FuseHeader(&head) } catch { return (nil, .failure(error)) }
        guard header.length == length, header.extensionLength <= length - FuseHeader.byteCount else {
            return (header, .failure(.malformed))
        }
        do {
            if header.opcode == .write {
                let fixed = try FuseWriteHeader(&head)
                guard length - FuseReadBuffer.headerByteCount - header.extensionLength == fixed.size else {
                    throw FuseDecodeError.malformed
                }
                let write = fixed.bound(to: takePayload(fixed.size))
                return (header, .success(FuseRequest(header: header, body: .write(write))))
            }
            let whole = contiguous(length)
            var reader = FuseReader(
                UnsafeRawBufferPointer(rebasing: whole[FuseHeader.byteCount..<length - header.extensionLength]))
            return (
                header, .success(FuseRequest(header: header, body: try FuseRequest.decodeBody(header, &reader)))
            )
        } catch let error as FuseDecodeError {
            return (header, .failure(error))
        } catch {
            return (header, .failure(.malformed))
        }
    }
}
