// What once went wrong, each with its timeline. A test here fails on the code as it was.
import Model
import Testing

@testable import ObjectStore

private let a = ObjectId(VolumeId(1), 0)
private let b = ObjectId(VolumeId(1), 1)

@Suite struct RegressionTests {
    /// Found by seeds 2264, 3437, 3764, 4560, 4826, 5689, 5962 and 7113 of the random lives.
    ///
    ///     checkpoint 5    writes a's header into slot 0, syncs it: the index says stamp 5
    ///     header cache    forgets a's header
    ///     read            loads it again: the newest image is still 4, so stamp 5 passed for "perhaps not durable",
    ///                     and slot 0 for the one to be written next
    ///     checkpoint 5    writes its image: the header in slot 0 is the only one
    ///     checkpoint 6    writes slot 0
    ///     power loss      tears it: both headers are damaged
    @Test func aHeaderLoadedBeforeItsImageIsWrittenKeepsItsSlot() {
        var configuration = Bench.small()
        configuration.headerCacheCount = 0
        let bench = Bench(seed: 2264, configuration: configuration)
        bench.opened()
        bench.write(a, 1, 1, first: 0, count: 1, tag: 1)
        func isImage(_ operation: DiskOperation) -> Bool {
            if case .replace(.index, _) = operation { true } else { false }
        }
        bench.disk.hold = isImage
        bench.store.startCheckpoint()
        bench.run("image") { bench.disk.waiting.contains(where: isImage) }
        #expect(bench.read(a, first: 0, count: 1).tags == [1])
        bench.disk.hold = { _ in false }
        bench.run("checkpoint") { bench.store.checkpoint == nil }
        bench.write(a, 1, 2, first: 1, count: 1, tag: 2)
        bench.store.startCheckpoint()
        var slots: [UInt64] = []
        bench.run("header") {
            for case .write(let writes) in bench.disk.waiting {
                slots = writes.map(\.offset).filter { $0 < UInt64(Sheet.dataOffset) }
            }
            return !slots.isEmpty
        }
        #expect(slots == [UInt64(Sheet.slotBytes)])
    }
}
