// An index from nothing: every object file says itself what it is. None of it is trusted afterwards.
import Model

extension Opening {
    /// Without an index: every object file says itself what it is. None of it is trusted afterwards.
    func rebuild() {
        isRebuilt = true
        disk.submit(.list(.object)) { [self] result in
            guard case .success(.files(let files)) = result else {
                return fail(.damaged("there is no index, and the object files cannot be listed"))
            }
            var keys: [FileKey] = []
            for file in files {
                if case .object(let object, let number) = file {
                    keys.append(FileKey(object: object, file: number.rawValue))
                }
            }
            scanHeader(keys.sorted()[...])
        }
    }
    func scanHeader(_ keys: ArraySlice<FileKey>) {
        guard let key = keys.first else { return listJournal() }
        let buffer = store.pool.buffer(Sheet.dataOffset)
        disk.submit(
            .read(key.storeFile, offset: 0, buffer: buffer, bufferOffset: 0, count: Sheet.dataOffset)
        ) { [self] result in
            var count = 0
            if case .success(.bytes(let n)) = result { count = n }
            var best: (slot: Int, facts: Sheet.SlotFacts)?
            for slot in 0..<2 where count >= (slot + 1) * Sheet.slotBytes {
                if let facts = Sheet.facts(buffer.bytes + slot * Sheet.slotBytes, key: key, store: store.storeId),
                    best == nil || facts.stamp > best!.facts.stamp
                {
                    best = (slot, facts)
                }
            }
            if let (slot, facts) = best {
                let probe = Sheet(key: key, generation: Generation(facts.generation))
                probe.decode(buffer.bytes + slot * Sheet.slotBytes)
                let entry = store.index.entry(key.object)
                entry.version = max(entry.version, facts.version, facts.copyVersion)
                if facts.state != 0 { store.index.setState(entry, CopyState(rawValue: facts.state) ?? .suspect) }
                entry.generations.insert(
                    IndexGeneration(
                        generation: facts.generation, file: key.file, version: facts.version,
                        stamp: facts.stamp, allocated: UInt16(probe.allocatedBlocks)))
                store.lastCheckpoint = max(store.lastCheckpoint, facts.stamp)
            } else {
                nameless.append(key)
            }
            scanHeader(keys.dropFirst())
        }
    }
}
