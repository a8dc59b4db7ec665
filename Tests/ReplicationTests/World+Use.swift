// Short ways for tests to use a world: volumes, stamped blocks, snapshots, and what must hold when all is at rest.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import TestSupport
import Testing

@testable import Replication

let plainAttributes = FileAttributes(uid: 0, gid: 0, mode: 0o644, time: 0)
let mebibyte = 1 << 20

/// An operation that was asked for and may have been answered.
final class Asked {
    var isAnswered = false
    var errno: Errno?
    var whenAnswered: () -> Void = {}
    func answer(_ errno: Errno?) {
        precondition(!isAnswered, "answered twice")
        self.errno = errno
        isAnswered = true
        whenAnswered()
    }
}

extension World {
    func propose(_ command: CatalogCommand, _ location: SourceLocation = #_sourceLocation) -> CommandAnswer {
        answer("\(command)", location) { catalog.propose(command, request: nil, $0) }
            ?? .refused(SheepError(.inputOutput, what: "", why: "", remedy: ""))
    }
    func volume(_ name: String, size: Int = 16 * mebibyte, copies: Int? = nil) -> VolumeId {
        let answer = propose(
            .createVolume(
                directory: .root, name: name, size: UInt64(size), copies: copies, attributes: plainAttributes))
        guard case .volume(let id) = answer else { fatalError("\(answer)") }
        return id
    }
    @discardableResult
    func snapshot(_ id: VolumeId, _ tag: String, _ location: SourceLocation = #_sourceLocation) -> Generation {
        let result = answer("snapshot", location) {
            node.snapshot([id], tag: tag, group: nil, replaceExisting: false, request: nil, $0)
        }
        guard case .snapshot(_, let generation)? = result else {
            Issue.record("snapshot: \(String(describing: result))", sourceLocation: location)
            return Generation(0)
        }
        return generation
    }
    func clone(_ id: VolumeId, _ generation: Generation, _ name: String) -> VolumeId {
        let answer = propose(
            .clone(
                source: SnapshotReference(volume: id, generation: generation), directory: .root, name: name,
                copies: nil, attributes: plainAttributes))
        guard case .volume(let clone) = answer else { fatalError("\(answer)") }
        return clone
    }
    func removeSnapshot(_ id: VolumeId, _ tag: String) {
        #expect(propose(.removeSnapshot(volume: id, tag: tag)) == .done)
    }
    func resize(_ id: VolumeId, _ size: Int, _ location: SourceLocation = #_sourceLocation) {
        let result = answer("resize", location) { node.resize(id, size: UInt64(size), request: nil, $0) }
        #expect(result == .done, sourceLocation: location)
    }
    func rollback(_ id: VolumeId, _ tag: String, _ location: SourceLocation = #_sourceLocation) {
        let result = answer("rollback", location) { node.rollback(id, tag: tag, request: nil, $0) }
        #expect(result == .done, sourceLocation: location)
    }

    // MARK: bytes

    func askWrite(_ id: VolumeId, _ offset: Int, _ bytes: [UInt8], durable: Bool = false) -> Asked {
        let asked = Asked()
        // A buffer that is not aligned to the blocks as often as the offset is not.
        let shift = offset % blockSize == 0 && bytes.count % blockSize == 0 ? 0 : 512
        let buffer = pool.buffer((bytes.count + shift + blockSize - 1) / blockSize * blockSize)
        bytes.withUnsafeBytes { (buffer.bytes + shift).copyMemory(from: $0.baseAddress!, byteCount: bytes.count) }
        node.write(id, offset: UInt64(offset), count: bytes.count, from: buffer, bufferOffset: shift, durable: durable)
        {
            asked.answer($0)
        }
        return asked
    }
    @discardableResult
    func write(
        _ id: VolumeId, _ offset: Int, _ bytes: [UInt8], durable: Bool = false,
        _ location: SourceLocation = #_sourceLocation
    ) -> Errno? {
        let asked = askWrite(id, offset, bytes, durable: durable)
        run("write", location) { asked.isAnswered }
        return asked.errno
    }
    func pattern(_ stamp: UInt8, _ count: Int) -> [UInt8] { [UInt8](repeating: stamp, count: count) }
    func write(_ id: VolumeId, _ offset: Int, stamp: UInt8, _ count: Int, _ location: SourceLocation = #_sourceLocation)
    {
        #expect(write(id, offset, pattern(stamp, count), location) == nil, sourceLocation: location)
    }

    func askRead(_ view: VolumeView, _ offset: Int, _ count: Int, _ done: @escaping (Result<[UInt8], Errno>) -> Void) {
        let buffer = pool.buffer((count + blockSize - 1) / blockSize * blockSize)
        node.read(view, offset: UInt64(offset), count: count, into: buffer, bufferOffset: 0) { errno in
            if let errno { return done(.failure(errno)) }
            done(.success(Array(UnsafeRawBufferPointer(start: buffer.bytes, count: count))))
        }
    }
    func read(
        _ view: VolumeView, _ offset: Int, _ count: Int, _ location: SourceLocation = #_sourceLocation
    ) -> [UInt8]? {
        let result: Result<[UInt8], Errno>? = answer("read", location) { askRead(view, offset, count, $0) }
        guard case .success(let bytes)? = result else {
            Issue.record("read: \(String(describing: result))", sourceLocation: location)
            return nil
        }
        return bytes
    }
    func read(_ id: VolumeId, _ offset: Int, _ count: Int, _ location: SourceLocation = #_sourceLocation) -> [UInt8]? {
        read(.current(id), offset, count, location)
    }
    /// Whether all bytes there are `stamp`.
    func expect(
        _ view: VolumeView, _ offset: Int, _ count: Int, stamp: UInt8, _ location: SourceLocation = #_sourceLocation
    ) {
        guard let bytes = read(view, offset, count, location) else { return }
        let wrong = bytes.firstIndex { $0 != stamp }
        #expect(
            wrong == nil, "byte \(offset + (wrong ?? 0)) is \(wrong.map { bytes[$0] } ?? 0), not \(stamp)",
            sourceLocation: location)
    }
    func expect(
        _ id: VolumeId, _ offset: Int, _ count: Int, stamp: UInt8, _ location: SourceLocation = #_sourceLocation
    ) {
        expect(.current(id), offset, count, stamp: stamp, location)
    }
    @discardableResult
    func flush(_ id: VolumeId, _ location: SourceLocation = #_sourceLocation) -> Errno? {
        let asked = Asked()
        node.flush(id) { asked.answer($0) }
        run("flush", location) { asked.isAnswered }
        return asked.errno
    }
    func discard(_ id: VolumeId, _ offset: Int, _ count: Int, _ location: SourceLocation = #_sourceLocation) {
        let asked = Asked()
        node.discard(id, offset: UInt64(offset), count: UInt64(count)) { asked.answer($0) }
        run("discard", location) { asked.isAnswered }
        #expect(asked.errno == nil, sourceLocation: location)
    }

    // MARK: stores

    func fail(_ id: StoreId) { shelves[shelf(id)].disk.isBroken = true }
    func status(_ id: StoreId) -> StoreStatus? { catalog.state.map.store(id)?.status }
    var storeIds: [StoreId] { shelves.map(\.id).filter { $0.rawValue != 0 } }

    // MARK: at rest

    /// Whether nothing is left to recover, to move or to prune.
    var isAtRest: Bool {
        catalog.state.map.to == nil && node.recovery.behindCount == 0 && node.recovery.status.phase == .idle
            && node.pruner.pendingVolumes == 0 && othersAreAtRest
            && catalog.state.map.stores.allSatisfy {
                $0.status != .up || catalog.state.map.missingRanges(of: $0.id).isEmpty
            }
    }
    func rest(seconds: UInt64 = 120, _ location: SourceLocation = #_sourceLocation) {
        pass(milliseconds: 300)
        // A state that contradicts itself would be refused at the next start.
        #expect(catalog.state.inconsistency() == nil, sourceLocation: location)
        run("rest: \(node.recovery.status)", seconds: seconds, location) { isAtRest }
        pass(milliseconds: 300)
    }

    /// All copies that are up show the same in every view that can be reached, and nothing is kept that cannot.
    func expectCopiesAreIdentical(_ location: SourceLocation = #_sourceLocation) {
        for id in catalog.state.volumes.keys {
            guard let volume = node.gateway.volume(id) else { continue }
            var isReady = false
            node.gateway.whenReady(id) { _, _ in isReady = true }
            run("ready", location) { isReady }
            let views = catalog.state.reachableViews(of: id)
            for index in volume.indices() {
                let object = ObjectId(id, index)
                var prepared = false
                node.gateway.whenPrepared(volume, index, failed: { _ in prepared = true }) { _ in prepared = true }
                run("prepared", location) { prepared }
                for path in views {
                    var first: (StoreId, ComposedView)?
                    for store in node.gateway.targets(volume, object.range) where status(store) == .up {
                        guard let core = self.store(store) else { continue }
                        let result: Result<ComposedView, StoreError>? = answer("view", location) {
                            core.view(object: object, path: path, completion: $0)
                        }
                        guard case .success(let view)? = result else { continue }
                        if let problem = first.flatMap({ difference($0.1, view) }) {
                            Issue.record(
                                "object \(object) view \(path): \(first!.0) and \(store) differ: \(problem)",
                                sourceLocation: location)
                            return
                        }
                        if !view.pending.isEmpty {
                            Issue.record("object \(object) on \(store) has pending blocks", sourceLocation: location)
                        }
                        if first == nil { first = (store, view) }
                    }
                }
            }
        }
    }
    private func difference(_ a: ComposedView, _ b: ComposedView) -> String? {
        for block in 0..<blocksPerObject {
            if a.held[block] != b.held[block] { return "block \(block) held \(a.held[block]) \(b.held[block])" }
            if a.held[block], a.checksums[block] != b.checksums[block] { return "block \(block) content" }
        }
        for chunk in 0..<chunksPerObject
        where a.chunkVersions[chunk] != b.chunkVersions[chunk] && a.held.containsAny(.chunk(chunk)) {
            return "chunk \(chunk) version \(a.chunkVersions[chunk]) \(b.chunkVersions[chunk])"
        }
        return nil
    }
    func expectNothingUnreachable(_ location: SourceLocation = #_sourceLocation) {
        for copy in copies {
            for id in copy.objects.volumes() {
                let entries = copy.objects.objects(of: id)
                let views = catalog.state.reachableViews(of: id)
                if catalog.state.volumes[id] == nil, !entries.isEmpty {
                    Issue.record(
                        "store \(copy.store) has objects of volume \(id), which is gone", sourceLocation: location)
                    return
                }
                for entry in entries {
                    for generation in entry.generations where !views.reach(generation.generation) {
                        Issue.record(
                            "store \(copy.store): object \(entry.object) has generation \(generation.generation)",
                            sourceLocation: location)
                        return
                    }
                    if let volume = node.gateway.volume(id),
                        !node.gateway.targets(volume, entry.object.range).contains(copy.store)
                    {
                        Issue.record("store \(copy.store): surplus copy of \(entry.object)", sourceLocation: location)
                        return
                    }
                }
            }
        }
    }
    func expectAllWell(_ location: SourceLocation = #_sourceLocation) {
        rest(location)
        expectCopiesAreIdentical(location)
        expectNothingUnreachable(location)
    }
}
