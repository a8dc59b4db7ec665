// What a node of a cluster is given by whatever runs it: time, disks, links to other nodes, the group, randomness. The
// process has sockets and Corosync behind it, the simulator virtual ones. Nothing here decides anything.
import Catalog
import Model
import ObjectStore

/// The group of all nodes of the cluster, as Corosync's CPG with its quorum service is one.
package protocol GroupDriver: AnyObject {
    /// `members`, `ring`, `quorum`, `disconnected` and `delivered`, never another event; on the core's thread, never from
    /// inside `multicast` or `leave`.
    var onEvent: (AgreementEvent) -> Void { get set }
    /// To all members, this node included, in one order.
    func multicast(_ message: AgreementMessage)
    /// This node takes part no more.
    func leave()
}

package protocol HostWorld: StoreProvider {
    var clock: any Clock { get }
    var pool: BufferPool { get }
    var group: any GroupDriver { get }
    /// A link that this node makes to another one, and makes again by itself; asked for once in the node's life.
    func link(to node: NodeId) -> any PeerLink
    /// Not to be guessed, and not the same twice.
    func random() -> UInt64
}

package struct HostOptions: Sendable {
    package var node: NodeId
    /// The life of the process, greater than any before on this node.
    package var incarnation: UInt64
    package var storeConfiguration: StoreConfiguration
    package var gateway = GatewayOptions()
    package var limits = RemoteLimits()
    /// Bytes of commands after which the catalog is written whole.
    package var imageInterval = 1 << 20
    /// Bytes that others may have on their way to this node, each.
    package var windowBytes = 8 << 20

    /// `storeConfiguration.bootId`: of this boot of the host.
    package init(node: NodeId, incarnation: UInt64, storeConfiguration: StoreConfiguration) {
        self.node = node
        self.incarnation = incarnation
        self.storeConfiguration = storeConfiguration
    }
}

/// A disk of this host, with the path that the map has for it.
package struct HostDisk {
    package let path: String
    package let disk: any Disk
    package init(path: String, disk: any Disk) {
        self.path = path
        self.disk = disk
    }
}
