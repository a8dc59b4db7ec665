// What one node asks of another about a volume that the other one holds, and what is answered: the same for operations
// that guests have begun and for work on copies. Data goes as the payload of the frame, whole blocks; the bytes that are
// meant begin where they would in their block. Nothing of what is decoded is believed before it is checked.
import Catalog
import Model
import Wire

package enum VolumeRequest: Hashable, Sendable {
    case read(VolumeView, offset: UInt64, count: Int)
    case write(VolumeId, offset: UInt64, count: Int, durable: Bool)
    case flush(VolumeId)
    case discard(VolumeId, offset: UInt64, count: UInt64)
    case resize(VolumeId, size: UInt64, RequestId)
    case seek(VolumeView, offset: UInt64, data: Bool)
    case allocatedBytes(VolumeView)
    case snapshot(VolumeId, tag: String, group: DirectoryId?, replaceExisting: Bool, RequestId)
    case cloneCurrent(VolumeId, directory: DirectoryId, name: String, FileAttributes, RequestId)
    case rollback(VolumeId, tag: String, RequestId)
    case flatten(VolumeId)
    // What lies below a clone.
    case dataBlocks(VolumeView, UInt32)
    case nextObject(VolumeView, UInt32)
    /// The lease is wanted elsewhere.
    case giveUp(VolumeId)
    /// For a snapshot with others: drained, with the gate closed, until `resume` or for 5 s. `number`: of the snapshot.
    case prepare(VolumeId, number: UInt64)
    /// It is decided, and committed up to this index of the catalog.
    case resume(VolumeId, number: UInt64, index: UInt64)
    /// All objects in these ranges that the store shall have are complete there.
    case bringUpToDate(VolumeId, StoreId, RangeSet, Epoch)
    /// Which of these objects' copies a store may remove that shall not have them.
    case surplus(VolumeId, StoreId, Epoch, [UInt32])
    case check(VolumeId, deep: Bool, repair: Bool)

    package var volume: VolumeId {
        switch self {
        case .read(let view, _, _), .seek(let view, _, _), .allocatedBytes(let view), .dataBlocks(let view, _),
            .nextObject(let view, _):
            view.volume
        case .write(let id, _, _, _), .flush(let id), .discard(let id, _, _), .resize(let id, _, _),
            .snapshot(let id, _, _, _, _), .cloneCurrent(let id, _, _, _, _), .rollback(let id, _, _),
            .flatten(let id), .giveUp(let id), .prepare(let id, _), .resume(let id, _, _),
            .bringUpToDate(let id, _, _, _), .surplus(let id, _, _, _), .check(let id, _, _):
            id
        }
    }

    /// It changes blocks: done once, or not known. All others can be asked again.
    var isMutation: Bool {
        switch self {
        case .write, .discard: true
        default: false
        }
    }
    /// The answer is not kept for one who asks again: it has data, or is found anew.
    var isRepeatable: Bool {
        switch self {
        case .read, .seek, .allocatedBytes, .dataBlocks, .nextObject, .flush, .surplus: true
        default: false
        }
    }
}

package enum VolumeAnswer: Sendable {
    /// Done, or not, with an errno.
    case ended(Errno?)
    case position(UInt64)
    case command(CommandAnswer)
    case blocks(BlockBitmap)
    case object(UInt32?)
    /// Under this term.
    case prepared(Term)
    /// Whether all is complete, with the bytes that were moved.
    case upToDate(Bool, bytes: UInt64)
    case removable([Bool])
    case checked(CheckReport)
    /// Nothing was done: the volume is not held here under that term.
    case notHere
}

// MARK: as bytes

extension ByteWriter {
    fileprivate mutating func write(_ v: VolumeView) {
        switch v {
        case .current(let volume):
            write(volume.rawValue)
            write(false)
        case .snapshot(let volume, let generation):
            write(volume.rawValue)
            write(true)
            write(generation.rawValue)
        }
    }
    fileprivate mutating func writeOptional(_ v: UInt32?) {
        write(v != nil)
        if let v { write(v) }
    }
}

extension ByteReader {
    fileprivate mutating func view() throws(DecodeError) -> VolumeView {
        let volume = VolumeId(try read())
        return try readBool() ? .snapshot(volume, Generation(try read())) : .current(volume)
    }
    fileprivate mutating func volume() throws(DecodeError) -> VolumeId { VolumeId(try read()) }
    fileprivate mutating func term() throws(DecodeError) -> Term {
        let value = try read(UInt32.self)
        guard value <= Term.maximum else { throw .badValue("term") }
        return Term(value)
    }
    fileprivate mutating func optional() throws(DecodeError) -> UInt32? { try readBool() ? try read() : nil }
    /// Bytes within a volume.
    fileprivate mutating func span() throws(DecodeError) -> (UInt64, UInt64) {
        let offset = try read(UInt64.self)
        let count = try read(UInt64.self)
        guard offset <= maximumVolumeSize, count <= maximumVolumeSize - offset else { throw .badValue("span") }
        return (offset, count)
    }
    fileprivate mutating func dataSpan() throws(DecodeError) -> (UInt64, Int) {
        let (offset, count) = try span()
        guard (1...UInt64(VolumeRequest.maximumBytes)).contains(count) else { throw .badValue("span of data") }
        return (offset, Int(count))
    }
}

extension VolumeRequest {
    /// Of one read or write: what its blocks and those at its ends take in a frame.
    static let maximumBytes = 2 << 20

    func encode(_ w: inout ByteWriter) {
        func span(_ offset: UInt64, _ count: UInt64) {
            w.write(offset)
            w.write(count)
        }
        switch self {
        case .read(let view, let offset, let count):
            w.write(UInt8(1))
            w.write(view)
            span(offset, UInt64(count))
        case .write(let id, let offset, let count, let durable):
            w.write(UInt8(2))
            w.write(id.rawValue)
            span(offset, UInt64(count))
            w.write(durable)
        case .flush(let id):
            w.write(UInt8(3))
            w.write(id.rawValue)
        case .discard(let id, let offset, let count):
            w.write(UInt8(4))
            w.write(id.rawValue)
            span(offset, count)
        case .resize(let id, let size, let request):
            w.write(UInt8(5))
            w.write(id.rawValue)
            w.write(size)
            w.write(request: request)
        case .seek(let view, let offset, let data):
            w.write(UInt8(6))
            w.write(view)
            w.write(offset)
            w.write(data)
        case .allocatedBytes(let view):
            w.write(UInt8(7))
            w.write(view)
        case .snapshot(let id, let tag, let group, let replaceExisting, let request):
            w.write(UInt8(8))
            w.write(id.rawValue)
            w.write(tag)
            w.writeOptional(group?.rawValue)
            w.write(replaceExisting)
            w.write(request: request)
        case .cloneCurrent(let id, let directory, let name, let attributes, let request):
            w.write(UInt8(9))
            w.write(id.rawValue)
            w.write(directory.rawValue)
            w.write(name)
            w.write(attributes: attributes)
            w.write(request: request)
        case .rollback(let id, let tag, let request):
            w.write(UInt8(10))
            w.write(id.rawValue)
            w.write(tag)
            w.write(request: request)
        case .flatten(let id):
            w.write(UInt8(11))
            w.write(id.rawValue)
        case .dataBlocks(let view, let index):
            w.write(UInt8(12))
            w.write(view)
            w.write(index)
        case .nextObject(let view, let index):
            w.write(UInt8(13))
            w.write(view)
            w.write(index)
        case .giveUp(let id):
            w.write(UInt8(14))
            w.write(id.rawValue)
        case .prepare(let id, let number):
            w.write(UInt8(15))
            w.write(id.rawValue)
            w.write(number)
        case .resume(let id, let number, let index):
            w.write(UInt8(16))
            w.write(id.rawValue)
            w.write(number)
            w.write(index)
        case .bringUpToDate(let id, let store, let ranges, let epoch):
            w.write(UInt8(17))
            w.write(id.rawValue)
            w.write(store.rawValue)
            w.write(ranges: ranges)
            w.write(epoch.rawValue)
        case .surplus(let id, let store, let epoch, let indices):
            w.write(UInt8(18))
            w.write(id.rawValue)
            w.write(store.rawValue)
            w.write(epoch.rawValue)
            w.write(UInt32(indices.count))
            for index in indices { w.write(index) }
        case .check(let id, let deep, let repair):
            w.write(UInt8(19))
            w.write(id.rawValue)
            w.write(deep)
            w.write(repair)
        }
    }

    init(_ r: inout ByteReader) throws(DecodeError) {
        switch try r.read(UInt8.self) {
        case 1:
            let view = try r.view()
            let (offset, count) = try r.dataSpan()
            self = .read(view, offset: offset, count: count)
        case 2:
            let id = try r.volume()
            let (offset, count) = try r.dataSpan()
            self = .write(id, offset: offset, count: count, durable: try r.readBool())
        case 3: self = .flush(try r.volume())
        case 4:
            let id = try r.volume()
            let (offset, count) = try r.span()
            self = .discard(id, offset: offset, count: count)
        case 5: self = .resize(try r.volume(), size: try r.read(), try r.readRequestId())
        case 6: self = .seek(try r.view(), offset: try r.read(), data: try r.readBool())
        case 7: self = .allocatedBytes(try r.view())
        case 8:
            let id = try r.volume()
            let tag = try r.readString()
            let group = try r.optional().map { DirectoryId($0) }
            self = .snapshot(id, tag: tag, group: group, replaceExisting: try r.readBool(), try r.readRequestId())
        case 9:
            self = .cloneCurrent(
                try r.volume(), directory: DirectoryId(try r.read()), name: try r.readString(), try r.readAttributes(),
                try r.readRequestId())
        case 10: self = .rollback(try r.volume(), tag: try r.readString(), try r.readRequestId())
        case 11: self = .flatten(try r.volume())
        case 12: self = .dataBlocks(try r.view(), try r.read())
        case 13: self = .nextObject(try r.view(), try r.read())
        case 14: self = .giveUp(try r.volume())
        case 15: self = .prepare(try r.volume(), number: try r.read())
        case 16: self = .resume(try r.volume(), number: try r.read(), index: try r.read())
        case 17:
            self = .bringUpToDate(
                try r.volume(), StoreId(try r.read()), try r.readRanges(), Epoch(try r.read()))
        case 18:
            let id = try r.volume()
            let store = StoreId(try r.read())
            let epoch = Epoch(try r.read())
            let count = try r.readCount(minimumSize: 4)
            var indices: [UInt32] = []
            for _ in 0..<count { indices.append(try r.read()) }
            self = .surplus(id, store, epoch, indices)
        case 19: self = .check(try r.volume(), deep: try r.readBool(), repair: try r.readBool())
        default: throw .badValue("request")
        }
    }
}

extension VolumeAnswer {
    func encode(_ w: inout ByteWriter) {
        switch self {
        case .ended(let errno):
            w.write(UInt8(1))
            w.write(errno?.code ?? 0)
        case .position(let position):
            w.write(UInt8(2))
            w.write(position)
        case .command(let answer):
            w.write(UInt8(3))
            w.write(answer: answer)
        case .blocks(let blocks):
            w.write(UInt8(4))
            w.write(blocks)
        case .object(let index):
            w.write(UInt8(5))
            w.writeOptional(index)
        case .prepared(let term):
            w.write(UInt8(6))
            w.write(term.rawValue)
        case .upToDate(let isDone, let bytes):
            w.write(UInt8(7))
            w.write(isDone)
            w.write(bytes)
        case .removable(let list):
            w.write(UInt8(8))
            w.write(UInt32(list.count))
            for item in list { w.write(item) }
        case .checked(let report):
            w.write(UInt8(9))
            let numbers = [
                report.objects, report.copies, report.blocksBad, report.blocksRepaired, report.copiesMissing,
                report.copiesDifferent,
            ]
            for number in numbers { w.write(UInt64(number)) }
        case .notHere: w.write(UInt8(10))
        }
    }

    init(_ r: inout ByteReader) throws(DecodeError) {
        switch try r.read(UInt8.self) {
        case 1:
            let code = try r.read(Int32.self)
            self = .ended(code == 0 ? nil : Errno(code))
        case 2: self = .position(try r.read())
        case 3: self = .command(try r.readAnswer())
        case 4: self = .blocks(try r.readBitmap())
        case 5: self = .object(try r.optional())
        case 6: self = .prepared(try r.term())
        case 7: self = .upToDate(try r.readBool(), bytes: try r.read())
        case 8:
            let count = try r.readCount(minimumSize: 1)
            var list: [Bool] = []
            for _ in 0..<count { list.append(try r.readBool()) }
            self = .removable(list)
        case 9:
            var numbers: [Int] = []
            for _ in 0..<6 {
                let number = try r.read(UInt64.self)
                guard number < 1 << 48 else { throw .badValue("count") }
                numbers.append(Int(number))
            }
            var report = CheckReport()
            (report.objects, report.copies, report.blocksBad) = (numbers[0], numbers[1], numbers[2])
            (report.blocksRepaired, report.copiesMissing, report.copiesDifferent) = (
                numbers[3], numbers[4], numbers[5]
            )
            self = .checked(report)
        case 10: self = .notHere
        default: throw .badValue("answer")
        }
    }
}
