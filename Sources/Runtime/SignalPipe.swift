// Signals as events: the handler writes the number into a pipe that the loop reads. Not signalfd, because that
// needs the signal blocked in every thread of the process, also in those that libraries start.
import CSheep
import Glibc
import Model

final class SignalPipe {
    private let reader: FileDescriptor
    private let writer: FileDescriptor
    private var handlers: [Int32: (Int32) -> Void] = [:]

    init() throws(Errno) {
        var ends: (Int32, Int32) = (-1, -1)
        let result = withUnsafeMutableBytes(of: &ends) {
            csheep_pipe($0.baseAddress!.assumingMemoryBound(to: Int32.self))
        }
        guard result == 0 else { throw .last }
        reader = FileDescriptor(owning: ends.0)
        writer = FileDescriptor(owning: ends.1)
    }

    deinit { for number in handlers.keys { _ = csheep_release_signal(number) } }

    var readDescriptor: Int32 { reader.raw }

    func add(_ number: Int32, _ handler: @escaping (Int32) -> Void) throws(Errno) {
        handlers[number] = handler
        guard csheep_catch_signal(number, writer.raw) == 0 else { throw .last }
    }

    func deliver() {
        var numbers: (UInt64, UInt64) = (0, 0)
        withUnsafeMutableBytes(of: &numbers) { bytes in
            let count = read(reader.raw, bytes.baseAddress, bytes.count)
            for index in 0..<max(0, count) { handlers[Int32(bytes[index])]?(Int32(bytes[index])) }
        }
    }
}
