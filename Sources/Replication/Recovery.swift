// Brings redundancy back: stores that are not in-sync for ranges they must have are compared object by object and get
// the chunks that differ; when a move to a new ring is complete the old ring is dropped, and then surplus copies go.
// Driven by changes of the map and by copies that fell behind; looks at one store at a time, a few objects at once.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Placement

package final class Recovery {
    let gateway: Gateway
    let catalog: any CatalogProposer
    let clock: any Clock
    /// In a cluster: who else has stores and volumes. Nil: nobody.
    weak var peers: (any RecoveryPeers)?
    /// The local stores' copies, ascending by store.
    var copies: () -> [Copy] = { [] }
    package internal(set) var status = RecoveryStatus()
    private struct BehindCopy: Hashable {
        let object: ObjectId
        let store: StoreId
    }
    /// Copies that fell behind, in order; looked at before anything else.
    private var behind: OrderedSet<BehindCopy> = []
    /// Those of them that could not be helped in this round, and the stores whose pass could not end in it: they must
    /// not keep the others waiting.
    private var postponed: OrderedSet<BehindCopy> = []
    var skipped: [StoreId] = []
    /// Volumes that could not be given more copies in this round.
    private var notRaised: [VolumeId] = []
    /// In a cluster: the index of the catalog at which a volume was found to be deleted.
    private var deletedAt: [VolumeId: UInt64] = [:]
    /// What the local stores know of their copies was not looked at yet.
    private var mustLookAtCopies = true
    private var isRetryArmed = false
    private var isRunning = false
    private var mustRunAgain = false
    private var bytesAtStart: UInt64 = 0
    private var rateMark: (bytes: UInt64, at: Instant)?
    private let parallelObjects = 4

    package init(gateway: Gateway, catalog: any CatalogProposer, clock: any Clock) {
        self.gateway = gateway
        self.catalog = catalog
        self.clock = clock
    }

    package func copyBehind(_ object: ObjectId, _ store: StoreId) {
        behind.append(BehindCopy(object: object, store: store))
        retry(milliseconds: 100)
    }

    var behindCount: Int { behind.count + postponed.count }

    /// Something changed: looks whether there is work.
    package func wake() {
        guard !isRunning else {
            mustRunAgain = true
            return
        }
        isRunning = true
        mustRunAgain = false
        behind.formUnion(postponed)
        postponed = []
        skipped = []
        notRaised = []
        step()
    }

    private func rest() {
        isRunning = false
        if mustRunAgain { wake() }
    }

    /// After a failure: again in a while, unless the map changes sooner.
    private func restAndRetry(_ reason: String) {
        status.phase = .waiting
        status.waitingFor = reason
        isRunning = false
        if mustRunAgain { return wake() }
        retry(milliseconds: 1_000)
    }

    private func retry(milliseconds: UInt64) {
        guard !isRetryArmed else { return }
        isRetryArmed = true
        clock.after(milliseconds: milliseconds) { [weak self] in
            self?.isRetryArmed = false
            self?.wake()
        }
    }

    /// Goes on through the clock: steps that have nothing to wait for must not nest.
    func stepSoon() { clock.after(milliseconds: 0) { [weak self] in self?.step() } }

    private func step() {
        if !behind.isEmpty { return catchUpNext() }
        if let (store, ranges) = nextPass() { return pass(store, ranges) }
        if mustLookAtCopies {
            mustLookAtCopies = false
            behind.formUnion(unfitCopies())
            return stepSoon()
        }
        if let id = nextRaise() { return raise(id) }
        removeDeleted { [self] in
            if let store = skipped.first ?? postponed.first?.store {
                return restAndRetry("store \(store) or the copies it is made from")
            }
            finishMove()
        }
    }

    private func finishMove() {
        let map = catalog.state.map
        if map.to != nil {
            // One node says so; the others hear of it.
            if let peers, !peers.leads { return restAndRetry("the end of the move") }
            guard map.moveIsComplete else { return restAndRetry("a store of the new ring that is not up") }
            catalog.propose(.dropOldRing(epoch: map.epoch), request: nil) { [self] answer in
                if case .refused(let error) = answer { return restAndRetry(error.why) }
                stepSoon()
            }
            return
        }
        removeSurplus { [self] in
            if let id = notRaised.first {
                return restAndRetry("all stores that volume \(id) shall have copies on")
            }
            status.phase = .idle
            status.waitingFor = ""
            rest()
        }
    }

    // MARK: copies that fell behind

    /// Copies that a crash or damage left unfit, although their stores are in-sync: nobody may use their volumes for long.
    private func unfitCopies() -> [BehindCopy] {
        let state = catalog.state
        var unfit: [BehindCopy] = []
        for copy in copies() where copy.objects.incompleteCount > 0 {
            copy.objects.forEach { entry in
                guard entry.state != .complete, let volume = state.volumes[entry.object.volume],
                    state.map.targets(of: entry.object.range, copies: volume.targetCopies).contains(copy.store)
                else { return }
                unfit.append(BehindCopy(object: entry.object, store: copy.store))
            }
        }
        return unfit
    }

    private func catchUpNext() {
        let copy = behind.removeFirst()
        // Whoever takes the volume finds it for himself.
        if let peers, !peers.isHeldHere(copy.object.volume) { return stepSoon() }
        synchroniseOne(copy.object, copy.store) { [self] isDone in
            // Full or failing: not now; not lost either, the pass over the store or the next start finds it.
            if !isDone, catalog.state.map.store(copy.store)?.status == .up { postponed.append(copy) }
            stepSoon()
        }
    }

    /// True when nothing is left to do for this copy.
    private func synchroniseOne(_ id: ObjectId, _ store: StoreId, _ completion: @escaping (Bool) -> Void) {
        gateway.whenReady(id.volume) { [self] volume, _ in
            guard let volume else { return completion(true) }
            gateway.whenPrepared(volume, id.index, failed: { _ in completion(false) }) { [self] object in
                guard let target = object.slots.first(where: { $0.channel.store == store }) else {
                    // A target that the volume has not fenced yet has nothing done; others need nothing.
                    let isUp = catalog.state.map.store(store)?.status == .up
                    return completion(!isUp || !gateway.targets(volume, id.range).contains(store))
                }
                guard target.status == .unverified else { return completion(true) }
                guard target.channel.admits(id, volume.path.top, .whole) else { return completion(false) }
                // In a cluster the members of S may all lack what one has that left S and came back.
                let complete = object.slots.filter { $0.status == .complete && ($0.isMember || peers != nil) }
                guard let source = complete.first(where: \.isMember) ?? complete.first else {
                    return rereadLast(volume, object, target, completion)
                }
                gateway.synchronise(volume, object, target.channel, source.channel) { outcome in
                    if case .complete = outcome { completion(true) } else { completion(false) }
                }
            }
        }
    }

    /// Nobody is left to make the copy from: perhaps it can be read again itself.
    private func rereadLast(
        _ volume: VolumeState, _ object: ObjectState, _ target: CopySlot, _ completion: @escaping (Bool) -> Void
    ) {
        guard target.isMember else { return completion(false) }
        gateway.reread(volume, object, [target.channel]) { [self] isReadable in
            guard isReadable else { return completion(false) }
            gateway.setStatus(volume, object.id.index, target.channel.store, .complete)
            gateway.reconsider(volume, object)
            completion(true)
        }
    }

    // MARK: a store that is not in-sync

    private func nextPass() -> (StoreId, RangeSet)? {
        let map = catalog.state.map
        for record in map.stores
        where record.status == .up && gateway.channel(record.id) != nil && !skipped.contains(record.id) {
            if peers != nil, !copies().contains(where: { $0.store == record.id }) { continue }
            let missing = recoverableRanges(of: record.id)
            if !missing.isEmpty { return (record.id, missing) }
        }
        return nil
    }

    /// Compares every object of these ranges; when all are complete the ranges are in-sync.
    private func pass(_ store: StoreId, _ ranges: RangeSet) {
        status = RecoveryStatus()
        status.phase = .verifying
        bytesAtStart = gateway.bytesPulled
        rateMark = (gateway.bytesPulled, clock.now)
        if let peers { return pass(store, ranges, peers) }
        let epoch = catalog.state.map.epoch
        let volumes = Array(catalog.state.volumes.keys)
        collect(volumes[...], store, ranges, []) { [self] work in
            status.objectsTotal = work.count
            status.bytesTotal = work.reduce(0) { $0 + gateway.estimateBytes($1) }
            status.phase = .copying
            run(work.map { ($0, store) }) { [self] isDone in
                if isDone { return passDone(store, ranges, epoch) }
                skipped.append(store)
                step()
            }
        }
    }

    private func collect(
        _ volumes: ArraySlice<VolumeId>, _ store: StoreId, _ ranges: RangeSet, _ work: [ObjectId],
        _ completion: @escaping ([ObjectId]) -> Void
    ) {
        guard let id = volumes.first else { return completion(work) }
        gateway.whenReady(id) { [self] volume, _ in
            var work = work
            if let volume {
                guard knowsAll(volume, store, ranges) else {
                    skipped.append(store)
                    return stepSoon()
                }
                for index in volume.indices() {
                    let object = ObjectId(id, index)
                    if ranges[object.range], gateway.targets(volume, object.range).contains(store) {
                        work.append(object)
                    }
                }
            }
            collect(volumes.dropFirst(), store, ranges, work, completion)
        }
    }

    /// What the store lacks, without the ranges of which no current member of S is up: nobody can say what there is.
    private func recoverableRanges(of store: StoreId) -> RangeSet {
        let map = catalog.state.map
        var ranges = map.missingRanges(of: store)
        guard !ranges.isEmpty else { return ranges }
        for copies in 1...map.levelCount
        where catalog.state.volumes.values.contains(where: { min($0.copies, map.levelCount) == copies }) {
            var unserved = map.ringRanges(of: store, copies: copies)
            unserved.subtract(map.servedRanges(copies: copies))
            ranges.subtract(unserved)
        }
        return ranges
    }

    /// Whether all of the volume's objects that the store shall have in these ranges are known: a current member of S of
    /// each range has said what it has. Else one that is away may have some that nobody has heard of.
    func knowsAll(_ volume: VolumeState, _ store: StoreId, _ ranges: RangeSet) -> Bool {
        let map = catalog.state.map
        var open = ranges
        open.formIntersection(map.ringRanges(of: store, copies: volume.sureCopies))
        for member in map.stores where member.status == .up && volume.fenced.contains(member.id) {
            open.subtract(member.current(copies: volume.sureCopies))
        }
        return open.isEmpty
    }

    /// Brings these copies up to date, a few at once; false when one could not be helped.
    func run(_ work: [(ObjectId, StoreId)], _ completion: @escaping (Bool) -> Void) {
        guard !work.isEmpty else { return completion(true) }
        var next = 0
        var active = 0
        var failures = 0
        var isOver = false
        func pump() {
            while active < parallelObjects, next < work.count, failures == 0 {
                let (object, store) = work[next]
                next += 1
                active += 1
                synchroniseOne(object, store) { [self] isDone in
                    active -= 1
                    if isDone { status.objectsDone += 1 } else { failures += 1 }
                    noteProgress()
                    // Through the clock, so that a long run of equal objects neither nests nor keeps the thread.
                    clock.after(milliseconds: 0) { pump() }
                }
            }
            guard active == 0, failures > 0 || next == work.count, !isOver else { return }
            isOver = true
            completion(failures == 0)
        }
        pump()
    }

    private func noteProgress() {
        status.bytesMoved = gateway.bytesPulled - bytesAtStart
        status.bytesTotal = max(status.bytesTotal, status.bytesMoved)
        guard let mark = rateMark else { return }
        let elapsed = clock.now.milliseconds(since: mark.at)
        if elapsed >= 1_000 {
            status.bytesPerSecond = (gateway.bytesPulled - mark.bytes) * 1_000 / elapsed
            rateMark = (gateway.bytesPulled, clock.now)
        }
    }

    private func passDone(_ store: StoreId, _ ranges: RangeSet, _ epoch: Epoch) {
        guard let channel = gateway.channel(store) else { return stepSoon() }
        // Looked at once more: objects may have come, and copies may have fallen behind, since their turn.
        let volumes = Array(catalog.state.volumes.keys)
        collect(volumes[...], store, ranges, []) { [self] work in
            guard work.allSatisfy({ gateway.isComplete($0, on: store) }) else {
                skipped.append(store)
                return stepSoon()
            }
            channel.flush { [self] failure in
                if case .dead(let reason)? = failure {
                    gateway.reportFailure(store, reason)
                    skipped.append(store)
                    return stepSoon()
                }
                catalog.propose(.inSync(store, ranges, epoch: epoch), request: nil) { [self] answer in
                    // Refused when the epoch has moved on: the next pass compares again, which is quick.
                    if case .refused = answer { skipped.append(store) }
                    stepSoon()
                }
            }
        }
    }

    // MARK: volumes that shall have more copies

    private func nextRaise() -> VolumeId? {
        catalog.state.volumes.values.first {
            $0.wantedCopies != nil && !$0.isHidden && !notRaised.contains($0.id)
                && (peers?.mayRaise($0.id) ?? true)
        }?.id
    }

    /// Looks at every object at every target; when all are complete and durable the volume has as many copies.
    private func raise(_ id: VolumeId) {
        let give: () -> Void = { [self] in
            notRaised.append(id)
            stepSoon()
        }
        guard let wanted = catalog.state.volumes[id]?.wantedCopies else { return stepSoon() }
        let map = catalog.state.map
        // Whoever is in-sync for as many copies will be believed for this volume too, so it must be here.
        let isHere = map.stores.allSatisfy { store in
            store.inSync[copies: wanted].isEmpty
                || store.status == .up && store.broken == nil && gateway.channel(store.id) != nil
        }
        guard isHere else { return give() }
        status = RecoveryStatus()
        status.phase = .copying
        bytesAtStart = gateway.bytesPulled
        rateMark = (gateway.bytesPulled, clock.now)
        gateway.whenReady(id) { [self] volume, _ in
            guard let volume else { return give() }
            let work = copiesWanted(volume)
            status.objectsTotal = work.count
            run(work) { [self] isDone in
                // Once more: objects may have come, and copies may have fallen behind, since their turn.
                guard isDone, copiesWanted(volume).allSatisfy({ gateway.isComplete($0.0, on: $0.1) }) else {
                    return give()
                }
                let channels = map.stores.compactMap { gateway.channel($0.id) }
                var failed = false
                let join = Join(max(1, channels.count)) { [self] _ in
                    guard !failed else { return give() }
                    gateway.propose(
                        .copiesReached(id, copies: wanted, epoch: map.epoch), under: volume, request: nil
                    ) { answer in
                        if case .refused = answer { give() } else { self.stepSoon() }
                    }
                }
                if channels.isEmpty { join.arrive(nil) }
                for channel in channels {
                    channel.flush { [self] failure in
                        if failure != nil { failed = true }
                        if case .dead(let reason)? = failure { gateway.reportFailure(channel.store, reason) }
                        join.arrive(nil)
                    }
                }
            }
        }
    }
    private func copiesWanted(_ volume: VolumeState) -> [(ObjectId, StoreId)] {
        volume.indices().flatMap { index in
            let object = ObjectId(volume.id, index)
            return gateway.targets(volume, object.range).filter { catalog.state.map.store($0)?.status == .up }
                .map { (object, $0) }
        }
    }

    // MARK: surplus copies

    /// Objects of deleted volumes go at once; what the catalog never heard of is set aside.
    private func removeDeleted(_ completion: @escaping () -> Void) {
        var work: [(Copy, ObjectId, isOrphan: Bool)] = []
        let state = catalog.state
        for copy in copies() where state.map.store(copy.store)?.status == .up {
            for id in copy.objects.volumes() where state.volumes[id] == nil {
                // A volume that this node has not heard of yet.
                if peers != nil, id.rawValue >= state.nextVolumeId { continue }
                if let peers {
                    // Nor one that somebody may still read.
                    let seen = deletedAt[id] ?? state.index
                    deletedAt[id] = seen
                    guard peers.allHaveSeen(seen) else {
                        retry(milliseconds: 1_000)
                        continue
                    }
                }
                let isDeleted = state.deletedVolumes[id] != nil
                for entry in copy.objects.objects(of: id) { work.append((copy, entry.object, isOrphan: !isDeleted)) }
            }
        }
        removeNext(work[...]) { [self] in reportPruned(completion) }
    }

    /// Removes what local stores need not have any more: copies outside the ring whose targets are all complete.
    private func removeSurplus(_ completion: @escaping () -> Void) {
        var work: [(Copy, ObjectId, isOrphan: Bool)] = []
        let state = catalog.state
        for copy in copies() where state.map.store(copy.store)?.status == .up {
            for id in copy.objects.volumes() {
                guard let record = state.volumes[id] else { continue }
                let volume = gateway.volumes[id] ?? VolumeState(record: record)
                // Asked once for each range: a volume may have a million objects.
                var isTarget: [RangeIndex: Bool] = [:]
                copy.objects.forEach(in: id) { entry in
                    let range = entry.object.range
                    let known = isTarget[range] ?? gateway.targets(volume, range).contains(copy.store)
                    isTarget[range] = known
                    if !known { work.append((copy, entry.object, isOrphan: false)) }
                }
            }
        }
        if let peers { return removeSurplus(work.map { ($0.0, $0.1) }, peers, completion) }
        removeNext(work[...], completion)
    }

    private func removeNext(_ work: ArraySlice<(Copy, ObjectId, isOrphan: Bool)>, _ completion: @escaping () -> Void) {
        guard let (copy, object, isOrphan) = work.first else { return completion() }
        status.phase = .removing
        let next = { [self] in
            clock.after(milliseconds: 0) { [self] in removeNext(work.dropFirst(), completion) }
        }
        let remove = { copy.remove(object) { _ in next() } }
        if isOrphan { return copy.objects.quarantine(object: object) { _ in next() } }
        guard catalog.state.volumes[object.volume] != nil else { return remove() }
        gateway.whenReady(object.volume) { [self] volume, _ in
            guard let volume else { return next() }
            gateway.whenPrepared(volume, object.index, failed: { _ in next() }) { [self] state in
                let targets = gateway.targets(volume, state.range)
                let complete = state.slots.filter { $0.status == .complete }.count
                guard complete == targets.count || Saboteur.isOn(.surplusEarly), !targets.contains(copy.store) else {
                    return next()
                }
                remove()
            }
        }
    }

    /// Tells the catalog which deleted volumes have no objects on a local store any more.
    private func reportPruned(_ completion: @escaping () -> Void) {
        var done: [(VolumeId, StoreId)] = []
        for (id, deleted) in catalog.state.deletedVolumes {
            for copy in copies() where deleted.stores.contains(copy.store) && copy.objects.objects(of: id).isEmpty {
                done.append((id, copy.store))
            }
        }
        let join = Join(done.count + 1) { _ in completion() }
        join.arrive(nil)
        for (volume, store) in done {
            catalog.propose(.pruned(volume, store), request: nil) { _ in join.arrive(nil) }
        }
    }
}
