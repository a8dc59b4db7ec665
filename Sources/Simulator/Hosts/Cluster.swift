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
            seed: surroundings.random.next(), nodes: knobs.hosts, isQuorumBlind: knobs.isQuorumBlind,
            queue: surroundings.queue)
        hosts = (1...knobs.hosts).map { [network, group, surroundings] i in
            var own = surroundings
            own.random = Random(UInt64(i) ^ surroundings.random.peek)
            return ClusterHost(NodeId(UInt32(i)), own, network, group)
        }
    }

    func found(_ completion: @escaping () -> Void) {
        var descriptions: [StoreDescription] = []
        var left = hosts.count
        for host in hosts {
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
            voters: hosts.map { Voter($0.id, key: $0.key) })
        var left = hosts.count
        for host in hosts {
            host.makeLog(image) {
                left -= 1
                if left == 0 { completion() }
            }
        }
    }
}
