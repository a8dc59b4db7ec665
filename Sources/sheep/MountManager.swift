// The mounts of this process: each has a keeper that outlives the daemon, a session on the loop, and a file system.
import Admin
import Catalog
import Filesystem
import Fuse
import Glibc
import Logging
import Model
import ObjectStore
import Placement
import Replication
import Runtime

final class MountManager: MountAdministration {
    private final class Served {
        let keeper: any MountKeeper
        let options: MountOptions
        let optionText: String
        let filesystem: Filesystem
        let session: FuseSession
        let name: String
        init(
            keeper: any MountKeeper, options: MountOptions, optionText: String, filesystem: Filesystem,
            session: FuseSession, name: String
        ) {
            self.keeper = keeper
            self.options = options
            self.optionText = optionText
            self.filesystem = filesystem
            self.session = session
            self.name = name
        }
    }

    private let daemon: Daemon
    private let node: Node
    private let uses: VolumeUses
    private var served: [Served] = []
    /// What the files of `.sheep` say.
    var texts: ControlTexts?
    /// Descriptors that the service manager kept for us.
    private let inherited: [String: Int32]
    private let isUnderServiceManager: Bool
    private static let optionsKey = "options"
    private static let stateKey = "files"

    init(_ daemon: Daemon, _ node: Node) {
        self.daemon = daemon
        self.node = node
        uses = VolumeUses(service: node, clock: daemon.loop)
        var kept: [String: Int32] = [:]
        for descriptor in ServiceManager.inheritedDescriptors() { kept[descriptor.name] = descriptor.descriptor }
        inherited = kept
        // FDSTORE is the number of descriptors that the service may leave with systemd (since version 254);
        // before that only a set NOTIFY_SOCKET and names that came back tell.
        isUnderServiceManager = getenv("NOTIFY_SOCKET") != nil && (getenv("FDSTORE") != nil || !kept.isEmpty)
        daemon.loop.onEndOfBatch { [unowned self] in
            guard served.contains(where: { $0.filesystem.isKeepingDue }) else { return }
            for mount in served { mount.filesystem.keepChanges() }
            // What the answers start belongs to this batch.
            daemon.loop.enqueue { [unowned self] in for mount in served { mount.filesystem.answerHeld() } }
        }
        persistTimes()
    }

    private func persistTimes() {
        uses.persistTimes()
        daemon.loop.after(milliseconds: 60_000) { [weak self] in self?.persistTimes() }
    }

    // MARK: taking up and making mounts

    /// The name of a mount's socket and of its descriptors: from its path, the same after every start.
    private func name(_ mountpoint: String) -> String {
        hexadecimal(UInt64(crc32c(Array(mountpoint.utf8))), digits: 8)
    }
    private func socketPath(_ name: String) -> String { "\(daemon.options.stateDirectory)/mount-\(name).holder" }

    /// Takes up every mount that an earlier process left behind.
    func resumeAll() throws(SheepError) {
        for key in inherited.keys.sorted() where key.hasPrefix("sheep-mount-") {
            let name = String(key.dropFirst("sheep-mount-".count))
            do throws(SheepError) {
                if let keeper = try DescriptorStore.resume(inherited, name: name, notify: notify) {
                    try take(keeper, name: name)
                }
            } catch { daemon.logger.error("a mount kept by the service manager cannot be taken up: \(error)") }
        }
        guard let directory = opendir(daemon.options.stateDirectory) else { return }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let file = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if file.hasPrefix("mount-"), file.hasSuffix(".holder") {
                names.append(String(file.dropFirst(6).dropLast(7)))
            }
        }
        for name in names.sorted() {
            do throws(SheepError) {
                try take(Holder.connect(socketPath(name)), name: name)
            } catch {
                if error.errno == .stale || error.errno == .noEntry {
                    unlink(socketPath(name))
                } else {
                    daemon.logger.error("a mount that was left behind cannot be taken up: \(error)")
                }
            }
        }
    }

    private let notify: DescriptorStore.Notify = { message, descriptors in
        (try? ServiceManager.notify(message, descriptors: descriptors)) ?? false
    }

    /// The mount of the command line, unless it is served already.
    func mountAtStart(_ mountpoint: String, _ options: MountOptions) throws(SheepError) {
        guard !served.contains(where: { $0.keeper.mountpoint == mountpoint }) else { return }
        if mkdir(mountpoint, 0o755) != 0, errno != EEXIST {
            let reason = Errno(errno)
            throw SheepError(
                reason, what: "\(mountpoint) was not mounted", why: "the directory cannot be made: \(reason.message)",
                remedy: "make it, or mount elsewhere")
        }
        try mountNow(mountpoint, optionText: options.text)
    }

    private func mountNow(_ mountpoint: String, optionText: String) throws(SheepError) {
        let options = try MountOptions(parsing: [optionText])
        let name = name(mountpoint)
        let keeper: any MountKeeper
        if isUnderServiceManager {
            try MountTable.cleanDead(mountpoint)
            keeper = try DescriptorStore.mount(mountpoint, options: options, name: name, notify: notify)
        } else {
            let socket = socketPath(name)
            try Holder.spawn(mountpoint: mountpoint, options: options, socket: socket)
            keeper = try Holder.connect(socket)
        }
        try keeper.store(MountManager.optionsKey, Array(optionText.utf8))
        try take(keeper, name: name)
    }

    private func take(_ keeper: any MountKeeper, name: String) throws(SheepError) {
        let text = keeper.stored[MountManager.optionsKey].map { String(decoding: $0, as: UTF8.self) } ?? ""
        let options = try MountOptions(parsing: [text])
        let filesystem = try Filesystem(
            service: node, uses: uses, clock: daemon.loop, pool: daemon.pool, options: options,
            mountId: keeper.mountId, logger: daemon.logger,
            text: { [unowned self] file in texts?.text(file) ?? "" })
        if let state = keeper.stored[MountManager.stateKey] {
            do { try filesystem.importState(state) } catch {
                daemon.logger.error(
                    "the open files of \(keeper.mountpoint) are not readable: \(error); they are stale now")
            }
        }
        let session = try keeper.makeSession(handler: filesystem, pool: daemon.pool)
        let keep = session.onNegotiated
        session.onNegotiated = { [logger = daemon.logger] agreed in
            keep?(agreed)
            guard !agreed.capabilities.contains(.resend) else { return }
            logger.warning(
                "this kernel cannot send requests again (Linux 6.9 can): if sheep is killed or upgraded, the mount ends with an error"
            )
        }
        filesystem.notify = { [unowned session] in session.notifier.send($0) }
        filesystem.keepState = { [logger = daemon.logger] bytes in
            do { try keeper.store(MountManager.stateKey, bytes) } catch {
                logger.error("the open files cannot be kept: \(error)")
            }
        }
        let mount = Served(
            keeper: keeper, options: options, optionText: text, filesystem: filesystem, session: session, name: name)
        session.onUnmount = { [unowned self, unowned mount] error in gone(mount, error) }
        do throws(Errno) {
            session.start()
            try daemon.loop.register(descriptor: keeper.descriptor, interest: .readable) {
                [unowned session] _ in _ = session.processReadable()
            }
        } catch {
            throw SheepError(
                error, what: "\(keeper.mountpoint) cannot be served", why: error.message, remedy: "report this")
        }
        served.append(mount)
        daemon.logger.notice("serving \(keeper.mountpoint)")
    }

    private func gone(_ mount: Served, _ error: SheepError?) {
        daemon.logger.notice("\(mount.keeper.mountpoint) was unmounted\(error.map { ": \($0)" } ?? "")")
        daemon.loop.unregister(descriptor: mount.keeper.descriptor)
        mount.filesystem.close()
        // After this event: the session is still on the stack.
        daemon.loop.enqueue { [self] in
            mount.session.close()
            (mount.keeper as? DescriptorStore)?.forget(name: mount.name)
            mount.keeper.close()
            served.removeAll { $0 === mount }
        }
    }

    // MARK: the administrator

    func size(_ record: VolumeRecord) -> UInt64 { uses.size(record) }
    func settle(_ volumes: [VolumeId], _ completion: @escaping (Errno?) -> Void) { uses.settle(volumes, completion) }

    var mounts: [MountReport] {
        served.map {
            MountReport(
                mountpoint: $0.keeper.mountpoint, subdirectory: $0.options.subdirectory.joined(separator: "/"),
                options: $0.optionText,
                openFiles: $0.filesystem.openFileCount)
        }
    }

    func mount(
        _ mountpoint: String, options: MountOptions, uid: UInt32, _ completion: @escaping (SheepError?) -> Void
    ) {
        var failure: SheepError?
        do throws(SheepError) {
            guard uid == geteuid() || uid == 0 else {
                throw SheepError(
                    .notPermitted, what: "\(mountpoint) was not mounted",
                    why: "the daemon runs as another user, and mounts only for root and for itself",
                    remedy: "ask root, or run a daemon of your own: sheep run")
            }
            guard !served.contains(where: { $0.keeper.mountpoint == mountpoint }) else {
                throw SheepError(
                    .busy, what: "\(mountpoint) was not mounted", why: "it is mounted already",
                    remedy: "use it, or unmount it first")
            }
            try mountNow(mountpoint, optionText: options.text)
        } catch {
            failure = error
        }
        daemon.loop.enqueue { completion(failure) }
    }

    func unmount(_ mountpoint: String, lazy: Bool, _ completion: @escaping (SheepError?) -> Void) {
        var failure: SheepError?
        do throws(SheepError) {
            guard let mount = served.first(where: { $0.keeper.mountpoint == mountpoint }) else {
                throw SheepError(
                    .noEntry, what: "\(mountpoint) was not unmounted", why: "this daemon does not serve it",
                    remedy: "look at `dog status`")
            }
            guard lazy || mount.filesystem.openFileCount == 0 else {
                throw SheepError(
                    .busy, what: "\(mountpoint) was not unmounted",
                    why: "\(mount.filesystem.openFileCount) files are open there",
                    remedy: "close them, or say --lazy: it goes when they are closed")
            }
            try mount.keeper.unmount()
        } catch {
            failure = error
        }
        daemon.loop.enqueue { completion(failure) }
    }

    // MARK: the end

    /// Mounts without open files go; the others stay with their keepers.
    func stop(_ completion: @escaping () -> Void) {
        uses.persistAll { [self] in
            for mount in served {
                let open = mount.filesystem.openFileCount
                if open == 0 {
                    do throws(SheepError) { try mount.keeper.unmount() } catch {
                        daemon.logger.error("\(mount.keeper.mountpoint): \(error)")
                    }
                } else {
                    daemon.logger.warning(
                        "\(open) files are open on \(mount.keeper.mountpoint): the mount stays, and whoever uses it waits until sheep runs again or the mount is taken away (fusermount3 -u)"
                    )
                }
            }
            completion()
        }
    }
}
