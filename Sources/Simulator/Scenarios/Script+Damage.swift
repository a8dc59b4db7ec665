// What is done in a scenario to the bytes on disks, behind the back of their stores, and how it is seen that it is mended.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

enum Rot {
    /// A bit of a block of the volume's first object.
    case data(block: Int)
    /// Bits of both checksum tables of its file.
    case checksums
    /// Both headers of its file, from their first byte on.
    case header
    case index
    /// In the middle of what the newest segment has.
    case journal
}

extension Script {
    /// The file that the first object of a volume has there.
    private func objectFile(_ number: Int, of name: String) -> StoreFile? {
        let object = ObjectId(volume(name).id, 0)
        return disk(number).memory.list(.object).last {
            if case .object(object, _) = $0 { true } else { false }
        }
    }
    func rot(_ number: Int, _ rot: Rot, of name: String = "vm") {
        guard isGoing else { return }
        let memory = disk(number).memory
        guard let file = objectFile(number, of: name) else { return fail("host \(number) has a copy") }
        switch rot {
        case .data(let block):
            tell("on host \(number) a bit turns over in block \(block) of \(name)")
            memory.flipBit(file, 16_384 + block * blockSize + 77, 3)
        case .checksums:
            tell("on host \(number) bits turn over in the checksum tables of \(name)")
            for slot in [0, 8192] { memory.flipBit(file, slot + 5_000, 5) }
        case .header:
            tell("on host \(number) both headers of an object of \(name) are destroyed")
            for slot in [0, 8192] { for byte in 0..<64 { memory.flipBit(file, slot + byte, 1) } }
        case .index:
            tell("on host \(number) the image of the index is damaged")
            for image in memory.list(.index) { memory.flipBit(image, 40) }
        case .journal:
            let segments = memory.list(.journal).compactMap { segment in
                memory.contents(segment)?.lastIndex { $0 != 0 }.map { (segment, $0) }
            }
            guard let (segment, last) = segments.last else { return fail("host \(number) has a journal") }
            tell("on host \(number) the journal is damaged in its middle")
            memory.flipBit(segment, last / 2)
        }
    }

    /// Each of these blocks of the first object is on that disk as the write left it.
    func expectIntact(_ write: Asked, on number: Int, blocks: Range<Int>) {
        guard isGoing else { return }
        pass(seconds: 6)
        let bad = blocks.filter { block in
            !words(number, block, of: write.volume.name).allSatisfy { $0 == write.value }
        }
        expect(bad.isEmpty, "blocks \(bad) are repaired on host \(number)")
        if isGoing { tell("the disk of host \(number) has all of #\(write.value) again") }
    }
    func isInObjectFile(_ write: Asked, on number: Int) -> Bool {
        (0..<64).contains { words(number, $0, of: write.volume.name).contains(write.value) }
    }
    private func words(_ number: Int, _ block: Int, of name: String) -> [UInt64] {
        guard let file = objectFile(number, of: name), let bytes = disk(number).memory.contents(file) else { return [] }
        let start = 16_384 + block * blockSize
        guard bytes.count >= start + blockSize else { return [] }
        return bytes.withUnsafeBytes { bytes in
            stride(from: start, to: start + blockSize, by: 8).map {
                bytes.loadUnaligned(fromByteOffset: $0, as: UInt64.self)
            }
        }
    }

    func setSpace(_ number: Int, mib: Int) {
        guard isGoing else { return }
        let space = DiskSpace(capacityBytes: 1 << 40, availableBytes: UInt64(mib) << 20)
        if space != disk(number).memory.space { tell("the disk of host \(number) has \(mib) MiB left") }
        disk(number).memory.space = space
    }
    func scrub(on number: Int, deep: Bool) {
        guard isGoing else { return }
        let host = host(number)
        var error: SheepError??
        host.enter { host.administration?.startScrub(deep: deep, volume: nil) { error = .some($0) } }
        waitSilently("a scrub begins") { error != nil }
        expect(error == .some(.none), "a scrub begins")
        waitSilently("the scrub ends", seconds: 120) { host.administration?.report().scrub.isRunning == false }
        guard isGoing, let status = host.administration?.report().scrub else { return }
        tell(
            "host \(number): a \(deep ? "deep" : "light") scrub of \(status.objectsDone) objects has repaired "
                + "\(status.blocksRepaired) blocks and \(status.copiesRepaired) copies, alarms: \(status.alarms.count)")
        expect(status.alarms.isEmpty, "no alarm")
    }

    /// A disk is empty but for the id of the store that was on it.
    func formatAnew(_ number: Int, _ at: Int, cluster: ClusterId = ClusterId(high: 0xc1, low: 0x05)) {
        guard isGoing, let record = stores(number).first(where: { $0.path == "/disk\(at)" }) else { return }
        let disk = disk(number, at)
        disk.memory.wipe()
        let process = SimulatedProcess(queue: world.queue, node: host(number).id, incarnation: 0)
        var configuration = world.knobs.storeConfiguration
        configuration.bootId = record.session.bootId
        let identity = StoreIdentity(
            clusterId: cluster, storeId: record.id, createdWallClock: process.wallClock)
        var isDone = false
        ObjectStore.format(
            disk.open(by: process), identity: identity, configuration: configuration
        ) { _ in isDone = true }
        waitSilently("a store is formatted") { isDone }
        process.kill()
        let isOurs = cluster == ClusterId(high: 0xc1, low: 0x05)
        tell(
            "a disk of host \(number) is empty now, but for \(isOurs ? "the id of its store" : "a store of another cluster")"
        )
    }
}
