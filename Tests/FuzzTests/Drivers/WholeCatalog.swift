// A host's catalog, opened from stores whose images and logs were changed: it opens with a consistent state and takes
// commands, or it says what is wrong. Never an older state than all stores had, unless checksums were put right.
import Model
import OrderedCollections
import TestSupport

@testable import Catalog

/// One catalog over disks in memory.
private final class CatalogRun {
    let machine = VirtualMachine(seed: 7)
    let disks: [MemoryDisk]
    let catalog: LocalCatalog

    init(count: Int, files: [[StoreFile: [UInt8]]] = []) {
        disks = (0..<count).map { [machine] _ in machine.makeDisk() }
        for (disk, files) in zip(disks, files) {
            for (file, bytes) in files { disk.replace(file, bytes) }
        }
        catalog = LocalCatalog(
            disks: disks.enumerated().map { (StoreId(UInt64($0.offset) + 1), $0.element) }, clock: machine,
            node: NodeId(1), incarnation: 5)
    }
    /// Nil: it does not end.
    func call<T>(_ body: (@escaping (T) -> Void) -> Void) -> T? {
        var result: T?
        body { result = $0 }
        var steps = 0
        while result == nil, steps < 20_000, machine.step() { steps += 1 }
        return result
    }
    func propose(_ command: CatalogCommand) -> CommandAnswer? {
        call { catalog.propose(command, request: nil, $0) }
    }
    var files: [[StoreFile: [UInt8]]] {
        disks.map { disk in
            var files: [StoreFile: [UInt8]] = [:]
            for file in disk.list(.catalogState) + disk.list(.catalogLog) { files[file] = disk.contents(file) }
            return files
        }
    }
}

/// What two stores hold after some commands.
private struct SampleDisks: Sendable {
    let files: [[StoreFile: [UInt8]]]
    let index: UInt64
    let names: [[StoreFile]]

    static let shared: SampleDisks = {
        let run = CatalogRun(count: 2)
        let attributes = FileAttributes(uid: 0, gid: 0, mode: 0o755, time: 1)
        let made: SheepError?? = run.call {
            run.catalog.create(
                clusterId: SampleCatalog.cluster, settings: Settings(), rootAttributes: attributes, stores: [], $0)
        }
        guard case .some(.none) = made else { fatalError("no sample catalog: \(made as Any)") }
        for command in SampleCatalog.commands {
            switch command {
            // Stores make rings, which take their time.
            case .addStore, .inSync, .storeUp, .storeDown, .setCatalogStores: continue
            default: _ = run.propose(command)
            }
        }
        let files = run.files
        return SampleDisks(
            files: files, index: run.catalog.state.index,
            names: files.map { $0.keys.sorted { "\($0)" < "\($1)" } })
    }()
}

extension FuzzTarget {
    /// Input: changes. Each: store and file (8 bits each), kind (8 bits), and what the kind needs.
    static let catalog = FuzzTarget(
        name: "catalog", summary: "the catalog's images and logs on two stores", maximumBytes: 512,
        seeds: {
            var seeds: [[UInt8]] = [[]]
            for store in UInt8(0)..<2 {
                for file in UInt8(0)..<2 {
                    for kind in UInt8(0)..<7 {
                        seeds.append([store, file, kind] + FuzzInput.patchBytes(60, [0xff, 0xff, 0xff, 0xff]))
                    }
                    for offset in [4, 6, 14, 22, 26, 42, 50, 58] {
                        seeds.append(
                            [store, file, 6] + FuzzInput.patchBytes(offset, [UInt8](repeating: 0xff, count: 8)))
                    }
                }
            }
            return seeds
        }
    ) { input in
        var input = input
        let sample = SampleDisks.shared
        var files = sample.files
        var isForged = false
        var left = 8
        while !input.isAtEnd, left > 0 {
            left -= 1
            let store = Int(input.byte()) % 2
            let names = sample.names[store]
            let name = names[Int(input.byte()) % names.count]
            guard var bytes = files[store][name] else { continue }
            switch input.byte() % 7 {
            case 0: input.patchOnce(&bytes)
            case 1: bytes.removeLast(Int(input.number(UInt32.self)) % (bytes.count + 1))
            case 2: bytes = []
            case 3: bytes = files[1 - store][name] ?? []
            case 4: bytes += input.take(Int(input.byte()))
            case 5:
                files[store][name] = nil
                continue
            default:
                isForged = true
                input.patchOnce(&bytes)
                if case .catalogState = name { sealEnd(&bytes) } else { sealLog(&bytes) }
            }
            files[store][name] = bytes
        }

        let run = CatalogRun(count: 2, files: files)
        defer { run.machine.killProcess() }
        let opened: SheepError?? = run.call { run.catalog.open($0) }
        guard let opened else { return "the opening does not end" }
        if let error = opened {
            return error.what.isEmpty || error.why.isEmpty || error.remedy.isEmpty ? "a refusal without words" : nil
        }
        let state = run.catalog.state
        if let problem = state.inconsistency() { return "an inconsistent state: \(problem)" }
        // Cut at the end, both logs look like a power loss in the middle of their last append.
        let isWhole = files.contains { changed in
            sample.files.contains { $0 == changed }
        }
        if !isForged, isWhole, state.index < sample.index { return "an older state than a store had" }
        guard let answer = run.propose(SampleCatalog.volume("new.img")) else { return "a command is not answered" }
        if case .refused(let error) = answer, error.what.isEmpty { return "a refusal without words" }
        // What was answered is there at the next start.
        let next = CatalogRun(count: 2, files: run.files)
        defer { next.machine.killProcess() }
        let again: SheepError?? = next.call { next.catalog.open($0) }
        guard case .some(.none) = again else { return "it does not open again: \(again as Any)" }
        guard next.catalog.state.names[DirectoryEntryKey(.root, "new.img")] != nil else {
            if case .volume = answer { return "an answered command is gone" }
            return nil
        }
        return nil
    }

    /// Makes headers' checksums and the chain of hashes right, from an image's hash that nobody knows here: the first
    /// entry keeps its own.
    private static func sealLog(_ log: inout [UInt8]) {
        guard log.count >= CatalogFormat.headerBytes else { return }
        log.put(crc32c(Array(log[..<(CatalogFormat.headerBytes - 4)])), at: CatalogFormat.headerBytes - 4)
    }
}
