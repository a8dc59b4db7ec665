// Commands for leases. A term is never given twice; the local driver knows that one node's older process is dead
// (it held the stores' locks), so the same node is always granted the next one.
import Model
import OrderedCollections

extension CatalogState {
    mutating func acquireLease(
        _ id: VolumeId, _ node: NodeId, _ incarnation: UInt64, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        // A removed volume is still read by its clones.
        let volume: VolumeRecord
        if let hidden = volumes[id] { volume = hidden } else { volume = try requireVolume(id) }
        if let lease = volume.lease, lease.node != node {
            throw SheepError(
                .busy, what: "\u{22}\(volume.name)\u{22} is used on another host.",
                why: "Node \(lease.node) holds its lease.", remedy: "Stop using it there first.")
        }
        if volume.term.rawValue >= Term.maximum { throw .exhausted("term") }
        let term = volume.term.next
        volumes[id]?.term = term
        // Nobody holds a removed volume (a state where somebody did would be refused when it is read): it has terms only.
        if !volume.isHidden { volumes[id]?.lease = Lease(node: node, incarnation: incarnation, term: term) }
        changes.append(.volumeChanged(id))
        return .term(term)
    }

    /// In a cluster a removed volume has a holder, too: its clones are on several nodes.
    mutating func grantHidden(_ id: VolumeId, _ node: NodeId, _ incarnation: UInt64, _ term: Term) {
        guard let volume = volumes[id], volume.isHidden else { return }
        volumes[id]?.lease = Lease(node: node, incarnation: incarnation, term: term)
    }

    mutating func raiseTerm(
        _ id: VolumeId, _ term: Term, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        let volume: VolumeRecord
        if let hidden = volumes[id] { volume = hidden } else { volume = try requireVolume(id) }
        if volume.term >= term { return .done }
        volumes[id]?.term = term
        changes.append(.volumeChanged(id))
        return .done
    }

    mutating func releaseLease(
        _ id: VolumeId, _ term: Term, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        if let hidden = volumes[id], hidden.isHidden, hidden.term == term {
            if hidden.lease == nil { return .done }
            volumes[id]?.lease = nil
            changes.append(.volumeChanged(id))
            return .done
        }
        let volume = try requireVolume(id, term: term)
        if volume.lease == nil { return .done }
        volumes[id]?.lease = nil
        changes.append(.volumeChanged(id))
        return .done
    }

    /// The node's session has ended, and with it all its leases. Terms stay: the next holder gets the next one.
    mutating func releaseLeases(of node: NodeId) -> [CatalogChange] {
        var changes: [CatalogChange] = []
        for index in volumes.values.indices where volumes.values[index].lease?.node == node {
            volumes.values[index].lease = nil
            changes.append(.volumeChanged(volumes.keys[index]))
        }
        return changes
    }
}
