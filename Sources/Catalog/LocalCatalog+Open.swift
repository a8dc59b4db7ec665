// Making a single host's catalog, and opening it (HostLog does both; here is what is the catalog's).
import Model

extension LocalCatalog {
    /// Makes a new cluster's catalog on these disks, with these stores in it. Refused when one of them holds a
    /// catalog already.
    package func create(
        clusterId: ClusterId, settings: Settings, rootAttributes: FileAttributes, stores: [StoreDescription],
        _ completion: @escaping (SheepError?) -> Void
    ) {
        let holders = host.stores
        host.create({ () throws(SheepError) in
            var state = CatalogState(
                clusterId: clusterId, settings: settings, rootAttributes: rootAttributes, catalogStores: holders)
            for store in stores {
                if case .refused(let error) = state.apply(.addStore(store), request: nil).0 { throw error }
            }
            return state
        }) { error in self.opened(error, completion) }
    }

    /// Opens the catalog that the stores have. `acceptMissing`: stores that an administrator says will not come
    /// back. Errors: no store has a catalog (ENOENT), too many are missing (EBUSY, which names them).
    package func open(acceptMissing: [StoreId] = [], _ completion: @escaping (SheepError?) -> Void) {
        host.open(acceptMissing: acceptMissing) { error in self.opened(error, completion) }
    }
}
