// What comes from a mount's keeper: the holder's messages, the memory file of systemd's descriptor store, and the
// settings agreed with the kernel.
import Glibc
import Model

@testable import Fuse

extension FuzzTarget {
    /// Input: which (0 a message, 1 the memory file, 2 the same with its checksum right, 3 the settings), then it.
    static let holder = FuzzTarget(
        name: "holder", summary: "messages of sheep-holder, kept values, negotiated settings", maximumBytes: 4096,
        seeds: {
            let message =
                littleEndian(HolderSocket.Kind.value) + littleEndian(UInt32(4)) + littleEndian(UInt32(9))
                + littleEndian(UInt32(3)) + Array("initabcdef".utf8)
            var file = ByteWriter()
            file.write(UInt32(1))
            file.write(UInt64(7))
            file.write("/mnt/sheep")
            file.write(UInt32(2))
            for key in ["init", "state"] {
                file.write(key)
                file.write([UInt8](repeating: 3, count: 20))
            }
            var settings = ByteWriter()
            settings.write(UInt32(1))
            settings.write(UInt32(45))
            settings.write(UInt32(45))
            settings.write(UInt64(0x1234_5678))
            settings.write(UInt32(131_072))
            settings.write(UInt16(512))
            settings.write(UInt16(384))
            settings.write(UInt32(1 << 20))
            settings.write(UInt16(256))
            return [
                [0] + message, [1] + littleEndian(UInt64(1 << 40)) + file.bytes, [2] + file.bytes, [3] + settings.bytes,
            ]
        }
    ) { input in
        var input = input
        let kind = input.byte() % 4
        let bytes = input.rest()
        switch kind {
        case 0:
            guard let message = HolderSocket.Message(bytes, descriptor: -1) else { return nil }
            guard message.piece.count + message.key.utf8.count <= max(bytes.count, 3 * bytes.count) else {
                return "a message longer than its bytes"
            }
            return message.total == 0 || message.offset + message.piece.count <= message.total
                ? nil : "a piece beyond its value"
        case 3:
            guard let settings = try? FuseNegotiated(serialized: bytes) else { return nil }
            guard let again = try? FuseNegotiated(serialized: settings.serialized) else {
                return "settings are refused"
            }
            guard again == settings else { return "\(settings) became \(again)" }
            _ = settings.capabilities
            return nil
        default: return memoryFile(bytes, isSealed: kind == 2)
        }
    }

    private static func memoryFile(_ bytes: [UInt8], isSealed: Bool) -> String? {
        guard let file = try? StateFile() else { return nil }
        let contents = isSealed ? bytes : Array(bytes.dropFirst(8))
        // The word says which slot, how long, and the checksum (see StateFile).
        var word = isSealed ? UInt64(contents.count) << 32 | UInt64(crc32c(contents)) : bytes.get(0, UInt64.self)
        pwrite(file.descriptor, contents, contents.count, 4096)
        pwrite(file.descriptor, &word, 8, 0)
        guard let read = try? file.read() else { return nil }
        guard let other = try? StateFile(), (try? other.write(read)) != nil, let again = try? other.read() else {
            return "what was read cannot be written"
        }
        return again == read ? nil : "a kept value changed"
    }
}
