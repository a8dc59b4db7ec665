// One writer per term: whoever answers a guest does so under a lease that nobody else had under the same term, and terms
// never go back. It looks at what hosts know, never at how they came to know it.
import Catalog
import Model
import OrderedCollections

struct LeaseChecker {
    private struct Holder: Hashable {
        let node: NodeId
        let incarnation: UInt64
    }
    private var holders: [VolumeId: [Term: Holder]] = [:]
    private var indices: [NodeId: (life: UInt64, index: UInt64)] = [:]
    private var highestIndex: UInt64 = 0

    /// Nil when all is well.
    mutating func check(_ host: any SimulatedHost) -> String? {
        guard let state = host.state else { return nil }
        if let last = indices[host.id], last.life == host.life {
            // Nothing new.
            if last.index == state.index { return nil }
            if last.index > state.index {
                return "host \(host.id) went back from entry \(last.index) to \(state.index)"
            }
        }
        indices[host.id] = (host.life, state.index)
        for (id, volume) in state.volumes {
            guard let lease = volume.lease else { continue }
            let holder = Holder(node: lease.node, incarnation: lease.incarnation)
            if let known = holders[id]?[lease.term], known != holder {
                return "term \(lease.term) of volume \(id) belongs to \(holder) and to \(known)"
            }
            if lease.term > volume.term { return "volume \(id) has a lease beyond its newest term" }
            holders[id, default: [:]][lease.term] = holder
        }
        return nil
    }
}
