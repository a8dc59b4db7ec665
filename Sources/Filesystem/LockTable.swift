// Byte-range locks (fcntl and OFD) between everybody on this host who has a file open through any mount.
// Pure: who waits is answered by closures that the caller passes in; nothing here waits, and nobody waits for ever in a
// circle, because the request that would close one is refused (POSIX: EDEADLK).
import Fuse
import Model

/// One holder of locks: a process's files (POSIX) or an open file description (OFD), as the kernel of a mount names it.
struct LockOwner: Hashable, Sendable {
    let mount: UInt64
    let owner: UInt64
}

struct HeldLock: Hashable, Sendable {
    var start: UInt64
    /// The last byte.
    var end: UInt64
    var isWrite: Bool
    var owner: LockOwner
    /// The open file it was taken through.
    var handle: UInt64
    var pid: UInt32

    func overlaps(_ start: UInt64, _ end: UInt64) -> Bool { self.start <= end && start <= self.end }
}

final class LockTable {
    private struct Waiter {
        let lock: HeldLock
        let unique: UInt64
        let answer: (Errno?) -> Void
    }
    private var held: [Node: [HeldLock]] = [:]
    private var waiting: [Node: [Waiter]] = [:]

    /// All locks of a mount, for what outlives the process.
    func locks(ofMount mount: UInt64) -> [(Node, HeldLock)] {
        held.flatMap { node, locks in locks.filter { $0.owner.mount == mount }.map { (node, $0) } }
    }
    func restore(_ node: Node, _ lock: HeldLock) { held[node, default: []].append(lock) }

    private func conflict(_ node: Node, _ wish: HeldLock) -> HeldLock? {
        held[node]?.first {
            $0.owner != wish.owner && ($0.isWrite || wish.isWrite) && $0.overlaps(wish.start, wish.end)
        }
    }

    /// The lock in the way of `wish`, if any.
    func test(_ node: Node, _ wish: HeldLock) -> HeldLock? { conflict(node, wish) }

    /// Takes a lock, replacing what the owner has in that range. EAGAIN when another has it.
    func lock(_ node: Node, _ wish: HeldLock) -> Errno? {
        guard conflict(node, wish) == nil else { return .tryAgain }
        replace(node, wish.owner, wish.start, wish.end, by: wish)
        wake(node)  // a write lock that became a read lock may let others in
        return nil
    }

    /// Takes a lock now or when it is free; `answer` comes from inside the call or a later one. EDEADLK when the
    /// wait would never end.
    func lockWaiting(_ node: Node, _ wish: HeldLock, unique: UInt64, _ answer: @escaping (Errno?) -> Void) {
        // A request that is sent again takes its own place.
        waiting[node]?.removeAll { $0.unique == unique && $0.lock.owner.mount == wish.owner.mount }
        if lock(node, wish) == nil { return answer(nil) }
        guard !wouldDeadlock(node, wish) else { return answer(.deadlock) }
        waiting[node, default: []].append(Waiter(lock: wish, unique: unique, answer: answer))
    }

    func unlock(_ node: Node, owner: LockOwner, start: UInt64, end: UInt64) {
        replace(node, owner, start, end, by: nil)
        wake(node)
    }

    /// The close of a descriptor drops all locks that its process has in the file.
    /// False: it had none.
    @discardableResult
    func drop(_ node: Node, owner: LockOwner) -> Bool {
        guard let locks = held[node], locks.contains(where: { $0.owner == owner }) else { return false }
        set(node, locks.filter { $0.owner != owner })
        wake(node)
        return true
    }
    /// The last close of an open file drops what was locked through it (the kernel sends no unlock for OFD locks).
    func drop(_ node: Node, mount: UInt64, handle: UInt64) {
        guard let locks = held[node] else { return }
        let rest = locks.filter { $0.owner.mount != mount || $0.handle != handle }
        guard rest.count != locks.count else { return }
        set(node, rest)
        wake(node)
    }
    /// A mount that is gone holds nothing and waits for nothing.
    func drop(mount: UInt64) {
        for node in Array(waiting.keys) {
            waiting[node]?.removeAll { $0.lock.owner.mount == mount }
            if waiting[node]?.isEmpty ?? false { waiting[node] = nil }
        }
        for node in Array(held.keys) {
            set(node, (held[node] ?? []).filter { $0.owner.mount != mount })
            wake(node)
        }
    }

    /// The caller of a waiting request got a signal.
    func interrupt(mount: UInt64, unique: UInt64) {
        for (node, waiters) in waiting {
            guard let index = waiters.firstIndex(where: { $0.unique == unique && $0.lock.owner.mount == mount })
            else { continue }
            let waiter = waiters[index]
            waiting[node]?.remove(at: index)
            if waiting[node]?.isEmpty ?? false { waiting[node] = nil }
            waiter.answer(.interrupted)
            return
        }
    }

    private func set(_ node: Node, _ locks: [HeldLock]) { held[node] = locks.isEmpty ? nil : locks }

    /// Cuts the range out of the owner's locks and puts `lock` there, joined with equal neighbours.
    private func replace(
        _ node: Node, _ owner: LockOwner, _ start: UInt64, _ end: UInt64, by lock: HeldLock?
    ) {
        var result: [HeldLock] = []
        var joined = lock
        for old in held[node] ?? [] {
            guard old.owner == owner else {
                result.append(old)
                continue
            }
            if let new = joined, old.isWrite == new.isWrite,
                old.overlaps(new.start == 0 ? 0 : new.start - 1, new.end == .max ? .max : new.end + 1)
            {
                joined?.start = min(old.start, new.start)
                joined?.end = max(old.end, new.end)
                continue
            }
            guard old.overlaps(start, end) else {
                result.append(old)
                continue
            }
            if old.start < start {
                var left = old
                left.end = start - 1
                result.append(left)
            }
            if old.end > end {
                var right = old
                right.start = end + 1
                result.append(right)
            }
        }
        if let joined { result.append(joined) }
        set(node, result)
    }

    /// Gives free ranges to those who wait, in the order they came.
    private func wake(_ node: Node) {
        guard let waiters = waiting[node] else { return }
        var still: [Waiter] = []
        var granted: [Waiter] = []
        for waiter in waiters {
            if conflict(node, waiter.lock) == nil {
                replace(node, waiter.lock.owner, waiter.lock.start, waiter.lock.end, by: waiter.lock)
                granted.append(waiter)
            } else {
                still.append(waiter)
            }
        }
        waiting[node] = still.isEmpty ? nil : still
        for waiter in granted { waiter.answer(nil) }
    }

    /// Whether one of those that `wish` would wait for waits, over any number of steps, for the one who wishes.
    private func wouldDeadlock(_ node: Node, _ wish: HeldLock) -> Bool {
        var open: [(Node, HeldLock)] = [(node, wish)]
        var seen: Set<LockOwner> = []
        while let (node, lock) = open.popLast() {
            for other in held[node] ?? []
            where other.owner != lock.owner && (other.isWrite || lock.isWrite) && other.overlaps(lock.start, lock.end) {
                if other.owner == wish.owner { return true }
                guard seen.insert(other.owner).inserted else { continue }
                for (node, waiters) in waiting {
                    for waiter in waiters where waiter.lock.owner == other.owner { open.append((node, waiter.lock)) }
                }
            }
        }
        return false
    }
}
