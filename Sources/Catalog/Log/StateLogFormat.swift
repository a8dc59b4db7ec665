// Log entries and state images as bytes on a store. An entry's checksum continues that of the entry before it, so that
// what a torn or overtaken write left behind never reads as part of the log.
import Model

/// The two formats. `hash` is the checksum of the last entry (or image), which the next entry continues.
enum StateLogFormat<State: LoggedState> {
    typealias Entry = LogEntry<State.Command>
    /// magic, version, flags, cluster, index, view, incarnation, batch, request, length, header checksum
    static var headerBytes: Int { 4 + 2 + 2 + 16 + 8 + 8 + 8 + 8 + 16 + 4 + 4 }
    /// A command is at most this long.
    static var maximumEntryBytes: Int { State.maximumEntryBytes }
    static var maximumImageBytes: Int { 1 << 30 }

    static func encode(_ entry: Entry, _ cluster: ClusterId, hash: inout UInt32) -> [UInt8] {
        var body = ByteWriter()
        entry.command.encode(&body)
        var w = ByteWriter()
        w.write(State.entryMagic)
        w.write(State.formatVersion)
        w.write(UInt16(entry.request == nil ? 0 : 1))
        w.write(cluster)
        w.write(entry.index)
        w.write(entry.view)
        w.write(entry.incarnation)
        w.write(entry.batch)
        w.write(entry.request ?? RequestId(client: 0, number: 0))
        w.write(UInt32(body.bytes.count))
        w.write(crc32c(w.bytes))
        w.writeRaw(body.bytes)
        hash = crc32c(w.bytes, seed: hash)
        w.write(hash)
        return w.bytes
    }

    enum Parsed {
        case entry(Entry, end: Int, hash: UInt32)
        /// No whole entry begins here.
        case end
        case newerFormat(UInt16)
    }

    /// The entry at `start` of a log, if it is whole and continues `hash`.
    static func parse(_ log: [UInt8], at start: Int, _ cluster: ClusterId, hash: UInt32) -> Parsed {
        guard case .header(let header) = parseHeader(log, at: start, cluster) else {
            if case .newerFormat(let version) = parseHeader(log, at: start, cluster) { return .newerFormat(version) }
            return .end
        }
        let bodyStart = start + headerBytes
        let bodyEnd = bodyStart + header.length
        guard bodyEnd + 4 <= log.count else { return .end }
        let expected = crc32c(Array(log[start..<bodyEnd]), seed: hash)
        var tail = ByteReader(Array(log[bodyEnd..<bodyEnd + 4]))
        guard (try? tail.read(UInt32.self)) == expected else { return .end }
        var body = ByteReader(Array(log[bodyStart..<bodyEnd]))
        guard let command = try? State.Command(&body), body.remaining == 0 else { return .end }
        var entry = header.entry
        entry.command = command
        return .entry(entry, end: bodyEnd + 4, hash: expected)
    }

    struct Header {
        var entry: Entry
        var length: Int
    }
    enum ParsedHeader {
        case header(Header)
        case end
        case newerFormat(UInt16)
    }

    static func parseHeader(_ log: [UInt8], at start: Int, _ cluster: ClusterId) -> ParsedHeader {
        guard start >= 0, start + headerBytes <= log.count else { return .end }
        let bytes = Array(log[start..<start + headerBytes])
        var r = ByteReader(bytes)
        do {
            guard try r.read(UInt32.self) == State.entryMagic else { return .end }
            let version = try r.read(UInt16.self)
            let flags = try r.read(UInt16.self)
            let found = try r.clusterId()
            let index = try r.counter()
            let view = try r.counter()
            let incarnation = try r.read(UInt64.self)
            let batch = try r.counter()
            let request = try r.requestId()
            let length = Int(try r.read(UInt32.self))
            guard try r.read(UInt32.self) == crc32c(Array(bytes.dropLast(4))), found == cluster else { return .end }
            guard version <= State.formatVersion else { return .newerFormat(version) }
            guard flags <= 1, length <= maximumEntryBytes else { return .end }
            let entry = Entry(
                index: index, view: view, incarnation: incarnation, batch: batch,
                request: flags == 1 ? request : nil, command: .none)
            return .header(Header(entry: entry, length: length))
        } catch {
            return .end
        }
    }

    // MARK: images

    /// A state with where it stands in the log, and the highest view that the store has promised.
    struct Image {
        var promised: UInt64
        var view: UInt64
        var hash: UInt32
        var state: State
        var position: CatalogPosition { CatalogPosition(view: view, index: state.index) }
    }

    static func encode(promised: UInt64, view: UInt64, hash: UInt32, state: [UInt8]) -> [UInt8] {
        var w = ByteWriter()
        w.write(State.imageMagic)
        w.write(State.formatVersion)
        w.write(promised)
        w.write(view)
        w.write(hash)
        w.writeRaw(state)
        w.write(crc32c(w.bytes))
        return w.bytes
    }

    /// nil: damaged. Throws when a newer version of Sheepfold wrote it.
    static func decodeImage(_ bytes: [UInt8]) throws(SheepError) -> Image? {
        let overhead = 4 + 2 + 8 + 8 + 4
        guard bytes.count > overhead + 4 else { return nil }
        var tail = ByteReader(Array(bytes.suffix(4)))
        guard (try? tail.read(UInt32.self)) == crc32c(Array(bytes.dropLast(4))) else { return nil }
        var r = ByteReader(Array(bytes.prefix(overhead)))
        guard let magic = try? r.read(UInt32.self), let version = try? r.read(UInt16.self) else { return nil }
        if let other = KeptStates.name(imageMagic: magic), magic != State.imageMagic { throw foreign(other) }
        guard magic == State.imageMagic else { return nil }
        if version > State.formatVersion { throw newer(version) }
        guard let promised = try? r.counter(), let view = try? r.counter(), let hash = try? r.read(UInt32.self),
            let state = try? State(decoding: Array(bytes[overhead..<bytes.count - 4]))
        else { return nil }
        return Image(promised: promised, view: view, hash: hash, state: state)
    }

    /// A store keeps one state only: another one would overwrite it.
    static func foreign(_ other: String) -> SheepError {
        SheepError(
            .exists, what: "\(State.title) cannot be kept there.", why: "A store holds \(other) already.",
            remedy: "Use an empty directory, or run the node as what it was made.")
    }

    static func newer(_ version: UInt16) -> SheepError {
        SheepError(
            .notSupported, what: "\(State.title) cannot be read.",
            why: "A newer Sheepfold wrote it: format \(version), this one knows \(State.formatVersion).",
            remedy: "Run the newer version.")
    }
}

/// What else the same files of a store may hold.
enum KeptStates {
    static func name(imageMagic: UInt32) -> String? {
        switch imageMagic {
        case CatalogState.imageMagic: "the catalog of a single host"
        case StoredMember.imageMagic: "the log of a node of a cluster"
        default: nil
        }
    }
}
