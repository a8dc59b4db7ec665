// What the log of a cluster carries: the catalog's commands with their request ids, and the sessions of nodes. A tag is
// never given a new meaning.
import Model

package enum ClusterCommand: Hashable, Sendable {
    case catalog(CatalogCommand, RequestId?)
    /// The node begins to hold leases and locks; an older session of it ends. Its process proves that the older one is
    /// dead by holding the locks of the node's stores.
    case openSession(NodeSession)
    /// A session has ended: its leases are free. `voters`: the index of the list of voters of which a majority promised
    /// to ack none of its heartbeats any more; void under another list. Nil: the node itself says so.
    case endSession(NodeSession, voters: UInt64?)

    /// A decision on what the map was; void in any other epoch.
    case inEpoch(Epoch, CatalogCommand)
    /// Of the volume's holder; void when a newer term was given.
    case underTerm(VolumeId, Term, CatalogCommand, RequestId?)
    /// A decision on what all holders said; void when a lease was given since, or a volume made (see `termsDigest`).
    case underTerms(UInt64, CatalogCommand)

    /// As an entry's content; a message of the group has room for it.
    package static let maximumBytes = 60_000

    package func encoded() -> [UInt8] {
        var w = ByteWriter()
        switch self {
        case .catalog(let command, let request):
            w.write(UInt8(1))
            w.write(optional: request) { $0.write($1) }
            command.encode(&w)
        case .openSession(let session):
            w.write(UInt8(2))
            w.write(session)
        case .endSession(let session, let voters):
            w.write(UInt8(3))
            w.write(session)
            w.write(optional: voters) { $0.write($1) }
        case .inEpoch(let epoch, let command):
            w.write(UInt8(4))
            w.write(epoch)
            command.encode(&w)
        case .underTerm(let volume, let term, let command, let request):
            w.write(UInt8(5))
            w.write(volume)
            w.write(term)
            w.write(optional: request) { $0.write($1) }
            command.encode(&w)
        case .underTerms(let digest, let command):
            w.write(UInt8(6))
            w.write(digest)
            command.encode(&w)
        }
        return w.bytes
    }
    package init(decoding bytes: [UInt8]) throws(DecodeError) {
        var r = ByteReader(bytes)
        switch try r.read(UInt8.self) {
        case 1:
            let request = try r.optional { r throws(DecodeError) in try r.requestId() }
            self = .catalog(try CatalogCommand(&r), request)
        case 2: self = .openSession(try r.nodeSession())
        case 3:
            self = .endSession(try r.nodeSession(), voters: try r.optional { r throws(DecodeError) in try r.counter() })
        case 4: self = .inEpoch(try r.epoch(), try CatalogCommand(&r))
        case 5:
            let volume = try r.volumeId()
            let term = try r.term()
            let request = try r.optional { r throws(DecodeError) in try r.requestId() }
            self = .underTerm(volume, term, try CatalogCommand(&r), request)
        case 6: self = .underTerms(try r.read(), try CatalogCommand(&r))
        default: throw .badValue("command of the cluster")
        }
        guard r.remaining == 0 else { throw .badValue("bytes behind the command") }
    }
}
