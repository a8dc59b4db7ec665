// One sector as a register whose every written value is unique, so that linearizability is checked in polynomial time
// (Gibbons and Korach, "Testing shared memories", 1997): a write and all reads that saw it are a cluster; with `finish`
// the earliest end and `start` the latest beginning of its operations, a cluster precedes another one when its finish is
// before the other's start. The history is linearizable exactly when no two clusters precede each other.
// It never knows how the system works: a write without an answer has no end, and may happen at any time, but once.

/// What a sector may show: 0 is zeros, else the id of a write.
package typealias SectorValue = UInt64

final class SectorRegister {
    /// Instead of an id: what the snapshot shows that the volume was made from.
    static let base = SectorValue.max

    struct Cluster {
        let value: SectorValue
        /// Of a write or discard; the initial one's is before everything.
        let begun: Int
        var finish: Int
        var start: Int
        /// It was answered as durable.
        var isDurable = false
        func precedes(_ other: Cluster) -> Bool { finish < other.start }
    }
    /// What the sector may have been in the beginning; one of them alone once it was seen.
    private(set) var initial: [SectorValue]
    /// The first is the initial one.
    private(set) var clusters: [Cluster]

    init(initial: [SectorValue]) {
        self.initial = initial
        clusters = [Cluster(value: 0, begun: .min, finish: .min, start: .min)]
    }

    func writeBegan(_ value: SectorValue, _ time: Int) {
        clusters.append(Cluster(value: value, begun: time, finish: .max, start: time))
    }
    /// A write or discard that began at `begun` was answered. False: not linearizable.
    func writeEnded(begun: Int, _ time: Int, durable: Bool) -> Bool {
        guard let at = clusters.lastIndex(where: { $0.begun == begun }) else { return true }
        clusters[at].finish = min(clusters[at].finish, time)
        if durable { clusters[at].isDurable = true }
        return isSound(clusters[at], at: at)
    }

    /// The cluster of a write of this register, by its value.
    func cluster(of value: SectorValue) -> Int? {
        clusters.lastIndex { $0.value == value && $0.begun != .min }
    }
    /// A read between the two times belongs to this cluster. False: not linearizable.
    func read(_ cluster: Int, _ begun: Int, _ ended: Int) -> Bool {
        let read = reading(cluster, begun, ended)
        let isSound = read.begun < ended && isSound(read, at: cluster)
        clusters[cluster] = read
        return isSound
    }
    /// Whether `read` would say so.
    func mayRead(_ cluster: Int, _ begun: Int, _ ended: Int) -> Bool {
        let read = reading(cluster, begun, ended)
        return read.begun < ended && isSound(read, at: cluster)
    }
    private func reading(_ cluster: Int, _ begun: Int, _ ended: Int) -> Cluster {
        var read = clusters[cluster]
        read.finish = min(read.finish, ended)
        read.start = max(read.start, begun)
        return read
    }
    /// The initial value is this one. False: it cannot be.
    func decide(_ value: SectorValue) -> Bool {
        guard initial.contains(value) else { return false }
        initial = [value]
        return true
    }

    private func isSound(_ this: Cluster, at: Int) -> Bool {
        for i in clusters.indices where i != at && clusters[i].precedes(this) && this.precedes(clusters[i]) {
            return false
        }
        return true
    }

    /// What it may be when power was lost everywhere: all but what is known to have been followed by a value that a
    /// flush has covered. `flush`: when the latest flush began that has ended. Of a snapshot that was asked for at `asked`
    /// and there at `there`, only what it may have counts.
    func survivors(flush: Int, asked: Int = .max, there: Int = .max) -> [SectorValue] {
        var values: [SectorValue] = []
        for (i, cluster) in clusters.enumerated() where cluster.begun < there {
            let isGone = clusters.indices.contains { j in
                let other = clusters[j]
                return j != i && cluster.precedes(other) && other.finish < asked
                    && (other.finish < flush || other.isDurable)
            }
            if isGone { continue }
            for value in i == 0 ? initial : [cluster.value] where !values.contains(value) { values.append(value) }
        }
        return values
    }
}
