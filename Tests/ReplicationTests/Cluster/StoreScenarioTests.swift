// Stores that go and come back, and nodes: what moves, what is kept, and who decides.
import Catalog
import Model
import ObjectStore
import OrderedCollections

import TestSupport
import Testing

@testable import Replication

@Suite struct StoreScenarioTests {
    @Test func aStoreThatMissedWritesGetsOnlyThem() {
        let world = HostsWorld()
        let volume = world.makeVolume()
        for i in 0..<4 { #expect(world.write(volume, 5, at: UInt64(i) << 22, count: 1 << 20, on: 1) == nil) }
        world.runUntilWell()
        world.kill(world.host(3))
        #expect(world.write(volume, 9, at: 8192, count: 4096, on: 1) == nil)
        let before = world.nodes.reduce(0) { $0 + $1.node.gateway.bytesPulled }
        world.start(world.host(3))
        world.runUntilWell()
        let moved = world.nodes.reduce(0) { $0 + $1.node.gateway.bytesPulled } - before
        #expect(moved > 0 && moved <= 2 * UInt64(chunkSize))
        for i in 0..<4 {
            let copies = world.copies(of: ObjectId(volume, UInt32(i)))
            #expect(copies.count == 3)
            #expect(Set(copies.map(\.version)).count == 1)
            #expect(copies.allSatisfy { $0.state == .complete })
        }
        // Also by that store alone.
        world.kill(world.host(1))
        #expect(world.read(.current(volume), at: 8192, count: 4096, on: 3) == 9)
    }

    @Test func recoveryAfterAHostIsOut() {
        let world = HostsWorld(hosts: 5) { $0.downOutIntervalMilliseconds = 8_000 }
        let volume = world.makeVolume()
        for i in 0..<6 { #expect(world.write(volume, UInt8(i + 1), at: UInt64(i) << 22, on: 1 + i % 3) == nil) }
        world.kill(world.host(2))
        world.run("it is out") { world.status(world.host(2), seenBy: 1) == .out }
        #expect(world.write(volume, 77, at: 1 << 22, on: 3) == nil)
        let rest = [1, 3, 4, 5].map { world.node($0) }
        world.run("made anew", seconds: 300) {
            rest.allSatisfy { node in
                let map = node.catalog.state.map
                return map.to == nil && node.isQuiet
                    && map.stores.allSatisfy { $0.status == .out || map.missingRanges(of: $0.id).isEmpty }
            }
        }
        for i in 0..<6 {
            let copies = world.copies(of: ObjectId(volume, UInt32(i)))
            #expect(copies.count == 3)
            #expect(Set(copies.map(\.version)).count == 1)
        }
        // Another one may go now.
        world.kill(world.host(1))
        #expect(world.read(.current(volume), at: 1 << 22, on: 4) == 77)
        #expect(world.read(.current(volume), at: 4 << 22, on: 3) == 5)
        #expect(world.write(volume, 78, on: 3) == nil)
    }

    @Test func copiesThatNobodyNeedsGo() {
        let world = HostsWorld(hosts: 4) { $0.downOutIntervalMilliseconds = 6_000 }
        let volume = world.makeVolume()
        for i in 0..<8 { #expect(world.write(volume, 1, at: UInt64(i) << 22, on: 1) == nil) }
        world.kill(world.host(4))
        world.run("it is out") { world.status(world.host(4), seenBy: 1) == .out }
        world.pass(milliseconds: 20_000)
        world.start(world.host(4))
        world.runUntilWell(seconds: 400)
        world.pass(milliseconds: 5_000)
        for i in 0..<8 { #expect(world.copies(of: ObjectId(volume, UInt32(i))).count == 3) }
    }

    @Test func allLosePowerAndWhatWasFlushedIsThere() {
        for seed in 1...4 as ClosedRange<UInt64> {
            let world = HostsWorld(seed: seed)
            let volume = world.makeVolume()
            #expect(world.write(volume, 7, on: 1) == nil)
            #expect(world.write(volume, 6, at: 4 << 20, on: 2) == nil)
            #expect(world.flush(volume, on: 2) == nil)
            world.node(1).volumes.write(
                volume, offset: 0, count: 8192, from: world.fill(9, 8192), bufferOffset: 0, durable: false
            ) { _ in }
            for _ in 0..<Int(seed) * 10 { _ = world.step() }
            for host in world.hosts { world.losePower(host) }
            for host in world.hosts { world.start(host) }
            let first = world.read(.current(volume), count: 4096, on: 3)
            #expect(first == 7 || first == 9)
            #expect(world.read(.current(volume), count: 4096, on: 1) == first)
            #expect(world.read(.current(volume), at: 4 << 20, on: 2) == 6)
            world.runUntilWell()
            #expect(world.read(.current(volume), count: 4096, on: 2) == first)
        }
    }

    /// One host is back before the others: it takes the volume while its own store is in question, so that nothing that it
    /// has counts. When all are back and all were in question, all count, and it must be looked again, whoever asks.
    @Test(arguments: [0, 20, 100, 300, 600, 1_000, 2_000, 4_000] as [UInt64])
    func whoWasHeardInQuestionIsHeardAgainWhenAllAreBack(milliseconds: UInt64) {
        let world = HostsWorld()
        let volume = world.makeVolume()
        for i in 0..<3 { #expect(world.write(volume, 7, at: UInt64(i) << 22, on: 3) == nil) }
        #expect(world.flush(volume, on: 3) == nil)
        for host in world.hosts { world.losePower(host) }
        world.start(world.host(1))
        world.pass(milliseconds: milliseconds)
        world.start(world.host(2))
        world.pass(milliseconds: milliseconds / 2)
        world.start(world.host(3))
        // The former lease ends, and somebody takes the volume.
        world.pass(milliseconds: 8_000)
        world.runUntilWell()
        for i in 0..<3 {
            #expect(Set(world.copies(of: ObjectId(volume, UInt32(i))).map(\.version)).count == 1)
            #expect(world.read(.current(volume), at: UInt64(i) << 22, on: 2) == 7)
        }
    }

    /// Its disk fails; the host goes on as a gateway, through the copies of the others.
    @Test func aHostWhoseDiskFailsGoesOn() {
        let world = HostsWorld()
        let volume = world.makeVolume()
        #expect(world.write(volume, 7, on: 1) == nil)
        world.host(1).disks[0].disk.fault = { operation in
            switch operation {
            // Its log of the catalog is on the same disk, and is read only.
            case .append, .write, .writeDirect, .sync: .inputOutput
            default: nil
            }
        }
        #expect(world.write(volume, 8, on: 1) == nil)
        world.run("down") { world.status(world.host(1), seenBy: 2) == .down }
        #expect(world.read(.current(volume), on: 2) == 8)
    }

    @Test func aNodeJoinsAndVotes() {
        let world = HostsWorld(hosts: 3, joining: 1)
        let volume = world.makeVolume()
        for i in 0..<6 { #expect(world.write(volume, UInt8(i + 1), at: UInt64(i) << 22, on: 1) == nil) }
        let joiner = world.host(4)
        let stores = world.prepareToJoin(joiner)
        world.start(joiner)
        world.run("it has the catalog") {
            world.node(4).catalog.isActive && world.node(4).catalog.state.volumes.count == 1
        }
        world.run("it votes") { world.node(1).catalog.record.voters.count == 4 }
        for store in stores {
            let answer: CommandAnswer? = world.answer("add") {
                world.node(4).catalog.propose(.addStore(store), request: nil, $0)
            }
            #expect(answer == .done)
        }
        world.runUntilWell(seconds: 400)
        #expect(world.read(.current(volume), at: 3 << 22, on: 4) == 4)
        #expect(world.node(4).node.stores[0].copy.objects.copyCount > 0)
        #expect(world.write(volume, 9, on: 4) == nil)
        #expect(world.read(.current(volume), on: 1) == 9)
    }

    @Test func aNodeLeaves() {
        let world = HostsWorld(hosts: 4)
        let volume = world.makeVolume()
        for i in 0..<6 { #expect(world.write(volume, UInt8(i + 1), at: UInt64(i) << 22, on: 4) == nil) }
        let error: SheepError?? = world.answer("leave", seconds: 600) { world.node(4).leave($0) }
        #expect(error == .some(.none))
        #expect(world.node(1).catalog.state.map.stores.count == 3)
        #expect(world.node(1).catalog.record.voters.map(\.node) == [NodeId(1), NodeId(2), NodeId(3)])
        world.kill(world.host(4))
        for i in 0..<6 { #expect(world.read(.current(volume), at: UInt64(i) << 22, on: 1) == UInt8(i + 1)) }
        #expect(world.write(volume, 9, on: 2) == nil)
    }

    @Test func aNodeThatShutsDownLeavesNothingToWaitFor() {
        let world = HostsWorld()
        let volume = world.makeVolume()
        #expect(world.write(volume, 7, on: 1) == nil)
        var isDone = false
        world.node(1).shutDown { isDone = true }
        world.run("shut down") { isDone }
        #expect(world.node(2).catalog.state.volumes[volume]!.lease == nil)
        world.kill(world.host(1))
        let before = world.machine.nanoseconds
        #expect(world.read(.current(volume), on: 2) == 7)
        #expect(world.machine.nanoseconds - before < 2_000_000_000)
        world.start(world.host(1))
        world.runUntilWell()
    }

    @Test func rotIsFoundByTheHolderAndMended() {
        let world = HostsWorld()
        let volume = world.makeVolume()
        #expect(world.write(volume, 7, on: 1) == nil)
        world.runUntilWell()
        let report: CheckReport? = world.answer("check") { completion in
            world.node(3).node.check(volume, repair: true, progress: { _, _ in }) { result in
                if case .success(let report) = result { completion(report) }
            }
        }
        #expect(report?.objects == 1)
        #expect(report?.copies == 3)
        #expect(report?.copiesDifferent == 0)
    }

    @Test func moreCopiesAreMadeByTheHolder() {
        let world = HostsWorld(hosts: 3) { $0.copies = 3 }
        let result: CommandAnswer? = world.answer("create") {
            world.node(1).catalog.propose(
                .createVolume(
                    directory: .root, name: "few", size: 64 << 20, copies: 1,
                    attributes: FileAttributes(uid: 0, gid: 0, mode: 0o644, time: 0)), request: nil, $0)
        }
        guard case .volume(let volume)? = result else { return #expect(Bool(false)) }
        for i in 0..<4 { #expect(world.write(volume, 3, at: UInt64(i) << 22, on: 2) == nil) }
        #expect(world.copies(of: ObjectId(volume, 0)).count == 1)
        let answer: CommandAnswer? = world.answer("more") {
            world.node(3).catalog.propose(.setVolumeCopies(volume, copies: 3), request: nil, $0)
        }
        #expect(answer == .done)
        world.run("they are there") { world.node(1).catalog.state.volumes[volume]?.copies == 3 }
        for i in 0..<4 { #expect(world.copies(of: ObjectId(volume, UInt32(i))).count == 3) }
    }

    /// Both hosts with copies of an object are gone, and with them the only ones who know that there is one: others are not
    /// complete for what nobody can say. What was written is there when the two come back.
    @Test func nobodyIsInSyncForWhatOnlyThoseWhoAreAwayCanSay() throws {
        for seed in 1...2 as ClosedRange<UInt64> {
            let world = HostsWorld(seed: seed, hosts: 5) {
                $0.copies = 2
                $0.downOutIntervalMilliseconds = 6_000
            }
            let volume = world.makeVolume()
            let map = world.node(1).catalog.state.map
            let pair = map.targets(of: ObjectId(volume, 0).range, copies: 2).compactMap { map.store($0)?.node }
            #expect(pair.count == 2)
            let away = pair.map { node in world.hosts.first { $0.id == node }! }
            let others = world.hosts.filter { !pair.contains($0.id) }
            let reader = Int(others[0].id.rawValue)
            #expect(world.write(volume, 7, on: Int(pair[0].rawValue)) == nil)
            #expect(world.flush(volume, on: Int(pair[0].rawValue)) == nil)
            for host in away { world.kill(host) }
            world.run("they are out") { away.allSatisfy { world.status($0, seenBy: reader) == .out } }
            // It is taken, and the others look what they lack.
            world.pass(milliseconds: 30_000)
            let buffer = world.pool.buffer(8192)
            var result: Errno??
            world.node(reader).volumes.read(
                .current(volume), offset: 0, count: 8192, into: buffer, bufferOffset: 0
            ) { result = .some($0) }
            world.pass(milliseconds: 10_000)
            if case .some(.none) = result { #expect(world.content(buffer, 8192) == 7) }
            for host in away { world.start(host) }
            world.runUntilWell(seconds: 400)
            #expect(world.read(.current(volume), on: reader) == 7)
        }
    }

    /// The generations that a rollback hides go on every host, whether its gateway knows the volume or not.
    @Test func whatARollbackHidesIsPrunedOnAllHosts() {
        let world = HostsWorld()
        let volume = world.makeVolume()
        #expect(world.write(volume, 7, on: 1) == nil)
        var answer: CommandAnswer? = world.answer("snapshot") {
            world.node(1).volumes.snapshot([volume], tag: "a", group: nil, replaceExisting: false, request: nil, $0)
        }
        #expect(world.write(volume, 8, on: 1) == nil)
        answer = world.answer("rollback") { world.node(1).volumes.rollback(volume, tag: "a", request: nil, $0) }
        #expect(answer == .done)
        world.run("pruned") {
            world.nodes.allSatisfy { node in
                node.node.stores.allSatisfy { store in
                    let entry = store.copy.objects.entry(ObjectId(volume, 0))
                    return entry?.generations.contains { $0.generation == Generation(2) } != true
                }
            }
        }
        #expect(world.read(.current(volume), on: 2) == 7)
    }
}
