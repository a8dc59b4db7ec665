// A memory file (memfd) with a mount's kept state. Written so that a process killed at any point leaves the former
// state or the new one: two slots, and one word that says which counts.
import CFuse
import Glibc
import Model

final class StateFile {
    struct Contents: Equatable {
        let mountId: UInt64
        let mountpoint: String
        let values: [String: [UInt8]]
    }
    let descriptor: Int32
    private static let slotBytes = 2 << 20
    private static let firstSlot = 4096

    init() throws(SheepError) {
        descriptor = cfuse_memory_file("sheep-state")
        if descriptor < 0 { throw StateFile.failure(errno) }
    }
    init(descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }

    private static func failure(_ code: Int32) -> SheepError {
        SheepError(
            Errno(code), what: "the mount's state cannot be kept", why: String(cString: strerror(code)),
            remedy: "unmount and mount again")
    }

    // The word: slot (bit 63), length (31 bits), CRC32C of the slot (32 bits).
    private func word() -> UInt64 {
        var word: UInt64 = 0
        return pread(descriptor, &word, 8, 0) == 8 ? word : 0
    }

    func write(_ contents: Contents) throws(SheepError) {
        var writer = ByteWriter()
        writer.write(UInt32(1))
        writer.write(contents.mountId)
        writer.write(contents.mountpoint)
        writer.write(UInt32(contents.values.count))
        for key in contents.values.keys.sorted() {
            writer.write(key)
            writer.write(contents.values[key] ?? [])
        }
        let bytes = writer.bytes
        guard bytes.count <= StateFile.slotBytes else { throw StateFile.failure(ENOSPC) }
        let slot: UInt64 = word() >> 63 ^ 1
        let offset = StateFile.firstSlot + Int(slot) * StateFile.slotBytes
        guard pwrite(descriptor, bytes, bytes.count, off_t(offset)) == bytes.count else {
            throw StateFile.failure(errno)
        }
        let checksum = bytes.withUnsafeBytes { crc32c($0.baseAddress!, count: $0.count) }
        var word = slot << 63 | UInt64(bytes.count) << 32 | UInt64(checksum)
        guard pwrite(descriptor, &word, 8, 0) == 8 else { throw StateFile.failure(errno) }
    }

    func read() throws(SheepError) -> Contents {
        let word = word()
        let count = Int(word >> 32 & 0x7fff_ffff)
        guard count > 0, count <= StateFile.slotBytes else { throw StateFile.failure(EINVAL) }
        var bytes = [UInt8](repeating: 0, count: count)
        let offset = StateFile.firstSlot + Int(word >> 63) * StateFile.slotBytes
        guard pread(descriptor, &bytes, count, off_t(offset)) == count,
            bytes.withUnsafeBytes({ crc32c($0.baseAddress!, count: count) }) == UInt32(truncatingIfNeeded: word)
        else { throw StateFile.failure(EINVAL) }
        do {
            var reader = ByteReader(bytes)
            guard try reader.read(UInt32.self) == 1 else { throw DecodeError.badValue("version") }
            let id = try reader.read(UInt64.self)
            let mountpoint = try reader.readString()
            var values: [String: [UInt8]] = [:]
            for _ in 0..<(try reader.readCount(minimumSize: 8)) {
                let key = try reader.readString()
                values[key] = try reader.readBytes()
            }
            return Contents(mountId: id, mountpoint: mountpoint, values: values)
        } catch { throw StateFile.failure(EINVAL) }
    }
}
