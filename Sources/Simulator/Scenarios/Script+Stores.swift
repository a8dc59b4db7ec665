// What stores have in a scenario, and what the cluster map says of them.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

extension Script {
    func objectsOf(_ copy: Copy) -> [ObjectId] {
        copy.objects.volumes().flatMap { copy.objects.objects(of: $0).map(\.object) }
    }
    /// The stores of a host in the newest map.
    func stores(_ number: Int) -> [StoreRecord] {
        state?.map.stores.filter { $0.node == host(number).id } ?? []
    }
    func expectStatus(_ number: Int, _ status: StoreStatus, within seconds: UInt64 = 60) {
        wait("the store of host \(number) is \(status)", seconds: seconds) {
            !stores(number).isEmpty && stores(number).allSatisfy { $0.status == status }
        }
    }
    /// Every store that is up has all that it should have, and nobody has anything left to do.
    var isRedundant: Bool {
        guard let map = state?.map, !running.isEmpty else { return false }
        let stores = map.stores.allSatisfy { store in
            guard let host = world.hosts.first(where: { $0.id == store.node }), host.isRunning else {
                return store.status == .out
            }
            return store.status == .up && map.missingRanges(of: store.id).isEmpty && isKnown(store)
        }
        return stores && running.allSatisfy { $0.isAtRest && $0.state?.map.epoch == map.epoch }
    }
    /// The map knows the session that the store has now.
    private func isKnown(_ store: StoreRecord) -> Bool {
        guard let cluster = world.cluster else { return true }
        return cluster.hosts.contains { host in
            host.node?.node.stores.contains { $0.id == store.id && $0.session == store.session } ?? false
        }
    }
    func expectRedundancy(within seconds: UInt64 = 120) {
        wait("redundancy is whole", seconds: seconds) { isRedundant }
    }
    /// Bytes that were copied from store to store by processes that are there now.
    var bytesMoved: UInt64 {
        world.cluster?.hosts.reduce(0) { $0 + ($1.node?.node.gateway.bytesPulled ?? 0) } ?? 0
    }
    /// The copies of an object, by store.
    func copies(of name: String = "vm", object index: UInt32 = 0) -> [(copy: Copy, entry: CopyEntry)] {
        let object = ObjectId(volume(name).id, index)
        return world.hosts.flatMap(\.copies).sorted { $0.store < $1.store }.compactMap { copy in
            copy.objects.entry(object).map { (copy, $0) }
        }
    }
    /// What the administrator is told on that host.
    func tellReport(_ number: Int) {
        guard isGoing, let report = host(number).administration?.report() else { return }
        for line in report.problems + report.risks { tell("host \(number) reports: \(line)") }
        if report.statistics.readRepairs > 0 {
            tell("host \(number) reports: \(report.statistics.readRepairs) blocks repaired when they were read")
        }
    }
}

extension Script {
    /// Waits for the moment at which some copies of the object have a write, and others do not.
    func waitUntilCopiesDiffer(of name: String = "vm", object: UInt32 = 0, _ count: Int = 3) {
        waitSilently("a write is on some copies only", seconds: 10) {
            let copies = copies(of: name, object: object)
            return !copies.isEmpty && (copies.count < count || Set(copies.map(\.entry.version)).count > 1)
        }
        guard isGoing else { return }
        let newest = copies(of: name, object: object).map(\.entry.version).max()
        let having = copies(of: name, object: object).filter { $0.entry.version == newest }.map(\.copy.store)
        tell("only store \(having.map(\.description).joined(separator: " and ")) has it")
    }
}

extension Script {
    /// From here on it is counted what moves from store to store.
    func countMoved() { movedBefore = bytesMoved }
    func expectMoved(atMostChunks limit: UInt64) {
        guard isGoing else { return }
        let moved = bytesMoved - min(bytesMoved, movedBefore)
        expect(moved > 0 && moved <= limit * UInt64(chunkSize), "no more than \(limit) chunks move, not \(moved) bytes")
        tell("\(moved >> 10) KiB have moved")
    }
    /// All copies that are there of a volume's first object have the same version, and are complete.
    func expectEqualCopies(of name: String = "vm") {
        guard isGoing else { return }
        let copies = copies(of: name)
        expect(Set(copies.map(\.entry.version)).count == 1, "the copies are equal: \(copies.map(\.entry.version))")
        expect(copies.allSatisfy { $0.entry.state == .complete }, "the copies are complete")
        tell("\(copies.count) copies are equal")
    }
}
