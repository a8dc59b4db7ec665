// Sizes: one command for many appends, exact after a flush, nothing answered outside the catalog's size.
import Catalog
import Fuse
import Model
import OrderedCollections
import Testing

@testable import Filesystem

struct GrowthTests {
    private func catalogSize(_ kernel: FakeKernel) -> UInt64 { kernel.volumes.catalog.state.volumes.values.first!.size }
    private func resizes(_ kernel: FakeKernel) -> Int {
        kernel.volumes.commands.count { if case .resize = $0 { true } else { false } }
    }

    @Test func manyAppendsCostFewCommands() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("a.img")
        for i in 0..<1000 {
            #expect(try kernel.write(file, UInt64(i) * 4096, [UInt8](repeating: 1, count: 4096)).error == 0)
            #expect(try kernel.size(file.node) == UInt64(i + 1) * 4096)
            #expect(catalogSize(kernel) >= UInt64(i + 1) * 4096)
        }
        #expect(resizes(kernel) < 10)
        #expect(try kernel.fsync(file) == 0)
        #expect(catalogSize(kernel) == 4_096_000)
    }
    @Test func afterAFlushGrowthIsExactAgain() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("a.img")
        for i in 0..<30 {
            _ = try kernel.write(file, UInt64(i) * 4096, [UInt8](repeating: 1, count: 4096))
            #expect(try kernel.fsync(file) == 0)
            #expect(catalogSize(kernel) == UInt64(i + 1) * 4096)
        }
        #expect(resizes(kernel) == 30)
    }
    @Test func theLastCloseMakesTheSizeExact() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("a.img")
        for i in 0..<30 { _ = try kernel.write(file, UInt64(i) * 4096, [UInt8](repeating: 1, count: 4096)) }
        #expect(catalogSize(kernel) > 30 * 4096)
        try kernel.release(file)
        #expect(catalogSize(kernel) == 30 * 4096)
        #expect(kernel.uses.existing(VolumeId(1)) == nil)
    }
    @Test func aSnapshotHasTheTrueSize() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("a.img")
        for i in 0..<30 { _ = try kernel.write(file, UInt64(i) * 4096, [UInt8](repeating: 1, count: 4096)) }
        let link = try kernel.ask(.link) { FakeKernel.linkBody(file.node, "a@t.img", &$0) }
        #expect(link.error == 0 && link.entrySize == 30 * 4096)
    }
    @Test func aFailedExtendingWriteLeavesTheSize() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("a.img")
        _ = try kernel.write(file, 0, [1, 2, 3])
        kernel.volumes.nextWriteError = .noSpace
        #expect(try kernel.write(file, 100, [1]).error == Errno.noSpace.code)
        #expect(try kernel.size(file.node) == 3)
        #expect(try kernel.fsync(file) == 0)
        #expect(catalogSize(kernel) == 3)
    }
    @Test func concurrentExtendingWritesAllSucceed() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("a.img")
        let ids = (0..<16).reversed().map { i in
            kernel.send(.write, node: file.node, drains: false) {
                FakeKernel.writeBody(file.handle, UInt64(i) * 4096, [UInt8](repeating: UInt8(i), count: 4096), &$0)
            }
        }
        kernel.world.drain()
        for id in ids { #expect(kernel.answer(id)?.error == 0) }
        #expect(try kernel.size(file.node) == 16 * 4096)
        #expect(try kernel.read(file, 5 * 4096, 1) == [5])
        #expect(resizes(kernel) <= 2)
    }
    @Test func truncateWaitsForExtendingWrites() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("a.img")
        let write = kernel.send(.write, node: file.node, drains: false) {
            FakeKernel.writeBody(file.handle, 8192, [1], &$0)
        }
        let truncate = kernel.send(.setattr, node: file.node, drains: false) { body in
            body.write(UInt64(8))
            body.write(UInt64(0))
            body.write(UInt64(10))
            body.writeRaw([UInt8](repeating: 0, count: 64))
        }
        kernel.world.drain()
        #expect(kernel.answer(write)?.error == 0 && kernel.answer(truncate)?.error == 0)
        #expect(try kernel.size(file.node) == 10)
        #expect(catalogSize(kernel) == 10)
    }
    @Test func withoutAnAnswerIOEndsInAnErrorWhenAskedTo() throws {
        let kernel = try FakeKernel("on-unavailable=error")
        let file = try kernel.create("a.img")
        _ = try kernel.write(file, 0, [1])
        let id = kernel.send(.write, node: file.node, drains: false) { FakeKernel.writeBody(file.handle, 0, [2], &$0) }
        kernel.world.queue = []  // the service never answers
        for _ in 0..<30 { kernel.world.advance(milliseconds: 500) }
        #expect(kernel.answer(id)?.error == Errno.inputOutput.code)
    }
    @Test func durableMountsWriteDurably() throws {
        let kernel = try FakeKernel("durability=always")
        let file = try kernel.create("a.img")
        _ = try kernel.write(file, 0, [1])
        #expect(kernel.volumes.durableWrites == 1)
    }
}
