// One mount: answers the kernel's requests from the catalog and the volume service. Every decision about names is made
// from the catalog as it is now; what is remembered here is only what is open. Runs on the one loop thread, never
// blocks, never touches a path of its own mount. An answer to a write never comes before the service's.
import Catalog
import Fuse
import Logging
import Model
import OrderedCollections
import Replication

package final class Filesystem: FuseHandler {
    let service: any VolumeService
    let uses: VolumeUses
    let clock: any Clock
    let pool: BufferPool
    let options: MountOptions
    /// Names this mount for ever: with a request's number it makes the catalog's request id.
    let mountId: UInt64
    /// The directory that is the mount's root.
    let root: DirectoryId
    let logger: Logger
    private let text: (ControlFile) -> String

    /// Tells the kernel what its caches must forget. Nil: nobody to tell.
    package var notify: ((FuseNotification) -> Void)?
    /// Keeps the bytes of `exportState` beyond this process, before it returns. Nil: there is no keeper.
    package var keepState: (([UInt8]) -> Void)?

    var files = OpenFileTable()
    /// Nodes of volumes that were replaced while open, by the clone that took their place (see `cloneInto`).
    var aliases: [VolumeId: VolumeId] = [:]
    /// Nil: I/O waits for as long as it takes.
    let deadlines: AnswerDeadlines?
    private(set) var isStateChanged = false
    private var heldAnswers: [() -> Void] = []
    /// The keeper has what these wait for.
    private var keptAnswers: [() -> Void] = []

    /// How long the kernel may believe names and attributes; catalog changes are notified earlier.
    static let validMilliseconds: UInt64 = 60_000

    /// `text`: what a file of `.sheep` says now. Fails when `subdir=` names no directory.
    package init(
        service: any VolumeService, uses: VolumeUses, clock: any Clock, pool: BufferPool, options: MountOptions,
        mountId: UInt64, logger: Logger, text: @escaping (ControlFile) -> String
    ) throws(SheepError) {
        guard let root = Namespace.directory(options.subdirectory, in: service.catalog.state) else {
            throw SheepError(
                .noEntry, what: "the mount option subdir=\(options.subdirectory.joined(separator: "/")) cannot be met",
                why: "there is no such directory", remedy: "mount the root and make it with mkdir, or correct the path")
        }
        self.service = service
        self.uses = uses
        self.clock = clock
        self.pool = pool
        self.options = options
        self.mountId = mountId
        self.root = root
        self.logger = logger
        self.text = text
        deadlines = options.onUnavailable == .error ? AnswerDeadlines(clock: clock) : nil
        uses.add(self)
        service.catalog.observe { [weak self] changes in self?.catalogChanged(changes) }
    }

    /// Files (not directories) that are open through this mount.
    package var openFileCount: Int { files.all.count { $0.view != nil } }

    /// The mount is gone for good: what it held is let go.
    package func close() {
        for file in files.all { release(file.number, node: file.node) }
        uses.locks.drop(mount: mountId)
        uses.remove(self)
        // A change of a size may be among what waits, and another mount may wait for that.
        keepState = nil
        keptAnswers += heldAnswers
        heldAnswers = []
        answerHeld()
    }

    // MARK: Requests

    package func handle(_ request: FuseRequest, reply: FuseReply) {
        switch request.body {
        case .read(let read): self.read(request.node, read, reply)
        case .write(let write): self.write(request.node, write, reply)
        case .fsync(let sync): fsync(request.node, sync, reply)
        case .lookup(let name): lookup(request, name, reply)
        case .getattr(let get): getattr(request, get, reply)
        case .setattr(let set): setattr(request, set, reply)
        case .open(let open): self.open(request, open, reply)
        case .create(let create): self.create(request, create, reply)
        case .mknod(let make): mknod(request, make, reply)
        case .flush(let flush): self.flush(request.node, flush, reply)
        case .release(let release): self.released(request.node, release, reply)
        case .mkdir(let make): mkdir(request, make, reply)
        case .unlink(let name): unlink(request, name, reply)
        case .rmdir(let name): rmdir(request, name, reply)
        case .rename(let rename): self.rename(request, rename, reply)
        case .link(let link): self.link(request, link, reply)
        case .opendir: opendir(request, reply)
        case .readdir(let read): readdir(request.node, read, withEntries: false, reply)
        case .readdirplus(let read): readdir(request.node, read, withEntries: true, reply)
        case .releasedir(let release):
            _ = files.remove(release.handle)
            reply.success()
        case .fsyncdir: reply.success()  // names are durable when they are answered
        case .fallocate(let allocate): fallocate(request, allocate, reply)
        case .lseek(let seek): self.seek(request.node, seek, reply)
        case .copyFileRange(let copy): copyFileRange(request, copy, reply)
        case .getxattr(let name, _): getxattr(request.node, name, reply)
        case .setxattr(let set): setxattr(request, set, reply)
        case .listxattr: reply.extendedAttribute([])
        case .removexattr: reply.error(.notSupported)
        case .getlk(let lock): getlk(request, lock, reply)
        case .setlk(let lock): setlk(request, lock, waits: false, reply)
        case .setlkw(let lock): setlk(request, lock, waits: true, reply)
        case .interrupt(let unique):
            reply.none()
            uses.locks.interrupt(mount: mountId, unique: unique)
        case .statfs: statfs(reply)
        case .forget: reply.none()  // node ids need no memory
        case .destroy: reply.success()
        case .symlink: reply.error(.notPermitted)
        case .readlink: reply.error(.invalid)
        case .ioctl: reply.error(.notTerminal)
        case .tmpfile: reply.error(.notSupported)
        // The kernel asks none of these again after ENOSYS.
        case .access, .statx, .poll, .unknown: reply.error(.notImplemented)
        }
    }

    // MARK: Helpers of all requests

    var namespace: Namespace {
        Namespace(state: service.catalog.state, root: root, showsSnapshots: options.showsSnapshots)
    }
    func number(_ node: Node) -> UInt64 { node.number(root: root) }
    /// The node a request names. A volume that was replaced by a clone while it was open is the clone.
    func node(_ number: UInt64) -> Node? {
        guard let node = Node(number: number, root: root) else { return nil }
        if !aliases.isEmpty, case .volume(let id) = node, let other = aliases[id] { return .volume(other) }
        return node
    }
    func contents(of file: ControlFile) -> [UInt8] { Array(text(file).utf8) }

    /// The catalog's id for a step of a request: the same when the request is sent again.
    func requestId(_ request: FuseRequest, step: UInt64 = 0) -> RequestId {
        RequestId(client: mountId, number: request.unique << 2 | step)
    }
    /// What the catalog answered when the request came the first time, to an earlier process.
    func earlierAnswer(_ request: FuseRequest, step: UInt64 = 0) -> CommandAnswer? {
        guard request.isResend else { return nil }
        return service.catalog.state.answered[requestId(request, step: step)]?.answer
    }
    /// Proposes one step of a request; a refusal answers it.
    func propose(
        _ command: CatalogCommand, _ request: FuseRequest, step: UInt64 = 0, _ reply: FuseReply,
        _ done: @escaping (CommandAnswer) -> Void
    ) {
        service.catalog.propose(command, request: requestId(request, step: step)) { [self] answer in
            accepted(answer, reply, done)
        }
    }
    func accepted(_ answer: CommandAnswer, _ reply: FuseReply, _ done: (CommandAnswer) -> Void) {
        if case .refused(let error) = answer { return refuse(error, reply) }
        done(answer)
    }
    /// Answers with an errno, and says in the log what a person cannot see from it.
    func refuse(_ error: SheepError, _ reply: FuseReply) {
        switch error.errno {
        case .noEntry, .exists: logger.debug("\(error)")
        default: logger.notice("\(error)")
        }
        reply.error(error.errno)
    }
    func refuse(_ errno: Errno, what: String, why: String, remedy: String, _ reply: FuseReply) {
        refuse(SheepError(errno, what: what, why: why, remedy: remedy), reply)
    }
    func refuseBadName(_ name: String, _ reply: FuseReply) {
        refuse(
            name.utf8.count > Names.maximumNameBytes ? .nameTooLong : .invalid, what: "'\(name)' cannot be made",
            why: "only a snapshot has @ in its name, as in vol@tag.img, and a tag is 1 to 64 letters, digits, _ - :",
            remedy: "choose another name", reply)
    }
    var isReadOnly: Bool { options.isReadOnly }
    @inline(__always)
    func inTime(_ answer: @escaping (Errno?) -> Void) -> (Errno?) -> Void {
        guard let deadlines else { return answer }
        return deadlines.bounded(answer)
    }

    // MARK: What must outlive the process

    /// Handles, locks or sizes changed: they go to the keeper at the end of the batch.
    func stateChanged() { isStateChanged = true }
    /// Answers once the keeper has what changed.
    func answerWhenKept(_ answer: @escaping () -> Void) {
        guard keepState != nil else { return answer() }
        isStateChanged = true
        heldAnswers.append(answer)
    }
    /// Answers once the keeper has what changed; at once if nothing did.
    func answerKept(_ answer: @escaping () -> Void) {
        if isStateChanged { answerWhenKept(answer) } else { answer() }
    }
    /// Whether `keepChanges` has something to do.
    package var isKeepingDue: Bool { isStateChanged }
    /// To be called for all mounts after each batch of events, before `answerHeld` of any: gives the keeper what changed.
    package func keepChanges() {
        guard isStateChanged else { return }
        isStateChanged = false
        keepState?(exportState())
        keptAnswers += heldAnswers
        heldAnswers = []
    }
    /// Then: answers what waited for that, and not what has begun to wait since.
    package func answerHeld() {
        guard !keptAnswers.isEmpty else { return }
        let answers = keptAnswers
        keptAnswers = []
        for answer in answers { answer() }
    }
}
