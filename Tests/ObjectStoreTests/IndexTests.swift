// The index in memory: counters that need no walk, lists of generations, and what a copy costs.
import Glibc
import Model
import TestSupport
import Testing

@testable import ObjectStore

private let a = ObjectId(VolumeId(1), 0)

@Suite struct IndexTests {
    @Test func generationsStayAscendingWhateverIsInsertedAndRemoved() {
        var random = Random(1)
        for _ in 0..<200 {
            var list = GenerationList()
            var model: [UInt32] = []
            for _ in 0..<12 {
                if random.chance(percent: 60) || model.isEmpty {
                    let generation = UInt32(random.below(1000))
                    list.insert(IndexGeneration(generation: generation, file: generation))
                    model.append(generation)
                    model.sort()
                } else {
                    let at = random.below(model.count)
                    #expect(list.remove(at: at).generation == model.remove(at: at))
                }
                #expect(list.map(\.generation) == model)
                #expect(model.allSatisfy { list.position(ofFile: $0) != nil })
            }
        }
    }

    /// The counters against a walk, through every call that changes a state.
    @Test func copyAndIncompleteCountsNeverDrift() {
        let bench = Bench(seed: 60)
        bench.opened()
        func check(_ what: String) {
            var copies = 0
            var incomplete = 0
            bench.store.forEach {
                copies += 1
                if $0.state != .complete || !$0.isVerified { incomplete += 1 }
            }
            #expect(bench.store.copyCount == copies, "\(what)")
            #expect(bench.store.incompleteCount == incomplete, "\(what)")
        }
        var random = Random(60)
        var sequence: UInt64 = 0
        for _ in 0..<200 {
            let object = ObjectId(VolumeId(UInt32(1 + random.below(2))), UInt32(random.below(4)))
            switch random.below(8) {
            case 0, 1:
                sequence += 1
                bench.write(object, 1, sequence, first: 0, count: 1, tag: sequence)
            case 2:
                bench.call {
                    bench.store.setState(object: object, .suspect, durable: random.chance(percent: 50), completion: $0)
                }
            case 3, 4: bench.call { bench.store.setState(object: object, .complete, durable: false, completion: $0) }
            case 5:
                bench.call {
                    bench.store.begin(
                        sync: object, generation: Generation(1), base: .zero, pending: .full, completion: $0)
                }
            case 6: bench.call { bench.store.remove(object: object, generations: nil, completion: $0) }
            default: if random.chance(percent: 30) { bench.call { bench.store.distrustAll(completion: $0) } }
            }
            check("after a call")
            if random.chance(percent: 10) {
                bench.call { bench.store.close(completion: $0) }
                bench.opened()
                check("after an opening")
            }
        }
    }

    @Test func holdsAllIsTrueOnlyForBlocksWithData() {
        let bench = Bench(seed: 61)
        bench.opened()
        bench.write(a, 1, 1, first: 4, count: 4, tag: 1)
        func holds(_ generation: UInt32, _ first: Int, _ count: Int) -> Bool {
            bench.store.holdsAll(a, Generation(generation), BlockRange(first: first, count: count))
        }
        #expect(holds(1, 4, 4))
        #expect(!holds(1, 3, 2) && !holds(2, 4, 1))
        bench.call {
            bench.store.discard(
                object: a, generation: Generation(1), version: Version(term: Term(1), sequence: 2),
                blocks: BlockRange(first: 5, count: 1), keepAsZero: true, completion: $0)
        }
        #expect(!holds(1, 4, 4) && holds(1, 6, 2))
    }

    /// Resident memory of this process, in bytes.
    static func residentBytes() -> Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, 128, file) != nil else { return 0 }
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return (Int(text.split(separator: " ")[1]) ?? 0) * 4096
    }
    /// An index as a node with many volumes has it: `count` copies, every third index of each volume.
    static func generated(_ count: Int) -> Index {
        let index = Index()
        for i in 0..<count {
            let object = ObjectId(VolumeId(UInt32(1 + i / 20_000)), UInt32(i % 20_000 * 3))
            let entry = index.entry(object)
            entry.version = UInt64(i + 1)
            entry.generations.insert(
                IndexGeneration(generation: 1, file: 1, version: UInt64(i + 1), stamp: 1, allocated: 7))
        }
        return index
    }

    /// Only by itself: other tests share the process, and its memory.
    @Test(.enabled(if: getenv("SHEEP_BENCH") != nil), arguments: [100_000, 1_000_000])
    func aCopyCostsAtMost300BytesOfMemory(_ count: Int) {
        let before = IndexTests.residentBytes()
        let index = IndexTests.generated(count)
        let bytes = (IndexTests.residentBytes() - before) / count
        print("\(count) copies: \(bytes) bytes each")
        #expect(index.count == count && bytes <= 300)
    }

    @Test func anImageOfManyCopiesIsReadBackAsItWas() {
        let count = 100_000
        let index = IndexTests.generated(count)
        var builder = IndexImageBuilder(checkpoint: 4, store: 7, startLsn: 9, nextSequence: 2, index: index)
        for volume in index.volumes() {
            for item in index.indices(of: volume) {
                let object = ObjectId(VolumeId(volume), item)
                builder.add(object.rawValue, index[object]!)
            }
        }
        let image = IndexImage.decode(builder.finish(durableLsn: 0), store: 7)
        #expect(image?.index.count == count && image?.index.soundCount == count)
        #expect(image?.index[ObjectId(VolumeId(1), 3)]?.version == 2)
    }
}
