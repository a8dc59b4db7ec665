// A process that is killed, and the one after it: requests that come again have one outcome, handles, locks and true
// sizes go on.
import Catalog
import Fuse
import Model
import OrderedCollections
import Testing

@testable import Filesystem

struct TakeoverTests {
    @Test func aSnapshotThatWasCommittedIsNotTakenTwice() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("vol.img")
        _ = try kernel.write(file, 0, [1, 2, 3])
        // The command is committed, the answer never leaves the process.
        let id = kernel.send(.link, drains: false) { FakeKernel.linkBody(file.node, "vol@t.img", &$0) }
        let commit = kernel.world.queue
        kernel.world.queue = []
        commit.forEach { $0() }
        try kernel.killAndResume()
        let count = kernel.volumes.commands.count
        kernel.send(.link, resend: id) { FakeKernel.linkBody(file.node, "vol@t.img", &$0) }
        let again = try #require(kernel.answer(id))
        #expect(again.error == 0)
        #expect(try kernel.lookup("vol@t.img").node == again.node)
        #expect(kernel.volumes.commands.count == count)
    }

    @Test(arguments: [FuseOpcode.unlink, .rmdir, .mkdir, .create, .rename])
    func aNameThatWasChangedIsAnsweredAsTheFirstTime(_ opcode: FuseOpcode) throws {
        let kernel = try FakeKernel()
        try kernel.release(try kernel.create("vol.img"))
        if opcode == .rmdir {
            _ = try kernel.ask(.mkdir) { body in
                body.write(UInt64(0o755))
                FakeKernel.name("d", &body)
            }
        }
        func body(_ writer: inout ByteWriter) {
            switch opcode {
            case .unlink: FakeKernel.name("vol.img", &writer)
            case .rmdir: FakeKernel.name("d", &writer)
            case .mkdir:
                writer.write(UInt64(0o755))
                FakeKernel.name("e", &writer)
            case .create: FakeKernel.createBody("new.img", &writer)
            default:
                writer.write(UInt64(1))
                FakeKernel.name("vol.img", &writer)
                FakeKernel.name("moved.img", &writer)
            }
        }
        let id = kernel.send(opcode, drains: false, body)
        let commit = kernel.world.queue
        kernel.world.queue = []
        commit.forEach { $0() }
        try kernel.killAndResume()
        kernel.send(opcode, resend: id, body)
        #expect(kernel.answer(id)?.error == 0)
    }

    @Test func openFilesAndLocksGoOn() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("vol.img")
        _ = try kernel.write(file, 0, Array("hello".utf8))
        func lock(owner: UInt64, _ opcode: FuseOpcode) throws -> Int32 {
            try kernel.ask(opcode, node: file.node) { body in
                body.write(file.handle)
                body.write(owner)
                body.write(UInt64(100))
                body.write(UInt64(100))
                body.write(UInt32(1))
                body.write(UInt32(5))
                body.write(UInt64(0))
            }.error
        }
        #expect(try lock(owner: 1, .setlk) == 0)
        try kernel.killAndResume()
        #expect(try lock(owner: 2, .setlk) == Errno.tryAgain.code)
        #expect(try kernel.read(file, 1, 3) == Array("ell".utf8))
        // Still open: not to be removed before it is closed.
        kernel.send(.unlink) { FakeKernel.name("vol.img", &$0) }
        kernel.world.advance(milliseconds: 100)
        #expect(try kernel.lookup("vol.img").error == 0)
        try kernel.release(file)
        #expect(try kernel.unlink("vol.img") == 0)
    }

    @Test func aHandleThatNobodyKeptIsMadeAnewFromItsNode() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("vol.img")
        _ = try kernel.write(file, 0, Array("hello".utf8))
        let other = (node: file.node, handle: UInt64(77) << 32 | 5)
        #expect(try kernel.read(other, 0, 5) == Array("hello".utf8))
        try kernel.release(other)
        try kernel.release(file)
        #expect(try kernel.unlink("vol.img") == 0)
    }

    @Test func theTrueEndOfAFileThatIsAppendedToSurvives() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("log.img")
        for i in 0..<20 {
            #expect(try kernel.write(file, UInt64(i) * 100, [UInt8](repeating: 1, count: 100)).error == 0)
        }
        let id = try #require(kernel.volumes.catalog.state.volumes.keys.first)
        #expect(kernel.volumes.catalog.state.volumes[id]!.size > 2000)
        try kernel.killAndResume()
        #expect(try kernel.size(file.node) == 2000)
        #expect(try kernel.fsync(file) == 0)
        #expect(kernel.volumes.catalog.state.volumes[id]!.size == 2000)
    }

    enum Growing: CaseIterable {
        case write, writeWithinReserve, writeBeyondReserve, truncateUp, truncateIntoReserve, truncateToReserve
        case truncateDown, allocate, flush

        /// Appends before it: the first four ask for exactly what they need.
        var appends: Int {
            switch self {
            case .write, .truncateUp, .allocate: 2
            default: 20
            }
        }
        /// `catalog`: the size of the catalog, `size`: the true one before.
        func newSize(_ size: UInt64, _ catalog: UInt64) -> UInt64 {
            switch self {
            case .write, .writeWithinReserve: size + 100
            case .writeBeyondReserve: catalog + 100
            case .truncateUp, .allocate: catalog + 5000
            case .truncateIntoReserve: (size + catalog) / 2
            case .truncateToReserve: catalog
            case .truncateDown: 150
            case .flush: size
            }
        }
    }
    /// Whatever a file's size was when somebody was told, it has after the process was killed at any moment.
    @Test(arguments: Growing.allCases) func anAnsweredSizeSurvivesAKillAtEveryStep(_ way: Growing) throws {
        var steps = 0
        var isComplete = false
        while !isComplete {
            let kernel = try FakeKernel()
            let file = try kernel.create("log.img")
            for i in 0..<way.appends {
                #expect(try kernel.write(file, UInt64(i) * 100, [UInt8](repeating: 1, count: 100)).error == 0)
            }
            let old = try kernel.size(file.node)
            let catalog = kernel.volumes.catalog.state.volumes.values.first!.size
            let new = way.newSize(old, catalog)
            func request(resend: UInt64? = nil) -> UInt64 {
                let drains = resend != nil
                return switch way {
                case .write, .writeWithinReserve, .writeBeyondReserve:
                    kernel.send(.write, node: file.node, resend: resend, drains: drains) {
                        FakeKernel.writeBody(file.handle, new - 100, [UInt8](repeating: 2, count: 100), &$0)
                    }
                case .truncateUp, .truncateIntoReserve, .truncateToReserve, .truncateDown:
                    kernel.send(.setattr, node: file.node, resend: resend, drains: drains) { body in
                        body.write(UInt64(8))
                        body.write(UInt64(0))
                        body.write(new)
                        body.writeRaw([UInt8](repeating: 0, count: 64))
                    }
                case .allocate:
                    kernel.send(.fallocate, node: file.node, resend: resend, drains: drains) { body in
                        for field in [file.handle, 0, new, 0] { body.write(UInt64(field)) }
                    }
                case .flush:
                    kernel.send(.fsync, node: file.node, resend: resend, drains: drains) { body in
                        body.write(file.handle)
                        body.write(UInt64(0))
                    }
                }
            }
            let id = request()
            var done = 0
            while done < steps, kernel.world.step() { done += 1 }
            isComplete = done < steps
            let isAnswered = kernel.answer(id) != nil
            try kernel.killAndResume()
            if !isAnswered { #expect(kernel.answer(request(resend: id))?.error == 0) }
            #expect(try kernel.size(file.node) == new, "\(way), killed after \(done) steps, answered: \(isAnswered)")
            try kernel.killAndResume()
            #expect(try kernel.size(file.node) == new, "\(way), killed after \(done) steps and again")
            #expect(try kernel.fsync(file) == 0)
            #expect(kernel.volumes.catalog.state.volumes.values.first!.size == new)
            steps += 1
        }
        #expect(steps > 1)
    }
    /// The administrator asks beside the mount: the size it sets counts, also where the catalog's was already that.
    @Test(arguments: [false, true]) func aSizeThatSomebodyElseSetsCounts(_ isKilled: Bool) throws {
        for ahead in [UInt64(0), 12345] {
            let kernel = try FakeKernel()
            let file = try kernel.create("log.img")
            for i in 0..<20 { _ = try kernel.write(file, UInt64(i) * 100, [UInt8](repeating: 1, count: 100)) }
            let id = try #require(kernel.volumes.catalog.state.volumes.keys.first)
            let target = kernel.volumes.catalog.state.volumes[id]!.size + ahead
            var isDone = false
            kernel.uses.settle([id]) { error in
                #expect(error == nil)
                #expect(kernel.volumes.catalog.state.volumes[id]!.size == 2000)
                kernel.volumes.resize(id, size: target, request: nil) { _ in isDone = true }
            }
            while !isDone { #expect(kernel.world.step()) }
            if isKilled { try kernel.killAndResume() }
            #expect(try kernel.size(file.node) == target)
            #expect(try kernel.fsync(file) == 0)
            #expect(try kernel.size(file.node) == target)
        }
    }

    /// A reservation waits for the keeper; the mount goes before the batch ends.
    @Test func aChangeThatWaitsForTheKeeperOfAMountThatGoesIsMade() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("log.img")
        for i in 0..<VolumeUse.exactGrowths {
            _ = try kernel.write(file, UInt64(i) * 100, [UInt8](repeating: 1, count: 100))
        }
        kernel.send(.write, node: file.node, drains: false) {
            FakeKernel.writeBody(file.handle, 400, [UInt8](repeating: 2, count: 100), &$0)
        }
        kernel.world.batchHooks = []  // nobody serves this mount any more
        kernel.filesystem.close()
        kernel.world.drain()
        // The last close made the size exact.
        #expect(kernel.volumes.catalog.state.volumes.values.first!.size == 500)
        #expect(kernel.uses.existing(VolumeId(1)) == nil)
    }

    @Test func aFileWhoseLastCloseWasLostGetsItsTrueSize() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("log.img")
        for i in 0..<20 { _ = try kernel.write(file, UInt64(i) * 100, [UInt8](repeating: 1, count: 100)) }
        func body(_ writer: inout ByteWriter) { for field in [file.handle, 0, 0] { writer.write(UInt64(field)) } }
        let id = kernel.send(.release, node: file.node, drains: false, body)
        try kernel.killAndResume()
        #expect(kernel.answer(id) == nil)
        kernel.send(.release, node: file.node, resend: id, body)
        #expect(kernel.answer(id)?.error == 0)
        #expect(kernel.filesystem.openFileCount == 0)
        #expect(kernel.volumes.catalog.state.volumes.values.first!.size == 2000)
    }

    @Test func aCloneByCopyGoesOnAfterACrashBetweenItsSteps() throws {
        let kernel = try FakeKernel()
        let source = try kernel.create("vol.img")
        _ = try kernel.write(source, 0, Array("hello".utf8))
        let link = try kernel.ask(.link) { FakeKernel.linkBody(source.node, "vol@t.img", &$0) }
        let opened = try kernel.ask(.open, node: link.node) { $0.write(UInt64(0)) }
        let target = try kernel.create("new.img")
        func body(_ writer: inout ByteWriter) {
            for field in [opened.u64(0), 0, target.node, target.handle, 0, 1 << 40, 0] { writer.write(UInt64(field)) }
        }
        let id = kernel.send(.copyFileRange64, node: link.node, drains: false, body)
        let first = kernel.world.queue
        kernel.world.queue = []
        first.forEach { $0() }
        try kernel.killAndResume()
        kernel.send(.copyFileRange64, node: link.node, resend: id, body)
        #expect(kernel.answer(id)?.u64(0) == 5)
        #expect(try kernel.read(target, 0, 10) == Array("hello".utf8))
        let entry = try kernel.lookup("new.img")
        #expect(entry.error == 0 && entry.entrySize == 5 && entry.node != target.node)
        #expect(kernel.volumes.catalog.state.volumes.count == 2)
        try kernel.release(target)
        #expect(try kernel.unlink("new.img") == 0)
    }

    @Test func garbageInTheKeepersStateIsRefused() throws {
        let kernel = try FakeKernel()
        let file = try kernel.create("vol.img")
        let state = kernel.filesystem.exportState()
        for length in 0..<state.count {
            #expect(throws: DecodeError.self) { try kernel.filesystem.importState(Array(state[..<length])) }
        }
        try kernel.release(file)
    }
}
