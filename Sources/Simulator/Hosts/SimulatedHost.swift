// A host of a simulation: what is on its disks stays, its processes come and go. The rest of the simulator knows hosts
// through this protocol alone, so that a host of another kind is one more file.
import Catalog
import Model
import Replication

package protocol SimulatedHost: AnyObject {
    var id: NodeId { get }
    /// Its disks, by number.
    var disks: [SimulatedDisk] { get }
    /// Counts its processes: what one was asked for is not answered by the next one.
    var life: UInt64 { get }
    /// A process is there, which may not serve yet.
    var isRunning: Bool { get }
    var isStopped: Bool { get }
    /// What guests and administrators use; nil while nobody is served.
    var service: (any VolumeService)? { get }
    var administration: (any NodeAdministration)? { get }
    /// Called when it begins to serve.
    var onServing: () -> Void { get set }
    /// The copies of its stores that take part.
    var copies: [Copy] { get }
    /// The catalog as this host knows it.
    var state: CatalogState? { get }
    /// It has nothing left to do by itself.
    var isAtRest: Bool { get }

    /// What it waits for, for whoever looks at a failure.
    var diagnosis: String { get }

    /// Starts a process, which opens what is on the disks; again after a while when that is not possible.
    func boot()
    /// The process dies; page caches stay.
    func kill()
    /// The machine loses its power.
    func losePower()
    /// Like SIGSTOP and SIGCONT.
    func stop()
    func resume()
    /// Does something inside its process; nothing when there is none.
    func enter(_ action: @escaping () -> Void)
    /// An empty disk appears at that path.
    func addDisk(path: String)
    /// The number of the disk with that store; nil when it is not on this host.
    func disk(of store: StoreId) -> Int?
}

/// What a host is made in.
package struct HostSurroundings {
    package let queue: EventQueue
    package let trace: Trace
    package let pool: BufferPool
    package let knobs: Knobs
    package let clusterId: ClusterId
    /// Draws what belongs to this host alone.
    package var random: Random
    package init(queue: EventQueue, trace: Trace, pool: BufferPool, knobs: Knobs, clusterId: ClusterId, random: Random)
    {
        self.queue = queue
        self.trace = trace
        self.pool = pool
        self.knobs = knobs
        self.clusterId = clusterId
        self.random = random
    }
}
