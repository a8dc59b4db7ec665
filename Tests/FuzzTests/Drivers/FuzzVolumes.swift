// What a mount is served from here: the catalog's real state machine, and volumes whose data is nothing but zeros.
// Enough for every request to take its way; completions come later, as they must.
import Catalog
import Glibc
import Model
import OrderedCollections
import Replication
import TestSupport

final class FuzzVolumes: CatalogVolumes, CatalogProposer, Clock {
    private(set) var state: CatalogState
    private var observers: [([CatalogChange]) -> Void] = []
    private var queue: [() -> Void] = []
    var opens: [VolumeId: Int] = [:]
    var batchEnd: () -> Void = {}

    init(_ state: CatalogState) { self.state = state }

    // MARK: Clock
    var now: Instant { Instant(nanoseconds: 1) }
    var wallClock: UInt64 { 1_700_000_000_000_000_000 }
    func after(milliseconds: UInt64, _ action: @escaping () -> Void) { queue.append(action) }
    func later(_ action: @escaping () -> Void) { queue.append(action) }
    /// False: there is no end to it.
    func drain() -> Bool {
        var steps = 0
        repeat {
            while !queue.isEmpty {
                let ready = queue
                queue = []
                for action in ready { action() }
                steps += ready.count
                if steps > 20_000 { return false }
            }
            batchEnd()
        } while !queue.isEmpty
        return true
    }

    // MARK: CatalogProposer
    func propose(_ command: CatalogCommand, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void) {
        later { [self] in
            let (answer, changes) = state.apply(command, request: request)
            for observer in observers { observer(changes) }
            later { completion(answer) }
        }
    }
    func observe(_ observer: @escaping ([CatalogChange]) -> Void) { observers.append(observer) }

    // MARK: VolumeService
    var catalog: any CatalogProposer { self }
    private func size(_ view: VolumeView) -> UInt64? {
        guard let record = state.volumes[view.volume] else { return nil }
        if case .snapshot(_, let generation) = view { return record.snapshot(generation)?.size }
        return record.size
    }
    /// The caller promises to stay within the size as it was; whoever breaks that breaks here.
    private func isInside(_ view: VolumeView, _ offset: UInt64, _ count: UInt64) -> Bool {
        let (end, overflow) = offset.addingReportingOverflow(count)
        return !overflow && end <= maximumVolumeSize && (size(view).map { end <= $0 } ?? true)
    }
    func read(
        _ view: VolumeView, offset: UInt64, count: Int, into buffer: Buffer, bufferOffset: Int,
        _ completion: @escaping (Errno?) -> Void
    ) {
        precondition(isInside(view, offset, UInt64(count)), "a read beyond the volume")
        precondition(bufferOffset + count <= buffer.capacity, "a read beyond its buffer")
        memset(buffer.bytes + bufferOffset, 0, count)
        later { completion(nil) }
    }
    func write(
        _ volume: VolumeId, offset: UInt64, count: Int, from buffer: Buffer, bufferOffset: Int, durable: Bool,
        _ completion: @escaping (Errno?) -> Void
    ) {
        precondition(isInside(.current(volume), offset, UInt64(count)), "a write beyond the volume")
        precondition(bufferOffset + count <= buffer.capacity, "a write beyond its buffer")
        later { completion(nil) }
    }
    func flush(_ volume: VolumeId, _ completion: @escaping (Errno?) -> Void) { later { completion(nil) } }
    func discard(_ volume: VolumeId, offset: UInt64, count: UInt64, _ completion: @escaping (Errno?) -> Void) {
        precondition(isInside(.current(volume), offset, count), "a discard beyond the volume")
        later { completion(nil) }
    }
    func resize(_ volume: VolumeId, size: UInt64, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void)
    {
        propose(.resize(volume, size: size), request: request) { [self] answer in
            guard state.volumes[volume]?.trimFrom != nil else { return completion(answer) }
            propose(.trimmed(volume), request: nil) { _ in completion(answer) }
        }
    }
    func copy(
        from source: VolumeView, offset: UInt64, to volume: VolumeId, at destination: UInt64, count: UInt64,
        _ completion: @escaping (Result<UInt64, Errno>) -> Void
    ) {
        precondition(isInside(source, offset, count), "a copy from beyond the volume")
        precondition(isInside(.current(volume), destination, count), "a copy to beyond the volume")
        later { completion(.success(count)) }
    }
    func seek(_ view: VolumeView, offset: UInt64, data: Bool, _ completion: @escaping (Result<UInt64, Errno>) -> Void) {
        later { [self] in
            guard let size = size(view), offset < size else { return completion(.failure(.noPosition)) }
            completion(.success(data ? offset : size))
        }
    }
    func allocatedBytes(_ view: VolumeView, _ completion: @escaping (UInt64) -> Void) { later { completion(4096) } }
}
