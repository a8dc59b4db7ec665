// The durable part of a node of a cluster: what the agreement and the lease voter must not forget, on the node's own
// stores, all alike. An operation is durable when every store of the list has it; a store that fails leaves the list; a
// start that does not see enough of the list is refused (HostLog, StoreQuorum). It must never answer before that.
import Model

package final class MemberLog {
    /// What is durable.
    private(set) var member: StoredMember
    package var onStoreFailure: ((StoreId, Errno) -> Void)? {
        didSet { host.onStoreFailure = onStoreFailure }
    }
    private var host: HostLog<StoredMember>!
    private enum Work {
        case append([StoredMember.Command])
        case image(AgreementImage, keepsEntries: Bool)
    }
    private var waiting: [(work: Work, completion: (SheepError?) -> Void)] = []
    private var isWorking = false
    private static let partBytes = 256 << 10
    private static let batchLimit = 256

    /// `disks`: the stores of this node that can be reached. After `imageInterval` bytes of log what the log says is
    /// written whole.
    package init(disks: [(StoreId, any Disk)], clock: any Clock, incarnation: UInt64, imageInterval: Int = 1 << 20) {
        member = StoredMember(
            clusterId: ClusterId(high: 0, low: 0), node: NodeId(0), key: 0, image: .blank, stores: [])
        host = HostLog(
            disks: disks, clock: clock, incarnation: incarnation, imageInterval: imageInterval,
            state: { [unowned self] in self.member }, adopt: { [unowned self] in self.member = $0 })
        host.group.onCommit = { [unowned self] in self.member.replay($0.command, request: nil) }
    }

    /// Makes the log of a node of this cluster on empty stores. `image`: what it starts behind; `.blank` for a node
    /// that gets the state from the others. `key`: random; the voter's name for what is kept here.
    package func create(
        clusterId: ClusterId, node: NodeId, key: UInt64, image: AgreementImage,
        _ completion: @escaping (SheepError?) -> Void
    ) {
        let stores = host.stores
        host.create(
            { StoredMember(clusterId: clusterId, node: node, key: key, image: image, stores: stores) }, completion)
    }

    /// Opens the log that the stores have. `acceptMissing`: stores that an administrator says will not come back; as
    /// what they had may have been newer, the node then has `freshKey` (random), and does not count as the voter that
    /// it was. Errors: ENOENT without any log, EBUSY when too many stores are missing, EIO when what is there is damaged.
    package func open(acceptMissing: [StoreId] = [], freshKey: UInt64, _ completion: @escaping (SheepError?) -> Void) {
        host.open(acceptMissing: acceptMissing, onLoss: { $0.take(key: freshKey) }) { self.opened($0, completion) }
    }
    private func opened(_ error: SheepError?, _ completion: (SheepError?) -> Void) {
        if error == nil, !member.isWhole {
            return completion(
                SheepError(
                    .inputOutput, what: "The node does not start.", why: "The log of the cluster's catalog is damaged.",
                    remedy: "Make the node anew: dog cluster join"))
        }
        completion(error)
    }

    package var clusterId: ClusterId { member.clusterId }
    package var node: NodeId { member.node }
    package var key: UInt64 { member.key }
    package var sessionPromises: [NodeSession] { member.sessionPromises }
    /// Stores that should hold the log, and are blank.
    package var strangers: [StoreId] { host.strangers }
    /// Stores that hold the log.
    package var stores: [StoreId] { member.catalogStores }

    // MARK: operations

    /// Makes an operation of the agreement durable; completions come in the order of the calls.
    package func perform(_ operation: AgreementStoreOperation, _ completion: @escaping (SheepError?) -> Void) {
        switch operation {
        case .promise(let number): append([.promise(number)], completion)
        case .append(let entries, let committed): append(parts(entries, committed), completion)
        case .image(let image, let keepsEntries):
            waiting.append((.image(image, keepsEntries: keepsEntries), completion))
            work()
        }
    }
    /// From the answer on this node acks no heartbeat of that session or an older one of its node.
    package func record(promise session: NodeSession, _ completion: @escaping (SheepError?) -> Void) {
        append([.sessionPromise(session)], completion)
    }

    private func append(_ commands: [StoredMember.Command], _ completion: @escaping (SheepError?) -> Void) {
        waiting.append((.append(commands), completion))
        work()
    }
    /// A long log in parts: each is whole, and so is every prefix of them.
    private func parts(_ entries: [AgreementEntry], _ committed: UInt64) -> [StoredMember.Command] {
        var parts: [StoredMember.Command] = []
        var part: [AgreementEntry] = []
        var bytes = 0
        for entry in entries {
            part.append(entry)
            bytes += 64
            if case .command(let command) = entry.content { bytes += command.count }
            if bytes > MemberLog.partBytes {
                parts.append(.append(part, committed: 0))
                part = []
                bytes = 0
            }
        }
        return parts + [.append(part, committed: committed)]
    }

    /// What waits goes into one append together, up to the next image.
    private func work() {
        guard !isWorking, let first = waiting.first else { return }
        isWorking = true
        var completions: [(SheepError?) -> Void] = []
        let done: (SheepError?) -> Void = { error in
            self.isWorking = false
            for completion in completions { completion(error) }
            self.work()
        }
        if case .image(let image, let keepsEntries) = first.work {
            waiting.removeFirst()
            completions = [first.completion]
            return host.group.replace({ self.member.install(image, keepsEntries: keepsEntries) }, done)
        }
        var commands: [StoredMember.Command] = []
        while completions.count < MemberLog.batchLimit, let next = waiting.first, case .append(let more) = next.work {
            waiting.removeFirst()
            commands += more
            completions.append(next.completion)
        }
        host.group.append(commands.map { LogProposal($0) }, done)
    }

    // MARK: stores

    /// Gives a store of this host the log. It counts from the answer on.
    package func attach(store: StoreId, disk: any Disk, _ completion: @escaping (SheepError?) -> Void) {
        host.group.attach(StateLog(id: store, disk: disk), completion)
    }
    /// The store does not hold the log any more. EBUSY when too few others do.
    package func detach(store: StoreId, _ completion: @escaping (SheepError?) -> Void) {
        host.group.detach(store, completion)
    }
}

extension AgreementImage {
    /// Of a node that has nothing yet.
    package static let blank = AgreementImage(position: .start, marks: [], voters: [], votersIndex: 0, state: [])
}
