// What the gateway of one node among several asks of its node: whether a volume is its own to use, what lies in volumes
// that others hold, and that commands of a holder are void once it is not the holder any more. On a host by itself nobody
// is asked, and all volumes are the gateway's own.
import Catalog
import Model

package protocol GatewayLeases: AnyObject {
    /// Whether the volume is this gateway's to use: it has the lease, or is to take it.
    func mayUse(_ volume: VolumeId) -> Bool
    /// Gives the lease back; from this call on it is not held.
    func release(_ volume: VolumeId, term: Term, _ completion: @escaping (CommandAnswer) -> Void)
    /// Proposes a command that is void under another term.
    func propose(
        _ command: CatalogCommand, under volume: VolumeId, term: Term, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void)
    /// A copy has refused this term: a newer one was given.
    func outdated(_ volume: VolumeId, _ term: Term)
    /// Stores that came later were compared: copies of a volume that is in use here are to be made equal, though nobody may
    /// ask for them.
    func becameUnequal(_ volume: VolumeId)
    /// A snapshot of a volume that is not this gateway's to use, as its holder sees it.
    func readBelow(
        _ view: VolumeView, offset: UInt64, count: Int, into buffer: Buffer, bufferOffset: Int,
        _ completion: @escaping (Errno?) -> Void)
    func dataBlocksBelow(
        _ view: VolumeView, _ index: UInt32, _ completion: @escaping (Result<BlockBitmap, Errno>) -> Void)
    func nextObjectBelow(
        _ view: VolumeView, _ index: UInt32, _ completion: @escaping (Result<UInt32?, Errno>) -> Void)
}

extension Gateway {
    /// Whether what lies below a volume is looked at here; else its holder is asked.
    func isForeign(_ volume: VolumeId) -> Bool {
        guard let leases else { return false }
        return volumes[volume]?.phase != .ready && !leases.mayUse(volume)
    }

    /// The term under which the volume is in use here.
    func readyTerm(_ id: VolumeId) -> Term? {
        guard let volume = volumes[id], volume.phase == .ready else { return nil }
        return volume.term
    }

    /// The lease has moved on, or is given back: nothing of what is known of the volume holds any more, and all that is on
    /// its way ends with ESTALE. Who takes the volume again waits until it has ended.
    func abandon(_ id: VolumeId) {
        guard let volume = volumes[id] else { return }
        // Whoever waits inside asks again, of a gateway that does not have the volume.
        volumeRemoved(id)
        volume.openGateForGood()
        if volume.isBusyAbandoned { abandoned.append(volume) }
    }

    /// Runs when nothing of an earlier use of the volume is at work on its copies any more.
    func whenAbandonedIsQuiet(_ id: VolumeId, _ action: @escaping () -> Void) {
        abandoned.removeAll { !$0.isBusyAbandoned }
        guard abandoned.contains(where: { $0.id == id }) else { return action() }
        clock.after(milliseconds: 5) { [weak self] in self?.whenAbandonedIsQuiet(id, action) }
    }

    /// What is not as it should be after stores were compared is seen to, whoever needs it or not.
    func settleUnequal(_ volume: VolumeState) {
        guard let leases, volumes[volume.id] === volume, volume.phase == .ready else { return }
        let isUnequal = volume.summaries.contains {
            !$0.value.isUniform && !(volume.objects[$0.key]?.isPrepared ?? false)
        }
        if isUnequal { leases.becameUnequal(volume.id) }
    }

    func outdated(_ volume: VolumeState) {
        guard let leases, volumes[volume.id] === volume else { return }
        leases.outdated(volume.id, volume.term)
    }

    func propose(
        _ command: CatalogCommand, under volume: VolumeState, request: RequestId?,
        _ completion: @escaping (CommandAnswer) -> Void
    ) {
        guard let leases else { return catalog.propose(command, request: request, completion) }
        leases.propose(command, under: volume.id, term: volume.term, request: request, completion)
    }

    func release(_ volume: VolumeState, _ completion: @escaping (CommandAnswer) -> Void) {
        guard let leases else {
            return catalog.propose(.releaseLease(volume.id, term: volume.term), request: nil, completion)
        }
        leases.release(volume.id, term: volume.term, completion)
    }
}

extension VolumeState {
    /// Work on its copies that was begun and does not look whether it is still wanted at every step.
    var isBusyAbandoned: Bool {
        users > 0 || objects.contains { $0.value.users > 0 || !$0.value.inFlight.isEmpty }
    }
    /// Nobody waits for a snapshot any more: what waited behind the gate ends, too.
    func openGateForGood() {
        gateClosed = false
        let waiting = gatedWrites
        gatedWrites = []
        for action in waiting { action() }
    }
}
