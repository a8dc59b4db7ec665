// A node of a cluster offers the volumes of all: each operation is routed (VolumeRouter).
import Catalog
import Model
import OrderedCollections

extension VolumeRouter: VolumeService {
    package var catalog: any CatalogProposer { cluster }

    package func read(
        _ view: VolumeView, offset: UInt64, count: Int, into buffer: Buffer, bufferOffset: Int,
        _ completion: @escaping (Errno?) -> Void
    ) {
        guard count > 0 else { return completion(nil) }
        inPieces(offset, count, completion) { [self] position, length, done, arrive in
            submit(
                .read(view, offset: position, count: length), buffer: buffer, bufferOffset: bufferOffset + done
            ) { arrive($0.ended) }
        }
    }
    package func write(
        _ volume: VolumeId, offset: UInt64, count: Int, from buffer: Buffer, bufferOffset: Int, durable: Bool,
        _ completion: @escaping (Errno?) -> Void
    ) {
        guard count > 0 else { return completion(nil) }
        inPieces(offset, count, completion) { [self] position, length, done, arrive in
            submit(
                .write(volume, offset: position, count: length, durable: durable), buffer: buffer,
                bufferOffset: bufferOffset + done
            ) { arrive($0.ended) }
        }
    }
    /// What one frame may carry; nearly always all of it.
    private func inPieces(
        _ offset: UInt64, _ count: Int, _ completion: @escaping (Errno?) -> Void,
        _ body: (UInt64, Int, Int, @escaping (Errno?) -> Void) -> Void
    ) {
        let limit = VolumeRequest.maximumBytes
        guard count > limit else { return body(offset, count, 0, completion) }
        let join = Join((count + limit - 1) / limit, completion)
        var done = 0
        while done < count {
            let length = min(limit, count - done)
            body(offset + UInt64(done), length, done, join.arrive)
            done += length
        }
    }
    package func flush(_ volume: VolumeId, _ completion: @escaping (Errno?) -> Void) {
        submit(.flush(volume)) { completion($0.ended) }
    }
    package func discard(
        _ volume: VolumeId, offset: UInt64, count: UInt64, _ completion: @escaping (Errno?) -> Void
    ) {
        submit(.discard(volume, offset: offset, count: count)) { completion($0.ended) }
    }
    package func resize(
        _ volume: VolumeId, size: UInt64, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void
    ) {
        submit(.resize(volume, size: size, request ?? newRequestId())) { completion($0.commandAnswer) }
    }
    package func seek(
        _ view: VolumeView, offset: UInt64, data: Bool, _ completion: @escaping (Result<UInt64, Errno>) -> Void
    ) {
        submit(.seek(view, offset: offset, data: data)) { answer in
            if case .position(let position) = answer {
                completion(.success(position))
            } else {
                completion(.failure(answer.errno))
            }
        }
    }
    package func allocatedBytes(_ view: VolumeView, _ completion: @escaping (UInt64) -> Void) {
        submit(.allocatedBytes(view)) { answer in
            if case .position(let bytes) = answer { completion(bytes) } else { completion(0) }
        }
    }

    /// Runs of data are read and written, holes are discarded, each where it may be done; at most 1 MiB of data a call.
    package func copy(
        from source: VolumeView, offset: UInt64, to volume: VolumeId, at destination: UInt64, count: UInt64,
        _ completion: @escaping (Result<UInt64, Errno>) -> Void
    ) {
        guard let size = gateway.size(of: source), offset < size, count > 0 else {
            return clock.after(milliseconds: 0) { completion(.success(0)) }
        }
        let count = min(count, size - offset)
        seek(source, offset: offset, data: true) { [self] result in
            let dataStart: UInt64
            switch result {
            case .success(let position): dataStart = min(position, offset + count)
            case .failure(.noPosition): dataStart = offset + count
            case .failure(let errno): return completion(.failure(errno))
            }
            if dataStart > offset {
                let hole = dataStart - offset
                return discard(volume, offset: destination, count: hole) { errno in
                    completion(errno.map { .failure($0) } ?? .success(hole))
                }
            }
            let length = Int(min(count, UInt64(1 << 20)))
            let buffer = gateway.pool.buffer((length + blockSize - 1) / blockSize * blockSize)
            read(source, offset: offset, count: length, into: buffer, bufferOffset: 0) { [self] errno in
                if let errno { return completion(.failure(errno)) }
                write(
                    volume, offset: destination, count: length, from: buffer, bufferOffset: 0, durable: false
                ) { errno in
                    completion(errno.map { .failure($0) } ?? .success(UInt64(length)))
                }
            }
        }
    }

    package func snapshot(
        _ volumes: [VolumeId], tag: String, group: DirectoryId?, replaceExisting: Bool, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        let request = request ?? newRequestId()
        if volumes.count == 1 {
            return submit(
                .snapshot(volumes[0], tag: tag, group: group, replaceExisting: replaceExisting, request)
            ) { completion($0.commandAnswer) }
        }
        snapshotTogether(
            volumes, tag: tag, group: group, replaceExisting: replaceExisting, request: request, completion)
    }
    package func cloneCurrent(
        _ volume: VolumeId, directory: DirectoryId, name: String, attributes: FileAttributes, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        submit(
            .cloneCurrent(volume, directory: directory, name: name, attributes, request ?? newRequestId())
        ) { completion($0.commandAnswer) }
    }
    package func rollback(
        _ volume: VolumeId, tag: String, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void
    ) {
        submit(.rollback(volume, tag: tag, request ?? newRequestId())) { completion($0.commandAnswer) }
    }
    package func flatten(
        _ volume: VolumeId, progress: @escaping (UInt64, UInt64) -> Void,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        submit(.flatten(volume)) { completion($0.commandAnswer) }
    }

    package func opened(_ volume: VolumeId) {
        let route = route(volume)
        route.openCount += 1
        if mayUse(volume) { gateway.opened(volume) }
    }
    package func closed(_ volume: VolumeId) {
        let route = route(volume)
        guard route.openCount > 0 else { return }
        route.openCount -= 1
        if mayUse(volume) { gateway.closed(volume) }
    }
    package func openCount(_ volume: VolumeId) -> Int { routes[volume]?.openCount ?? 0 }
    package var space: VolumeSpace { node.space }
}

extension VolumeAnswer {
    /// Of an operation that ends with an errno or without.
    fileprivate var ended: Errno? {
        if case .ended(let errno) = self { return errno }
        return .inputOutput
    }
}
