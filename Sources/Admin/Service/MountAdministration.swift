// What an administrator can ask of whoever keeps the mounts: the process's wiring implements it.
import Catalog
import Model

/// Called on the core thread; completions come later on it, never from inside the call.
package protocol MountAdministration: AnyObject {
    /// What is mounted now.
    var mounts: [MountReport] { get }
    /// The size of a volume that users see; the catalog's may be ahead while a file is appended to.
    func size(_ record: VolumeRecord) -> UInt64
    /// Makes the catalog's sizes of these volumes the ones that users see, for whatever `completion` starts. May be
    /// called at once.
    func settle(_ volumes: [VolumeId], _ completion: @escaping (Errno?) -> Void)
    /// Mounts the namespace at one more place. `uid`: who asks (an ordinary user may mount only where they may write).
    func mount(_ mountpoint: String, options: MountOptions, uid: UInt32, _ completion: @escaping (SheepError?) -> Void)
    /// Takes a mount away. EBUSY when files are open there and `lazy` is not said. The node stays a replica.
    func unmount(_ mountpoint: String, lazy: Bool, _ completion: @escaping (SheepError?) -> Void)
}
