// Catalog changes, whoever made them, as notifications to this mount's kernel: its caches are long-lived.
import Catalog
import Fuse
import Model

extension Filesystem {
    func catalogChanged(_ changes: [CatalogChange]) {
        guard let notify else { return }
        for change in changes {
            switch change {
            case .volumeChanged(let id): attributesChanged(id)
            case .directoryChanged(let id):
                notify(.invalidateNode(number(.directory(id)), offset: -1, length: 0))
            case .name(let directory, let name):
                notify(.invalidateEntry(parent: number(.directory(directory)), name: name, expireOnly: true))
                notify(.invalidateNode(number(.directory(directory)), offset: -1, length: 0))
            case .map, .settings, .volumeCreated, .volumeRemoved, .snapshotCreated, .snapshotRemoved,
                .directoryCreated, .directoryRemoved:
                break
            }
        }
    }
    /// Attributes only: no page is dropped.
    func attributesChanged(_ volume: VolumeId) {
        notify?(.invalidateNode(number(.volume(volume)), offset: -1, length: 0))
        for (old, new) in aliases where new == volume {
            notify?(.invalidateNode(number(.volume(old)), offset: -1, length: 0))
        }
    }
}
