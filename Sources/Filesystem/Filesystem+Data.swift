// Reading and writing: the hot path. A write's buffer goes to the service as it came from the kernel, a read's answer
// goes to the kernel from the buffer that the service filled; nothing is copied here and no catalog is asked.
import Fuse
import Glibc
import Model
import Replication

extension Filesystem {
    func read(_ number: UInt64, _ read: FuseRead, _ reply: FuseReply) {
        guard let file = file(read.handle, node: number, flags: read.flags) else {
            return reply.error(.badDescriptor)
        }
        let size = file.size
        guard read.offset < size, read.size > 0 else { return reply.data([]) }
        let count = Int(min(UInt64(read.size), size - read.offset))
        guard let view = file.view else {
            if case .text(let bytes) = file.content {
                return reply.data(Array(bytes[Int(read.offset)..<Int(read.offset) + count]))
            }
            return reply.error(.isDirectory)
        }
        let buffer = pool.buffer(count)
        let answer = inTime { error in
            if let error { return reply.error(error) }
            reply.data(buffer, offset: 0, count: count)
        }
        service.read(view, offset: read.offset, count: count, into: buffer, bufferOffset: 0, answer)
    }

    func write(_ number: UInt64, _ write: FuseWrite, _ reply: FuseReply) {
        guard let file = file(write.handle, node: number, flags: write.flags) else {
            return reply.error(.badDescriptor)
        }
        guard case .volume(let use) = file.content else { return writeToSnapshot(file, write, reply) }
        guard !isReadOnly else { return reply.error(.readOnly) }
        let count = write.data.count
        guard count > 0 else { return reply.written(0) }
        let (end, isTooFar) = write.offset.addingReportingOverflow(UInt64(count))
        let isDurable = options.isDurable || write.flags & OpenFile.synchronous != 0
        if end <= use.size, !isTooFar {
            let answer = inTime { [self] error in
                if let error { return reply.error(error) }
                wrote(use)
                reply.written(UInt64(count))
            }
            return service.write(
                use.id, offset: write.offset, count: count, from: write.data.buffer, bufferOffset: write.data.offset,
                durable: isDurable, answer)
        }
        use.extend(to: isTooFar ? .max : end) { [self] error in
            if let error { return reply.error(error) }
            let answer = inTime { [self] error in
                use.finishExtending(to: error == nil ? end : nil)
                if let error { return reply.error(error) }
                wrote(use)
                answerKept { reply.written(UInt64(count)) }
            }
            service.write(
                use.id, offset: write.offset, count: count, from: write.data.buffer, bufferOffset: write.data.offset,
                durable: isDurable, answer)
        }
    }

    @inline(__always)
    func wrote(_ use: VolumeUse) {
        let isFirst = use.modifyTime == nil
        use.modifyTime = clock.wallClock
        if isFirst { uses.attributesChanged(use.id, by: self) }
    }

    /// What `cp vol.img vol@tag.img` writes after the name was created: accepted where it equals what is there.
    private func writeToSnapshot(_ file: OpenFile, _ write: FuseWrite, _ reply: FuseReply) {
        let count = write.data.count
        guard file.comparesWrites, case .snapshot = file.content, let view = file.view, write.offset <= file.size,
            UInt64(count) <= file.size - write.offset
        else { return reply.error(file.view == nil ? .badDescriptor : .readOnly) }
        guard count > 0 else { return reply.written(0) }
        let buffer = pool.buffer(count)
        service.read(view, offset: write.offset, count: count, into: buffer, bufferOffset: 0) { error in
            if let error { return reply.error(error) }
            guard memcmp(buffer.bytes, write.data.bytes, count) == 0 else { return reply.error(.readOnly) }
            reply.written(UInt64(count))
        }
    }
}
