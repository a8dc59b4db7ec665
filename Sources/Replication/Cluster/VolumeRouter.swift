// Takes every operation on a volume to where it may be done: this node's gateway under the lease, or the holder; or takes
// the lease where nobody has it. It answers nothing of its own gateway's before the lease was looked at, at that moment.
//
//            idle --- nobody holds it: take ---> taking --> held --- another node wants it ---> giving --> idle
//             |                                               |
//             +--- another node holds it: forward             +--- the lease is over ---> leaving --> idle
//
// An operation belongs to the term of its first issue. When the lease is over, what was on its way comes to its end at the
// gateway, unanswered. Then, if no other node has held the volume in between, it is issued again, before anything newer;
// else a write ends with EIO, for it may have been overtaken, and everything else goes to the holder. What another node
// forwarded here is never issued under a second term: that node hears that it is not known whether it was done.
import Catalog
import DequeModule
import Model
import OrderedCollections

package final class VolumeRouter {
    let node: Node
    let keeper: LeaseKeeper
    let cluster: ClusterCatalog
    let clock: any Clock
    let messenger: NodeMessenger
    let patienceMilliseconds: UInt64
    var gateway: Gateway { node.gateway }
    var me: NodeId { node.id }
    var routes: OrderedDictionary<VolumeId, VolumeRoute> = [:]
    private var order: UInt64 = 0
    private var requestNumber: UInt64 = 0
    var snapshotNumber: UInt64 = 0
    /// Snapshots that are decided, by volume, with the index of the catalog that has the decision.
    var decided: [VolumeId: UInt64] = [:]
    /// Copies of a volume that is held here are to be made equal, if they are not: it has just been taken, or stores came.
    var onUnequal: (VolumeId) -> Void = { _ in }
    /// No new lease is taken.
    var isStopping = false

    init(
        node: Node, keeper: LeaseKeeper, cluster: ClusterCatalog, clock: any Clock, messenger: NodeMessenger,
        patienceMilliseconds: UInt64
    ) {
        self.node = node
        self.keeper = keeper
        self.cluster = cluster
        self.clock = clock
        self.messenger = messenger
        self.patienceMilliseconds = patienceMilliseconds
        node.gateway.leases = self
        cluster.observe { [weak self] changes in self?.changed(changes) }
        messenger.perform = { [weak self] node, term, request, payload, reply in
            self?.receive(request, term, payload, from: node, reply)
        }
    }

    func route(_ id: VolumeId) -> VolumeRoute {
        if let route = routes[id] { return route }
        let route = VolumeRoute(id)
        routes[id] = route
        return route
    }
    /// No operation is on its way here.
    package var isAtRest: Bool {
        routes.values.allSatisfy { $0.isAtRest && $0.phase != .taking && $0.phase != .leaving }
    }
    /// Volumes that operations are on their way of, and how they stand.
    var restless: String {
        routes.values.filter { !$0.isAtRest || $0.phase == .taking || $0.phase == .leaving }.map {
            "\($0.id) \($0.phase), waiting \($0.waiting.count), at the gateway \($0.attempts.count), "
                + "parked \($0.parked.count), lost \($0.lost.count), forwarded \($0.forwarded.count)"
        }.joined(separator: "; ")
    }
    /// Of this process: repeated, it has one outcome.
    func newRequestId() -> RequestId {
        requestNumber += 1
        return RequestId(client: UInt64(me.rawValue) << 32 ^ cluster.me.incarnation ^ 1 << 63, number: requestNumber)
    }

    // MARK: operations begin

    func submit(
        _ request: VolumeRequest, buffer: Buffer? = nil, bufferOffset: Int = 0, requiredTerm: Term? = nil,
        _ completion: @escaping (VolumeAnswer) -> Void
    ) {
        order += 1
        let operation = RoutedOperation(
            request, buffer: buffer, bufferOffset: bufferOffset, requiredTerm: requiredTerm, order: order, completion)
        let route = route(request.volume)
        if case .held(let term) = route.phase, route.waiting.isEmpty { return start(operation, route, term) }
        route.enqueue(operation)
        resolve(route)
    }

    /// Looks where what waits may go.
    func resolve(_ route: VolumeRoute) {
        switch route.phase {
        case .held(let term):
            while case .held(term) = route.phase, let next = route.waiting.popFirst() { start(next, route, term) }
            return
        case .taking, .giving, .leaving: return
        case .idle: break
        }
        guard !route.waiting.isEmpty else { return }
        guard let record = cluster.state.volumes[route.id] else {
            if mayComeYet(route) { return retry(route) }
            let waiting = route.waiting
            route.waiting = []
            return clock.after(milliseconds: 0) { for operation in waiting { operation.finish(.gone(operation)) } }
        }
        if let lease = record.lease, lease.node != me { return forwardAll(route, lease) }
        // Of an earlier life of this node: it ends when this one's session begins.
        if let lease = record.lease, lease.incarnation != cluster.me.incarnation { return retry(route) }
        if let favoured = route.favoured, clock.now < favoured.until { return retry(route) }
        if isStopping { return retry(route) }
        take(route)
    }

    /// Whether a volume that this node does not know may only be new to it: its catalog is behind.
    private func mayComeYet(_ route: VolumeRoute) -> Bool {
        guard route.id.rawValue >= cluster.state.nextVolumeId else { return false }
        if !cluster.isActive { return true }
        let since = route.unknownSince ?? clock.now
        route.unknownSince = since
        return clock.now.milliseconds(since: since) < patienceMilliseconds
    }

    /// Again in a moment, unless the catalog changes sooner.
    func retry(_ route: VolumeRoute, milliseconds: UInt64 = 50) {
        guard !route.isRetryArmed else { return }
        route.isRetryArmed = true
        clock.after(milliseconds: milliseconds) { [weak self] in
            route.isRetryArmed = false
            self?.resolve(route)
        }
    }

    /// Takes the lease for this node's gateway; what waits goes on when it is there.
    func take(_ route: VolumeRoute) {
        guard route.phase == .idle else { return }
        route.phase = .taking
        route.favoured = nil
        gateway.whenReady(route.id) { [self] volume, errno in
            guard route.phase == .taking else { return }
            guard let volume, isOurs(route.id, volume.term) else {
                route.phase = .idle
                if volume != nil { gateway.abandon(route.id) }
                return retry(route, milliseconds: errno == .tryAgain ? 100 : 10)
            }
            route.phase = .held(volume.term)
            route.heldSince = clock.now
            route.sentWrites = 0
            volume.openCount = route.openCount
            resolve(route)
            onUnequal(route.id)
        }
    }
    /// Whether the catalog has this node as the holder under this term.
    func isOurs(_ id: VolumeId, _ term: Term) -> Bool {
        guard let lease = cluster.state.volumes[id]?.lease else { return false }
        return lease.node == me && lease.incarnation == cluster.me.incarnation && lease.term == term
    }

    // MARK: at this node's gateway

    private func start(_ operation: RoutedOperation, _ route: VolumeRoute, _ term: Term) {
        if let required = operation.requiredTerm, required != term {
            return clock.after(milliseconds: 0) { operation.finish(.notHere) }
        }
        if let issued = operation.issued {
            // What another node may have overtaken is not issued again.
            let since = cluster.record.holder(of: route.id)?.since ?? .none
            if operation.request.isMutation, issued < since { return operation.finish(.ended(.inputOutput)) }
        } else {
            operation.issued = term
        }
        operation.term = term
        if operation.request.isMutation, !operation.isForwarded {
            route.countWrite(by: me, isOwn: true, now: clock.now)
        }
        route.attempts.append(operation)
        perform(operation, route) { [self] answer in ended(operation, route, answer) }
    }

    private func ended(_ operation: RoutedOperation, _ route: VolumeRoute, _ answer: VolumeAnswer) {
        if let position = route.attempts.firstIndex(where: { $0 === operation }) { route.attempts.remove(at: position) }
        switch route.phase {
        case .held(operation.term), .giving(operation.term, _):
            // Asked for right before the answer goes out.
            if keeper.isHeld {
                operation.finish(answer)
            } else {
                route.parked.append((operation, answer))
            }
            drainedForGiving(route)
        default:
            route.lost.append(operation)
            left(route)
        }
    }

    /// The session may be known to hold again.
    func answerParked() {
        guard keeper.isHeld else { return }
        for route in routes.values where !route.parked.isEmpty {
            let parked = route.parked
            route.parked = []
            for (operation, answer) in parked { operation.finish(answer) }
            drainedForGiving(route)
        }
    }

    /// The lease is over.
    func leave(_ route: VolumeRoute) {
        switch route.phase {
        case .held, .giving: break
        case .idle, .taking, .leaving: return
        }
        route.phase = .leaving
        route.lost += route.parked.map(\.operation)
        route.parked = []
        endPreparation(route)
        gateway.abandon(route.id)
        left(route)
    }

    private func left(_ route: VolumeRoute) {
        guard route.phase == .leaving, route.attempts.isEmpty else { return }
        route.phase = .idle
        let lost = route.lost.sorted { $0.order < $1.order }
        route.lost = []
        for operation in lost {
            if operation.isForwarded {
                operation.finish(operation.request.isMutation ? .ended(.inputOutput) : .notHere)
            } else {
                route.enqueue(operation)
            }
        }
        resolve(route)
    }

    // MARK: at the holder

    private func forwardAll(_ route: VolumeRoute, _ lease: Lease) {
        let waiting = route.waiting
        route.waiting = []
        for operation in waiting { forward(operation, route, lease) }
    }

    private func forward(_ operation: RoutedOperation, _ route: VolumeRoute, _ lease: Lease) {
        if operation.isForwarded { return clock.after(milliseconds: 0) { operation.finish(.notHere) } }
        if operation.request.isMutation, operation.issued != nil {
            // It was on its way when another node took the volume.
            return clock.after(milliseconds: 0) { operation.finish(.ended(.inputOutput)) }
        }
        if operation.request.isMutation { countSentWrite(route, lease) }
        operation.holder = lease
        operation.isDoubted = false
        route.forwarded.append(operation)
        operation.number = messenger.request(
            operation.request, under: lease.term, payload: payload(of: operation), to: lease.node
        ) { [weak self] end in self?.forwardEnded(operation, route, end) }
    }

    private func forwardEnded(_ operation: RoutedOperation, _ route: VolumeRoute, _ end: RequestEnd) {
        guard let position = route.forwarded.firstIndex(where: { $0 === operation }) else { return }
        route.forwarded.remove(at: position)
        operation.holder = nil
        switch end {
        case .answer(.notHere, _):
            route.enqueue(operation)
            retry(route, milliseconds: 20)
        case .answer(let answer, let data):
            if case .read(_, let offset, let count) = operation.request, case .ended(nil) = answer, let data,
                let buffer = operation.buffer
            {
                (buffer.bytes + operation.bufferOffset).copyMemory(
                    from: data.bytes + Int(offset % UInt64(blockSize)), byteCount: count)
            }
            operation.finish(answer)
        case .unknown:
            if operation.request.isMutation { return operation.finish(.ended(.inputOutput)) }
            route.enqueue(operation)
            resolve(route)
        }
    }

    /// The bytes of a write, in whole blocks, where they would be in their blocks.
    private func payload(of operation: RoutedOperation) -> Payload? {
        guard case .write(_, let offset, let count, _) = operation.request, let buffer = operation.buffer else {
            return nil
        }
        let head = Int(offset % UInt64(blockSize))
        let blocks = blockCount(offset, count)
        let isWhole = head == 0 && count % blockSize == 0 && operation.bufferOffset % blockSize == 0
        if isWhole {
            let payload = Payload(buffer: buffer, firstBlock: operation.bufferOffset / blockSize, blockCount: blocks)
            buffer.computeChecksums(payload.firstBlock..<payload.firstBlock + blocks)
            return payload
        }
        let copy = gateway.pool.buffer(blocks * blockSize)
        copy.fillZero(0..<blocks * blockSize)
        (copy.bytes + head).copyMemory(from: buffer.bytes + operation.bufferOffset, byteCount: count)
        copy.computeChecksums(0..<blocks)
        return Payload(buffer: copy, firstBlock: 0, blockCount: blocks)
    }

    /// The holder that an operation was sent to is the holder no more. It answers what became of it, as long as it lives; not
    /// for ever.
    private func doubt(_ route: VolumeRoute, _ lease: Lease?) {
        for operation in route.forwarded where operation.holder != lease && !operation.isDoubted {
            operation.isDoubted = true
            guard let holder = operation.holder, let number = operation.number else { continue }
            clock.after(milliseconds: 2 * patienceMilliseconds) { [weak self] in
                guard let self, operation.isDoubted, operation.number == number,
                    route.forwarded.contains(where: { $0 === operation }), messenger.giveUp(number, to: holder.node)
                else { return }
                forwardEnded(operation, route, .unknown)
            }
        }
    }

    // MARK: what the catalog tells

    private func changed(_ changes: [CatalogChange]) {
        for change in changes {
            switch change {
            case .volumeChanged(let id), .volumeRemoved(let id): if let route = routes[id] { looked(route) }
            default: break
            }
        }
    }
    private func looked(_ route: VolumeRoute) {
        let lease = cluster.state.volumes[route.id]?.lease
        if let lease, let favoured = route.favoured, lease.node == favoured.node { route.favoured = nil }
        switch route.phase {
        case .held(let term), .giving(let term, _): if !isOurs(route.id, term) { leave(route) }
        case .idle, .taking, .leaving: break
        }
        if !route.forwarded.isEmpty { doubt(route, lease) }
        if !route.waiting.isEmpty { clock.after(milliseconds: 0) { [weak self] in self?.resolve(route) } }
        resumePrepared(route)
    }

    // MARK: what other nodes ask

    private func receive(
        _ request: VolumeRequest, _ term: Term, _ payload: Payload?, from: NodeId,
        _ reply: @escaping (VolumeAnswer, Payload?) -> Void
    ) {
        let route = route(request.volume)
        let known = cluster.state.volumes[request.volume]?.term ?? .none
        if term > known {
            // This node has not heard yet of what the sender knows.
            return whenKnown(request.volume, term) { [weak self] in
                guard let self, cluster.state.volumes[request.volume]?.term ?? .none >= term else {
                    return reply(.notHere, nil)
                }
                receive(request, term, payload, from: from, reply)
            }
        }
        if case .resume(_, let number, let index) = request {
            resume(route, number: number, from: from, index: index)
            return reply(.ended(nil), nil)
        }
        guard isOurs(request.volume, term), route.phase == .held(term) || route.phase == .taking else {
            if case .giving(term, _) = route.phase, case .giveUp = request { return reply(.ended(nil), nil) }
            return reply(.notHere, nil)
        }
        switch request {
        case .giveUp:
            return reply(.ended(giveUp(route, term, to: from) ? nil : .busy), nil)
        case .prepare(_, let number):
            return prepare(route, term, number: number, coordinator: from) { reply($0, nil) }
        case .read(_, let offset, let count):
            let blocks = blockCount(offset, count)
            let buffer = gateway.pool.buffer(blocks * blockSize)
            let head = Int(offset % UInt64(blockSize))
            submit(request, buffer: buffer, bufferOffset: head, requiredTerm: term) { answer in
                guard case .ended(nil) = answer else { return reply(answer, nil) }
                buffer.fillZero(0..<head)
                buffer.fillZero(head + count..<blocks * blockSize)
                buffer.computeChecksums(0..<blocks)
                reply(answer, Payload(buffer: buffer, firstBlock: 0, blockCount: blocks))
            }
        case .write(_, let offset, _, _):
            guard let payload else { return reply(.ended(.invalid), nil) }
            route.countWrite(by: from, isOwn: false, now: clock.now)
            submit(
                request, buffer: payload.buffer,
                bufferOffset: payload.firstBlock * blockSize + Int(offset % UInt64(blockSize)), requiredTerm: term
            ) { reply($0, nil) }
        default: submit(request, requiredTerm: term) { reply($0, nil) }
        }
    }

    /// A second at most.
    private func whenKnown(_ id: VolumeId, _ term: Term, attempts: Int = 50, _ action: @escaping () -> Void) {
        guard cluster.state.volumes[id]?.term ?? .none < term, attempts > 0 else { return action() }
        clock.after(milliseconds: 20) { [weak self] in self?.whenKnown(id, term, attempts: attempts - 1, action) }
    }
}

extension VolumeAnswer {
    /// For one whose volume does not exist.
    static func gone(_ operation: RoutedOperation) -> VolumeAnswer {
        switch operation.request {
        case .resize, .snapshot, .cloneCurrent, .rollback, .flatten:
            .command(
                .refused(
                    SheepError(
                        .stale, what: "Nothing was changed.", why: "The volume does not exist any more.",
                        remedy: "Look at `dog vdi list`.")))
        case .allocatedBytes: .position(0)
        case .bringUpToDate: .upToDate(true, bytes: 0)
        case .check: .checked(CheckReport())
        case .surplus(_, _, _, let indices): .removable(indices.map { _ in false })
        default: .ended(.stale)
        }
    }
}
