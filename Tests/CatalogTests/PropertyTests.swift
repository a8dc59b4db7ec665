// Random commands against what must always hold, and all formats against their own output and against damage.
import Model
import OrderedCollections
import TestSupport
import Testing

@testable import Catalog

/// Commands of every kind, mostly of things that exist.
struct Commands {
    var random: Random
    /// Map commands make rings, which take their time in debug builds.
    var withMap: Bool

    mutating func id() -> VolumeId { VolumeId(UInt32(1 + random.below(12))) }
    mutating func directory() -> DirectoryId { DirectoryId(UInt32(1 + random.below(5))) }
    mutating func name() -> String { ["a", "b.img", "c", "d", ".snap", "e@x"][random.below(6)] }
    mutating func tag() -> String { ["t", "u", "v", "!"][random.below(4)] }
    mutating func term(_ state: CatalogState, _ id: VolumeId) -> Term {
        random.chance(percent: 90) ? state.volumes[id]?.term ?? .none : Term(UInt32(random.below(5)))
    }
    mutating func store() -> StoreId { StoreId(UInt64(1 + random.below(4))) }

    mutating func next(_ state: CatalogState) -> CatalogCommand {
        let volume = id()
        let attributes = FileAttributes(uid: 1, gid: 1, mode: 0o444, time: random.next() >> 8)
        switch random.below(withMap ? 37 : 26) {
        case 0...2:
            return .createVolume(
                directory: directory(), name: name(), size: UInt64(random.below(100)), copies: nil,
                attributes: attributes)
        case 3: return .createDirectory(parent: directory(), name: name(), attributes: attributes)
        case 4: return .removeDirectory(directory())
        case 5: return .removeVolume(volume, recursive: random.chance(percent: 50))
        case 6...7:
            return .renameVolume(volume, directory: directory(), name: name(), replacing: random.chance(percent: 50))
        case 8: return .renameDirectory(directory(), parent: directory(), name: name())
        case 9: return .renameSnapshot(volume: volume, from: tag(), to: tag(), replacing: random.chance(percent: 50))
        case 10: return .setSnapshotAttributes(volume: volume, tag: tag(), attributes)
        case 11: return .resize(volume, size: UInt64(random.below(100)))
        case 12: return .trimmed(volume)
        case 13...14:
            let request = SnapshotRequest(
                volume: volume, term: term(state, volume), replaceExisting: random.chance(percent: 50))
            return .snapshot(members: [request], tag: tag(), group: nil, wallClock: 1)
        case 15:
            let group = directory()
            let members = state.volumes.values.filter { $0.directory == group && !$0.isHidden }
            return .snapshot(
                members: members.map { SnapshotRequest(volume: $0.id, term: $0.term) }, tag: tag(), group: group,
                wallClock: 2)
        case 16: return .removeSnapshot(volume: volume, tag: tag())
        case 17: return .removeGroupSnapshot(directory: directory(), tag: tag())
        case 18...19:
            return .clone(
                source: SnapshotReference(volume: volume, generation: Generation(UInt32(1 + random.below(6)))),
                directory: directory(), name: name(), copies: 1, attributes: attributes)
        case 20:
            return .cloneCurrent(
                source: volume, term: term(state, volume), directory: directory(), name: name(),
                attributes: attributes, wallClock: 3)
        case 21: return .rollback(volume: volume, term: term(state, volume), tag: tag())
        case 22: return .flattened(volume: volume, term: term(state, volume))
        case 23:
            return .acquireLease(volume, node: NodeId(UInt32(1 + random.below(2))), incarnation: random.next())
        case 24:
            return random.chance(percent: 50)
                ? .releaseLease(volume, term: term(state, volume)) : .raiseTerm(volume, Term(UInt32(random.below(9))))
        case 25: return .pruned(volume, store())
        case 26: return .addStore(description(store().rawValue))
        case 27...28:
            let session = StoreSession(
                bootId: ClusterId(high: UInt64(random.below(2)), low: 0), incarnation: random.next())
            return .storeUp(store(), session: session, wallClock: 4)
        case 29:
            let up = state.map.stores.filter { $0.status == .up }.map(\.id)
            return random.chance(percent: 30)
                ? .sessionsConfirmed(up.filter { _ in random.chance(percent: 50) })
                : .storeDown(store(), reason: "r", wallClock: 5)
        case 30: return .storeOut(store(), reason: "r", wallClock: 6)
        case 31: return .replaceStore(store(), by: description(UInt64(1 + random.below(6))))
        case 32:
            return random.chance(percent: 50)
                ? .removeStore(store()) : .setWeight(store(), UInt64(random.below(3)) << 40)
        case 33:
            let store = store()
            return .inSync(store, state.map.targetRanges(of: store), epoch: state.map.epoch)
        case 34: return .dropOldRing(epoch: state.map.epoch)
        case 35:
            let store = store()
            return .adopted(store, since: state.map.store(store)?.adoption?.since ?? state.map.epoch)
        default:
            return random.chance(percent: 50) ? .acceptLoss([store()]) : .allowMoveReplacement(epoch: state.map.epoch)
        }
    }
}

private func encoded(_ command: CatalogCommand) -> [UInt8] {
    var w = ByteWriter()
    command.encode(&w)
    return w.bytes
}

struct PropertyTests {
    @Test(arguments: [(UInt64(1), false), (2, false), (3, false), (4, true), (5, true)])
    func randomCommandsKeepTheStateConsistent(_ seed: UInt64, _ withMap: Bool) throws {
        var machine = Machine(stores: withMap ? 1 : 0)
        var commands = Commands(random: Random(seed), withMap: withMap)
        var terms: [VolumeId: Term] = [:]
        // With a volume, changes of the map are moves.
        var given: Set<VolumeId> = withMap ? [machine.volume("first")] : []
        for step in 0..<(withMap ? 120 : 1500) {
            let command = commands.next(machine.state)
            let epoch = machine.state.map.epoch
            let bytes = encoded(command)
            var reader = ByteReader(bytes)
            #expect(try CatalogCommand(&reader) == command)
            let answer = machine.apply(command, request: RequestId(client: 1, number: UInt64(step)))
            if case .volume(let id) = answer { #expect(given.insert(id).inserted) }
            for (id, volume) in machine.state.volumes {
                #expect(volume.term >= terms[id, default: .none])
                terms[id] = volume.term
            }
            #expect(machine.state.map.epoch >= epoch)
            if step % (withMap ? 40 : 150) == 0 {
                // A copy of the state that went through bytes goes on alike.
                let image = machine.state.encoded()
                let copy = try CatalogState(decoding: image)
                #expect(copy.encoded() == image)
                var twin = copy
                var original = machine.state
                let next = commands.next(original)
                #expect(twin.apply(next, request: nil).0 == original.apply(next, request: nil).0)
                #expect(twin.encoded() == original.encoded())
            }
        }
        #expect(withMap || given.count > 3)
    }

    @Test func damagedCommandsAreRefusedOrAnotherCommand() {
        var commands = Commands(random: Random(21), withMap: true)
        var random = Random(22)
        let state = Machine().state
        for _ in 0..<3000 {
            var bytes = encoded(commands.next(state))
            if bytes.count > 4000 { continue }
            switch random.below(3) {
            case 0: bytes.removeLast(random.below(bytes.count) + 1)
            case 1: bytes[random.below(bytes.count)] = UInt8(random.below(256))
            default: for _ in 0..<5 { bytes[random.below(bytes.count)] ^= UInt8(1 << random.below(8)) }
            }
            var reader = ByteReader(bytes)
            // Whatever it is now, it has an answer.
            if let command = try? CatalogCommand(&reader), case .createVolume = command {
                var copy = state
                _ = copy.apply(command, request: nil)
                #expect(copy.inconsistency() == nil)
            }
        }
    }

    @Test func damagedStatesAreRefusedOrConsistent() throws {
        var machine = Machine()
        var commands = Commands(random: Random(31), withMap: false)
        for number in 0..<200 {
            machine.apply(commands.next(machine.state), request: RequestId(client: 1, number: UInt64(number)))
        }
        let image = machine.state.encoded()
        var random = Random(32)
        var refused = 0
        for _ in 0..<1000 {
            var bytes = image
            if random.chance(percent: 20) {
                bytes.removeLast(random.below(bytes.count) + 1)
            } else {
                bytes[random.below(bytes.count)] = UInt8(random.below(256))
            }
            if let state = try? CatalogState(decoding: bytes) {
                #expect(state.inconsistency() == nil)
            } else {
                refused += 1
            }
        }
        #expect(refused > 300)
    }
}
