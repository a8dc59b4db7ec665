// Hosts of one cluster, the network and the group between them, and how the cluster is founded: every host formats its
// stores, then each gets a log that begins with the same state.
import Catalog
import Model
import Replication

package final class Cluster {
    let network: SimulatedNetwork
    let group: SimulatedGroup
    let hosts: [ClusterHost]
    private let knobs: Knobs

    init(_ surroundings: HostSurroundings) {
        var surroundings = surroundings
        knobs = surroundings.knobs
        network = SimulatedNetwork(queue: surroundings.queue, seed: surroundings.random.next())
        network.slownessMilliseconds = knobs.networkMilliseconds
        network.corruptionPercent = knobs.corruptConnectionsPercent
        group = SimulatedGroup(
            seed: surroundings.random.next(), nodes: knobs.hosts + knobs.joiners, isQuorumBlind: knobs.isQuorumBlind,
            queue: surroundings.queue)
        hosts = (1...knobs.hosts + knobs.joiners).map { [network, group, surroundings] i in
            var own = surroundings
            own.random = Random(UInt64(i) ^ surroundings.random.peek)
            return ClusterHost(NodeId(UInt32(i)), own, network, group)
        }
    }

    /// Those that are there from the beginning; the others may join later.
    var founders: [ClusterHost] { Array(hosts.prefix(knobs.hosts)) }

    func found(_ completion: @escaping () -> Void) {
        var descriptions: [StoreDescription] = []
        var left = founders.count
        for host in founders {
            host.format { [self] made in
                descriptions += made
                left -= 1
                guard left == 0 else { return }
                descriptions.sort { $0.id < $1.id }
                makeLogs(descriptions, completion)
            }
        }
    }
    private func makeLogs(_ stores: [StoreDescription], _ completion: @escaping () -> Void) {
        let image = HostFormation.founding(
            cluster: network.cluster, settings: knobs.settings,
            rootAttributes: FileAttributes(uid: 0, gid: 0, mode: 0o755, time: 0), stores: stores,
            voters: founders.map { Voter($0.id, key: $0.key) })
        var left = founders.count
        for host in founders {
            host.makeLog(image) {
                left -= 1
                if left == 0 { completion() }
            }
        }
    }
    /// A host that is to join gets formatted stores and a blank log; the process that made them ends. What is to be added to
    /// the map is answered.
    func prepare(_ host: ClusterHost, _ completion: @escaping ([StoreDescription]) -> Void) {
        host.format { made in host.makeLog(.blank) { completion(made) } }
    }
}
