// What a node that takes part in nothing yet waits for, for its administrator. It looks, and changes nothing.
import Catalog
import Model

extension ClusterNode {
    /// Nil: its catalog commits. Else which voters are missing, as far as this node knows them.
    package var waitsFor: String? {
        guard !catalog.isActive else { return nil }
        let voters = catalog.record.voters.map(\.node).sorted()
        guard !voters.isEmpty else { return "it has not heard from the cluster yet" }
        let missing = voters.filter { voter in voter != id && !members.contains { $0.node == voter } }
        let here = voters.count - missing.count
        let needed = voters.count / 2 + 1
        if here >= needed { return "the voters that are here have not agreed yet" }
        return "no quorum: \(here) of \(voters.count) voters are here and \(needed) are needed; waits for "
            + "\(needed - here) of node \(missing.map(\.description).joined(separator: ", node "))"
    }
}
