// Object files that nobody knows: a crash between a write past the journal and its record leaves one. They are looked
// for some time after a start that followed an unclean stop, in the background, never at the start itself.
import Model

extension ObjectStore {
    private static let sweptAtOnce = 4096

    /// Plans a sweep.
    func sweepLater() {
        clock.after(milliseconds: configuration.sweepDelayMilliseconds) { [weak self] in
            guard let self, isOpen else { return }
            disk.submit(.list(.object)) { [weak self] result in
                // Nothing depends on it: what cannot be listed is swept another time.
                if let self, isOpen, case .success(.files(let files)) = result { sweep(files[...]) }
            }
        }
    }

    /// Looks at some files, and lets others work. A file made since the listing is known, so it is safe.
    private func sweep(_ files: ArraySlice<StoreFile>) {
        guard isOpen else { return }
        for case .object(let object, let number) in files.prefix(ObjectStore.sweptAtOnce) {
            let key = FileKey(object: object, file: number.rawValue)
            if index.generation(key) == nil, sheets[key] == nil, !graves.contains(where: { $0.key == key }) {
                // As a grave it keeps its number from being given out before it is gone.
                graves.append(Grave(key: key, sheet: nil, lsn: 0, isQuarantine: false))
                counters.orphans += 1
            }
        }
        bury()
        let rest = files.dropFirst(ObjectStore.sweptAtOnce)
        if !rest.isEmpty { later { [self] in sweep(rest) } }
    }
}
