// A file system for tests and measurements: a root with one file, whose bytes lie in a mapped file and so outlive
// this process, and one empty directory. Handles and node ids are constants: a successor knows them.
import Fuse
import Glibc
import Model

final class MemoryFiles: FuseHandler {
    static let rootNode: UInt64 = 1
    static let fileNode: UInt64 = 2
    static let directoryNode: UInt64 = 3
    private let memory: UnsafeMutableRawPointer
    private let size: Int
    private let pool: BufferPool
    private let uid: UInt32
    private var lockOwner: UInt64?
    private var waiting: [(owner: UInt64, reply: FuseReply)] = []

    init(path: String, pool: BufferPool) {
        let file = open(path, O_RDWR)
        precondition(file >= 0, "the data file is missing")
        size = Int(lseek(file, 0, SEEK_END))
        memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
        precondition(memory != MAP_FAILED, "the data file cannot be mapped")
        close(file)
        self.pool = pool
        uid = geteuid()
    }

    private func attributes(_ node: UInt64) -> FuseAttributes? {
        switch node {
        case MemoryFiles.rootNode, MemoryFiles.directoryNode:
            FuseAttributes(inode: node, size: 0, blocks: 0, mode: 0o040755, linkCount: 2, uid: uid)
        case MemoryFiles.fileNode:
            FuseAttributes(inode: node, size: UInt64(size), blocks: UInt64(size / 512), mode: 0o100644, uid: uid)
        default: nil
        }
    }
    private func entry(_ node: UInt64) -> FuseEntry {
        FuseEntry(
            node: node, entryValidMilliseconds: 3_600_000, attributesValidMilliseconds: 3_600_000,
            attributes: attributes(node)!)
    }

    func handle(_ request: FuseRequest, reply: FuseReply) {
        switch request.body {
        case .read(let read):
            let offset = Int(min(read.offset, UInt64(size)))
            let count = min(read.size, size - offset)
            // Copied, not mapped: what is answered from must be in this process's memory already.
            let buffer = pool.buffer(max(1, count))
            memcpy(buffer.bytes, memory + offset, count)
            reply.data(buffer, offset: 0, count: count)
        case .write(let write):
            guard write.offset <= UInt64(size), write.data.count <= size - Int(write.offset) else {
                return reply.error(.noSpace)
            }
            memcpy(memory + Int(write.offset), write.data.bytes, write.data.count)
            reply.written(UInt64(write.data.count))
        case .lookup(let name):
            guard request.node == MemoryFiles.rootNode else { return reply.error(.noEntry) }
            switch name {
            case "data.img": reply.entry(entry(MemoryFiles.fileNode))
            case "directory": reply.entry(entry(MemoryFiles.directoryNode))
            default: reply.error(.noEntry)
            }
        case .getattr, .setattr:
            guard let attributes = attributes(request.node) else { return reply.error(.stale) }
            reply.attributes(attributes, validMilliseconds: 3_600_000)
        case .open: reply.opened(handle: 1, flags: [.directIO, .parallelDirectWrites])
        case .opendir: reply.opened(handle: 2)
        case .readdir(let read): list(request.node, read, withAttributes: false, reply)
        case .readdirplus(let read): list(request.node, read, withAttributes: true, reply)
        case .statfs:
            let blocks = UInt64(size / 4096)
            reply.statistics(
                FuseStatistics(blocks: blocks, freeBlocks: 0, availableBlocks: 0, files: 3, freeFiles: 0))
        case .getxattr(let name, _):
            if name == "user.test" { reply.extendedAttribute(Array("sheep".utf8)) } else { reply.error(.noData) }
        case .listxattr: reply.extendedAttribute(Array("user.test\0".utf8))
        case .lseek(let seek): reply.position(seek.whence == FuseSeek.data ? seek.offset : UInt64(size))
        case .getlk(let wish):
            var lock = wish.lock
            lock.kind = lockOwner == nil || lockOwner == wish.owner ? .unlock : .write
            reply.lock(lock)
        case .setlk(let wish): setLock(wish, waits: false, reply)
        case .setlkw(let wish): setLock(wish, waits: true, reply)
        case .interrupt(let unique):
            reply.none()
            if let index = waiting.firstIndex(where: { $0.reply.unique == unique }) {
                waiting.remove(at: index).reply.error(.interrupted)
            }
        case .forget: reply.none()
        case .fsync, .fsyncdir, .flush, .releasedir, .access, .destroy: reply.success()
        case .release(let release):
            unlock(release.lockOwner)
            reply.success()
        default: reply.error(.notImplemented)
        }
    }

    private func list(_ node: UInt64, _ read: FuseReadDirectory, withAttributes: Bool, _ reply: FuseReply) {
        var listing = FuseListing(limit: read.size, pool: pool)
        let names: [(String, UInt64)] =
            node == MemoryFiles.rootNode
            ? [("data.img", MemoryFiles.fileNode), ("directory", MemoryFiles.directoryNode)] : []
        for (index, (name, target)) in names.enumerated() where index >= Int(read.offset) {
            let next = UInt64(index + 1)
            let fits =
                withAttributes
                ? listing.add(name: name, entry: entry(target), nextOffset: next)
                : listing.add(
                    name: name, inode: target,
                    type: target == MemoryFiles.fileNode ? FuseListing.file : FuseListing.directory, nextOffset: next)
            if !fits { break }
        }
        reply.listing(listing)
    }

    // One lock for the whole file is enough to show waiting, granting and interrupting.
    private func setLock(_ wish: FuseLockRequest, waits: Bool, _ reply: FuseReply) {
        if wish.lock.kind == .unlock {
            unlock(wish.owner)
            reply.success()
        } else if lockOwner == nil || lockOwner == wish.owner {
            lockOwner = wish.owner
            reply.success()
        } else if waits {
            waiting.append((wish.owner, reply))
        } else {
            reply.error(.tryAgain)
        }
    }
    private func unlock(_ owner: UInt64) {
        guard lockOwner == owner else { return }
        lockOwner = nil
        guard !waiting.isEmpty else { return }
        let next = waiting.removeFirst()
        lockOwner = next.owner
        next.reply.success()
    }
}
