// What administrators do in a scenario with nodes and stores: joining, leaving, replacing, accepting a loss.
import Catalog
import Model
import ObjectStore
import OrderedCollections
import Replication

extension Script {
    /// Hosts that have the copies of an object, in the order of the ring.
    func homes(of name: String = "vm", object index: UInt32 = 0) -> [Int] {
        guard let state, let volume = state.volumes[volume(name).id] else { return [] }
        let stores = state.map.targets(of: ObjectId(volume.id, index).range, copies: volume.targetCopies)
        return stores.compactMap { store in state.map.store(store).map { Int($0.node.rawValue) } }
    }
    func another(than numbers: Int...) -> Int {
        (1...world.hosts.count).first { !numbers.contains($0) && host($0).service != nil } ?? 1
    }
    func expectNoService(_ number: Int) {
        expect(host(number).isRunning && host(number).service == nil, "host \(number) runs and serves nobody")
        tell("host \(number) serves nobody")
        if isGoing, let waits = node(number)?.waitsFor { tell("host \(number) reports: \(waits)") }
    }

    /// Asks that host as an administrator, and waits until that is done.
    private func administer(
        _ text: String, on number: Int, seconds: UInt64 = 60,
        _ ask: @escaping (any NodeAdministration, @escaping (SheepError?) -> Void) -> Void
    ) {
        guard isGoing else { return }
        let host = host(number)
        var result: SheepError??
        host.enter {
            guard let administration = host.administration else { return }
            ask(administration) { result = .some($0) }
        }
        waitSilently(text, seconds: seconds) { result != nil }
        guard isGoing else { return }
        if case .some(.some(let error)) = result { return fail("\(text): \(error.why)") }
        tell("host \(number): \(text) is done")
    }
    func acceptLoss(of stores: [StoreId], on number: Int) {
        administer("the loss of \(stores.count) stores is accepted, which", on: number) { $0.acceptLoss(stores, $1) }
    }
    /// A new disk takes the place of one.
    func replaceStore(_ number: Int, _ at: Int) {
        guard isGoing, let record = stores(number).first(where: { $0.path == "/disk\(at)" }) else { return }
        host(number).addDisk(path: "/new\(at)")
        administer("replacing a store by a new disk", on: number, seconds: 300) { administration, done in
            administration.replaceStore(record.id, path: "/new\(at)") { result in
                if case .failure(let error) = result { done(error) } else { done(nil) }
            }
        }
    }

    /// A host that is no member, with empty disks, becomes one.
    func join(_ number: Int) {
        guard isGoing, let cluster = world.cluster else { return }
        let host = cluster.hosts[number - 1]
        var made: [StoreDescription]?
        cluster.prepare(host) { made = $0 }
        waitSilently("host \(number) is prepared") { made != nil }
        guard isGoing, let made else { return }
        tell("host \(number) joins")
        host.boot()
        expectServes(number)
        for store in made {
            let change =
                send("adding a store", on: number) { _, id, answer in
                    guard let catalog = host.node?.catalog else { return }
                    catalog.propose(.addStore(store), request: id, answer)
                } _: { _ in
                }
            waitSilently("a store is added") { change.answer != nil }
        }
    }
    /// The host gives its data to others and leaves; something else happens meanwhile.
    func leave(_ number: Int, while meanwhile: () -> Void) {
        guard isGoing, let node = node(number) else { return }
        tell("host \(number) is told to leave")
        var result: SheepError??
        host(number).enter { node.leave { result = .some($0) } }
        meanwhile()
        waitSilently("host \(number) has left", seconds: 600) { result != nil }
        expect(result == .some(.none), "host \(number) may leave")
        tell("host \(number) has left")
    }
}
