// What differs from seed to seed besides chance: how large, how fast and how rough the world is. Drawn once, from the
// seed alone; printed with a failure.
import Model
import ObjectStore
import Replication
import Catalog

/// What kind of hosts a run is about.
package enum HostKind: String, CaseIterable, Sendable {
    /// One host that is a cluster by itself.
    case single
    /// Several hosts.
    case cluster
}

package struct Knobs: Sendable {
    package var hosts = 1
    /// Hosts that are no members in the beginning.
    package var joiners = 0
    package var storesPerHost = 3
    package var settings = Settings()
    package var gatewayOptions = GatewayOptions()
    package var storeConfiguration = StoreConfiguration()
    package var latency = DiskLatency(
        writeMicroseconds: 5...30, readMicroseconds: 20...200, syncMicroseconds: 100...1000)
    package var batchNanoseconds: UInt64 = 10_000
    package var catalogImageBytes = 1 << 16
    package var tearsSyncedAppends = true

    // The cluster, of several hosts.
    package var networkMilliseconds = 3
    package var corruptConnectionsPercent = 0
    package var isQuorumBlind = false
    package var windowBytes = 1 << 20

    // The workload.
    package var volumes = 2
    package var objectsPerVolume = 3
    package var operations = 500
    /// Between two operations, on average.
    package var gapNanoseconds: UInt64 = 2_000_000
    /// At most so many at a time.
    package var depth = 16
    /// The places that guests touch, in sectors, and how far around them.
    package var spots: [Int] = [0]
    package var spread = 32
    package var largeWritesPercent = 5
    package var alignedPercent = 50
    package var durablePercent = 2
    /// Of requests in flight when a process ends, those that the kernel sends again.
    package var resendPercent = 50
    /// Relative frequencies of what changes volumes as a whole, in a thousand operations.
    package var familyPerMille = 60

    // The faults.
    package var faults = 3
    package var allowsStoreFaults = true
    /// Faults of a theme, besides those that are drawn.
    package var forced: [Theme.Fault] = []
    /// Faults are not bounded: errors may be the outcome, wrong data never.
    package var isBeyondBounds = false

    package init() {}

    package init(drawing random: inout Random, kind: HostKind?) {
        let drawn: HostKind = random.chance(percent: 50) ? .cluster : .single
        self.init(drawing: &random)
        if kind ?? drawn == .cluster { makeCluster(&random) }
    }

    private mutating func makeCluster(_ random: inout Random) {
        hosts = random.pick([3, 3, 3, 4, 5])
        storesPerHost = random.pick([1, 1, 2])
        settings.copies = random.pick([2, 3, 3])
        settings.leaseMilliseconds = random.pick([1_000, 3_000, 6_000])
        settings.downOutIntervalMilliseconds = random.pick([10_000, 60_000])
        gapNanoseconds = random.pick([1_000_000, 10_000_000, 50_000_000, 100_000_000])
        networkMilliseconds = random.pick([0, 1, 3, 20])
        corruptConnectionsPercent = random.pick([0, 0, 0, 20])
        isQuorumBlind = random.chance(percent: 20)
        windowBytes = random.pick([1 << 20, 4 << 20])
        catalogImageBytes = random.pick([20_000, 1 << 18])
        allowsStoreFaults = random.chance(percent: 50)
    }

    private init(drawing random: inout Random) {
        storesPerHost = 3 + random.below(3)
        settings.copies = random.pick([1, 2, 2, 3, 3, 3, 3])
        settings.minCopies = random.pick([0, 0, 0, 1])
        settings.downOutIntervalMilliseconds = random.pick([2_000, 10_000, 60_000])
        gatewayOptions.alwaysDurable = random.chance(percent: 5)
        let pages = random.pick([280, 320, 512])
        storeConfiguration.journalSegmentBytes = pages * 4096
        storeConfiguration.journalMaximumSegments = 4 + random.below(4)
        storeConfiguration.memoryLimitBytes = random.pick([1 << 20, 4 << 20])
        storeConfiguration.headerCacheCount = random.pick([4, 16, 256])
        storeConfiguration.viewCacheCount = random.pick([1, 4, 64])
        storeConfiguration.dirtyHeaderLimit = random.pick([4, 64, 1024])
        storeConfiguration.syncDelayBytes = random.pick([4 << 10, 64 << 10, 1 << 20])
        storeConfiguration.syncDelayMilliseconds = random.pick([1, 2, 10, 100])
        storeConfiguration.applyDelayMilliseconds = random.pick([0, 1, 20])
        storeConfiguration.checkpointIntervalMilliseconds = random.pick([50, 400, 5_000])
        storeConfiguration.directWriteBytes = random.pick([16 << 10, 64 << 10])
        storeConfiguration.sweepDelayMilliseconds = random.pick([10, 1_000])
        storeConfiguration.reserveBytes = 0
        let speed = random.pick([1, 1, 4, 20])
        latency = DiskLatency(
            writeMicroseconds: 2...20 * speed, readMicroseconds: 10...100 * speed,
            syncMicroseconds: 50 * speed...1000 * speed)
        batchNanoseconds = UInt64(random.pick([0, 5_000, 50_000]))
        catalogImageBytes = random.pick([4_000, 1 << 16])

        volumes = 1 + random.below(3)
        objectsPerVolume = 1 + random.below(3)
        operations = 200 + random.below(400)
        gapNanoseconds = random.pick([50_000, 500_000, 2_000_000, 10_000_000, 100_000_000])
        depth = random.pick([1, 4, 16, 64])
        // Around the ends of objects and of chunks, and anywhere.
        let all = [0, 120, 8192 - 24, 8192 + 256, 2 * 8192 - 8, 2 * 8192 + 1000, 3000, 5000]
        let count = 1 + random.below(all.count)
        spots = (0..<count).map { _ in random.pick(all) }
        spread = random.pick([8, 32, 128])
        largeWritesPercent = random.pick([0, 5, 20])
        alignedPercent = random.pick([10, 50, 90])
        durablePercent = random.pick([0, 2, 20])
        resendPercent = random.pick([0, 50, 100])
        familyPerMille = random.pick([0, 40, 100, 250])
        faults = random.pick([0, 2, 4, 8])
        allowsStoreFaults = settings.copies > 1 && random.chance(percent: 70)
    }

    package var description: String {
        "hosts \(hosts) stores \(storesPerHost) copies \(settings.copies)/\(settings.minCopies) "
            + "out \(settings.downOutIntervalMilliseconds) ms volumes \(volumes)x\(objectsPerVolume) "
            + "operations \(operations) every \(gapNanoseconds / 1000) us depth \(depth) spots \(spots) faults \(faults)"
            + (hosts == 1
                ? ""
                : " lease \(settings.leaseMilliseconds) ms network \(networkMilliseconds) ms corrupt \(corruptConnectionsPercent) % blind \(isQuorumBlind) window \(windowBytes)")
    }
}
