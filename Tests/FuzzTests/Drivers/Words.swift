// What people, mount(8), fstab and the kernel's tables write: sizes, names, tags, options, paths, names of files in a
// store. Whatever is understood, said again in our own words, means the same.
import Catalog
import Model

@testable import Admin
@testable import Filesystem
@testable import Fuse
@testable import Runtime

extension FuzzTarget {
    /// Input: which reader (8 bits), then text.
    static let words = FuzzTarget(
        name: "words", summary: "options, sizes, names, tags, tables of mounts", maximumBytes: 1024,
        seeds: {
            let texts = [
                ["10G", "512MiB", "1.5T", "18446744073709551615", "16E", "0.999999k", "8 k"],
                ["vol.img", "vol@tag.img", "disk@a:b_c-1", ".vol@t.img.Ab3dEf", "CuAbCdEf", "a@b@c", "@t", ".snap"],
                [
                    "rw,snapshots=hidden,cp=clone,durability=always,on-unavailable=error,subdir=a/b",
                    "ro,allow_other,fsname=x,nosuid,_netdev,x-systemd.automount", "subdir=/../x", "remount",
                ],
                ["none\n/mnt/sheep\n-o\nrw,cp=clone", "a\n/b\n-nv\n-t\nfuse.sheep", "-f\nx\n/y\n--\nz"],
                [
                    "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
                    "40 30 0:35 / /mnt/a\\040b rw - fuse.sheep sheep\\134 rw", "1 2 3 4 5 6 - a b c",
                ],
                [
                    "0000000000000001.segment", "000000000000000a.state", "00000000000000ff.log", "index.0",
                    "00000001.00000002.00000003",
                ],
                ["vol@tag.img", "a/b/vol@tag.img", "dir"],
                ["\u{1}\0\0\0\0\0\0\u{10}", "12345678"],
            ]
            return texts.enumerated().flatMap { kind, all in all.map { [UInt8(kind)] + Array($0.utf8) } }
        }
    ) { input in
        var input = input
        let kind = input.byte() % 8
        let bytes = input.rest()
        let text = String(decoding: bytes, as: UTF8.self)
        switch kind {
        case 0: return size(text)
        case 1: return name(text)
        case 2: return options(text)
        case 3: return call(text)
        case 4: return table(text)
        case 5: return file(text)
        case 6:
            guard let (paths, tag) = SnapshotWords.split([text], tag: nil) else { return nil }
            return paths.count == 1 && Names.problem(withTag: tag) == nil ? nil : "a snapshot without a name"
        default:
            let number = bytes.get(0, UInt64.self)
            guard let node = Node(number: number, root: .root) else { return nil }
            guard let again = Node(number: node.number(root: .root), root: .root) else {
                return "a node without number"
            }
            return again == node ? nil : "node \(node) became \(again)"
        }
    }

    private static func size(_ text: String) -> String? {
        guard let bytes = ByteSize.parse(text) else { return nil }
        guard ByteSize.parse(String(bytes)) == bytes else { return "\(bytes) is not a size" }
        guard let about = ByteSize.parse(ByteSize.text(bytes)) else { return "\(ByteSize.text(bytes)) is not a size" }
        // Two or three digits of it.
        return about <= bytes && bytes - about <= bytes / 64 ? nil : "\(bytes) is shown as \(about)"
    }

    private static func name(_ text: String) -> String? {
        _ = EntryName.isLinkTemporary(text)
        _ = EntryName.isTemporaryTag(text)
        if let (volume, tag) = EntryName.writtenTemporary(text) {
            guard Names.problem(withTag: tag) == nil, Names.problem(withVolumeName: volume) == nil else {
                return "a temporary name of nothing"
            }
        }
        guard let (volume, tag) = Names.parse(text) else { return nil }
        guard Names.problem(withVolumeName: volume) == nil, Names.problem(withTag: tag) == nil else {
            return "a snapshot of something that cannot be"
        }
        return Names.compose(volume: volume, tag: tag).utf8.elementsEqual(text.utf8) ? nil : "another name"
    }

    private static func options(_ text: String) -> String? {
        let options: MountOptions
        do throws(SheepError) { options = try MountOptions(parsing: [text]) } catch {
            return error.what.isEmpty || error.why.isEmpty || error.remedy.isEmpty ? "a refusal without words" : nil
        }
        _ = try? options.libraryOptions(isRoot: false, configuration: text)
        guard let again = try? MountOptions(parsing: [options.text]) else { return "\(options.text) is refused" }
        return again == options ? nil : "\(options.text) means something else"
    }

    private static func call(_ text: String) -> String? {
        let words = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        do throws(SheepError) {
            let call = try MountCall.recognize(programName: "mount.fuse.sheep", arguments: words, commands: [])
            return call == nil ? "mount(8) is not understood" : nil
        } catch {
            return error.what.isEmpty || error.why.isEmpty || error.remedy.isEmpty ? "a refusal without words" : nil
        }
    }

    private static func table(_ text: String) -> String? {
        let lines = text.split(separator: "\n").count
        return MountTable.parse(text).count <= lines ? nil : "more mounts than lines"
    }

    private static func file(_ text: String) -> String? {
        let kinds: [StoreFileKind] = [.journal, .object, .index, .catalogState, .catalogLog, .quarantine]
        for kind in kinds {
            guard let file = StoreFile.parse(text, kind: kind) else { continue }
            guard file.name == text else { return "\(text) is called \(file.name)" }
            guard file.path.hasSuffix(text) else { return "\(text) lies at \(file.path)" }
        }
        return nil
    }
}
