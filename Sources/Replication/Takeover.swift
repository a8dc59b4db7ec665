// Taking a volume: the next term, the fence at every store that is up, and copies that differ made equal from the
// highest version among the current ones before anything of them is answered.
import Catalog
import Model
import ObjectStore
import OrderedCollections

extension Gateway {
    /// Calls `action` with the volume under its lease, or with an error.
    func whenReady(_ id: VolumeId, _ action: @escaping (VolumeState?, Errno?) -> Void) {
        guard let volume = volume(id) else { return action(nil, .stale) }
        volume.lastUse = clock.now
        if volume.phase == .ready { return action(volume, nil) }
        if let leases, !leases.mayUse(id) { return action(nil, .busy) }
        volume.waitingForReady.append { errno in
            if let errno { action(nil, errno) } else { action(volume, nil) }
        }
        if volume.phase == .idle { acquire(volume) }
    }

    private func acquire(_ volume: VolumeState) {
        volume.phase = .acquiring
        guard abandoned.isEmpty else {
            whenAbandonedIsQuiet(volume.id) { [self] in acquireNow(volume) }
            return
        }
        acquireNow(volume)
    }
    private func acquireNow(_ volume: VolumeState) {
        guard !volume.isRemoved else { return }
        catalog.propose(.acquireLease(volume.id, node: node, incarnation: incarnation), request: nil) {
            [self] answer in
            guard case .term(let term) = answer else {
                if case .refused(let error) = answer { becameReady(volume, error.errno) }
                return
            }
            guard !volume.isRemoved else { return }
            volume.term = term
            volume.fenced = []
            volume.heard = []
            volume.heardInQuestion = []
            volume.highestStamp = 0
            volume.restamped = []
            volume.summaries = [:]
            volume.exceptions = [:]
            volume.objects = [:]
            volume.sortedIndices = nil
            fence(volume, upChannels()) { [self] highest in
                if highest > volume.term { raise(volume, to: highest) } else { becameReady(volume, nil) }
            }
        }
    }

    /// The stores know of higher terms than the catalog, which is older than them (an administrator has accepted that a
    /// newer one is missing): no version may be given below what they have.
    private func raise(_ volume: VolumeState, to term: Term) {
        catalog.propose(.raiseTerm(volume.id, term), request: nil) { [self] answer in
            if case .refused(let error) = answer { becameReady(volume, error.errno) } else { acquire(volume) }
        }
    }

    private func upChannels() -> [any CopyChannel] {
        let map = catalog.state.map
        return channels.filter { map.store($0.store)?.status == .up }
    }

    private func becameReady(_ volume: VolumeState, _ errno: Errno?) {
        guard !volume.isRemoved else { return }
        volume.phase = errno == nil ? .ready : .idle
        // What a former gateway wrote, on whichever node, is flushed with what follows.
        if errno == nil, leases != nil { for store in volume.fenced { volume.applied(store) } }
        // Stores that came up while the others were fenced.
        if errno == nil { fenceMissing(volume) }
        volume.lastUse = clock.now
        let waiting = volume.waitingForReady
        volume.waitingForReady = []
        for action in waiting { action(errno) }
    }

    /// Fences the stores and learns what they have; calls back when all have answered or failed, with the highest term
    /// that they know of.
    private func fence(
        _ volume: VolumeState, _ stores: [any CopyChannel], anew: Bool = false, _ completion: @escaping (Term) -> Void
    ) {
        if !runningAdoptions.isEmpty {
            adoptionWaiters.append { [self] in fence(volume, stores, anew: anew, completion) }
            return
        }
        var answers: [(StoreId, [CopySummary])] = []
        var highest = volume.term
        let join = Join(max(1, stores.count)) { [self] _ in
            let earlier = anew ? [] : volume.heard
            // Not before what they have is known: a store that counts as fenced is written to.
            for (store, _) in answers {
                if !volume.fenced.contains(store) { volume.fenced.append(store) }
                if !volume.heard.contains(store) { volume.heard.append(store) }
                volume.heardInQuestion.removeAll { $0 == store }
                if catalog.state.map.store(store)?.broken != nil { volume.heardInQuestion.append(store) }
            }
            learn(volume, answers.sorted { $0.0 < $1.0 }, earlier: earlier, anew: anew)
            completion(highest)
        }
        guard !stores.isEmpty else { return join.arrive(nil) }
        let authority = Authority(epoch: catalog.state.map.epoch, term: volume.term)
        for channel in stores {
            channel.fence(volume.id, authority) { [self] result in
                switch result {
                case .success(let summaries):
                    let newest = summaries.reduce(volume.term) { max($0, $1.version.term) }
                    highest = max(highest, newest)
                    if newest > volume.term, volume.phase == .ready {
                        refuseNewer(volume, channel.store)
                    } else {
                        answers.append((channel.store, summaries))
                    }
                case .failure(.staleTerm(let term)):
                    highest = max(highest, term)
                    if volume.phase == .ready { refuseNewer(volume, channel.store) }
                case .failure(.dead(let reason)): reportFailure(channel.store, reason)
                case .failure: break
                }
                join.arrive(nil)
            }
        }
    }

    /// A store that joins a volume in use was written under a newer catalog than this one: it would outrank what is
    /// written now. When the volume is taken anew, with the store, its term is raised first.
    private func refuseNewer(_ volume: VolumeState, _ store: StoreId) {
        guard volumes[volume.id] === volume else { return }
        if leases != nil { return outdated(volume) }
        reportFailure(
            store, "it has newer terms of a volume in use than the catalog: start sheep again with all stores")
    }

    /// Compares what the stores have. Objects whose members of S do not agree are made equal before their first use.
    /// Stores that are added to a volume in use never raise a version: what they alone have was never acknowledged.
    private func learn(
        _ volume: VolumeState, _ answers: [(StoreId, [CopySummary])], earlier: [StoreId], anew: Bool
    ) {
        let map = catalog.state.map
        let known = volume.indices()
        var knownPosition = 0
        var positions = [Int](repeating: 0, count: answers.count)
        // A volume that nothing is known of yet, as after each start: most of its objects, which may be millions, are
        // alike on all their targets, and that is quickly seen.
        let isFirst = known.isEmpty && earlier.isEmpty && volume.objects.isEmpty && volume.exceptions.isEmpty
        var plain = isFirst ? PlainRanges(answers.map(\.0)) : nil
        if isFirst { volume.summaries.reserveCapacity(answers.map(\.1.count).max() ?? 0) }
        while true {
            var next: UInt32? = knownPosition < known.count ? known[knownPosition] : nil
            for i in answers.indices where positions[i] < answers[i].1.count {
                let index = answers[i].1[positions[i]].object.index
                next = min(next ?? index, index)
            }
            guard let index = next else { break }
            if plain != nil, let version = alike(volume, index, map, answers, positions, &plain!) {
                volume.summaries[index] = ObjectSummary(version: version, isUniform: true)
                for i in answers.indices
                where positions[i] < answers[i].1.count && answers[i].1[positions[i]].object.index == index {
                    positions[i] += 1
                }
                continue
            }
            let isKnown = knownPosition < known.count && known[knownPosition] == index
            if isKnown { knownPosition += 1 }
            var found: [(StoreId, CopySummary?)] = []
            for (i, answer) in answers.enumerated() {
                if positions[i] < answer.1.count, answer.1[positions[i]].object.index == index {
                    found.append((answer.0, answer.1[positions[i]]))
                    positions[i] += 1
                } else {
                    found.append((answer.0, nil))
                }
            }
            let isOpen = !(volume.objects[index]?.isPrepared ?? volume.summaries[index]?.isUniform ?? false)
            if anew, isKnown {
                // What is in use is as it was decided.
                guard isOpen, volume.objects[index]?.preparation == nil else { continue }
                volume.summaries[index] = nil
                volume.exceptions[index] = nil
                volume.objects[index]?.version = .zero
            }
            learn(volume, index, map, found, earlier: earlier, isKnown: isKnown && !anew)
            if anew, let object = volume.objects[index] {
                object.version = volume.summaries[index]?.version ?? .zero
                refreshSlots(volume, object)
            }
        }
        volume.sortedIndices = nil
    }

    /// The version of an object of which all targets are members of S and have a sound copy, all of that version.
    private func alike(
        _ volume: VolumeState, _ index: UInt32, _ map: ClusterMap, _ answers: [(StoreId, [CopySummary])],
        _ positions: [Int], _ plain: inout PlainRanges
    ) -> Version? {
        let range = ObjectId(volume.id, index).range
        let targets: [Int]
        if let known = plain.known[range] {
            targets = known
        } else {
            targets = plain.answerers(of: self.targets(volume, range)) {
                map.isMember($0, range, copies: volume.sureCopies)
            }
            plain.known[range] = targets
        }
        var common: Version?
        for i in targets {
            guard positions[i] < answers[i].1.count else { return nil }
            let summary = answers[i].1[positions[i]]
            guard summary.object.index == index, summary.isSound, common == nil || common == summary.version else {
                return nil
            }
            common = summary.version
        }
        return common
    }

    private func learn(
        _ volume: VolumeState, _ index: UInt32, _ map: ClusterMap, _ found: [(StoreId, CopySummary?)],
        earlier: [StoreId], isKnown: Bool
    ) {
        let range = ObjectId(volume.id, index).range
        let targets = targets(volume, range)
        let members = targets.filter { map.isMember($0, range, copies: volume.sureCopies) }
        // Once a member has been heard, the object is as that one had it, be it absent.
        var version = volume.objects[index]?.version ?? volume.summaries[index]?.version ?? .zero
        // (Others may have been heard before any member was: what they have decides nothing.)
        let isDecided = isKnown && (leases == nil || version > .zero) || members.contains { earlier.contains($0) }
        if !isDecided {
            for case (let store, let summary?) in found where members.contains(store) && summary.isSound {
                version = max(version, summary.version)
            }
        }
        var exceptions = volume.exceptions[index] ?? [:]
        var isUniform = volume.summaries[index]?.isUniform ?? true
        for (store, summary) in found where targets.contains(store) {
            let isMember = members.contains(store)
            let isSound = summary?.isSound ?? true
            // (Outside S too where it was written under this term: versions follow one another without a gap.)
            let isWritten = leases != nil && summary?.version.term == volume.term
            if isSound, isMember || isWritten, lacksOnlyWhatIsOnItsWay(volume, index, summary?.version ?? .zero) {
                exceptions[store] = isMember ? nil : .complete
                continue
            }
            if isSound, summary?.version ?? .zero == version || Saboteur.isOn(.firstCopy) {
                exceptions[store] = isMember ? nil : .complete
            } else {
                exceptions[store] = isSound && isMember && !isDecided ? .lagging : .unverified
                if isMember { isUniform = false }
            }
        }
        // A member of S that is away may have more than those that are here: what is decided now must outrank it.
        let heard = earlier + found.map(\.0)
        if members.contains(where: { !heard.contains($0) }) { isUniform = false }
        // So may one that is here, and is not believed because its session broke.
        if !isDecided, map.insyncStores(range, copies: volume.sureCopies).contains(where: { !members.contains($0) }) {
            isUniform = false
        }
        // So may one that was stamped, and went before the others were equal: no write is given a version that it has.
        if volume.restamped.contains(index) { isUniform = false }
        volume.exceptions[index] = exceptions.isEmpty ? nil : exceptions
        volume.summaries[index] = ObjectSummary(version: version, isUniform: isUniform)
        // Not where somebody has the blocks: he found the object prepared, and sends his write when he has read what it does
        // not cover. Versions that are given to make copies equal would pass for that write's.
        if let object = volume.objects[index], object.inFlight.isEmpty, object.locks.isEmpty {
            object.isPrepared = isUniform
            if !isDecided { object.version = version }
        }
    }

    /// A member of S that was away for a moment, while nothing could be acknowledged without it: it has every write that is
    /// not on its way any more, and those it gets again (`sendMissed`).
    private func lacksOnlyWhatIsOnItsWay(_ volume: VolumeState, _ index: UInt32, _ version: Version) -> Bool {
        guard let object = volume.objects[index], object.isPrepared, let first = object.inFlight.first,
            version < object.version
        else { return false }
        if version == first.request.previous { return true }
        return version.term == volume.term && version > first.request.previous
    }

    /// What is on its way goes to stores that have just been fenced, too, in order.
    func sendMissed(_ volume: VolumeState, _ stores: [StoreId]) {
        for (_, object) in volume.objects.sorted(by: { $0.key < $1.key }) where !object.inFlight.isEmpty {
            refreshSlots(volume, object)
            for operation in object.inFlight { send(volume, operation, alsoTo: stores) }
        }
    }

    /// Stores came up while the volume was in use: they are fenced. Writes go on meanwhile without them: an object that
    /// was written before their answer is compared counts as missing there, so no write can be lost. (Waiting for the
    /// writes on their way would wait for ever where those wait for the store that is being fenced.)
    func fenceMissing(_ volume: VolumeState) {
        let map = catalog.state.map
        let missing = channels.filter { map.store($0.store)?.status == .up && !volume.fenced.contains($0.store) }
        guard !missing.isEmpty else { return }
        fence(volume, missing) { [self] _ in
            distrustLateMembers(volume, missing.map(\.store)) { [self] in
                if leases != nil { sendMissed(volume, missing.map(\.store)) }
                mapSettled(volume)
                learnFromCleared(volume)
                settleUnequal(volume)
                wakeWaiters()
            }
        }
    }

    func closeGate(_ volume: VolumeState, _ drained: @escaping () -> Void) {
        volume.gateClosed = true
        volume.gateHolders += 1
        if volume.writesInFlight == 0 { drained() } else { volume.whenDrained.append(drained) }
    }

    func openGate(_ volume: VolumeState) {
        volume.gateHolders -= 1
        guard volume.gateHolders == 0 else { return }
        volume.gateClosed = false
        let waiting = volume.gatedWrites
        volume.gatedWrites = []
        for action in waiting { action() }
    }

    /// Makes the copies of an object in S equal. Everything else on the object waits.
    func prepare(_ volume: VolumeState, _ object: ObjectState, _ completion: @escaping (Errno?) -> Void) {
        guard !object.isPrepared else { return completion(nil) }
        if object.preparation != nil {
            object.preparation!.append(completion)
            return
        }
        object.preparation = []
        let finish: (Errno?) -> Void = { [self] errno in
            let waiting = object.preparation ?? []
            object.preparation = nil
            if errno == nil {
                object.isPrepared = true
                // An absent object that had to be stamped exists from now on.
                if volume.summaries[object.id.index] == nil { volume.sortedIndices = nil }
                if object.version > .zero || volume.summaries[object.id.index] != nil {
                    volume.summaries[object.id.index] = ObjectSummary(version: object.version, isUniform: true)
                }
            }
            completion(errno)
            for action in waiting { action(errno) }
            _ = self
        }
        if object.slotsEpoch != epoch.rawValue { refreshSlots(volume, object) }
        guard let source = object.slots.first(where: { $0.status == .complete && $0.isMember }) else {
            return finish(.inputOutput)
        }
        Equaliser(self, volume, object, source.channel) { [self] isEqual in
            guard isEqual else { return finish(.inputOutput) }
            synchroniseMembers(volume, object, finish)
        }.start()
    }

    /// Members of S whose copies are not believed are made anew before the first use, too, if they can be.
    private func synchroniseMembers(
        _ volume: VolumeState, _ object: ObjectState, _ completion: @escaping (Errno?) -> Void
    ) {
        guard let source = object.slots.first(where: { $0.status == .complete && $0.isMember }) else {
            return completion(.inputOutput)
        }
        let distrusted = object.slots.filter { $0.status == .unverified && $0.isMember }
        func next(_ rest: ArraySlice<CopySlot>) {
            guard let slot = rest.first else { return completion(nil) }
            synchronise(volume, object, slot.channel, source.channel) { [self] outcome in
                switch outcome {
                case .complete: return next(rest.dropFirst())
                case .sourceFailed: return completion(.inputOutput)
                case .failed: break
                }
                // It is given up for now, durably, before anything is answered that it does not have.
                onCopyBehind(object.id, slot.channel.store)
                slot.channel.markSuspect(object.id) { [self] failure in
                    if case .dead(let reason)? = failure { reportFailure(slot.channel.store, reason) }
                    next(rest.dropFirst())
                }
            }
        }
        next(distrusted[...])
    }

    /// The copy that unprepared objects were to be made equal to has gone: what the others have is compared anew, once in
    /// an epoch. False when that has been done.
    func learnAnew(_ volume: VolumeState, _ completion: @escaping () -> Void) -> Bool {
        guard volume.learntEpoch != epoch.rawValue, volume.phase == .ready else { return false }
        volume.learntEpoch = epoch.rawValue
        fence(volume, upChannels(), anew: true) { [self] _ in
            settleUnequal(volume)
            completion()
        }
        return true
    }

    /// Stores that were in question when they were heard count now: what was decided without them, and is in use nowhere,
    /// is compared anew.
    func learnFromCleared(_ volume: VolumeState) {
        let map = catalog.state.map
        let inQuestion = volume.heardInQuestion.filter { map.store($0)?.broken != nil }
        guard inQuestion.count < volume.heardInQuestion.count else { return }
        volume.learntEpoch = nil
        let isBegun = learnAnew(volume) { [self] in
            mapSettled(volume)
            wakeWaiters()
        }
        if isBegun { volume.heardInQuestion = inQuestion }
    }

    // MARK: members of S that are away

    /// Whether a member of S may have this object although nobody who was heard does: it was away when the volume was
    /// taken. Its absence is then decided, durably, before it is answered.
    func isUndecided(_ volume: VolumeState, _ index: UInt32) -> Bool {
        guard volume.summaries[index] == nil else { return false }
        let range = ObjectId(volume.id, index).range
        return catalog.state.map.stores.contains {
            $0.inSync[range, copies: volume.sureCopies]
                && !(volume.heard.contains($0.id) && $0.isCurrent(range, copies: volume.sureCopies))
        }
    }

    /// Objects of `range` that are undecided, ascending: usually none, and that is quickly said.
    func undecidedIndices(_ volume: VolumeState, _ range: ClosedRange<UInt32>) -> [UInt32] {
        let unheard = catalog.state.map.stores.compactMap { store -> RangeSet? in
            if !volume.heard.contains(store.id) {
                return store.inSync.isEmpty ? nil : store.inSync[copies: volume.sureCopies]
            }
            return store.broken?[copies: volume.sureCopies]
        }
        guard !unheard.isEmpty else { return [] }
        return range.filter { index in
            guard volume.summaries[index] == nil else { return false }
            let range = ObjectId(volume.id, index).range
            return unheard.contains { $0[range] }
        }
    }
}

extension CopySummary {
    /// It counts: complete, and not distrusted.
    var isSound: Bool { state == .complete && isVerified }
}

/// Which of the stores that answered are the targets of a range, where all of them answered and are members of S.
private struct PlainRanges {
    private let stores: [StoreId]
    var known: [RangeIndex: [Int]] = [:]

    init(_ stores: [StoreId]) { self.stores = stores }

    /// Positions of the targets among the stores that answered; none if one is missing, or no member.
    func answerers(of targets: [StoreId], isMember: (StoreId) -> Bool) -> [Int] {
        let found = targets.compactMap { stores.firstIndex(of: $0) }
        return found.count == targets.count && targets.allSatisfy(isMember) ? found : []
    }
}
