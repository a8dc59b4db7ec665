// A disk in virtual time: operations take their time, and a process hears of them only while it lives. What is stored,
// and what a loss of power leaves of it, is MemoryDisk's matter; when a fault strikes is decided by who injects it.
import Model

/// How long operations take, in microseconds.
package struct DiskLatency: Sendable {
    package var writeMicroseconds: ClosedRange<Int>
    package var readMicroseconds: ClosedRange<Int>
    package var syncMicroseconds: ClosedRange<Int>
    package init(
        writeMicroseconds: ClosedRange<Int>, readMicroseconds: ClosedRange<Int>, syncMicroseconds: ClosedRange<Int>
    ) {
        self.writeMicroseconds = writeMicroseconds
        self.readMicroseconds = readMicroseconds
        self.syncMicroseconds = syncMicroseconds
    }
}

package final class SimulatedDisk {
    package let number: Int
    package let memory: MemoryDisk
    private let queue: EventQueue
    private let trace: Trace
    private var random: Random
    private let latency: DiskLatency
    /// Everything takes so many times as long.
    package var slowness = 1
    /// Reads fail at random with EIO, so many in a thousand.
    package var readErrorsPerMille = 0
    /// Writes to object files are lost or go elsewhere, so many in a thousand.
    package var strayWritesPerMille = 0
    package private(set) var strayWrites = 0
    package var isSound: Bool { breakage == .none && readErrorsPerMille == 0 && strayWritesPerMille == 0 }
    /// What of its operations fails for good.
    package enum Breakage: String, Sendable { case none, everything, syncs, appends }
    package var breakage = Breakage.none {
        didSet {
            memory.isBroken = breakage == .everything
            switch breakage {
            case .syncs: memory.fault = { if case .sync = $0 { .inputOutput } else { nil } }
            case .appends: memory.fault = { if case .append = $0 { .inputOutput } else { nil } }
            case .none, .everything: memory.fault = { _ in nil }
            }
        }
    }

    package init(number: Int, seed: UInt64, latency: DiskLatency, queue: EventQueue, trace: Trace) {
        self.number = number
        self.queue = queue
        self.trace = trace
        self.latency = latency
        random = Random(seed)
        memory = MemoryDisk(seed: random.next())
        memory.fate = { [unowned self] write in fate(write) }
    }

    /// As one process has it open: it hears nothing any more when it has died.
    package func open(by process: SimulatedProcess) -> any Disk { OpenDisk(self, process) }

    fileprivate func submit(
        _ operation: DiskOperation, _ process: SimulatedProcess,
        _ completion: @escaping (Result<DiskOutcome, Errno>) -> Void
    ) {
        let (code, range): (UInt64, ClosedRange<Int>) =
            switch operation {
            case .append: (1, latency.writeMicroseconds)
            case .write: (2, latency.writeMicroseconds)
            case .writeDirect: (3, latency.syncMicroseconds)
            case .read: (4, latency.readMicroseconds)
            case .readWhole: (5, latency.readMicroseconds)
            case .list: (6, latency.readMicroseconds)
            case .punch: (7, latency.writeMicroseconds)
            case .sync: (8, latency.syncMicroseconds)
            case .createWritten: (9, latency.syncMicroseconds)
            case .replace: (10, latency.syncMicroseconds)
            case .remove: (11, latency.syncMicroseconds)
            case .rename: (12, latency.syncMicroseconds)
            case .appendSynced: (13, latency.syncMicroseconds)
            }
        var microseconds = range.lowerBound + random.below(range.count)
        if random.below(200) == 0 { microseconds *= 20 }
        trace.detail("disk", UInt64(number), code, UInt64(microseconds), UInt64(slowness))
        let mayFail = code == 4 && readErrorsPerMille > 0
        let fails = mayFail && random.below(1000) < readErrorsPerMille
        memory.submit(operation) { result in
            process.run { completion(fails ? .failure(.inputOutput) : result) }
        }
        queue.after(nanoseconds: UInt64(microseconds * slowness) * 1000) { [memory] in memory.runOne() }
    }

    private func fate(_ write: FileWrite) -> WriteFate {
        guard strayWritesPerMille > 0, case .object = write.file, random.below(1000) < strayWritesPerMille else {
            return .lands
        }
        strayWrites += 1
        if random.chance(percent: 50) { return .lost }
        return .misdirected(4096 * (1 + random.below(16)))
    }

    /// The faults that stay until they are mended are.
    package func mend() {
        slowness = 1
        readErrorsPerMille = 0
        strayWritesPerMille = 0
        breakage = .none
    }
}

private final class OpenDisk: Disk {
    private let disk: SimulatedDisk
    private let process: SimulatedProcess
    init(_ disk: SimulatedDisk, _ process: SimulatedProcess) {
        self.disk = disk
        self.process = process
    }
    var space: DiskSpace { disk.memory.space }
    var maximumBufferedWrite: Int { disk.memory.maximumBufferedWrite }
    func submit(_ operation: DiskOperation, _ completion: @escaping (Result<DiskOutcome, Errno>) -> Void) {
        // A process that is dead asks for nothing; one that is stopped has asked before.
        guard process.isAlive else { return }
        disk.submit(operation, process, completion)
    }
}
