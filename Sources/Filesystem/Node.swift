// What a node id of the mount stands for. The number is made from catalog ids alone, so that a new process resolves
// what an old one gave out: nothing is ever remembered to find a node. The inode number is the node id.
//
//     bits 60-62  kind       bits 28-59  volume or directory id       bits 0-27  generation or tag hash
//
//     0 special   1: the mount's root, 2: .sheep, 16 + n: the texts in it
//     1 file      a volume (generation 0) or one of its snapshots (generation 1 and up)
//     2 directory        3 its .snap        4 .snap/tag (28-bit hash of the tag; equal hashes are refused at mkdir)
//     5 a directory's mirror below .lineage
//     6 a volume's directory there (generation 0) or a snapshot's
//
// Bit 63 stays clear (signed inode numbers). A volume has at most 2^28 - 1 generations on the mount.
import Catalog
import Model

/// A text below `.sheep`.
package enum ControlFile: UInt64, CaseIterable, Sendable {
    case status = 16
    case statusJSON, nodes, health, metrics, config

    package var name: String {
        switch self {
        case .status: "status"
        case .statusJSON: "status.json"
        case .nodes: "nodes"
        case .health: "health"
        case .metrics: "metrics"
        case .config: "config"
        }
    }
}

enum Node: Hashable {
    case directory(DirectoryId)
    case volume(VolumeId)
    case snapshot(VolumeId, Generation)
    /// `.snap` of a directory.
    case snapshots(DirectoryId)
    /// `.snap/tag`.
    case groupSnapshot(DirectoryId, tagHash: UInt32)
    case lineageDirectory(DirectoryId)
    case lineageVolume(VolumeId)
    case lineageSnapshot(VolumeId, Generation)
    /// `.sheep`.
    case control
    case text(ControlFile)

    static let rootNumber: UInt64 = 1
    private static let controlNumber: UInt64 = 2
    static let maximumGeneration: UInt32 = 1 << 28 - 1

    private static func pack(_ kind: UInt64, _ id: UInt32, _ low: UInt32 = 0) -> UInt64 {
        precondition(low <= maximumGeneration, "a generation beyond what a node id holds")
        return kind << 60 | UInt64(id) << 28 | UInt64(low)
    }

    /// `root`: the directory that is the mount's root.
    func number(root: DirectoryId) -> UInt64 {
        switch self {
        case .directory(let id): id == root ? Node.rootNumber : Node.pack(2, id.rawValue)
        case .volume(let id): Node.pack(1, id.rawValue)
        case .snapshot(let id, let generation): Node.pack(1, id.rawValue, generation.rawValue)
        case .snapshots(let id): Node.pack(3, id.rawValue)
        case .groupSnapshot(let id, let hash): Node.pack(4, id.rawValue, hash)
        case .lineageDirectory(let id): Node.pack(5, id.rawValue)
        case .lineageVolume(let id): Node.pack(6, id.rawValue)
        case .lineageSnapshot(let id, let generation): Node.pack(6, id.rawValue, generation.rawValue)
        case .control: Node.controlNumber
        case .text(let file): file.rawValue
        }
    }

    /// Nil for a number that was never given out.
    init?(number: UInt64, root: DirectoryId) {
        let id = UInt32(truncatingIfNeeded: number >> 28)
        let low = UInt32(number & UInt64(Node.maximumGeneration))
        switch number >> 60 {
        case 0:
            if number == Node.rootNumber {
                self = .directory(root)
            } else if number == Node.controlNumber {
                self = .control
            } else if let file = ControlFile(rawValue: number) {
                self = .text(file)
            } else {
                return nil
            }
        case 1: self = low == 0 ? .volume(VolumeId(id)) : .snapshot(VolumeId(id), Generation(low))
        case 2: self = .directory(DirectoryId(id))
        case 3: self = .snapshots(DirectoryId(id))
        case 4: self = .groupSnapshot(DirectoryId(id), tagHash: low)
        case 5: self = .lineageDirectory(DirectoryId(id))
        case 6: self = low == 0 ? .lineageVolume(VolumeId(id)) : .lineageSnapshot(VolumeId(id), Generation(low))
        default: return nil
        }
    }

    var isDirectory: Bool {
        switch self {
        case .volume, .snapshot, .text: false
        default: true
        }
    }

    /// 28 bits of FNV-1a.
    static func hash(ofTag tag: String) -> UInt32 {
        var hash: UInt32 = 0x811c_9dc5
        for byte in tag.utf8 { hash = (hash ^ UInt32(byte)) &* 0x0100_0193 }
        return (hash ^ hash >> 28) & maximumGeneration
    }
}
