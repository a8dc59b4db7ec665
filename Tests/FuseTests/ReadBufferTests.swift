// What large payloads leave behind: memory that requests were read into is locked, and must not stay so for ever.
import Glibc
import Model
import Testing

@testable import Fuse

@Suite(.serialized) struct ReadBufferTests {
    private func lockedBytes() throws -> Int {
        let file = try #require(fopen("/proc/self/status", "r"))
        defer { fclose(file) }
        let bytes = [UInt8](unsafeUninitializedCapacity: 16_384) { buffer, count in
            count = fread(buffer.baseAddress!, 1, 16_384, file)
        }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        let line = try #require(lines.first { $0.hasPrefix("VmLck:") })
        let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
        return try #require(Int(words[1])) << 10
    }

    @Test func payloadsThatWereTakenDoNotStayLocked() throws {
        let pool = BufferPool(limitBytes: 256 << 20)
        let input = FuseReadBuffer(pool: pool)
        let before = try lockedBytes()
        for _ in 0..<3 {
            var taken: [FuseData] = []
            for _ in 0..<48 { taken.append(input.takePayload(1 << 20)) }
            if geteuid() == 0 { #expect(try lockedBytes() > before + 40 << 20) }
            taken = []
        }
        // A few are kept for the next ones.
        #expect(try lockedBytes() <= before + 24 << 20)
        // The large one is not lost where a small payload was copied.
        _ = input.takePayload(4096)
        #expect(try lockedBytes() <= before + 24 << 20)
    }
}
