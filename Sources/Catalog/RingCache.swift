// The rings that were computed last. A ring follows from its description alone, takes long to compute, and is asked for
// again by the image and the log of every store at a start. It must never change what is answered.
import Model
import Placement
import Synchronization

/// A ring, and for each of its members, in their order, the ranges it is among the first 1, 2, ... targets of.
struct ComputedRing: Sendable {
    let ring: Ring
    let ranges: [[Model.RangeSet]]

    private static let limit = 4
    private static let recent = Mutex<[(RingDescription, ComputedRing)]>([])

    static func of(_ description: RingDescription) -> ComputedRing {
        if let known = recent.withLock({ $0.first { $0.0 == description }?.1 }) { return known }
        let ring = Ring(members: description.members, copies: description.copies)
        let computed = ComputedRing(ring: ring, ranges: ring.ranges(of: description.members.map(\.store)))
        recent.withLock {
            if $0.count == limit { $0.removeLast() }
            $0.insert((description, computed), at: 0)
        }
        return computed
    }
}
