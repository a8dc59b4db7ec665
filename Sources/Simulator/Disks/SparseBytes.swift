// The content of a sparse file in memory, page by page. Copying it is cheap: pages are shared until they are written.
import Glibc

package struct SparseBytes {
    private var pages: [Int: [UInt8]] = [:]
    package var size = 0

    package init() {}

    package var allocatedBytes: Int { pages.count * 4096 }

    /// Offsets of the pages that were written, ascending.
    package var pageOffsets: [Int] { pages.keys.sorted().map { $0 * 4096 } }

    /// Whether every page of `range`, which is whole pages, was written.
    package func isAllocated(_ range: Range<Int>) -> Bool {
        (range.lowerBound / 4096..<range.upperBound / 4096).allSatisfy { pages[$0] != nil }
    }

    package mutating func write(_ offset: Int, _ bytes: ArraySlice<UInt8>) {
        size = max(size, offset + bytes.count)
        var at = bytes.startIndex
        var position = offset
        while at < bytes.endIndex {
            let inPage = position % 4096
            let count = min(4096 - inPage, bytes.endIndex - at)
            if count == 4096 {
                pages[position / 4096] = Array(bytes[at..<at + count])
            } else {
                pages[position / 4096, default: [UInt8](repeating: 0, count: 4096)]
                    .replaceSubrange(inPage..<inPage + count, with: bytes[at..<at + count])
            }
            at += count
            position += count
        }
    }

    /// Whole pages go; the size stays.
    package mutating func punch(_ offset: Int, _ count: Int) {
        guard offset < size else { return }
        for page in offset / 4096..<(min(size, offset + count) + 4095) / 4096 { pages[page] = nil }
    }

    /// How many bytes were there to be read.
    package func read(_ offset: Int, _ count: Int, into target: UnsafeMutableRawPointer) -> Int {
        let end = min(size, offset + count)
        guard offset < end else { return 0 }
        var position = offset
        while position < end {
            let inPage = position % 4096
            let n = min(4096 - inPage, end - position)
            if let page = pages[position / 4096] {
                page.withUnsafeBytes {
                    (target + (position - offset)).copyMemory(from: $0.baseAddress! + inPage, byteCount: n)
                }
            } else {
                memset(target + (position - offset), 0, n)
            }
            position += n
        }
        return end - offset
    }
}
