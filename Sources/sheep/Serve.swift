// The daemon itself: from checked options to a running node. One loop on the main thread runs everything; this file
// only says in which order it starts and ends.
import Admin
import CSheep
import Catalog
import Glibc
import Logging
import Model
import ObjectStore
import Placement
import Replication
import Runtime

/// Runs the node until it is told to end. Returns the process's exit status.
func serve(_ options: ServeOptions) throws(SheepError) -> Int32 {
    try Daemon(options).run()
}

final class Daemon {
    let options: ServeOptions
    let loop: EventLoop
    let logger = Logger(label: "sheep")
    let pool = BufferPool(limitBytes: 16 << 20)
    let faults: FaultFile?
    private var node: Node?
    private var mounts: MountManager?
    private var admin: AdminServer?
    private var failure: SheepError?
    private var keptMemory: KeptMemory?
    private var isStopping = false

    init(_ options: ServeOptions) throws(SheepError) {
        self.options = options
        do { loop = try EventLoop() } catch {
            throw SheepError(
                error, what: "sheep was not started", why: "the event loop cannot be made: \(error.message)",
                remedy: "check the limits of open files and memory")
        }
        faults = options.testFaults.map { FaultFile(path: $0) }
    }

    func run() throws(SheepError) -> Int32 {
        csheep_limit_kept_memory()
        _ = Machine.raiseDescriptorLimit()
        try makeStateDirectory()
        do { try loop.onSignal([SIGTERM, SIGINT]) { [unowned self] _ in stop() } } catch {
            throw SheepError(error, what: "sheep was not started", why: error.message, remedy: "report this")
        }
        if faults != nil { reloadFaults() }
        loop.enqueue { [unowned self] in openStores() }
        loop.run()
        if let failure { throw failure }
        return 0
    }

    private func makeStateDirectory() throws(SheepError) {
        let path = options.stateDirectory
        guard mkdir(path, geteuid() == 0 ? 0o755 : 0o700) != 0, errno != EEXIST else { return }
        let reason = Errno(errno)
        throw SheepError(
            reason, what: "sheep was not started", why: "the state directory \(path) cannot be made: \(reason.message)",
            remedy: "make it, or give another with --state-directory")
    }

    private func reloadFaults() {
        faults?.reload()
        loop.after(milliseconds: 500) { [weak self] in self?.reloadFaults() }
    }

    // MARK: start

    private func openStores() {
        let opener = StoreOpener(self)
        opener.open { [self] result in
            switch result {
            case .failure(let error): end(error)
            case .success(let opened): startNode(opened)
            }
        }
    }

    private func startNode(_ opened: OpenedStores) {
        var gatewayOptions = GatewayOptions()
        gatewayOptions.alwaysDurable = options.durability == .always || options.mountOptions.durability == .always
        gatewayOptions.errorWhenUnavailable = options.mountOptions.onUnavailable == .error
        let node = Node(
            id: StoreOpener.nodeId, incarnation: opened.incarnation, catalog: opened.catalog, storage: opened.catalog,
            clock: loop, pool: pool, provider: opened.provider, storeConfiguration: opened.configuration,
            options: gatewayOptions)
        node.log = { [logger] line in logger.warning("\(line)") }
        self.node = node
        opened.catalog.onStoreFailure = { [unowned node] store, errno in
            node.storeFailed(store, "the catalog cannot be kept there: \(errno.message)")
        }
        for store in opened.stores { node.attach(store) }
        opened.route.target = { [unowned node] store, reason in node.storeFailed(store, reason) }
        for (store, reason) in opened.failed { node.noteFailed(store, reason) }
        loop.onEndOfBatch { [unowned node] in node.endOfBatch() }
        node.start { [self] in
            applySettings(node) { [self] in
                opened.neighbours.keepUpToDate(node.catalog)
                startServices(node)
            }
        }
    }

    /// Settings that were given on the command line hold from now on.
    private func applySettings(_ node: Node, _ done: @escaping () -> Void) {
        var settings = node.catalog.state.settings
        if let copies = options.copies { settings.copies = copies }
        if let minCopies = options.minCopies { settings.minCopies = minCopies }
        guard settings != node.catalog.state.settings else { return done() }
        node.changeSettings(settings) { [logger] error in
            if let error { logger.error("the settings were not changed: \(error)") }
            done()
        }
    }

    private func startServices(_ node: Node) {
        sayHowManyCopies(node)
        let mounts = MountManager(self, node)
        self.mounts = mounts
        let service = AdminService(volumes: node, node: node, mounts: mounts, clock: loop)
        mounts.texts = ControlTexts(node: node, service: service)
        do throws(SheepError) {
            try mounts.resumeAll()
            if let mountpoint = options.mountpoint {
                try mounts.mountAtStart(mountpoint, options.mountOptions)
            }
            admin = try AdminServer(path: options.socketPath, service: service, loop: loop)
        } catch {
            return end(error)
        }
        logger.notice("ready")
        keptMemory = KeptMemory(loop)
        _ = try? ServiceManager.notify("READY=1")
    }

    private func sayHowManyCopies(_ node: Node) {
        let state = node.catalog.state
        let possible = state.map.on.effectiveCopies
        logger.notice(
            "cluster \(state.clusterId): \(node.stores.count) of \(state.map.stores.count) stores are here, epoch \(state.map.epoch)"
        )
        if possible < state.settings.copies {
            logger.warning(
                "ONLY \(possible) of \(state.settings.copies) copies can be made: there are \(possible) zones. Add stores, or a lost disk may lose data."
            )
        }
        for store in state.map.stores where store.status != .up {
            logger.warning("store \(store.id) at \(store.path) is \(store.status): \(store.reason)")
        }
    }

    // MARK: end

    private func end(_ error: SheepError) {
        failure = error
        loop.stop()
    }

    /// SIGTERM: everything is flushed and the leases go back; the mounts go when no file is open, else their keepers
    /// hold them and guests wait for the next daemon.
    func stop() {
        guard !isStopping else { return }
        isStopping = true
        logger.notice("stopping")
        _ = try? ServiceManager.notify("STOPPING=1")
        admin?.close()
        let shutDown = { [self] in
            guard let node else { return loop.stop() }
            node.shutDown { [self] in loop.stop() }
        }
        guard let mounts else { return shutDown() }
        mounts.stop(shutDown)
    }
}
