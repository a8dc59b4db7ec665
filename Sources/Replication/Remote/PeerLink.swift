// What the copies' protocol needs of a connection between two nodes: frames in order, and to be told when one is there
// and when it is gone. Sockets and the simulator's network are links; the handshake is behind it (`WireConnection`).
import Model
import Wire

package enum PeerLinkEvent: Sendable {
    /// A connection is there; the handshake has told who the peer is.
    case connected(PeerIdentity)
    /// Frames of one connection come in the order in which they were sent, and none is missing.
    case received(Frame)
    /// The connection is gone: what was sent may have arrived or not. Nothing of it comes any more.
    case lost
}

/// A gateway's link to a node connects again by itself, for as long as it is used; one that a server has accepted ends with
/// its first loss. Events come on the core's thread, never from inside `send` or `reset`.
package protocol PeerLink: AnyObject {
    var onEvent: (PeerLinkEvent) -> Void { get set }
    /// Only while it is connected; else nothing happens.
    func send(_ frame: Frame)
    /// Gives the present connection up, for this reason: `lost` follows.
    func reset(_ reason: String)
}
