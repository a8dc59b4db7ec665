// What an operation means at this node's gateway, when it holds the volume. Only translation: who may do it, and when it
// is answered, is the router's.
import Catalog
import Model
import OrderedCollections

extension VolumeRouter {
    func perform(
        _ operation: RoutedOperation, _ route: VolumeRoute, _ completion: @escaping (VolumeAnswer) -> Void
    ) {
        let ended: (Errno?) -> Void = { completion(.ended($0)) }
        let command: (CommandAnswer) -> Void = { completion(.command($0)) }
        switch operation.request {
        case .read(let view, let offset, let count):
            gateway.read(
                view, offset: offset, count: count, into: operation.buffer!, bufferOffset: operation.bufferOffset, ended
            )
        case .write(let id, let offset, let count, let durable):
            gateway.write(
                id, offset: offset, count: count, from: operation.buffer!, bufferOffset: operation.bufferOffset,
                durable: durable, ended)
        case .flush(let id): gateway.flush(id, ended)
        case .discard(let id, let offset, let count): gateway.discard(id, offset: offset, count: count, ended)
        case .resize(let id, let size, let request): gateway.resize(id, size: size, request: request, command)
        case .seek(let view, let offset, let data):
            gateway.seek(view, offset: offset, data: data) { result in
                switch result {
                case .success(let position): completion(.position(position))
                case .failure(let errno): completion(.ended(errno))
                }
            }
        case .allocatedBytes(let view): gateway.allocatedBytes(view) { completion(.position($0)) }
        case .snapshot(let id, let tag, let group, let replaceExisting, let request):
            gateway.snapshot(
                [id], tag: tag, group: group, replaceExisting: replaceExisting, request: request, command)
        case .cloneCurrent(let id, let directory, let name, let attributes, let request):
            gateway.cloneCurrent(
                id, directory: directory, name: name, attributes: attributes, request: request, command)
        case .rollback(let id, let tag, let request): gateway.rollback(id, tag: tag, request: request, command)
        case .flatten(let id): gateway.flatten(id, progress: { _, _ in }, command)
        case .dataBlocks(let view, let index):
            gateway.dataBlocks(view, index) { result in
                switch result {
                case .success(let blocks): completion(.blocks(blocks))
                case .failure(let errno): completion(.ended(errno))
                }
            }
        case .nextObject(let view, let index):
            gateway.nextObject(view, index) { result in
                switch result {
                case .success(let next): completion(.object(next))
                case .failure(let errno): completion(.ended(errno))
                }
            }
        case .bringUpToDate(let id, let store, let ranges, let epoch):
            node.recovery.bringUpToDate(id, store, ranges, epoch) { completion(.upToDate($0, bytes: $1)) }
        case .surplus(let id, let store, let epoch, let indices):
            node.recovery.removable(id, store, epoch, indices) { completion(.removable($0)) }
        case .check(let id, let deep, let repair):
            node.scrubber.checkHere(id, deep: deep, repair: repair, progress: { _, _ in }) { completion(.checked($0)) }
        case .giveUp, .prepare, .resume: completion(.notHere)
        }
    }
}

// MARK: layers below that others hold

extension VolumeRouter: GatewayLeases {
    package func mayUse(_ volume: VolumeId) -> Bool {
        switch routes[volume]?.phase {
        case .taking, .held, .giving: true
        default: false
        }
    }

    package func outdated(_ volume: VolumeId, _ term: Term) {
        guard let route = routes[volume] else { return }
        switch route.phase {
        case .held(term), .giving(term, _): leave(route)
        default: break
        }
    }

    package func becameUnequal(_ volume: VolumeId) { onUnequal(volume) }

    package func propose(
        _ command: CatalogCommand, under volume: VolumeId, term: Term, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) { cluster.propose(.underTerm(volume, term, command, request), completion) }

    package func readBelow(
        _ view: VolumeView, offset: UInt64, count: Int, into buffer: Buffer, bufferOffset: Int,
        _ completion: @escaping (Errno?) -> Void
    ) {
        read(view, offset: offset, count: count, into: buffer, bufferOffset: bufferOffset, completion)
    }
    package func dataBlocksBelow(
        _ view: VolumeView, _ index: UInt32, _ completion: @escaping (Result<BlockBitmap, Errno>) -> Void
    ) {
        submit(.dataBlocks(view, index)) { answer in
            if case .blocks(let blocks) = answer {
                completion(.success(blocks))
            } else {
                completion(.failure(answer.errno))
            }
        }
    }
    package func nextObjectBelow(
        _ view: VolumeView, _ index: UInt32, _ completion: @escaping (Result<UInt32?, Errno>) -> Void
    ) {
        submit(.nextObject(view, index)) { answer in
            if case .object(let next) = answer {
                completion(.success(next))
            } else {
                completion(.failure(answer.errno))
            }
        }
    }
}

extension VolumeAnswer {
    /// Of an answer that is not the one that was expected.
    var errno: Errno {
        if case .ended(let errno?) = self { return errno }
        return .inputOutput
    }
    var commandAnswer: CommandAnswer {
        if case .command(let answer) = self { return answer }
        return .refused(
            SheepError(
                errno, what: "Nothing was changed.", why: "The node that uses the volume did not do it.",
                remedy: "Try again."))
    }
}
