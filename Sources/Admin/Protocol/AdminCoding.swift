// Requests and answers as lines of JSON, and back. What comes from outside is bounded in size before it is parsed,
// and everything that is wrong with it becomes a SheepError; nothing here traps.
#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif
import Model

package enum AdminCoding {
    /// One line with its newline.
    package static func encode(_ request: AdminRequest) -> [UInt8] { line(request) }
    /// One line with its newline.
    package static func encode(_ answer: AdminAnswer) -> [UInt8] { line(answer) }

    /// JSON for people and scripts, over several lines, keys sorted.
    package static func pretty(_ value: some Encodable) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(value) else { return "null" }
        return String(decoding: data, as: UTF8.self)
    }

    /// What is wrong with a request, and as much of its id as could be read.
    package struct BadRequest: Error, Equatable {
        package let id: UInt64
        package let error: SheepError
    }

    package static func decodeRequest(_ line: [UInt8]) throws(BadRequest) -> AdminRequest {
        guard line.count <= maximumAdminRequestSize else { throw BadRequest(id: 0, error: tooLong) }
        let data = Data(line)
        let decoder = JSONDecoder()
        let envelope: Envelope
        do {
            envelope = try decoder.decode(Envelope.self, from: data)
        } catch {
            throw BadRequest(id: 0, error: malformed(why: reason(error)))
        }
        guard envelope.version == adminProtocolVersion else {
            throw BadRequest(
                id: envelope.id ?? 0,
                error: SheepError(
                    .notSupported, what: "the daemon does not speak version \(envelope.version) of this protocol",
                    why: "it speaks version \(adminProtocolVersion)", remedy: "use the dog that came with this sheep"))
        }
        do {
            return try decoder.decode(AdminRequest.self, from: data)
        } catch {
            throw BadRequest(id: envelope.id ?? 0, error: malformed(why: reason(error)))
        }
    }

    package static func decodeAnswer(_ line: [UInt8]) throws(SheepError) -> AdminAnswer {
        do {
            return try JSONDecoder().decode(AdminAnswer.self, from: Data(line))
        } catch {
            throw SheepError(
                .invalid, what: "the daemon's answer cannot be read", why: reason(error),
                remedy: "use the dog that came with this sheep")
        }
    }

    package static var tooLong: SheepError {
        SheepError(
            .tooBig, what: "the request is too long", why: "a request has at most \(maximumAdminRequestSize) bytes",
            remedy: "ask for less at a time")
    }

    private struct Envelope: Decodable {
        var version: Int
        var id: UInt64?
    }

    private static func malformed(why: String) -> SheepError {
        SheepError(
            .invalid, what: "the request cannot be read", why: why, remedy: "use the dog that came with this sheep")
    }

    private static func line(_ value: some Encodable) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Only a number that is not finite could fail here; the reports hold none.
        guard let data = try? encoder.encode(value) else { return Array("{}\n".utf8) }
        return Array(data) + [UInt8(ascii: "\n")]
    }

    private static func reason(_ error: any Error) -> String {
        func place(_ context: DecodingError.Context) -> String {
            let path = context.codingPath.map(\.stringValue).joined(separator: ".")
            return path.isEmpty ? "" : " in \(path)"
        }
        switch error as? DecodingError {
        case .keyNotFound(let key, let context): return "\(key.stringValue) is missing\(place(context))"
        case .typeMismatch(let type, let context): return "a \(type) is expected\(place(context))"
        case .valueNotFound(let type, let context): return "a \(type) is missing\(place(context))"
        case .dataCorrupted(let context):
            return context.codingPath.isEmpty
                ? "it is not a JSON object" : "a value is out of its range\(place(context))"
        case nil: return "it is not a JSON object"
        @unknown default: return "it is not a request of this protocol"
        }
    }
}
