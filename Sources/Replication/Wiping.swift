// Makes a directory empty that was to become a store and did not: it can be given again. Never used on a store that a
// cluster knows. The superblock goes first, so that what is left after a kill is no store.
import Model

/// Removes all files of a store, as far as its disk lets it; then `completion`.
func wipe(_ disk: any Disk, _ completion: @escaping () -> Void) {
    let kinds: [StoreFileKind] = [.catalogLog, .catalogState, .journal, .index, .object, .quarantine]
    func next(_ rest: ArraySlice<StoreFileKind>) {
        guard let kind = rest.first else { return completion() }
        disk.submit(.list(kind)) { result in
            guard case .success(.files(let files)) = result, !files.isEmpty else { return next(rest.dropFirst()) }
            disk.submit(.remove(files, syncDirectory: true)) { _ in next(rest.dropFirst()) }
        }
    }
    disk.submit(.remove([.superblock], syncDirectory: true)) { _ in next(kinds[...]) }
}
