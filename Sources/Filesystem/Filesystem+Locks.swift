// fcntl and OFD locks: between the kernel's requests and the table that all mounts share.
import Fuse
import Model

extension Filesystem {
    private func held(_ request: FuseRequest, _ wish: FuseLockRequest) -> HeldLock {
        HeldLock(
            start: wish.lock.start, end: wish.lock.end, isWrite: wish.lock.kind == .write,
            owner: LockOwner(mount: mountId, owner: wish.owner), handle: wish.handle, pid: wish.lock.pid)
    }

    func getlk(_ request: FuseRequest, _ wish: FuseLockRequest, _ reply: FuseReply) {
        guard let node = node(request.node) else { return reply.error(.stale) }
        guard wish.lock.kind != .unlock else { return reply.error(.invalid) }
        if let other = uses.locks.test(node, held(request, wish)) {
            reply.lock(
                FuseLock(start: other.start, end: other.end, kind: other.isWrite ? .write : .read, pid: other.pid))
        } else {
            reply.lock(FuseLock(start: wish.lock.start, end: wish.lock.end, kind: .unlock, pid: 0))
        }
    }

    func setlk(_ request: FuseRequest, _ wish: FuseLockRequest, waits: Bool, _ reply: FuseReply) {
        guard let node = node(request.node) else { return reply.error(.stale) }
        guard !wish.isFlock else { return reply.error(.notImplemented) }
        let lock = held(request, wish)
        let answer: (Errno?) -> Void = { [self] error in
            if let error { return reply.error(error) }
            answerWhenKept { reply.success() }
        }
        if wish.lock.kind == .unlock {
            uses.locks.unlock(node, owner: lock.owner, start: lock.start, end: lock.end)
            answer(nil)
        } else if waits {
            uses.locks.lockWaiting(node, lock, unique: request.unique, answer)
        } else {
            answer(uses.locks.lock(node, lock))
        }
    }
}
