// Who may ask: root, the daemon's own user, and the members of the group `sheep`. Judged by what the kernel says of
// the peer at its connect; nothing that the peer itself says counts.
import Glibc
import Model

package struct AdminAccess: Sendable {
    /// The daemon's own user.
    package let ownUid: UInt32
    /// The group `sheep`; nil when there is none.
    package let sheepGroup: UInt32?

    package init(ownUid: UInt32 = geteuid(), sheepGroup: UInt32? = AdminAccess.groupId(named: "sheep")) {
        self.ownUid = ownUid
        self.sheepGroup = sheepGroup
    }

    /// `groups`: the peer's group and its supplementary ones.
    package func allows(uid: UInt32, groups: [UInt32]) -> Bool {
        uid == 0 || uid == ownUid || (sheepGroup.map(groups.contains) ?? false)
    }

    /// The group that the socket gets: only root can give it away, or who is in it.
    var socketGroup: UInt32? { ownUid == 0 ? sheepGroup : nil }

    /// The supplementary groups of who is at the other end of a Unix socket (SO_PEERGROUPS, since Linux 4.13).
    package static func supplementaryGroups(of socket: Int32) -> [UInt32] {
        // The kernel allows 65,536 groups; it answers ERANGE with the size that it needs.
        var groups = [gid_t](repeating: 0, count: 64)
        for _ in 0..<2 {
            var size = socklen_t(groups.count * MemoryLayout<gid_t>.size)
            let outcome = groups.withUnsafeMutableBytes {
                getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, $0.baseAddress, &size)
            }
            let count = Int(size) / MemoryLayout<gid_t>.size
            if outcome == 0 { return Array(groups.prefix(count)) }
            guard errno == ERANGE, count <= 65_536 else { return [] }
            groups = [gid_t](repeating: 0, count: count)
        }
        return []
    }

    package static func groupId(named name: String) -> UInt32? {
        var entry = group()
        var found: UnsafeMutablePointer<group>?
        var room = [CChar](repeating: 0, count: 65_536)
        guard getgrnam_r(name, &entry, &room, room.count, &found) == 0, let found else { return nil }
        return found.pointee.gr_gid
    }

    /// Makes the socket's directory if it is missing. One in /tmp must be ours alone: somebody else could have made it.
    func makeDirectory(of path: String) throws(SheepError) {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return }
        let directory = String(path[..<slash])
        if mkdir(directory, ownUid == 0 ? 0o755 : 0o700) == 0 { return }
        let reason = errno
        var state = stat()
        guard reason == EEXIST, stat(directory, &state) == 0, state.st_mode & S_IFMT == S_IFDIR else {
            throw SheepError(
                Errno(reason), what: "the administrator's socket was not made",
                why: "its directory \(directory) cannot be made: \(String(cString: strerror(reason)))",
                remedy: "make it, or choose another path: --socket PATH")
        }
        guard !directory.hasPrefix("/tmp/") || state.st_uid == ownUid else {
            throw SheepError(
                .accessDenied, what: "the administrator's socket was not made",
                why: "its directory \(directory) belongs to somebody else (uid \(state.st_uid))",
                remedy: "choose another path: --socket PATH")
        }
    }
}
