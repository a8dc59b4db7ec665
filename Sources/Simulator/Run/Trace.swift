// What a run did, as text lines with virtual time, and a running hash over them: two runs of a seed are the same run
// exactly when their hashes are equal. Nothing that goes in may depend on addresses, on hash order or on real time.
import Model

package final class Trace {
    private let queue: EventQueue
    /// FNV-1a over all lines so far (Fowler, Noll, Vo).
    package private(set) var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    package private(set) var lineCount = 0
    /// Gets each line; nil: only the hash is kept.
    package var output: ((String) -> Void)?
    /// Lines of what guests did and of what was done to them, for the timeline of a failure.
    package private(set) var story: [String] = []
    package var keepsStory = false

    package init(queue: EventQueue) { self.queue = queue }

    /// A line that people read.
    package func note(_ text: String) {
        let line = "\(queue.nanoseconds / 1000) \(text)"
        add(line)
        if keepsStory { story.append(line) }
    }
    /// A detail: its text is made only when somebody wants it, and the numbers are in the hash.
    package func detail(_ code: StaticString, _ a: UInt64, _ b: UInt64, _ c: UInt64, _ d: UInt64) {
        lineCount += 1
        mix(word: queue.nanoseconds)
        mix(word: UInt64(code.utf8Start.pointee) << 32 ^ UInt64(code.utf8CodeUnitCount))
        mix(word: a)
        mix(word: b)
        mix(word: c)
        mix(word: d)
        output?("\(queue.nanoseconds / 1000)   \(code) \(a) \(b) \(c) \(d)")
    }
    private func add(_ line: String) {
        lineCount += 1
        var value = hash
        for byte in line.utf8 { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
        hash = (value ^ 10) &* 0x100_0000_01b3
        output?(line)
    }
    private func mix(word: UInt64) {
        // A word at a time: the multiplication alone would leave the upper bits without effect on the lower ones.
        hash = (hash ^ word) &* 0x100_0000_01b3
        hash ^= hash >> 29
    }
}
