// The copies of one local store: checks epoch, term and version of every request, then lets the store do it.
// It never judges by an old map, and never forgets that it missed a write.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Placement

package final class Copy: CopyChannel {
    package let store: StoreId
    package let objects: ObjectStore
    let catalog: any CatalogProposer
    /// The map's epoch, kept here because the catalog's state is large.
    private var epoch: Epoch
    /// Requests of an epoch that the catalog has not reached here.
    private var early: [(Epoch, () -> Void)] = []

    package init(store: StoreId, objects: ObjectStore, catalog: any CatalogProposer) {
        self.store = store
        self.objects = objects
        self.catalog = catalog
        epoch = catalog.state.map.epoch
    }

    /// The map has changed: what waited for it goes on.
    package func mapChanged() {
        epoch = catalog.state.map.epoch
        guard !early.isEmpty else { return }
        let due = early.filter { $0.0 <= epoch }
        early.removeAll { $0.0 <= epoch }
        for (_, action) in due { action() }
    }

    /// Nil when the request's term is not an old one.
    private func refusal(_ authority: Authority, _ volume: VolumeId) -> CopyFailure? {
        let term = objects.fencedTerm(of: volume)
        if authority.term < term, !Saboteur.isOn(.noTermCheck) { return .staleTerm(term) }
        return nil
    }

    package func admits(_ object: ObjectId, _ generation: Generation, _ blocks: BlockRange) -> Bool {
        objects.space.level != .full || objects.holdsAll(object, generation, blocks)
    }

    package func write(_ request: CopyWrite, _ reply: @escaping (Result<CopyWritten, CopyFailure>) -> Void) {
        if request.authority.epoch != epoch, !Saboteur.isOn(.noEpochCheck) {
            if request.authority.epoch < epoch { return reply(.failure(.staleEpoch(epoch))) }
            early.append((request.authority.epoch, { [self] in write(request, reply) }))
            return
        }
        if let failure = refusal(request.authority, request.object.volume) { return reply(.failure(failure)) }
        let standing = objects.standing(request.object)
        if standing.state == .suspect || !standing.isVerified { return reply(.failure(.behind)) }
        if standing.state == .damaged { return reply(.failure(.damaged)) }
        let written = CopyWritten(isComplete: standing.state == .complete)
        if request.version <= standing.version, request.version.term == standing.version.term {
            return reply(.success(written))  // a duplicate: it has been applied
        }
        guard request.previous == standing.version || Saboteur.isOn(.noVersionCheck) else {
            return becomeSuspect(request.object, .behind, reply)
        }
        let done: (Result<Void, StoreError>) -> Void = { [self] result in
            switch result {
            case .success:
                // Its header was read for this write, and could not be: the write is not in it.
                if objects.standing(request.object).state == .damaged {
                    return becomeSuspect(request.object, .behind, reply)
                }
                reply(.success(written))
            case .failure(.full): becomeSuspect(request.object, .full, reply)
            case .failure(let error): reply(.failure(.dead(error.sheepError.why)))
            }
        }
        if let payload = request.payload {
            objects.write(
                ObjectWrite(
                    object: request.object, generation: request.generation, version: request.version,
                    firstBlock: request.blocks.first, payload: payload), completion: done)
        } else {
            objects.discard(
                object: request.object, generation: request.generation, version: request.version,
                blocks: request.blocks, keepAsZero: request.keepAsZero, completion: done)
        }
    }

    private func becomeSuspect(
        _ object: ObjectId, _ failure: CopyFailure, _ reply: @escaping (Result<CopyWritten, CopyFailure>) -> Void
    ) {
        objects.setState(object: object, .suspect, durable: true) { result in
            switch result {
            case .success: reply(.failure(failure))
            case .failure(let error): reply(.failure(.dead(error.sheepError.why)))
            }
        }
    }

    package func read(
        _ object: ObjectId, _ path: GenerationPath, _ blocks: BlockRange, into buffer: Buffer, bufferOffset: Int,
        _ reply: @escaping (Result<CopyRead, CopyFailure>) -> Void
    ) {
        objects.read(object: object, path: path, blocks: blocks, into: buffer, bufferOffset: bufferOffset) { result in
            switch result {
            case .failure(let error): reply(.failure(.dead(error.sheepError.why)))
            case .success(let outcome):
                if outcome.isWhole {
                    reply(.success(CopyRead(isWhole: true, absent: .empty, corrupt: .empty)))
                    return
                }
                var absent = BlockBitmap()
                var corrupt = BlockBitmap()
                for i in 0..<blocks.count {
                    if outcome.corrupt[i] || outcome.pending[i] {
                        corrupt[blocks.first + i] = true
                    } else if !outcome.held[i] {
                        absent[blocks.first + i] = true
                    }
                }
                reply(.success(CopyRead(isWhole: false, absent: absent, corrupt: corrupt)))
            }
        }
    }

    package func flush(_ reply: @escaping (CopyFailure?) -> Void) {
        objects.flush { reply($0.failure) }
    }

    package func fence(
        _ volume: VolumeId, _ authority: Authority, _ reply: @escaping (Result<[CopySummary], CopyFailure>) -> Void
    ) {
        let fenced = objects.fencedTerm(of: volume)
        guard authority.term >= fenced else { return reply(.failure(.staleTerm(fenced))) }
        objects.fence(volume: volume, term: authority.term) { [self] result in
            if let failure = result.failure { return reply(.failure(failure)) }
            var summaries: [CopySummary] = []
            objects.forEach(in: volume) {
                summaries.append(
                    CopySummary(object: $0.object, version: $0.version, state: $0.state, isVerified: $0.isVerified))
            }
            reply(.success(summaries))
        }
    }

    package func view(
        _ object: ObjectId, _ path: GenerationPath, _ reply: @escaping (Result<ComposedView, CopyFailure>) -> Void
    ) {
        objects.view(object: object, path: path) { result in
            reply(result.mapError { .dead($0.sheepError.why) })
        }
    }

    package func beginSync(
        _ object: ObjectId, top: Generation, base: Version, pending: BlockBitmap, _ authority: Authority,
        _ reply: @escaping (CopyFailure?) -> Void
    ) {
        if let failure = refusal(authority, object.volume) { return reply(failure) }
        objects.begin(
            sync: object, generation: top, base: base, pending: Saboteur.isOn(.forgetPending) ? .empty : pending
        ) { reply($0.failure) }
    }

    package func fill(_ fill: CopyFill, _ reply: @escaping (CopyFailure?) -> Void) {
        var held = BlockBitmap()
        var zero = BlockBitmap()
        for i in 0..<fill.blocks.count {
            held[i] = fill.held[fill.blocks.first + i]
            zero[i] = fill.zero[fill.blocks.first + i]
        }
        dropExtra(fill) { [self] failure in
            if let failure { return reply(failure) }
            objects.fill(
                object: fill.object, generation: fill.generation, firstBlock: fill.blocks.first,
                blockCount: fill.blocks.count, payload: fill.payload, held: held, zero: zero,
                chunkVersion: fill.chunkVersion, onlyPending: fill.onlyPending
            ) { reply($0.failure) }
        }
    }

    /// What an older generation of the path shows, and the source does not, is not hidden by dropping it in a newer one.
    private func dropExtra(_ fill: CopyFill, _ completion: @escaping (CopyFailure?) -> Void) {
        guard let path = fill.extraPath, fill.extra.containsAny(fill.blocks), let entry = objects.entry(fill.object)
        else { return completion(nil) }
        var work: [(Generation, BlockRange)] = []
        for item in entry.generations where item.generation != fill.generation && path.contains(item.generation) {
            var block = fill.blocks.first
            while let first = fill.extra.firstIndex(from: block, where: true), first < fill.blocks.end {
                let end = min(fill.extra.firstIndex(from: first, where: false) ?? fill.blocks.end, fill.blocks.end)
                work.append((item.generation, BlockRange(first: first, count: end - first)))
                block = end
            }
        }
        var left = work.count
        var problem: CopyFailure?
        guard left > 0 else { return completion(nil) }
        for (generation, blocks) in work {
            objects.fill(
                object: fill.object, generation: generation, firstBlock: blocks.first, blockCount: blocks.count,
                payload: nil, held: .empty, zero: .empty, chunkVersion: .zero, onlyPending: false
            ) { result in
                problem = problem ?? result.failure
                left -= 1
                if left == 0 { completion(problem) }
            }
        }
    }

    package func completeSync(
        _ object: ObjectId, _ authority: Authority, _ reply: @escaping (CopyFailure?) -> Void
    ) {
        if let failure = refusal(authority, object.volume) { return reply(failure) }
        // The data first: "complete" must never be durable before what it promises.
        if Saboteur.isOn(.completeBeforeSync) {
            return objects.setState(object: object, .complete, durable: true) { reply($0.failure) }
        }
        objects.flush { [self] result in
            if let failure = result.failure { return reply(failure) }
            // A write that did not fit has made it suspect meanwhile.
            guard objects.standing(object).state == .syncing else { return reply(.behind) }
            objects.setState(object: object, .complete, durable: true) { reply($0.failure) }
        }
    }

    package func markSuspect(_ object: ObjectId, _ reply: @escaping (CopyFailure?) -> Void) {
        objects.setState(object: object, .suspect, durable: true) { reply($0.failure) }
    }

    package func stamp(_ object: ObjectId, _ version: Version, _ reply: @escaping (CopyFailure?) -> Void) {
        objects.setVersion(object: object, version) { [self] result in
            if let failure = result.failure { return reply(failure) }
            objects.flush { reply($0.failure) }
        }
    }

    package func verify(
        _ object: ObjectId, deep: Bool, _ reply: @escaping (Result<VerifyOutcome, CopyFailure>) -> Void
    ) {
        objects.verify(object: object, deep: deep) { result in
            reply(result.mapError { .dead($0.sheepError.why) })
        }
    }

    package func reread(_ object: ObjectId, _ reply: @escaping (Result<Bool, CopyFailure>) -> Void) {
        objects.reread(object: object) { result in
            reply(result.mapError { .dead($0.sheepError.why) })
        }
    }

    package func empty(_ object: ObjectId, _ reply: @escaping (CopyFailure?) -> Void) {
        objects.setState(object: object, .suspect, durable: true) { [self] result in
            if let failure = result.failure { return reply(failure) }
            // One that is being made anew already keeps what it has got.
            guard objects.standing(object).state == .suspect else { return reply(nil) }
            let generations = objects.entry(object)?.generations.map(\.generation) ?? []
            guard !generations.isEmpty else { return reply(nil) }
            objects.remove(object: object, generations: generations) { reply($0.failure) }
        }
    }

    package func remove(_ object: ObjectId, _ reply: @escaping (CopyFailure?) -> Void) {
        objects.remove(object: object, generations: nil) { reply($0.failure) }
    }
}

extension Result where Success == Void, Failure == StoreError {
    var failure: CopyFailure? {
        switch self {
        case .success: nil
        case .failure(.full): .full
        case .failure(let error): .dead(error.sheepError.why)
        }
    }
}
