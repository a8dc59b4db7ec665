// Byte ranges: what is joined, cut, refused, waited for, and never waited for in a circle.
import Model
import Testing

@testable import Filesystem

struct LockTableTests {
    private let node = Node.volume(VolumeId(1))
    private func lock(_ owner: UInt64, _ start: UInt64, _ end: UInt64, write: Bool = true, handle: UInt64 = 0)
        -> HeldLock
    {
        HeldLock(
            start: start, end: end, isWrite: write, owner: LockOwner(mount: 1, owner: owner), handle: handle, pid: 1)
    }
    private func held(_ table: LockTable) -> [String] {
        table.locks(ofMount: 1).map { "\($0.1.owner.owner) \($0.1.start)-\($0.1.end) \($0.1.isWrite ? "w" : "r")" }
            .sorted()
    }

    @Test func neighboursJoinAndUnlockCuts() {
        let table = LockTable()
        #expect(table.lock(node, lock(1, 0, 9)) == nil)
        #expect(table.lock(node, lock(1, 10, 19)) == nil)
        #expect(held(table) == ["1 0-19 w"])
        table.unlock(node, owner: LockOwner(mount: 1, owner: 1), start: 5, end: 6)
        #expect(held(table) == ["1 0-4 w", "1 7-19 w"])
        #expect(table.lock(node, lock(1, 0, 8, write: false)) == nil)
        #expect(held(table) == ["1 0-8 r", "1 9-19 w"])
    }
    @Test func readersShareAndWritersDoNot() {
        let table = LockTable()
        #expect(table.lock(node, lock(1, 0, 9, write: false)) == nil)
        #expect(table.lock(node, lock(2, 5, 15, write: false)) == nil)
        #expect(table.lock(node, lock(2, 5, 15)) == .tryAgain)
        #expect(table.test(node, lock(3, 12, 12))?.owner.owner == 2)
        #expect(table.lock(node, lock(3, 16, .max)) == nil)
    }
    @Test func waitersAreServedInOrder() {
        let table = LockTable()
        var order: [Int] = []
        #expect(table.lock(node, lock(1, 0, 0)) == nil)
        for i in 2...4 { table.lockWaiting(node, lock(UInt64(i), 0, 0), unique: UInt64(i)) { _ in order.append(i) } }
        for owner in 1...3 { table.drop(node, owner: LockOwner(mount: 1, owner: UInt64(owner))) }
        #expect(order == [2, 3, 4])
    }
    @Test func aCircleIsRefused() {
        let table = LockTable()
        let other = Node.volume(VolumeId(2))
        #expect(table.lock(node, lock(1, 0, 0)) == nil)
        #expect(table.lock(other, lock(2, 0, 0)) == nil)
        var first: Errno??, second: Errno??
        table.lockWaiting(other, lock(1, 0, 0), unique: 1) { first = .some($0) }
        table.lockWaiting(node, lock(2, 0, 0), unique: 2) { second = .some($0) }
        #expect(first == nil)
        #expect(second == .some(.deadlock))
        table.drop(other, owner: LockOwner(mount: 1, owner: 2))
        #expect(first == .some(nil))
    }
    @Test func anInterruptEndsTheWaitOnly() {
        let table = LockTable()
        #expect(table.lock(node, lock(1, 0, 0)) == nil)
        var answer: Errno??
        table.lockWaiting(node, lock(2, 0, 0), unique: 8) { answer = .some($0) }
        table.interrupt(mount: 1, unique: 6)
        #expect(answer == nil)
        table.interrupt(mount: 1, unique: 8)
        #expect(answer == .some(.interrupted))
        #expect(held(table) == ["1 0-0 w"])
    }
    @Test func theLastCloseDropsWhatWasLockedThroughTheHandle() {
        let table = LockTable()
        #expect(table.lock(node, lock(1, 0, 0, handle: 5)) == nil)
        #expect(table.lock(node, lock(2, 9, 9, handle: 6)) == nil)
        table.drop(node, mount: 1, handle: 5)
        #expect(held(table) == ["2 9-9 w"])
    }
    @Test func nodeNumbersRoundTrip() {
        let root = DirectoryId(9)
        let nodes: [Node] = [
            .directory(root), .directory(.root), .volume(VolumeId(.max)), .snapshot(VolumeId(3), Generation(7)),
            .snapshots(root), .groupSnapshot(root, tagHash: Node.hash(ofTag: "x")), .lineageDirectory(root),
            .lineageVolume(VolumeId(3)), .lineageSnapshot(VolumeId(3), Generation(1 << 28 - 1)), .control,
            .text(.metrics),
        ]
        for node in nodes { #expect(Node(number: node.number(root: root), root: root) == node) }
        #expect(Set(nodes.map { $0.number(root: root) }).count == nodes.count)
        #expect(Node(number: 3, root: root) == nil && Node(number: 7 << 60, root: root) == nil)
    }
    @Test func namesSayWhatTheyAre() {
        #expect(EntryName("vol@t.img") == .snapshot(volume: "vol.img", tag: "t"))
        #expect(EntryName("disk@t") == .snapshot(volume: "disk", tag: "t"))
        #expect(EntryName("vol.img") == .plain("vol.img"))
        for bad in ["@", "@t", "v@", "v@a b", "v@t@u", "a@t.b.img", "v@\u{301}t"] {
            #expect(EntryName(bad) == .invalid)
        }
        #expect(EntryName.isLinkTemporary("CuAb3dEf") && !EntryName.isLinkTemporary("CuAb3dEf.img"))
        #expect(EntryName.writtenTemporary(".vol@tag.img.Xy12ab")?.tag == "tag:Xy12ab")
        #expect(EntryName.writtenTemporary(".vol.img.Xy12ab") == nil)
    }
}
