// A life of a node as a holder of leases and locks. A node has at most one open session; it is opened and ended by
// commands, so that all nodes agree on it; a process that lost its session may open the next one.
import Model

package struct NodeSession: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let node: NodeId
    /// The life of the process.
    package let incarnation: UInt64
    /// Counts the sessions of that process from 1.
    package let number: UInt64
    package init(_ node: NodeId, incarnation: UInt64, number: UInt64) {
        self.node = node
        self.incarnation = incarnation
        self.number = number
    }
    /// By node, then from older to newer.
    package static func < (a: Self, b: Self) -> Bool {
        (a.node, a.incarnation, a.number) < (b.node, b.incarnation, b.number)
    }
    package var description: String { "\(node)/\(incarnation).\(number)" }
}

/// The newest session of a node that was ever opened.
package struct SessionRecord: Hashable, Sendable {
    package let session: NodeSession
    package var isOpen: Bool
    /// Its lease: the setting when it was opened. A change of the setting holds for later sessions, so that a voter
    /// knows of each session that it has heard of how long to wait.
    package let leaseMilliseconds: UInt64
}

extension ByteWriter {
    mutating func write(_ v: NodeSession) {
        write(v.node)
        write(v.incarnation)
        write(v.number)
    }
}
extension ByteReader {
    mutating func nodeSession() throws(DecodeError) -> NodeSession {
        NodeSession(try nodeId(), incarnation: try read(), number: try counter())
    }
}
