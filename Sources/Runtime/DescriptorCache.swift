// Open files of one store, least recently used closed first, shared by the loop's thread and the disk threads.
// A file in use is never closed; one that was removed or renamed meanwhile is closed when its last user is done.
import CSheep
import Glibc
import Model

/// An open file, maybe a second time for O_DIRECT. All fields but the two descriptors belong to the cache.
final class OpenFile: @unchecked Sendable {
    let file: StoreFile
    let descriptor: Int32
    /// -1: not open.
    fileprivate(set) var direct: Int32 = -1
    fileprivate var users = 1
    fileprivate var isDead = false
    /// Written and not synced since: another file is closed in preference, so that a write error that the
    /// kernel noted on the open file cannot get lost.
    fileprivate var isDirty = false
    // Neighbours in the order of use; unowned by the list, the dictionary owns.
    fileprivate unowned(unsafe) var newer: OpenFile?
    fileprivate unowned(unsafe) var older: OpenFile?

    fileprivate init(_ file: StoreFile, _ descriptor: Int32) {
        self.file = file
        self.descriptor = descriptor
    }
    deinit {
        close(descriptor)
        if direct >= 0 { close(direct) }
    }
}

final class DescriptorCache: Sendable {
    private struct State {
        var files: [StoreFile: OpenFile] = [:]
        unowned(unsafe) var newest: OpenFile?
        unowned(unsafe) var oldest: OpenFile?
        var descriptors = 0
    }
    private let state = Locked(State())
    /// Open descriptors above which unused ones are closed.
    private let limit: Int
    /// Files looked at for one that can be closed without risk.
    private static let searchDepth = 32

    init(limit: Int) {
        precondition(limit > 0)
        self.limit = limit
    }

    var openCount: Int { state.withLock { $0.descriptors } }

    /// The open file, held for the caller until `release`; nil if it is not open.
    func acquire(_ file: StoreFile) -> OpenFile? {
        state.withLock { state in
            guard let found = state.files[file] else { return nil }
            found.users += 1
            DescriptorCache.touch(found, &state)
            return found
        }
    }

    /// Takes over `descriptor`, unless another thread was faster: then that one's is used and this one closed.
    func insert(_ file: StoreFile, _ descriptor: Int32) -> OpenFile {
        let fresh = OpenFile(file, descriptor)
        return state.withLock { state in
            if let found = state.files[file] {
                found.users += 1
                return found
            }
            state.files[file] = fresh
            state.descriptors += 1
            DescriptorCache.linkNewest(fresh, &state)
            evict(&state)
            return fresh
        }
    }

    /// Adds the O_DIRECT descriptor; the one that is to be used comes back.
    func insertDirect(_ open: OpenFile, _ descriptor: Int32) -> Int32 {
        state.withLock { state in
            if open.direct >= 0 {
                close(descriptor)
            } else {
                open.direct = descriptor
                if !open.isDead { state.descriptors += 1 }
                evict(&state)
            }
            return open.direct
        }
    }

    /// The O_DIRECT descriptor, -1 if there is none.
    func direct(_ open: OpenFile) -> Int32 { state.withLock { _ in open.direct } }

    func release(_ open: OpenFile, wrote: Bool) {
        state.withLock { state in
            open.users -= 1
            if wrote { open.isDirty = true }
            if state.descriptors > limit { evict(&state) }
        }
    }

    /// Closes every file that nobody uses.
    func closeUnused() {
        state.withLock { state in
            for open in state.files.values where open.users == 0 { DescriptorCache.drop(open, &state) }
        }
    }

    /// To be called before a sync: what is written from now on makes the file dirty again.
    func markClean(_ open: OpenFile) { state.withLock { _ in open.isDirty = false } }

    /// Forgets `file`, because its name is about to mean something else.
    func forget(_ file: StoreFile) {
        state.withLock { state in
            guard let found = state.files[file] else { return }
            DescriptorCache.drop(found, &state)
        }
    }

    private func evict(_ state: inout State) {
        while state.descriptors > limit {
            var candidate = state.oldest
            var fallback: OpenFile?
            var looked = 0
            while let open = candidate, open.users > 0 || open.isDirty {
                if open.users == 0, fallback == nil { fallback = open }
                looked += 1
                // Files in use are few (one for each thread); dirty ones may be many.
                if fallback != nil, looked >= DescriptorCache.searchDepth {
                    candidate = nil
                    break
                }
                candidate = open.newer
            }
            guard let victim = candidate ?? fallback else { return }
            DescriptorCache.drop(victim, &state)
        }
    }

    private static func drop(_ open: OpenFile, _ state: inout State) {
        unlink(open, &state)
        open.isDead = true
        state.descriptors -= open.direct >= 0 ? 2 : 1
        // Whoever uses it still holds a reference; the last one closes it.
        state.files[open.file] = nil
    }
    private static func touch(_ open: OpenFile, _ state: inout State) {
        guard state.newest !== open else { return }
        unlink(open, &state)
        linkNewest(open, &state)
    }
    private static func linkNewest(_ open: OpenFile, _ state: inout State) {
        open.newer = nil
        open.older = state.newest
        state.newest?.newer = open
        state.newest = open
        if state.oldest == nil { state.oldest = open }
    }
    private static func unlink(_ open: OpenFile, _ state: inout State) {
        if let newer = open.newer { newer.older = open.older } else { state.newest = open.older }
        if let older = open.older { older.newer = open.newer } else { state.oldest = open.newer }
        open.newer = nil
        open.older = nil
    }
}
