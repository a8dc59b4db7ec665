// One connection between two nodes, without the socket: bytes in, frames out, and frames in, for the other direction.
// The handshake runs in here; nobody sees a frame before the peer has proved who it is, and none after the end.
import Model

package final class WireConnection {
    package enum End: Error, Hashable, Sendable {
        /// What came is not in the format.
        case garbage(WireError)
        /// The handshake failed. `isOurs`: this side has refused the other one.
        case refused(Refusal, isOurs: Bool)
    }
    private var handshake: Handshake
    private let parser: FrameParser
    /// Sends a frame, in order. Set before `start`.
    package var output: (Frame) -> Void = { _ in }
    package var onEstablished: (PeerIdentity) -> Void = { _ in }
    /// Frames after the handshake, in order.
    package var onFrame: (Frame) -> Void = { _ in }
    /// Nothing comes after it. What was given to `output` before should still go out.
    package var onEnd: (End) -> Void = { _ in }
    package private(set) var peer: PeerIdentity?
    package private(set) var hasEnded = false

    package init(handshake: Handshake, pool: BufferPool) {
        self.handshake = handshake
        parser = FrameParser(pool: pool, limits: .stranger)
    }

    package func start() { if let frame = handshake.start() { output(frame) } }

    /// Closed by its owner: nothing is called any more.
    package func stop() { hasEnded = true }

    /// Where received bytes go, and the most that may come there; then `advance`.
    package var region: UnsafeMutableRawBufferPointer { parser.region }
    package func advance(_ count: Int) {
        guard !hasEnded else { return }
        do throws(WireError) {
            if let frame = try parser.advance(count) { take(frame) }
        } catch { end(.garbage(error)) }
    }
    /// Bytes that came together; several frames, or parts of one.
    package func receive(_ bytes: UnsafeRawBufferPointer) {
        guard !hasEnded else { return }
        do throws(WireError) {
            try parser.parse(bytes) { frame in
                take(frame)
                return !hasEnded
            }
        } catch { end(.garbage(error)) }
    }

    private func take(_ frame: Frame) {
        guard peer == nil else { return onFrame(frame) }
        switch handshake.receive(frame) {
        case .send(let answer): output(answer)
        case .established(let peer, let answer):
            if let answer { output(answer) }
            self.peer = peer
            parser.limits = .peer(version: peer.protocolVersion)
            onEstablished(peer)
        case .refused(let refusal, let isOurs, let answer):
            if let answer { output(answer) }
            end(.refused(refusal, isOurs: isOurs))
        }
    }

    private func end(_ end: End) {
        guard !hasEnded else { return }
        hasEnded = true
        onEnd(end)
    }
}
