// The local catalog on several stores: what was answered is there after a restart, whatever was lost, and a start that
// cannot be sure of that is refused.
import Model
import OrderedCollections
import TestSupport
import Testing

@testable import Catalog

/// Runs a catalog on memory disks, and restarts it.
final class Host {
    var loop = EventLoop()
    var disks: [(StoreId, MemoryDisk)] = []
    var catalog: LocalCatalog!
    var failures: [StoreId] = []
    var incarnation: UInt64 = 0

    init(stores: Int) { for id in 1...UInt64(stores) { disks.append((StoreId(id), MemoryDisk(loop))) } }

    func disk(_ id: UInt64) -> MemoryDisk { disks.first { $0.0 == StoreId(id) }!.1 }

    private func make(_ stores: [UInt64]?, imageInterval: Int) {
        incarnation += 1
        let here = disks.filter { stores?.contains($0.0.rawValue) ?? true }.map { ($0.0, $0.1 as any Disk) }
        catalog = LocalCatalog(
            disks: here, clock: loop, node: NodeId(1), incarnation: incarnation, imageInterval: imageInterval)
        catalog.onStoreFailure = { [unowned self] id, _ in self.failures.append(id) }
    }
    /// nil: made.
    /// `inMap`: the stores are in the cluster map too; rings take their time in debug builds.
    func create(inMap: Bool = false) -> SheepError?? {
        make(nil, imageInterval: 1 << 20)
        var result: SheepError??
        catalog.create(
            clusterId: ClusterId(high: 3, low: 4), settings: Settings(), rootAttributes: someAttributes,
            stores: inMap ? disks.map { description($0.0.rawValue) } : []
        ) { result = $0 }
        loop.run()
        return result
    }
    /// A new process on the files that are there. nil inside: open; nil outside: power was lost meanwhile.
    func restart(
        _ stores: [UInt64]? = nil, accept: [StoreId] = [], imageInterval: Int = 1 << 20, powerLossAfter: Int? = nil
    ) -> SheepError?? {
        loop = EventLoop()
        loop.bytesUntilPowerLoss = powerLossAfter
        for (_, disk) in disks { disk.loop = loop }
        make(stores, imageInterval: imageInterval)
        var result: SheepError??
        catalog.open(acceptMissing: accept) { result = $0 }
        loop.run()
        return result
    }
    func propose(_ command: CatalogCommand, request: RequestId? = nil) -> CommandAnswer? {
        var answer: CommandAnswer?
        catalog.propose(command, request: request) { answer = $0 }
        loop.run()
        return answer
    }
    func makeVolume(_ name: String) -> Bool {
        if case .volume? = propose(
            .createVolume(directory: .root, name: name, size: 1, copies: nil, attributes: someAttributes))
        {
            return true
        }
        return false
    }
    func has(_ name: String) -> Bool { catalog.state.entry(.root, name) != nil }
}

struct LogTests {
    @Test func whatWasAnsweredIsThereAfterARestart() {
        let host = Host(stores: 3)
        #expect(host.create() == .some(nil))
        #expect(host.makeVolume("a"))
        let before = host.catalog.state
        #expect(host.restart() == .some(nil))
        #expect(host.has("a"))
        #expect(host.catalog.state.volumes == before.volumes)
        #expect(host.catalog.state.map.epoch == before.map.epoch)
        #expect(host.create() != .some(nil))
    }

    @Test func aRepeatedRequestGetsTheFirstAnswerAlsoAfterARestart() {
        let host = Host(stores: 2)
        _ = host.create()
        let command = CatalogCommand.createVolume(
            directory: .root, name: "a", size: 1, copies: nil, attributes: someAttributes)
        let request = RequestId(client: 1, number: 2)
        let first = host.propose(command, request: request)
        #expect(first == .volume(VolumeId(1)))
        _ = host.restart()
        #expect(host.propose(command, request: request) == first)
        #expect(host.catalog.state.volumes.count == 1)
    }

    @Test func commandsThatArriveDuringAnAppendAreAnsweredInOrder() {
        let host = Host(stores: 2)
        _ = host.create()
        var answers: [String] = []
        for name in ["a", "b", "c", "a"] {
            host.catalog.propose(
                .createVolume(directory: .root, name: name, size: 1, copies: nil, attributes: someAttributes),
                request: nil
            ) { answer in
                if case .refused = answer { answers.append("-") } else { answers.append(name) }
            }
            #expect(answers.isEmpty)
        }
        host.loop.run()
        #expect(answers == ["a", "b", "c", "-"])
    }

    @Test func powerLossAtAnyByteKeepsWhatWasAnswered() {
        for stores in 1...3 {
            let origin = Host(stores: stores)
            _ = origin.create()
            #expect(origin.makeVolume("first"))
            let files = origin.disks.map(\.1.files)
            var limit = 0
            var wasWhole = false
            while !wasWhole {
                let host = Host(stores: stores)
                for (i, contents) in files.enumerated() { host.disks[i].1.files = contents }
                wasWhole = host.restart(imageInterval: 400, powerLossAfter: limit) == .some(nil)
                var answered: [String] = ["first"]
                if wasWhole {
                    for name in ["b", "c", "d"] { if host.makeVolume(name) { answered.append(name) } }
                    wasWhole = answered.count == 4
                }
                #expect(host.restart() == .some(nil), "power lost after \(limit) bytes")
                for name in answered { #expect(host.has(name), "power lost after \(limit) bytes") }
                #expect(host.makeVolume("after"))
                limit += limit < 1500 ? 7 : 23
            }
        }
    }

    @Test func aStoreThatFailsIsReportedAndTheRestGoesOn() {
        let host = Host(stores: 3)
        _ = host.create(inMap: true)
        host.disk(2).failure = .inputOutput
        #expect(host.makeVolume("a"))
        #expect(host.failures == [StoreId(2)])
        #expect(host.catalog.state.catalogStores == [StoreId(1), StoreId(3)])
        #expect(host.catalog.state.unconfirmedCatalogStores.isEmpty)
        // One of two is half of the last list: that may go on.
        host.disk(1).failure = .inputOutput
        #expect(host.makeVolume("b"))
        #expect(host.catalog.state.catalogStores == [StoreId(3)])
        // The old disks come back without the newest: they are never believed.
        host.disk(1).failure = nil
        host.disk(2).failure = nil
        for old: [UInt64] in [[1], [2], [1, 2]] {
            guard case .some(.some(let error)) = host.restart(old) else {
                Issue.record("a start with old stores \(old)")
                continue
            }
            #expect(error.errno == .busy)
        }
        #expect(host.restart([3]) == .some(nil))
        #expect(host.has("a") && host.has("b"))
        #expect(host.restart() == .some(nil))
        #expect(host.has("a") && host.has("b"))
        #expect(host.catalog.state.catalogStores.count == 3)
    }

    @Test func whenMostStoresFailAtOnceTheCatalogStops() {
        let host = Host(stores: 3)
        _ = host.create()
        host.disk(1).failure = .inputOutput
        host.disk(2).failure = .inputOutput
        #expect(!host.makeVolume("a"))
        #expect(!host.makeVolume("b"))
        guard case .refused(let error)? = host.propose(.none) else {
            Issue.record("answered")
            return
        }
        #expect(error.errno == .inputOutput)
    }

    @Test func aMissingStoreRefusesTheStartByName() {
        let host = Host(stores: 2)
        _ = host.create()
        _ = host.makeVolume("a")
        guard case .some(.some(let error)) = host.restart([1]) else {
            Issue.record("started with one of two")
            return
        }
        #expect(error.description.contains("--accept-missing \(StoreId(2))"))
        #expect(host.restart([1], accept: [StoreId(2)]) == .some(nil))
        #expect(host.has("a"))
        #expect(host.makeVolume("b"))
        // The one given up has no say any more.
        #expect(host.restart([2]) != .some(nil))
        #expect(host.restart([1]) == .some(nil))
        #expect(host.has("b"))
    }

    @Test func aDamagedLogOfAckedEntriesIsNotBelieved() {
        for target in ["log", "state"] {
            let host = Host(stores: 3)
            _ = host.create()
            for name in ["a", "b", "c"] { _ = host.makeVolume(name) }
            let disk = host.disk(1)
            for (file, contents) in disk.files {
                var contents = contents
                if case .catalogLog = file, target == "log" { contents[CatalogFormat.headerBytes + 2] ^= 1 }
                if case .catalogState = file, target == "state" { contents[50] ^= 1 }
                disk.files[file] = contents
            }
            #expect(host.restart([1]) != .some(nil))
            #expect(host.restart() == .some(nil))
            #expect(host.has("a") && host.has("b") && host.has("c"))
            // It was written anew.
            #expect(host.restart([1, 2]) == .some(nil))
            #expect(host.has("c"))
        }
    }

    @Test func mutatedFilesNeverTrapAndNeverLoseASilentMajority() {
        let host = Host(stores: 3)
        _ = host.create()
        for name in ["a", "b", "c"] { _ = host.makeVolume(name) }
        let files = host.disks.map(\.1.files)
        var random = Random(5)
        for _ in 0..<150 {
            let other = Host(stores: 3)
            for (i, contents) in files.enumerated() { other.disks[i].1.files = contents }
            for file in other.disk(1).files.keys.sorted(by: { "\($0)" < "\($1)" }) {
                var contents = other.disk(1).files[file]!
                switch random.below(3) {
                case 0: contents.removeLast(random.below(contents.count))
                case 1: contents[random.below(contents.count)] ^= UInt8(1 << random.below(8))
                default: for _ in 0..<9 { contents[random.below(contents.count)] = UInt8(random.below(256)) }
                }
                other.disk(1).files[file] = contents
            }
            _ = other.restart([1])
            for (i, contents) in files.enumerated() where i > 0 { other.disks[i].1.files = contents }
            #expect(other.restart() == .some(nil))
            #expect(other.has("a") && other.has("b") && other.has("c"))
        }
    }

    @Test func storesJoinAndLeaveWhileItRuns() {
        let host = Host(stores: 1)
        _ = host.create()
        _ = host.makeVolume("a")
        host.disks.append((StoreId(2), MemoryDisk(host.loop)))
        var result: SheepError??
        host.catalog.attach(store: StoreId(2), disk: host.disk(2)) { result = $0 }
        #expect(result == nil)
        #expect(host.makeVolume("b"))
        #expect(result == .some(nil))
        #expect(host.catalog.state.catalogStores == [StoreId(1), StoreId(2)])
        host.catalog.detach(store: StoreId(1)) { result = $0 }
        host.loop.run()
        #expect(host.catalog.state.catalogStores == [StoreId(2)])
        #expect(host.restart([2]) == .some(nil))
        #expect(host.has("a") && host.has("b"))
        host.catalog.detach(store: StoreId(2)) { result = $0 }
        host.loop.run()
        #expect(result??.errno == .busy)
    }

    @Test func aNewerFormatIsRefused() {
        let host = Host(stores: 1)
        _ = host.create()
        let disk = host.disk(1)
        for (file, contents) in disk.files {
            if case .catalogState = file {
                var bytes = contents
                bytes[4] = 99
                var tail = ByteWriter()
                tail.write(crc32c(Array(bytes.dropLast(4))))
                bytes.replaceSubrange(bytes.count - 4..<bytes.count, with: tail.bytes)
                disk.files[file] = bytes
            }
        }
        #expect(host.restart()??.errno == .notSupported)
    }

    /// The catalog of a single host and the log of a node of a cluster have the same files.
    @Test func aStoreThatHoldsTheOneIsRefusedByTheOther() {
        func member(_ host: Host) -> MemberLog {
            let disks = host.disks.map { ($0.0, $0.1 as any Disk) }
            return MemberLog(disks: disks, clock: host.loop, incarnation: 1)
        }
        func create(_ log: MemberLog, _ host: Host) -> SheepError?? {
            var result: SheepError??
            log.create(clusterId: ClusterId(high: 3, low: 4), node: NodeId(1), key: 7, image: .blank) { result = $0 }
            host.loop.run()
            return result
        }
        func open(_ log: MemberLog, _ host: Host) -> SheepError?? {
            var result: SheepError??
            log.open(freshKey: 8) { result = $0 }
            host.loop.run()
            return result
        }
        let single = Host(stores: 2)
        #expect(single.create() == .some(nil))
        let before = single.disks.map(\.1.files)
        #expect(create(member(single), single)??.errno == .exists)
        #expect(open(member(single), single)??.errno == .exists)
        #expect(single.disks.map(\.1.files) == before)
        #expect(single.restart() == .some(nil))

        let node = Host(stores: 2)
        #expect(create(member(node), node) == .some(nil))
        let kept = node.disks.map(\.1.files)
        #expect(node.create()??.errno == .exists)
        #expect(node.restart()??.errno == .exists)
        #expect(node.disks.map(\.1.files) == kept)
        #expect(open(member(node), node) == .some(nil))
    }

    @Test func replayFromAnyImageGivesTheSameState() throws {
        let host = Host(stores: 1)
        _ = host.create()
        var random = Random(11)
        for round in 0..<200 {
            _ = host.makeVolume("v\(random.below(60))")
            _ = host.propose(.removeVolume(VolumeId(UInt32(1 + random.below(60))), recursive: true))
            if round % 20 == 0 {
                let expected = host.catalog.state.encoded()
                let log = StoreLog(id: StoreId(1), disk: host.disk(1))
                log.load { #expect($0 == nil) }
                host.loop.run()
                #expect(try #require(log.found).state.encoded() == expected)
                if round % 60 == 0 { #expect(host.restart(imageInterval: round % 120 == 0 ? 300 : 5000) == .some(nil)) }
            }
        }
    }
}
