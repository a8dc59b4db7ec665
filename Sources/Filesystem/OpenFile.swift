// Open files of one mount and the numbers they go by. The numbers survive the process (see Filesystem+State); an
// unknown one is no disaster, because every request names its node too.
import Catalog
import Model
import Replication

final class OpenFile {
    enum Content {
        case volume(VolumeUse)
        case snapshot(SnapshotReference, size: UInt64)
        case text([UInt8])
        case directory([Namespace.Entry])
    }
    let number: UInt64
    /// The node that the kernel knows it by.
    let node: Node
    var content: Content
    /// The flags of the open call.
    let flags: UInt32
    /// The request that opened it: one that is sent again finds its file.
    let unique: UInt64
    /// Made by creating a snapshot's name: writes are taken where they equal what the snapshot has.
    let comparesWrites: Bool

    init(
        number: UInt64, node: Node, content: Content, flags: UInt32, unique: UInt64, comparesWrites: Bool = false
    ) {
        self.number = number
        self.node = node
        self.content = content
        self.flags = flags
        self.unique = unique
        self.comparesWrites = comparesWrites
    }

    static let accessMask: UInt32 = 3
    static let synchronous: UInt32 = 0o10000  // O_DSYNC, which O_SYNC includes
    var writes: Bool { flags & OpenFile.accessMask != 0 }
    var view: VolumeView? {
        switch content {
        case .volume(let use): .current(use.id)
        case .snapshot(let reference, _): .snapshot(reference.volume, reference.generation)
        case .text, .directory: nil
        }
    }
    var size: UInt64 {
        switch content {
        case .volume(let use): use.size
        case .snapshot(_, let size): size
        case .text(let bytes): UInt64(bytes.count)
        case .directory: 0
        }
    }
}

/// Slots with a serial number each, so that an old number never finds a new file.
struct OpenFileTable {
    private var slots: [OpenFile?] = []
    private var free: [Int] = []
    private var serial: UInt32 = 0
    private(set) var count = 0

    @inline(__always)
    func file(_ number: UInt64) -> OpenFile? {
        let slot = Int(number & 0xffff_ffff)
        guard slot < slots.count, let file = slots[slot], file.number == number else { return nil }
        return file
    }
    mutating func nextNumber() -> UInt64 {
        serial = serial == .max ? 1 : serial + 1
        let slot = free.last ?? slots.count
        return UInt64(serial) << 32 | UInt64(slot)
    }
    /// `file.number` comes from `nextNumber`, just before.
    mutating func insert(_ file: OpenFile) {
        let slot = Int(file.number & 0xffff_ffff)
        if slot == slots.count {
            slots.append(file)
        } else {
            precondition(free.popLast() == slot && slots[slot] == nil, "an open file's number is not the next one")
            slots[slot] = file
        }
        count += 1
    }
    /// Puts back a file that another process had, under its number. False: the number cannot be.
    mutating func restore(_ file: OpenFile) -> Bool {
        let slot = Int(file.number & 0xffff_ffff)
        guard slot < 1 << 20 else { return false }
        while slots.count <= slot {
            free.append(slots.count)
            slots.append(nil)
        }
        guard slots[slot] == nil else { return false }
        free.removeAll { $0 == slot }
        slots[slot] = file
        serial = max(serial, UInt32(file.number >> 32))
        count += 1
        return true
    }
    mutating func remove(_ number: UInt64) -> OpenFile? {
        guard let file = file(number) else { return nil }
        let slot = Int(number & 0xffff_ffff)
        slots[slot] = nil
        free.append(slot)
        count -= 1
        return file
    }
    var all: [OpenFile] { slots.compactMap { $0 } }
}
