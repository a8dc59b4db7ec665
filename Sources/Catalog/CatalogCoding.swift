// How the catalog's small values are written and read, little-endian. Every tag and count that is read is checked;
// decoding damaged bytes fails and never traps.
import Model

extension ByteWriter {
    mutating func write(_ v: VolumeId) { write(v.rawValue) }
    mutating func write(_ v: DirectoryId) { write(v.rawValue) }
    mutating func write(_ v: Generation) { write(v.rawValue) }
    mutating func write(_ v: StoreId) { write(v.rawValue) }
    mutating func write(_ v: Term) { write(v.rawValue) }
    mutating func write(_ v: Epoch) { write(v.rawValue) }
    mutating func write(_ v: NodeId) { write(v.rawValue) }
    mutating func write(_ v: ClusterId) {
        write(v.high)
        write(v.low)
    }
    mutating func write(_ v: Int) { write(Int64(v)) }
    mutating func write(_ v: RequestId) {
        write(v.client)
        write(v.number)
    }
    mutating func write(_ v: SnapshotReference) {
        write(v.volume)
        write(v.generation)
    }
    mutating func write(_ v: StoreSession) {
        write(v.bootId)
        write(v.incarnation)
    }
    mutating func write(_ v: FileAttributes) {
        write(v.uid)
        write(v.gid)
        write(v.mode)
        write(v.accessTime)
        write(v.modifyTime)
        write(v.changeTime)
    }
    mutating func write(_ v: ClosedRange<Generation>) {
        write(v.lowerBound)
        write(v.upperBound)
    }
    mutating func write(_ v: Settings) {
        write(v.copies)
        write(v.minCopies)
        write(v.downOutIntervalMilliseconds)
        write(v.leaseMilliseconds)
    }
    /// Empty, full, or all bits.
    mutating func write(_ v: RangeSet) {
        if v.isEmpty { return write(UInt8(0)) }
        if v.count == rangeCount { return write(UInt8(1)) }
        write(UInt8(2))
        write(words: v.words)
    }
    mutating func write(_ v: StoreDescription) {
        write(v.id)
        write(v.node)
        write(v.path)
        write(v.weight)
        write(v.zone)
        write(v.session)
        write(v.wallClock)
    }
    mutating func write(_ v: SheepError) {
        write(v.errno.code)
        write(v.what)
        write(v.why)
        write(v.remedy)
    }
    mutating func write(_ v: CommandAnswer) {
        switch v {
        case .done: write(UInt8(0))
        case .volume(let id):
            write(UInt8(1))
            write(id)
        case .directory(let id):
            write(UInt8(2))
            write(id)
        case .snapshot(let id, let generation):
            write(UInt8(3))
            write(id)
            write(generation)
        case .term(let term):
            write(UInt8(4))
            write(term)
        case .refused(let error):
            write(UInt8(5))
            write(error)
        }
    }
    mutating func write<T>(optional v: T?, _ body: (inout ByteWriter, T) -> Void) {
        write(v != nil)
        if let v { body(&self, v) }
    }
    mutating func write<T>(all v: some Collection<T>, _ body: (inout ByteWriter, T) -> Void) {
        write(UInt32(v.count))
        for item in v { body(&self, item) }
    }
}

extension ByteReader {
    mutating func volumeId() throws(DecodeError) -> VolumeId { VolumeId(try read()) }
    mutating func directoryId() throws(DecodeError) -> DirectoryId { DirectoryId(try read()) }
    mutating func generation() throws(DecodeError) -> Generation { Generation(try read()) }
    mutating func storeId() throws(DecodeError) -> StoreId { StoreId(try read()) }
    mutating func nodeId() throws(DecodeError) -> NodeId { NodeId(try read()) }
    mutating func term() throws(DecodeError) -> Term {
        let value = try read(UInt32.self)
        guard value <= Term.maximum else { throw .badValue("term") }
        return Term(value)
    }
    /// Half of the numbers are left, so that counting on never overflows.
    mutating func counter() throws(DecodeError) -> UInt64 {
        let value = try read(UInt64.self)
        guard value < 1 << 63 else { throw .badValue("counter") }
        return value
    }
    mutating func epoch() throws(DecodeError) -> Epoch { Epoch(try counter()) }
    mutating func clusterId() throws(DecodeError) -> ClusterId { ClusterId(high: try read(), low: try read()) }
    mutating func int() throws(DecodeError) -> Int { Int(try read(Int64.self)) }
    mutating func requestId() throws(DecodeError) -> RequestId { RequestId(client: try read(), number: try read()) }
    mutating func snapshotReference() throws(DecodeError) -> SnapshotReference {
        SnapshotReference(volume: try volumeId(), generation: try generation())
    }
    mutating func session() throws(DecodeError) -> StoreSession {
        StoreSession(bootId: try clusterId(), incarnation: try read())
    }
    mutating func attributes() throws(DecodeError) -> FileAttributes {
        var v = FileAttributes(uid: try read(), gid: try read(), mode: try read(), time: 0)
        v.accessTime = try read()
        v.modifyTime = try read()
        v.changeTime = try read()
        return v
    }
    mutating func generations() throws(DecodeError) -> ClosedRange<Generation> {
        let lower = try generation()
        let upper = try generation()
        guard lower <= upper else { throw .badValue("range of generations") }
        return lower...upper
    }
    mutating func settings() throws(DecodeError) -> Settings {
        var v = Settings()
        v.copies = try int()
        v.minCopies = try int()
        v.downOutIntervalMilliseconds = try read()
        v.leaseMilliseconds = try read()
        return v
    }
    mutating func rangeSet() throws(DecodeError) -> RangeSet {
        switch try read(UInt8.self) {
        case 0: return RangeSet()
        case 1: return .full
        case 2:
            return RangeSet(words: try readWords(rangeCount / 64))
        default: throw .badValue("range set")
        }
    }
    mutating func storeDescription() throws(DecodeError) -> StoreDescription {
        StoreDescription(
            id: try storeId(), node: try nodeId(), path: try readString(), weight: try read(), zone: try read(),
            session: try session(), wallClock: try read())
    }
    mutating func sheepError() throws(DecodeError) -> SheepError {
        SheepError(
            Errno(try read()), what: try readString(), why: try readString(), remedy: try readString())
    }
    mutating func answer() throws(DecodeError) -> CommandAnswer {
        switch try read(UInt8.self) {
        case 0: return .done
        case 1: return .volume(try volumeId())
        case 2: return .directory(try directoryId())
        case 3: return .snapshot(try volumeId(), try generation())
        case 4: return .term(try term())
        case 5: return .refused(try sheepError())
        default: throw .badValue("answer")
        }
    }
    mutating func optional<T>(
        _ body: (inout ByteReader) throws(DecodeError) -> T
    ) throws(DecodeError) -> T? { try readBool() ? try body(&self) : nil }
    mutating func all<T>(
        _ minimumSize: Int, _ body: (inout ByteReader) throws(DecodeError) -> T
    ) throws(DecodeError) -> [T] {
        let count = try readCount(minimumSize: minimumSize)
        var items: [T] = []
        items.reserveCapacity(count)
        for _ in 0..<count { items.append(try body(&self)) }
        return items
    }
}
