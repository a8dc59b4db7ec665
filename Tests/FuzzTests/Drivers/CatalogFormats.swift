// Commands, the state, and the log as bytes. What decodes encodes to what decodes to the same; a command has an answer
// on every state, and leaves it consistent; a state that was taken from outside can be worked with.
import Model
import OrderedCollections

@testable import Catalog

/// Nil: the state holds together, and comes back from its bytes as it is.
private func problem(with state: CatalogState) -> String? {
    if let problem = state.inconsistency() { return "an inconsistent state: \(problem)" }
    let bytes = state.encoded()
    do {
        return try CatalogState(decoding: bytes).encoded() == bytes ? nil : "a state changed by coding it"
    } catch {
        return "an encoded state cannot be decoded: \(error)"
    }
}

extension FuzzTarget {
    /// Input: one byte (1: a state with stores, whose rings take their time), then commands, applied one after another.
    static let command = FuzzTarget(
        name: "command", summary: "commands of the catalog, and what they do to its state", maximumBytes: 4096,
        seeds: {
            let all = SampleCatalog.commands + SampleCatalog.others
            let map = SampleCatalog.others.suffix(7) + [.storeDown(StoreId(1), reason: "", wallClock: 1)]
            return all.map { [0] + SampleCatalog.encoded($0) } + map.map { [1] + SampleCatalog.encoded($0) }
                + [[0] + (SampleCatalog.others + SampleCatalog.commands.reversed()).flatMap(SampleCatalog.encoded)]
        }
    ) { input in
        var input = input
        var state = input.byte() & 1 != 0 ? SampleCatalog.state : SampleCatalog.stateWithoutStores
        var reader = ByteReader(input.rest())
        var left = 24
        while reader.remaining > 0, left > 0 {
            left -= 1
            guard let command = try? CatalogCommand(&reader) else { break }
            var again = ByteReader(SampleCatalog.encoded(command))
            guard let copy = try? CatalogCommand(&again), again.remaining == 0 else {
                return "an encoded command cannot be decoded: \(command)"
            }
            guard copy == command else { return "\(command) became \(copy)" }
            let before = state.index
            let (answer, changes) = state.apply(command, request: nil)
            guard state.index == before + 1 else { return "a command without a number" }
            if case .refused(let error) = answer {
                if !changes.isEmpty { return "a refused command changed something: \(command)" }
                if error.what.isEmpty || error.why.isEmpty { return "a refusal without words: \(command)" }
            }
            if let problem = state.inconsistency() { return "after \(command): \(problem)" }
        }
        return problem(with: state)
    }

    /// Input: flags (1: places changed in a sample state, 2: one without stores; else raw bytes).
    static let state = FuzzTarget(
        name: "state", summary: "the catalog's state, as an image of it has it", maximumBytes: 8192,
        seeds: {
            let small = SampleCatalog.stateWithoutStores.encoded()
            return [[1], [3], [0] + small]
                + stride(from: 16, to: small.count, by: 24).map {
                    [3] + FuzzInput.patchBytes($0, [0xff, 0xff, 0xff, 0xff])
                }
                + [16, 24, 64, 68].map { [1] + FuzzInput.patchBytes($0, [0xff, 0xff, 0xff, 0x7f]) }
        }
    ) { input in
        var input = input
        let flags = input.byte()
        var bytes: [UInt8]
        if flags & 1 != 0 {
            bytes = flags & 2 != 0 ? encodedWithoutStores : encodedState
            input.patch(&bytes)
        } else {
            bytes = input.rest()
        }
        guard var state = try? CatalogState(decoding: bytes) else { return nil }
        let again = state.encoded()
        guard let copy = try? CatalogState(decoding: again), copy.encoded() == again else {
            return "a state changed by coding it"
        }
        // It must bear everything that a running node would ask of it.
        var commands: [CatalogCommand] = [
            SampleCatalog.volume("new.img"),
            .createDirectory(
                parent: .root, name: "new", attributes: FileAttributes(uid: 0, gid: 0, mode: 0, time: 0)),
        ]
        for volume in state.volumes.values.prefix(8) {
            commands += [
                SampleCatalog.snapshot(volume.id.rawValue, "fuzz", term: volume.term.rawValue),
                .acquireLease(volume.id, node: volume.lease?.node ?? NodeId(1), incarnation: 1),
                .cloneCurrent(
                    source: volume.id, term: volume.term, directory: .root, name: "clone",
                    attributes: volume.attributes, wallClock: 1),
                .rollback(volume: volume.id, term: volume.term, tag: volume.snapshots.first?.tag ?? ""),
                .resize(volume.id, size: volume.size / 2), .removeVolume(volume.id, recursive: true),
            ]
        }
        for store in state.map.stores.prefix(3) {
            commands += [
                .storeDown(store.id, reason: "r", wallClock: 1), .pruned(VolumeId(1), store.id),
                .storeUp(store.id, session: store.session, wallClock: 2),
            ]
        }
        for command in commands {
            _ = state.apply(command, request: nil)
            if let problem = state.inconsistency() { return "after \(command): \(problem)" }
        }
        return problem(with: state)
    }
    private static let encodedState = SampleCatalog.state.encoded()
    private static let encodedWithoutStores = SampleCatalog.stateWithoutStores.encoded()

    /// Input: flags (1: lengths and commands, which are made into entries; 2: each in an append of its own; 4: places
    /// of that log are changed; else a raw log), then that.
    static let log = FuzzTarget(
        name: "log", summary: "the catalog's log behind an image", maximumBytes: 8192,
        seeds: {
            let bodies = SampleCatalog.others.map(SampleCatalog.encoded).map { littleEndian(UInt16($0.count)) + $0 }
            let all = bodies.flatMap { $0 }
            let raw = makeLog([SampleCatalog.encoded(.none), SampleCatalog.encoded(.none)], separate: true)
            return [[1] + all, [3] + all, [0] + raw, [0] + raw.dropLast(3)] + bodies.map { [3] + $0 }
        }
    ) { input in
        var input = input
        let flags = input.byte()
        var log: [UInt8]
        if flags & 1 != 0 {
            var bodies: [[UInt8]] = []
            let count = flags & 4 != 0 ? 2 : 16
            while !input.isAtEnd, bodies.count < count { bodies.append(input.take(Int(input.number(UInt16.self)))) }
            log = makeLog(bodies, separate: flags & 2 != 0)
            if flags & 4 != 0 { input.patch(&log) }
        } else {
            log = input.rest()
        }
        let image = CatalogFormat.Image(promised: 1, view: 1, hash: startHash, state: SampleCatalog.stateWithoutStores)
        let found: CatalogFormat.Image?
        do throws(SheepError) { found = try StoreLog.replay(log, onto: image) } catch {
            return error.what.isEmpty || error.why.isEmpty ? "a refusal without words" : nil
        }
        guard let found else { return nil }
        guard found.state.index >= image.state.index, found.view >= image.view else { return "the log went back" }
        if let problem = problem(with: found.state) { return problem }
        let bytes = CatalogFormat.encode(
            promised: found.promised, view: found.view, hash: found.hash, state: found.state.encoded())
        guard let copy = try? CatalogFormat.decodeImage(bytes), copy.position == found.position,
            copy.hash == found.hash, copy.promised == found.promised
        else { return "an image did not come back" }
        return nil
    }
    private static let startHash: UInt32 = 17

    /// A log of whole entries whose bodies are these bytes, whatever they are.
    private static func makeLog(_ bodies: [[UInt8]], separate: Bool) -> [UInt8] {
        var log: [UInt8] = []
        var hash = startHash
        let first = SampleCatalog.stateWithoutStores.index + 1
        for (at, body) in bodies.enumerated() {
            let index = first + UInt64(at)
            let entry = CatalogEntry(
                index: index, view: 1, incarnation: 1, batch: separate ? index : first,
                request: RequestId(client: 3, number: index), command: .none)
            var unused: UInt32 = 0
            var bytes = Array(
                CatalogFormat.encode(entry, SampleCatalog.cluster, hash: &unused).prefix(CatalogFormat.headerBytes))
            bytes.put(UInt32(body.count), at: CatalogFormat.headerBytes - 8)
            bytes.put(crc32c(Array(bytes.dropLast(4))), at: CatalogFormat.headerBytes - 4)
            bytes += body
            hash = crc32c(bytes, seed: hash)
            log += bytes + littleEndian(hash)
        }
        return log
    }
}
