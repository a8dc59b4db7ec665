// What large payloads leave behind: memory that requests were read into is locked, and must not stay so for ever.
import Glibc
import Model
import Testing

@testable import Fuse

/// What the process has locked now. Every other test of the process counts as well: only for a process of one's own.
private func lockedBytes() -> Int {
    guard let file = fopen("/proc/self/status", "r") else { return 0 }
    defer { fclose(file) }
    let bytes = [UInt8](unsafeUninitializedCapacity: 16_384) { buffer, count in
        count = fread(buffer.baseAddress!, 1, 16_384, file)
    }
    let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
    guard let line = lines.first(where: { $0.hasPrefix("VmLck:") }) else { return 0 }
    let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
    return (Int(words[1]) ?? 0) << 10
}

struct ReadBufferTests {
    /// In a process of its own: the other tests lock memory at the same time.
    @Test func payloadsThatWereTakenDoNotStayLocked() async {
        await #expect(processExitsWith: .success) {
            let pool = BufferPool(limitBytes: 256 << 20)
            let input = FuseReadBuffer(pool: pool)
            let before = lockedBytes()
            for _ in 0..<3 {
                var taken: [FuseData] = []
                for _ in 0..<48 { taken.append(input.takePayload(1 << 20)) }
                if geteuid() == 0 { #expect(lockedBytes() > before + 40 << 20) }
                taken = []
            }
            // A few are kept for the next ones.
            #expect(lockedBytes() <= before + 24 << 20)
            // The large one is not lost where a small payload was copied.
            _ = input.takePayload(4096)
            #expect(lockedBytes() <= before + 24 << 20)
        }
    }
}
