// A store's disk in memory that can lose power in the middle of any operation, fail, and lose or damage files.
// Operations complete only when the event loop runs them; a write that has not completed may be torn anywhere.
import Model

/// Runs what was submitted or is due, one after another.
final class EventLoop: Clock {
    private var queue: [() -> Void] = []
    var now: Instant { Instant(nanoseconds: 0) }
    var wallClock: UInt64 { 0 }
    /// After so many bytes are written on all disks together, power is lost.
    var bytesUntilPowerLoss: Int?
    private(set) var isPowerLost = false
    func after(milliseconds: UInt64, _ action: @escaping () -> Void) { queue.append(action) }
    func enqueue(_ action: @escaping () -> Void) { queue.append(action) }
    func run() {
        while !queue.isEmpty && !isPowerLost { queue.removeFirst()() }
    }
    /// How many of `count` bytes still reach the disk.
    func spend(_ count: Int) -> Int {
        guard let left = bytesUntilPowerLoss else { return count }
        if left >= count {
            bytesUntilPowerLoss = left - count
            return count
        }
        bytesUntilPowerLoss = 0
        isPowerLost = true
        return left
    }
}

final class MemoryDisk: Disk {
    var loop: EventLoop
    var files: [StoreFile: [UInt8]]
    /// Every operation fails with this.
    var failure: Errno?
    /// Writes fail once so many more have succeeded.
    var writesUntilFailure: Int?
    var space: DiskSpace { DiskSpace(capacityBytes: 1 << 40, availableBytes: 1 << 40) }
    var maximumBufferedWrite: Int { 65536 }

    init(_ loop: EventLoop, files: [StoreFile: [UInt8]] = [:]) {
        self.loop = loop
        self.files = files
    }

    func submit(_ operation: DiskOperation, _ completion: @escaping (Result<DiskOutcome, Errno>) -> Void) {
        loop.enqueue { [self] in
            let result = perform(operation)
            if !loop.isPowerLost { completion(result) }
        }
    }

    private func perform(_ operation: DiskOperation) -> Result<DiskOutcome, Errno> {
        if let failure { return .failure(failure) }
        switch operation {
        case .list(let kind):
            return .success(.files(files.keys.filter { $0.kind == kind }.sorted { $0.number < $1.number }))
        case .readWhole(let file, let limit):
            guard let contents = files[file] else { return .failure(.noEntry) }
            return contents.count <= limit ? .success(.contents(contents)) : .failure(.fileTooBig)
        case .replace(let file, let contents):
            if mustFail() { return .failure(.inputOutput) }
            if loop.spend(contents.count) == contents.count { files[file] = contents }
            return .success(.done)
        case .appendSynced(let file, let offset, let contents):
            let written = mustFail() ? contents.count / 2 : loop.spend(contents.count)
            var bytes = files[file] ?? []
            let start = Int(offset)
            while bytes.count < start + written { bytes.append(0) }
            bytes.replaceSubrange(start..<start + written, with: contents[..<written])
            files[file] = bytes
            return writesUntilFailure.map { $0 < 0 } ?? false ? .failure(.inputOutput) : .success(.done)
        case .remove(let names, _):
            if loop.spend(1) == 1 { for name in names { files[name] = nil } }
            return .success(.done)
        default: return .failure(.notSupported)
        }
    }

    private func mustFail() -> Bool {
        guard let left = writesUntilFailure else { return false }
        writesUntilFailure = left - 1
        return left <= 0
    }
}

extension StoreFile {
    fileprivate var kind: StoreFileKind? {
        switch self {
        case .catalogState: .catalogState
        case .catalogLog: .catalogLog
        default: nil
        }
    }
    var number: UInt64 {
        switch self {
        case .catalogState(let index), .catalogLog(let index): index
        default: 0
        }
    }
}
