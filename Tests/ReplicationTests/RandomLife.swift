// A random life of a host, from one seed: guests, snapshots, clones, failing stores, kills and power losses, each answer
// checked against a model. A life that goes wrong is played again from its seed.
import Catalog
import Glibc
import Model
import ObjectStore
import OrderedCollections
import TestSupport
import Testing

@testable import Replication

final class RandomLife {
    private final class Volume {
        let id: VolumeId
        let name: String
        var size: Int
        var layer: Layer
        var snapshots: [(tag: String, generation: Generation, layer: Layer, size: Int)] = []
        /// Operations on their way, and sectors that each writes.
        var operations = 0
        /// Nothing else may run: a snapshot or the like is on its way.
        var isBusy = false
        /// The writes on their way by sector, with whether they had company.
        var company: [Int: [UInt64: Bool]] = [:]
        init(_ id: VolumeId, _ name: String, _ size: Int, _ layer: Layer) {
            self.id = id
            self.name = name
            self.size = size
            self.layer = layer
        }
    }
    private let seed: UInt64
    private let world: World
    private var random: Random
    private var volumes: [Volume] = []
    private var stamp: UInt64 = 0
    private var operations = 0
    private var names = 0
    /// Counts lives of the process: answers of an earlier one do not count.
    private var life = 0
    private(set) var problems: [String] = []
    private(set) var history: [String] = []
    /// Stores that fail in this life of the process; the map may not know it yet.
    private var failing: [StoreId] = []
    private let givesUpSoon: Bool
    private static let objects = 3
    /// Where things happen, in sectors: around the ends of objects and of chunks.
    private static let spots = [0, 120, 8192 - 24, 8192 + 256, 2 * 8192 - 8, 2 * 8192 + 1000]
    private static let spread = 32

    /// A life of another world than a host with some stores.
    init(seed: UInt64, world: World) {
        self.seed = seed
        self.world = world
        givesUpSoon = false
        random = Random(seed ^ 0x11fe)
        addVolume()
        addVolume()
    }

    init(seed: UInt64) {
        self.seed = seed
        var random = Random(seed ^ 0x11fe)
        let stores = 3 + random.below(3)
        // In some lives stores are given up soon, so that two may fail at once: what waits for them goes on in time.
        givesUpSoon = seed % 3 == 0
        world = World(seed: seed, stores: stores) {
            if seed % 3 == 0 { $0.settings.downOutIntervalMilliseconds = 20_000 }
        }
        self.random = random
        addVolume()
        addVolume()
    }

    private func note(_ text: String) {
        history.append("\(world.machine.nanoseconds / 1000) us: \(text)")
    }
    private func problem(_ text: String) {
        problems.append(text)
        note("PROBLEM " + text)
    }
    private func name() -> String {
        names += 1
        return "n\(names)"
    }
    private func addVolume() {
        let name = name()
        let size = RandomLife.objects * 4 * mebibyte
        volumes.append(Volume(world.volume(name, size: size), name, size, Layer()))
    }

    // MARK: one step

    func run(steps: Int) {
        for _ in 0..<steps where problems.isEmpty {
            act()
            for _ in 0..<random.pick([0, 0, 0, 1, 2, 3, 5, 10, 30]) { _ = world.step() }
        }
        guard problems.isEmpty else { return }
        settle()
        checkAll()
    }

    private func act() {
        if let cluster = world as? ClusterWorld, random.chance(percent: 6) { note(cluster.disturb(&random)) }
        let volume = random.pick(volumes)
        switch random.below(1000) {
        case 0..<480: write(volume)
        case 480..<700: read(volume)
        case 700..<770: discard(volume)
        case 770..<850: flush(volume)
        case 850..<875: snapshot(volume)
        case 875..<890: removeSnapshot(volume)
        case 890..<900: clone(volume)
        case 900..<907: rollback(volume)
        case 907..<920: resize(volume)
        case 920..<925: removeVolume(volume)
        case 925..<945: readSnapshot(volume)
        case 945..<955: failStore()
        case 955..<970: kill()
        case 970..<982: losePower()
        case 982..<985: changeStores()
        case 985..<988: flatten(volume)
        default: for _ in 0..<random.below(3_000) { _ = world.step() }
        }
    }

    private func range(_ volume: Volume) -> Range<Int> {
        let start = random.pick(RandomLife.spots) + random.below(RandomLife.spread)
        var count = 1 + random.below(random.chance(percent: 10) ? 300 : 20)
        var first = start
        if random.chance(percent: 50) {
            first = start / 8 * 8
            count = (count + 7) / 8 * 8
        }
        return first..<max(first, min(first + count, volume.size / 512))
    }

    // MARK: guests

    private func begin(_ volume: Volume, _ sectors: Range<Int>, _ stamp: UInt64) {
        operations += 1
        for sector in sectors {
            volume.layer[sector].began(stamp, operation: operations)
            var others = volume.company[sector] ?? [:]
            for key in others.keys { others[key] = true }
            others[stamp] = !others.isEmpty
            volume.company[sector] = others
        }
        volume.operations += 1
    }
    private func end(_ volume: Volume, _ sectors: Range<Int>, _ stamp: UInt64, isCertain: Bool) {
        for sector in sectors {
            let company = volume.company[sector]?.removeValue(forKey: stamp) ?? true
            volume.layer[sector].ended(stamp, hadCompany: company, isCertain: isCertain)
        }
        volume.operations -= 1
    }

    private func write(_ volume: Volume) {
        let sectors = range(volume)
        guard !sectors.isEmpty, !volume.isBusy else { return }
        stamp += 1
        let stamp = stamp
        var bytes = [UInt8](repeating: 0, count: sectors.count * 512)
        bytes.withUnsafeMutableBytes { raw in
            let words = raw.bindMemory(to: UInt64.self)
            for i in words.indices { words[i] = stamp }
        }
        note("write \(volume.name) \(sectors) #\(stamp)")
        begin(volume, sectors, stamp)
        let life = life
        let shift = sectors.lowerBound % 8 == 0 && sectors.count % 8 == 0 ? 0 : 512
        let buffer = world.pool.buffer((bytes.count + shift + blockSize - 1) / blockSize * blockSize)
        bytes.withUnsafeBytes { (buffer.bytes + shift).copyMemory(from: $0.baseAddress!, byteCount: bytes.count) }
        world.node.write(
            volume.id, offset: UInt64(sectors.lowerBound * 512), count: bytes.count, from: buffer, bufferOffset: shift,
            durable: false
        ) { [self] errno in
            guard life == self.life else { return }
            note("written #\(stamp) \(errno.map { "\($0)" } ?? "")")
            end(volume, sectors, stamp, isCertain: errno == nil)
            if let errno { problem("write failed: \(errno)") }
        }
    }

    private func discard(_ volume: Volume) {
        var sectors = range(volume)
        if random.chance(percent: 20) { sectors = 0..<volume.size / 512 }
        let count = sectors.count
        guard count > 0, count < 1000, !volume.isBusy else { return }
        // Zeros have no stamp of their own: nothing else may be on its way there.
        guard !sectors.contains(where: { volume.company[$0]?.isEmpty == false }) else { return }
        note("discard \(volume.name) \(sectors)")
        begin(volume, sectors, 0)
        let life = life
        world.node.discard(volume.id, offset: UInt64(sectors.lowerBound * 512), count: UInt64(count * 512)) {
            [self] errno in
            guard life == self.life else { return }
            note("discarded \(sectors)")
            end(volume, sectors, 0, isCertain: errno == nil)
            if let errno { problem("discard failed: \(errno)") }
        }
    }

    private func read(_ volume: Volume) { read(volume, .current(volume.id), volume.layer, range(volume)) }
    private func readSnapshot(_ volume: Volume) {
        guard !volume.snapshots.isEmpty, !volume.isBusy else { return }
        let snapshot = random.pick(volume.snapshots)
        let sectors = range(volume)
        guard sectors.upperBound <= snapshot.size / 512 else { return }
        read(volume, .snapshot(volume.id, snapshot.generation), snapshot.layer, sectors)
    }
    private func read(_ volume: Volume, _ view: VolumeView, _ layer: Layer, _ sectors: Range<Int>) {
        guard !sectors.isEmpty, !volume.isBusy else { return }
        let before = sectors.map { layer[$0].readable }
        let firstStamp = stamp
        let wasQuiet = sectors.map { layer[$0].pending.isEmpty }
        let life = life
        volume.operations += 1
        world.askRead(view, sectors.lowerBound * 512, sectors.count * 512) { [self] result in
            guard life == self.life else { return }
            volume.operations -= 1
            guard case .success(let bytes) = result else { return problem("read \(view) \(sectors): \(result)") }
            for (i, sector) in sectors.enumerated() {
                check(view, layer, sector, bytes[i * 512..<i * 512 + 512], before[i], firstStamp, wasQuiet[i])
            }
        }
    }
    private func check(
        _ view: VolumeView, _ layer: Layer, _ sector: Int, _ bytes: ArraySlice<UInt8>, _ before: [UInt64],
        _ firstStamp: UInt64, _ wasQuiet: Bool
    ) {
        // Sixty-four times the same word.
        let (seen, isTorn) = bytes.withUnsafeBytes { raw in
            (raw.loadUnaligned(as: UInt64.self), memcmp(raw.baseAddress!, raw.baseAddress! + 8, raw.count - 8) != 0)
        }
        guard !isTorn else { return problem("\(view) sector \(sector) is torn: \(Array(bytes))") }
        let cell = layer[sector]
        // What began meanwhile counts too.
        let isNew = cell.readable.contains(seen) && (seen > firstStamp || seen == 0)
        if !before.contains(seen), !isNew {
            problem("\(view) sector \(sector) is #\(seen), not one of \(before) nor \(cell.readable)")
        }
        if wasQuiet, cell.pending.isEmpty, cell.possible.contains(seen), before == cell.readable {
            layer.seen(sector, seen)
        }
    }

    private func flush(_ volume: Volume) {
        guard !volume.isBusy else { return }
        let then = volume.layer.copy()
        operations += 1
        let begun = operations
        let snapshots = volume.snapshots.map(\.layer)
        let layer = volume.layer
        let life = life
        note("flush \(volume.name)")
        volume.operations += 1
        world.node.flush(volume.id) { [self] errno in
            guard life == self.life else { return }
            volume.operations -= 1
            note("flushed \(volume.name)")
            if let errno { return problem("flush failed: \(errno)") }
            layer.flushed(then, before: begun)
            for snapshot in snapshots { snapshot.flushed(snapshot.copy(), before: begun) }
        }
    }

    // MARK: families

    /// Waits until nothing of the volume is on its way.
    private func quiesce(_ volume: Volume) {
        world.run("operations of \(volume.name)", seconds: 600) { volume.operations == 0 || !problems.isEmpty }
        if volume.operations != 0 { describe(volume.id) }
        if volume.operations != 0 { problem("\(volume.operations) operations of \(volume.name) do not end") }
    }
    func describeAll() { for volume in volumes { describe(volume.id) } }
    private func describe(_ id: VolumeId) {
        guard let node = world.node, let volume = node.gateway.volumes[id] else { return }
        note(
            "\(id): \(volume.phase) term \(volume.term) fenced \(volume.fenced) gate \(volume.gateHolders) \(volume.gatedWrites.count)"
        )
        note(
            "in flight \(volume.writesInFlight) exceptions \(volume.exceptions) waiters \(node.gateway.mapWaiters.count)"
        )
        for (index, object) in volume.objects.sorted(by: { $0.key < $1.key }) {
            note(
                "object \(index) \(object.version) \(object.slots.map { ($0.channel.store, $0.status, $0.isMember) })"
                    + " paused \(object.isPaused) \(object.pausedWrites.count) locks \(object.locks.isEmpty) users \(object.users)"
                    + " prepared \(object.isPrepared) \(object.lacksMember)")
            for operation in object.inFlight {
                note(
                    "  \(operation.request.version) \(operation.request.blocks) parked \(operation.isParked)"
                        + " pending \(operation.pending) failed \(operation.failed) complete \(operation.completeCopies)"
                )
            }
        }
        for store in world.catalog.state.map.stores {
            note("store \(store.id) \(store.status) in-sync \(store.inSync.any.count) \(store.reason)")
        }
        note("recovery \(node.recovery.status) behind \(node.recovery.behindCount) log \(world.log.suffix(3))")
    }
    private func answer(_ what: String, _ call: (@escaping (CommandAnswer) -> Void) -> Void) -> CommandAnswer? {
        guard problems.isEmpty else { return nil }
        note(what)
        var result: CommandAnswer?
        call { result = $0 }
        world.run(what, seconds: 600) { result != nil }
        if result == nil { problem("\(what) does not end") }
        note("\(what): \(result.map { "\($0)".prefix(80) } ?? "")")
        return result
    }

    private func snapshot(_ volume: Volume) {
        quiesce(volume)
        let tag = name()
        let result = answer("snapshot \(volume.name) \(tag)") {
            world.node.snapshot([volume.id], tag: tag, group: nil, replaceExisting: false, request: nil, $0)
        }
        guard case .snapshot(_, let generation)? = result else { return }
        volume.snapshots.append((tag, generation, volume.layer.copy(), volume.size))
    }
    private func removeSnapshot(_ volume: Volume) {
        guard !volume.snapshots.isEmpty else { return }
        quiesce(volume)
        let snapshot = volume.snapshots.remove(at: random.below(volume.snapshots.count))
        _ = answer("remove \(volume.name)@\(snapshot.tag)") {
            world.catalog.propose(.removeSnapshot(volume: volume.id, tag: snapshot.tag), request: nil, $0)
        }
    }
    private func clone(_ volume: Volume) {
        guard volumes.count < 6, let snapshot = volume.snapshots.last else { return }
        let name = name()
        let result = answer("clone \(volume.name)@\(snapshot.tag) \(name)") {
            world.catalog.propose(
                .clone(
                    source: SnapshotReference(volume: volume.id, generation: snapshot.generation), directory: .root,
                    name: name, copies: nil, attributes: plainAttributes), request: nil, $0)
        }
        guard case .volume(let id)? = result else { return }
        let layer = Layer(parent: snapshot.layer, visible: snapshot.size / 512)
        volumes.append(Volume(id, name, snapshot.size, layer))
    }
    private func rollback(_ volume: Volume) {
        guard let snapshot = volume.snapshots.last else { return }
        quiesce(volume)
        let result = answer("rollback \(volume.name) \(snapshot.tag)") {
            world.node.rollback(volume.id, tag: snapshot.tag, request: nil, $0)
        }
        guard result == .done else { return }
        volume.layer = snapshot.layer.copy()
        volume.size = snapshot.size
    }
    private func resize(_ volume: Volume) {
        quiesce(volume)
        let size = random.pick([RandomLife.spots[2] + 8, RandomLife.spots[3] + 100, 3 * 8192, 8192]) * 512
        guard
            answer(
                "resize \(volume.name) \(size)", { world.node.resize(volume.id, size: UInt64(size), request: nil, $0) })
                == .done
        else { return }
        if size < volume.size { volume.layer.cut(from: size / 512, through: volume.size / 512) }
        volume.size = size
    }
    private func removeVolume(_ volume: Volume) {
        guard volumes.count > 2 else { return }
        quiesce(volume)
        let result = answer("remove \(volume.name)") {
            world.catalog.propose(.removeVolume(volume.id, recursive: true), request: nil, $0)
        }
        if result == .done { volumes.removeAll { $0 === volume } }
    }
    private func flatten(_ volume: Volume) {
        guard volume.layer.parent != nil, volume.snapshots.isEmpty else { return }
        quiesce(volume)
        _ = answer("flatten \(volume.name)") { world.node.flatten(volume.id, progress: { _, _ in }, $0) }
    }

    // MARK: faults

    private func failStore() {
        let map = world.catalog.state.map
        let up = map.stores.filter { $0.status == .up }.map(\.id)
        // One may go of three; what else is there must hold everything. A second one of five makes writes below
        // min-copies wait until the two are given up: only where that is soon.
        guard failing.isEmpty, up.count == map.stores.count, world.isAtRest, map.stores.count >= 3 else { return }
        let victim = random.pick(up)
        guard world.mayFail(victim) else { return }
        fail(victim)
        guard givesUpSoon, up.count >= 5, random.chance(percent: 40) else { return }
        for _ in 0..<random.pick([0, 1, 10, 100]) { _ = world.step() }
        fail(random.pick(up.filter { !failing.contains($0) }))
    }
    private func fail(_ victim: StoreId) {
        note("store \(victim) fails")
        failing.append(victim)
        let disk = world.shelves[world.shelf(victim)].disk
        switch random.below(3) {
        case 0: disk.isBroken = true
        case 1: disk.fault = { if case .sync = $0 { .inputOutput } else { nil } }
        default: disk.fault = { if case .append = $0 { .inputOutput } else { nil } }
        }
    }
    private func forgetOperations() {
        life += 1
        for volume in volumes {
            volume.operations = 0
            volume.company = [:]
        }
    }
    private var allLayers: [Layer] { volumes.flatMap { [$0.layer] + $0.snapshots.map(\.layer) + ancestors($0.layer) } }
    private func ancestors(_ layer: Layer) -> [Layer] { layer.parent.map { [$0] + ancestors($0) } ?? [] }
    private func eachLayer(_ body: (Layer) -> Void) {
        var seen: Set<ObjectIdentifier> = []
        for layer in allLayers where seen.insert(ObjectIdentifier(layer)).inserted { body(layer) }
    }

    private func restart() {
        failing = []
        for shelf in world.shelves {
            shelf.disk.isBroken = false
            shelf.disk.fault = { _ in nil }
        }
        if let error = world.start() { problem("does not start: \(error) \(world.log.suffix(5))") }
        for _ in 0..<random.below(400) where world.isRunning { _ = world.step() }
    }
    private func kill() {
        note("KILL")
        forgetOperations()
        world.kill()
        eachLayer { $0.processDied() }
        restart()
    }
    private func losePower() {
        note("POWER LOSS")
        forgetOperations()
        world.losePower()
        eachLayer { $0.powerWasLost() }
        restart()
    }
    private func changeStores() {
        guard !(world is ClusterWorld), world.isAtRest, world.catalog.state.map.stores.allSatisfy({ $0.status == .up })
        else { return }
        if world.catalog.state.map.stores.count < 5, random.chance(percent: 50) {
            let path = "/new\(name())"
            let index = world.addShelf(path)
            note("add a store")
            let life = life
            world.node.addStore(path: path, zone: nil, weight: 1 << 30) { [self] result in
                guard life == self.life else { return }
                if case .success(let id) = result { world.shelves[index].id = id }
            }
            world.run("added") { world.shelves[index].id.rawValue != 0 }
        } else {
            let store = random.pick(world.catalog.state.map.stores).id
            note("weight of \(store)")
            world.node.setWeight(store, weight: UInt64(1 + random.below(4)) << 28) { _ in }
        }
    }

    // MARK: the end

    private func settle() {
        for volume in volumes { quiesce(volume) }
        for record in world.catalog.state.map.stores where record.status != .up {
            note("store \(record.id) is \(record.status) at the end")
        }
        forgetOperations()
        world.kill()
        eachLayer { $0.processDied() }
        restart()
    }
    private func checkAll() {
        guard problems.isEmpty else { return }
        for volume in volumes {
            checkWhole(volume, .current(volume.id), volume.layer, volume.size)
            for snapshot in volume.snapshots {
                checkWhole(volume, .snapshot(volume.id, snapshot.generation), snapshot.layer, snapshot.size)
            }
        }
        note("rest")
        world.rest(seconds: 600)
        world.expectCopiesAreIdentical()
        world.expectNothingUnreachable()
    }
    private func checkWhole(_ volume: Volume, _ view: VolumeView, _ layer: Layer, _ size: Int) {
        for spot in RandomLife.spots {
            let end = min(spot + 400, size / 512)
            if spot < end { read(volume, view, layer, spot..<end) }
        }
        quiesce(volume)
    }
}

@Suite struct RandomLifeTests {
    /// Every so manyth seed is in the same part: the parts run side by side.
    private static let parts = 4

    @Test(arguments: 0..<parts)
    func randomLivesKeepTheContract(_ part: Int) {
        let setting = Environment.value("SHEEP_SEEDS")?.split(separator: "-").compactMap { UInt64($0) } ?? []
        // 155 and 183: a second store failed before the map knew of the first. 109: copies that differed were taken for equal.
        // 344: a sync made a generation that no view of a removed volume reaches.
        let all = setting.count == 2 ? Array(setting[0]...setting[1]) : Array(1...120) + [155, 183, 344]
        let seeds = all.indices.filter { $0 % RandomLifeTests.parts == part }.map { all[$0] }
        var failed: [UInt64] = []
        for seed in seeds {
            let life = RandomLife(seed: seed)
            nonisolated(unsafe) var issues = 0
            withKnownIssue(isIntermittent: true) {
                life.run(steps: 250)
            } matching: { _ in
                issues += 1
                return false
            }
            if !life.problems.isEmpty || issues > 0 {
                failed.append(seed)
                Issue.record("seed \(seed): \(life.problems.first ?? "see above")")
                if all.count == 1 { print(life.history.suffix(400).joined(separator: "\n")) }
                if failed.count >= 5 { break }
            }
        }
        #expect(failed.isEmpty)
    }
}
