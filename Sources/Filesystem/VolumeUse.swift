// What the mounts of this process know of a volume in use beyond the catalog: its size while it grows, and the times
// that writes changed. One per volume, shared by all mounts.
//
// Growing. A write beyond the end first makes the volume larger in the catalog (the volume service refuses data beyond
// the catalog's size, so no answered write can lie outside the size after a crash). So that a long run of appending
// writes does not cost a command each, the fifth one since the last flush and those after it *reserve*: the catalog's
// size goes ahead of what is needed, doubling up to 64 MiB, while users see the true end (`size`).
//   - While the catalog's size is ahead, the true end is with the mount's keeper before a request that moved it is
//     answered (`reservation`), so a new process after kill -9 shows it. What the keeper has counts only while the
//     catalog's size is exactly one that it was kept with.
//   - A flush and the close of a descriptor cut the catalog's size back to the true end before they are answered.
//     After a loss of power a file that was flushed or closed has its size; one that was being appended to, unflushed,
//     may end in up to 64 MiB of zeros, and never lacks what was flushed.
//   - After a flush the next four growths are exact again: append, flush, append, flush costs one command per append.
// Changes of the size are exclusive; extending writes within the catalog's size run side by side.
import Catalog
import Model
import OrderedCollections
import Replication

final class VolumeUse {
    let id: VolumeId
    /// The end that users see.
    private(set) var size: UInt64
    /// The catalog's size is larger than `size` for now.
    var isReserved: Bool { catalogSize > size }
    /// Open files of this process's mounts.
    var openCount = 0
    /// Set by writes, not in the catalog yet.
    var modifyTime: UInt64?
    /// Commands under way that set all attributes.
    var attributeChanges = 0

    private unowned let owner: VolumeUses
    private var catalogSize: UInt64
    /// The size that a command of ours under way asks for.
    private var wantedSize: UInt64?
    /// The same, if it is more than what made it necessary: nothing that comes again would tell the true end.
    private var wantedReserve: UInt64?
    /// What the keeper has, or will have at the end of the batch.
    private var kept: Reservation?
    private var extending = 0
    private var isChanging = false
    private var waiting: [() -> Void] = []
    private var growthsSinceFlush = 0
    private var sizeAtFlush: UInt64

    static let exactGrowths = 4
    static let minimumReserve: UInt64 = 1 << 20
    static let maximumReserve: UInt64 = 64 << 20

    init(_ record: VolumeRecord, owner: VolumeUses) {
        id = record.id
        size = record.size
        catalogSize = record.size
        sizeAtFlush = record.size
        self.owner = owner
    }

    /// What must survive this process: the true end, and the sizes of the catalog that it belongs to.
    struct Reservation: Hashable {
        let size: UInt64
        let catalogSize: UInt64
        /// Of the command under way, if any; else `catalogSize`.
        let wantedSize: UInt64
    }
    var reservation: Reservation? {
        guard isReserved || wantedReserve ?? 0 > size else { return nil }
        return Reservation(size: size, catalogSize: catalogSize, wantedSize: wantedReserve ?? catalogSize)
    }
    /// Takes up what another process left. Ignored when the catalog's size is not one that it belongs to.
    func restore(_ reservation: Reservation) {
        guard !isReserved, reservation.size < catalogSize,
            catalogSize == reservation.catalogSize || catalogSize == reservation.wantedSize
        else { return }
        size = reservation.size
        kept = self.reservation
    }
    /// To be called after every change of what `reservation` says.
    private func keep() {
        guard reservation != kept else { return }
        kept = reservation
        owner.reservationChanged()
    }
    var isIdle: Bool {
        openCount == 0 && !isReserved && modifyTime == nil && attributeChanges == 0 && extending == 0 && !isChanging
            && waiting.isEmpty
    }

    /// The catalog changed: somebody else may have set the size.
    func catalogChanged(_ record: VolumeRecord) {
        guard record.size != catalogSize, record.size != wantedSize else { return }
        catalogSize = record.size
        size = record.size
        keep()
    }

    // MARK: Extending writes

    /// Makes the catalog's size at least `end`, then calls `start`, which issues the write and calls `finishExtending`
    /// when it is done. May call it at once.
    func extend(to end: UInt64, _ start: @escaping (Errno?) -> Void) {
        guard end <= maximumVolumeSize else { return start(.fileTooBig) }
        guard !isChanging, waiting.isEmpty || extending == 0 else {
            waiting.append { [self] in extend(to: end, start) }
            return
        }
        if end <= catalogSize {
            extending += 1
            return start(nil)
        }
        growthsSinceFlush += 1
        var target = end
        if owner.canReserve, growthsSinceFlush > VolumeUse.exactGrowths {
            let grown = end > sizeAtFlush ? end - sizeAtFlush : 0
            let ahead = min(VolumeUse.maximumReserve, max(VolumeUse.minimumReserve, grown))
            target = min(maximumVolumeSize, end + ahead)
        }
        change(to: target, reserve: target > end, request: nil) { [self] error in
            guard error == nil else { return start(error) }
            extending += 1
            start(nil)
        }
    }
    /// `end` nil: the write failed.
    func finishExtending(to end: UInt64?) {
        extending -= 1
        if let end, end > size { size = end }
        keep()
        if extending == 0 { runWaiting() }
    }

    // MARK: Exclusive changes

    /// Sets the size whole: truncate.
    func setSize(_ new: UInt64, request: RequestId?, _ completion: @escaping (Errno?) -> Void) {
        guard new <= maximumVolumeSize else { return completion(.fileTooBig) }
        exclusively { [self] in setSizeNow(new, request, completion) }
    }
    /// As `setSize`, but only if the file is smaller then: fallocate that extends.
    func grow(to new: UInt64, request: RequestId?, _ completion: @escaping (Errno?) -> Void) {
        guard new <= maximumVolumeSize else { return completion(.fileTooBig) }
        exclusively { [self] in
            guard new <= size else { return setSizeNow(new, request, completion) }
            completion(nil)
            runWaiting()
        }
    }
    private func setSizeNow(_ new: UInt64, _ request: RequestId?, _ completion: @escaping (Errno?) -> Void) {
        change(to: new, reserve: false, request: request) { [self] error in
            if error == nil {
                size = new
                sizeAtFlush = new
                growthsSinceFlush = 0
                keep()
            }
            completion(error)
        }
    }

    /// Makes the catalog's size the true one.
    func settle(_ completion: @escaping (Errno?) -> Void) {
        growthsSinceFlush = 0
        sizeAtFlush = size
        guard !isSettled else { return completion(nil) }
        exclusively { [self] in
            guard isReserved else {
                completion(nil)
                return runWaiting()
            }
            change(to: size, reserve: false, request: nil, completion)
        }
    }
    /// The catalog's size is the true one, and no command of ours is about to change that.
    var isSettled: Bool { !isReserved && !isChanging }

    private func exclusively(_ action: @escaping () -> Void) {
        guard !isChanging, extending == 0 else {
            waiting.append { [self] in exclusively(action) }
            return
        }
        action()
    }

    private func change(
        to new: UInt64, reserve: Bool, request: RequestId?, _ completion: @escaping (Errno?) -> Void
    ) {
        isChanging = true
        wantedSize = new
        wantedReserve = reserve ? new : nil
        keep()
        let propose = { [self] in
            owner.resize(id, new, request) { [self] error in
                isChanging = false
                wantedSize = nil
                wantedReserve = nil
                if error == nil { catalogSize = new }
                keep()
                completion(error)
                runWaiting()
            }
        }
        // The keeper first: the command may be found done by a process that asks only it for the true end.
        if reserve { owner.whenKept(propose) } else { propose() }
    }
    private func runWaiting() {
        guard !waiting.isEmpty, !isChanging else { return }
        let ready = waiting
        waiting = []
        for action in ready { action() }
    }
}

/// The volumes that are in use through the mounts of this process.
package final class VolumeUses {
    private let service: any VolumeService
    private let clock: any Clock
    private var uses: [VolumeId: VolumeUse] = [:]
    private var snapshotOpens: [SnapshotReference: Int] = [:]
    let locks = LockTable()
    private var mounts: [MountEntry] = []
    private struct MountEntry {
        weak var mount: Filesystem?
    }

    package init(service: any VolumeService, clock: any Clock) {
        self.service = service
        self.clock = clock
        service.catalog.observe { [weak self] changes in self?.catalogChanged(changes) }
    }

    // MARK: Mounts

    func add(_ mount: Filesystem) {
        mounts.removeAll { $0.mount == nil }
        mounts.append(MountEntry(mount: mount))
    }
    func remove(_ mount: Filesystem) { mounts.removeAll { $0.mount == nil || $0.mount === mount } }
    /// Sizes ahead of the truth are used only when every mount can tell its keeper.
    var canReserve: Bool { !mounts.isEmpty && mounts.allSatisfy { $0.mount?.keepState != nil } }
    /// The other mounts' kernels hold attributes that a write made old.
    func attributesChanged(_ volume: VolumeId, by mount: Filesystem) {
        guard mounts.count > 1 else { return }
        for entry in mounts { if let other = entry.mount, other !== mount { other.attributesChanged(volume) } }
    }
    /// Calls `action` when the keepers have everything that they must know by now; at once where nobody keeps anything.
    func whenKept(_ action: @escaping () -> Void) {
        guard let mount = mounts.lazy.compactMap(\.mount).first(where: { $0.keepState != nil }) else { return action() }
        mount.answerWhenKept(action)
    }
    func reservationChanged() { for entry in mounts { entry.mount?.stateChanged() } }

    // MARK: Uses

    func existing(_ id: VolumeId) -> VolumeUse? { uses[id] }
    func use(_ record: VolumeRecord) -> VolumeUse {
        if let use = uses[record.id] { return use }
        let use = VolumeUse(record, owner: self)
        uses[record.id] = use
        return use
    }
    func opened(_ use: VolumeUse) {
        use.openCount += 1
        service.opened(use.id)
    }
    /// The last close writes what is only in memory, then the use is forgotten.
    func closed(_ use: VolumeUse) {
        use.openCount -= 1
        service.closed(use.id)
        guard use.openCount == 0 else { return }
        persist(use) { [weak self] in self?.forgetIfIdle(use.id) }
    }
    func forgetIfIdle(_ id: VolumeId) {
        if let use = uses[id], use.isIdle { uses[id] = nil }
    }
    func opened(_ snapshot: SnapshotReference) {
        snapshotOpens[snapshot, default: 0] += 1
        service.opened(snapshot.volume)
    }
    func closed(_ snapshot: SnapshotReference) {
        let count = snapshotOpens[snapshot, default: 1] - 1
        snapshotOpens[snapshot] = count == 0 ? nil : count
        service.closed(snapshot.volume)
    }
    func isOpen(_ snapshot: SnapshotReference) -> Bool { snapshotOpens[snapshot] != nil }
    /// Whether anybody has the volume itself open: a snapshot's opens count for the service, not for this.
    func isInUse(_ volume: VolumeId) -> Bool {
        var count = service.openCount(volume)
        for (snapshot, opens) in snapshotOpens where snapshot.volume == volume { count -= opens }
        return count > 0
    }

    /// Puts true size and times into the catalog.
    func persist(_ use: VolumeUse, _ completion: @escaping () -> Void) {
        use.settle { [self] _ in
            guard let time = use.modifyTime, let record = service.catalog.state.visibleVolume(use.id),
                use.attributeChanges == 0  // that command carries the time too
            else { return completion() }
            var attributes = record.attributes
            attributes.modifyTime = time
            attributes.changeTime = max(attributes.changeTime, time)
            service.catalog.propose(.setAttributes(use.id, attributes), request: nil) { _ in
                // Until now it overlays what the catalog says.
                if use.modifyTime == time { use.modifyTime = nil }
                completion()
            }
        }
    }
    /// Everything that is only in memory, of all volumes in use: before the process ends, and now and then.
    package func persistAll(_ completion: @escaping () -> Void) {
        var left = 1
        func done() {
            left -= 1
            if left == 0 { completion() }
        }
        for use in uses.values.sorted(by: { $0.id < $1.id }) {
            left += 1
            persist(use) { [weak self] in
                self?.forgetIfIdle(use.id)
                done()
            }
        }
        done()
    }
    /// To be called now and then (a minute is right): writes the times of files that stay open.
    package func persistTimes() {
        for use in uses.values where use.modifyTime != nil && !use.isReserved { persist(use) {} }
    }
    var reservations: [(VolumeId, VolumeUse.Reservation)] {
        uses.values.compactMap { use in use.reservation.map { (use.id, $0) } }.sorted { $0.0 < $1.0 }
    }

    /// The size that users see.
    package func size(_ record: VolumeRecord) -> UInt64 { uses[record.id]?.size ?? record.size }
    /// Makes the catalog's sizes of these volumes the true ones; they are that when `completion` is called (which may be
    /// at once) and for every command that it proposes itself.
    package func settle(_ volumes: [VolumeId], _ completion: @escaping (Errno?) -> Void) {
        guard let use = volumes.lazy.compactMap({ [uses] in uses[$0] }).first(where: { !$0.isSettled }) else {
            return completion(nil)
        }
        use.settle { [self] error in
            if let error { return completion(error) }
            // Until the keeper knows, it may still have an end that belongs to what the catalog says next.
            whenKept { [self] in settle(volumes, completion) }
        }
    }

    /// A shrink that is still giving space back makes a growth wait.
    fileprivate func resize(
        _ id: VolumeId, _ size: UInt64, _ request: RequestId?, _ completion: @escaping (Errno?) -> Void
    ) {
        var attempts = 0
        func attempt() {
            service.resize(id, size: size, request: attempts == 0 ? request : nil) { [clock] answer in
                guard case .refused(let error) = answer else { return completion(nil) }
                attempts += 1
                guard error.errno == .busy, attempts < 500 else { return completion(error.errno) }
                clock.after(milliseconds: 20, attempt)
            }
        }
        attempt()
    }

    private func catalogChanged(_ changes: [CatalogChange]) {
        for change in changes {
            switch change {
            case .volumeChanged(let id):
                if let use = uses[id], let record = service.catalog.state.volumes[id] { use.catalogChanged(record) }
            case .volumeRemoved(let id): uses[id] = nil
            default: break
            }
        }
    }
}
