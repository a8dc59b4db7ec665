// What several bodies are made of. Read values are checked: a range lies in its object, a path is one.
import Model

extension ByteWriter {
    package mutating func write(_ value: BlockBitmap) { for i in 0..<16 { write(value.words[i]) } }

    package mutating func write(_ ranges: [ClosedRange<Generation>]) {
        write(UInt32(ranges.count))
        for range in ranges {
            write(range.lowerBound.rawValue)
            write(range.upperBound.rawValue)
        }
    }
    package mutating func write(_ value: ClusterId) {
        write(value.high)
        write(value.low)
    }
    package mutating func write(_ value: StoreSession) {
        write(value.bootId)
        write(value.incarnation)
    }
}

extension ByteReader {
    package mutating func readBitmap() throws(DecodeError) -> BlockBitmap {
        var bitmap = BlockBitmap()
        for i in 0..<16 { bitmap.words[i] = try read() }
        return bitmap
    }
    /// The path of a view at `top` whose hidden generations come next.
    package mutating func readPath(top: Generation) throws(DecodeError) -> GenerationPath {
        let count = try readCount(minimumSize: 8)
        var hidden: [ClosedRange<Generation>] = []
        hidden.reserveCapacity(count)
        for _ in 0..<count {
            let lower = Generation(try read())
            let upper = Generation(try read())
            guard lower <= upper, upper < top, hidden.last.map({ $0.upperBound < lower }) ?? true else {
                throw .badValue("hidden generations")
            }
            hidden.append(lower...upper)
        }
        return GenerationPath(top: top, hidden: hidden)
    }
    package mutating func readClusterId() throws(DecodeError) -> ClusterId {
        ClusterId(high: try read(), low: try read())
    }
    package mutating func readSession() throws(DecodeError) -> StoreSession {
        StoreSession(bootId: try readClusterId(), incarnation: try read())
    }
    /// Nothing but the padding to a word is left.
    package mutating func expectEnd() throws(DecodeError) {
        guard remaining < 4 else { throw .badValue("bytes behind the end") }
        while remaining > 0 {
            guard try read(UInt8.self) == 0 else { throw .badValue("padding") }
        }
    }
}
