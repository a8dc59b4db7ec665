// What a mount must know when another process takes it over: open files, locks, the true ends of files that are being
// appended to, and replaced nodes. Kept by the mount's keeper; the format carries a version.
import Catalog
import Model
import Replication

extension Filesystem {
    private static let stateVersion: UInt32 = 2

    package func exportState() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(Filesystem.stateVersion)
        let open = files.all.filter { $0.view != nil }
        writer.write(UInt32(open.count))
        for file in open {
            writer.write(file.number)
            writer.write(number(file.node))
            writer.write(file.flags)
            writer.write(file.unique)
            writer.write(file.comparesWrites)
        }
        let locks = uses.locks.locks(ofMount: mountId)
        writer.write(UInt32(locks.count))
        for (node, lock) in locks {
            writer.write(number(node))
            writer.write(lock.start)
            writer.write(lock.end)
            writer.write(lock.isWrite)
            writer.write(lock.owner.owner)
            writer.write(lock.handle)
            writer.write(lock.pid)
        }
        let reservations = uses.reservations
        writer.write(UInt32(reservations.count))
        for (id, reservation) in reservations {
            writer.write(id.rawValue)
            writer.write(reservation.size)
            writer.write(reservation.catalogSize)
            writer.write(reservation.wantedSize)
        }
        writer.write(UInt32(aliases.count))
        for (old, new) in aliases {
            writer.write(old.rawValue)
            writer.write(new.rawValue)
        }
        return writer.bytes
    }

    /// Takes up what an earlier process left, before the first request. What the catalog no longer knows is dropped.
    package func importState(_ bytes: [UInt8]) throws(DecodeError) {
        var reader = ByteReader(bytes)
        guard try reader.read(UInt32.self) == Filesystem.stateVersion else {
            throw .badValue("the kept state of the mount is of another version")
        }
        struct Kept {
            let handle: UInt64, node: UInt64, flags: UInt32, unique: UInt64, comparesWrites: Bool
        }
        var kept: [Kept] = []
        for _ in 0..<(try reader.readCount(minimumSize: 29)) {
            kept.append(
                Kept(
                    handle: try reader.read(), node: try reader.read(), flags: try reader.read(),
                    unique: try reader.read(), comparesWrites: try reader.readBool()))
        }
        var locks: [(UInt64, HeldLock)] = []
        for _ in 0..<(try reader.readCount(minimumSize: 45)) {
            let node: UInt64 = try reader.read()
            let start: UInt64 = try reader.read()
            let end: UInt64 = try reader.read()
            let isWrite = try reader.readBool()
            let owner: UInt64 = try reader.read()
            locks.append(
                (
                    node,
                    HeldLock(
                        start: start, end: end, isWrite: isWrite, owner: LockOwner(mount: mountId, owner: owner),
                        handle: try reader.read(), pid: try reader.read())
                ))
        }
        var reservations: [(VolumeId, VolumeUse.Reservation)] = []
        for _ in 0..<(try reader.readCount(minimumSize: 28)) {
            let id = VolumeId(try reader.read())
            reservations.append(
                (
                    id,
                    VolumeUse.Reservation(
                        size: try reader.read(), catalogSize: try reader.read(), wantedSize: try reader.read())
                ))
        }
        var replaced: [(VolumeId, VolumeId)] = []
        for _ in 0..<(try reader.readCount(minimumSize: 8)) {
            replaced.append((VolumeId(try reader.read()), VolumeId(try reader.read())))
        }

        for (old, new) in replaced { aliases[old] = new }
        for (id, reservation) in reservations {
            if let record = service.catalog.state.visibleVolume(id) { uses.use(record).restore(reservation) }
        }
        for entry in kept {
            guard let node = node(entry.node), let content = content(of: node) else { continue }
            let file = OpenFile(
                number: entry.handle, node: node, content: content, flags: entry.flags, unique: entry.unique,
                comparesWrites: entry.comparesWrites)
            if files.restore(file) { count(file) }
        }
        for (number, lock) in locks {
            if let node = node(number), namespace.exists(node) { uses.locks.restore(node, lock) }
        }
        // A file that nobody has open any more gets its true size for good.
        for (id, _) in reservations {
            if let use = uses.existing(id), use.openCount == 0 {
                uses.persist(use) { [uses] in uses.forgetIfIdle(id) }
            }
        }
        stateChanged()
    }
}
