// Values of the catalog that others put into their messages.
import Model

extension ByteWriter {
    package mutating func write(answer: CommandAnswer) { write(answer) }
    package mutating func write(ranges: RangeSet) { write(ranges) }
    package mutating func write(attributes: FileAttributes) { write(attributes) }
    package mutating func write(request: RequestId) { write(request) }
}
extension ByteReader {
    package mutating func readAnswer() throws(DecodeError) -> CommandAnswer { try answer() }
    package mutating func readRanges() throws(DecodeError) -> RangeSet { try rangeSet() }
    package mutating func readAttributes() throws(DecodeError) -> FileAttributes { try attributes() }
    package mutating func readRequestId() throws(DecodeError) -> RequestId { try requestId() }
}
