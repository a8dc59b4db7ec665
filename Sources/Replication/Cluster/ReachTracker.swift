// What this node sees of the stores of others, for its reports: whether they have answered all the time, and since when.
// A break shorter than the data time-out is none. It only looks; who is to leave the map is the judge's matter.
import Catalog
import Model

final class ReachTracker {
    private struct View {
        let store: StoreId
        var isReached: Bool
        var since: Instant
    }
    private let clock: any Clock
    private let patienceMilliseconds: UInt64
    private var views: [View] = []

    init(clock: any Clock, patienceMilliseconds: UInt64) {
        self.clock = clock
        self.patienceMilliseconds = patienceMilliseconds
    }

    /// Looks at a store through the link to its node. `isSilent`: it was asked, and did not answer.
    func look(_ store: StoreId, link: RemotePeer?, isSilent: Bool) -> ReachReport.Sight? {
        let now = clock.now
        let isUp = link?.isUp ?? false
        let since = link?.linkSince ?? now
        let isMissing = isSilent || !isUp && now.milliseconds(since: since) >= patienceMilliseconds
        guard let index = views.firstIndex(where: { $0.store == store }) else {
            // Nothing is known before it was reached, or should have been.
            guard isUp || isMissing else { return nil }
            views.append(View(store: store, isReached: isUp && !isSilent, since: max(since, now)))
            return sight(views.count - 1)
        }
        if isMissing, views[index].isReached {
            views[index].isReached = false
            views[index].since = now
        } else if isUp, !isSilent, !views[index].isReached {
            views[index].isReached = true
            views[index].since = now
        }
        return sight(index)
    }
    private func sight(_ index: Int) -> ReachReport.Sight {
        views[index].isReached
            ? .reached(milliseconds: clock.now.milliseconds(since: views[index].since)) : .missing
    }
}
