// Listing directories. A listing is taken once, when the directory is opened or read from its start, so that names which
// come and go meanwhile neither repeat nor hide others.
import Fuse
import Model

extension Filesystem {
    func opendir(_ request: FuseRequest, _ reply: FuseReply) {
        guard let node = node(request.node), namespace.exists(node) else { return reply.error(.stale) }
        guard node.isDirectory else { return reply.error(.notDirectory) }
        let file = OpenFile(
            number: files.nextNumber(), node: node, content: .directory([]), flags: 0, unique: request.unique)
        files.insert(file)
        reply.opened(handle: file.number)
    }

    func readdir(_ number: UInt64, _ read: FuseReadDirectory, withEntries: Bool, _ reply: FuseReply) {
        guard let node = node(number), node.isDirectory else { return reply.error(.stale) }
        var entries: [Namespace.Entry] = []
        let file = files.file(read.handle)
        if read.offset > 0, let file, case .directory(let kept) = file.content { entries = kept }
        if entries.isEmpty {
            let parent: Node = node
            entries =
                [Namespace.Entry(name: ".", node: node), Namespace.Entry(name: "..", node: parent)]
                + namespace.list(node)
            file?.content = .directory(entries)
        }
        var listing = FuseListing(limit: read.size, pool: pool)
        var index = Int(min(read.offset, UInt64(entries.count)))
        while index < entries.count {
            let entry = entries[index]
            let inode = self.number(entry.node)
            let isDirectory = entry.node.isDirectory
            let next = UInt64(index + 1)
            let fits: Bool
            if withEntries {
                // Node 0: the kernel learns the name only, and looks up what it wants to know more of.
                let attributes = FuseAttributes(
                    inode: inode, size: 0, blocks: 0, mode: isDirectory ? 0o040000 : 0o100000)
                fits = listing.add(
                    name: entry.name,
                    entry: FuseEntry(
                        node: 0, entryValidMilliseconds: 0, attributesValidMilliseconds: 0, attributes: attributes),
                    nextOffset: next)
            } else {
                fits = listing.add(
                    name: entry.name, inode: inode, type: isDirectory ? FuseListing.directory : FuseListing.file,
                    nextOffset: next)
            }
            guard fits else { break }
            index += 1
        }
        reply.listing(listing)
    }
}
