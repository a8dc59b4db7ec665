// One simulated connection: bytes in pieces of any size, late but in order, until it breaks. It knows nothing of frames.
import Model

/// One connection: two directions of bytes and their ends.
package final class SimulatedConnection {
    package final class End {
        package let process: SimulatedProcess
        var receive: (([UInt8]) -> Void)?
        var lost: (() -> Void)?
        var nextArrival: UInt64 = 0
        var queue: [(at: UInt64, bytes: [UInt8])] = []
        init(_ process: SimulatedProcess) { self.process = process }
    }
    package let network: SimulatedNetwork
    package let ends: [End]
    package private(set) var isBroken = false
    private var bytesUntilCorruption: Int?

    package init(_ network: SimulatedNetwork, _ a: SimulatedProcess, _ b: SimulatedProcess) {
        self.network = network
        ends = [End(a), End(b)]
        if network.random.chance(percent: network.corruptionPercent) {
            bytesUntilCorruption = network.random.below(200_000)
        }
    }

    /// From the end with this number to the other one.
    package func send(from: Int, _ bytes: [UInt8]) {
        guard !isBroken else { return }
        var rest = bytes[...]
        while !rest.isEmpty {
            let isSplit = network.random.chance(percent: 20)
            var piece = Array(rest.prefix(isSplit ? 1 + network.random.below(rest.count) : rest.count))
            rest = rest.dropFirst(piece.count)
            if let left = bytesUntilCorruption {
                if left < piece.count { piece[left] ^= 1 << UInt8(network.random.below(8)) }
                bytesUntilCorruption = left < piece.count ? nil : left - piece.count
            }
            let end = ends[1 - from]
            let delay =
                network.random.chance(percent: 70)
                ? 0 : UInt64(network.random.below(network.slownessMilliseconds + 1))
            let at = max(end.nextArrival, network.queue.nanoseconds + delay * 1_000_000)
            end.nextArrival = at
            end.queue.append((at, piece))
            deliverLater(1 - from, milliseconds: (at - network.queue.nanoseconds + 999_999) / 1_000_000)
        }
    }
    private func deliverLater(_ number: Int, milliseconds: UInt64) {
        network.queue.after(milliseconds: milliseconds) { [self] in deliver(number) }
    }
    private func deliver(_ number: Int) {
        let end = ends[number]
        guard let first = end.queue.first, end.receive != nil else { return }
        if network.isCut(ends[1 - number].process.node, end.process.node) {
            return deliverLater(number, milliseconds: 20)
        }
        guard first.at <= network.queue.nanoseconds else { return deliverLater(number, milliseconds: 1) }
        end.queue.removeFirst()
        end.process.run { end.receive?(first.bytes) }
    }

    package func breakSoon() {
        isBroken = true
        for number in 0...1 {
            // Half of the time an end hears of it at once; else late, or only by its silence.
            let delay = network.random.pick([0, 0, 1, 5, 50, 400, 4_000])
            network.queue.after(milliseconds: UInt64(delay)) { [self] in end(number) }
        }
    }
    /// This end closes; the other one hears of it.
    package func close(_ number: Int) {
        isBroken = true
        ends[number].receive = nil
        ends[number].lost = nil
        network.queue.after(milliseconds: UInt64(network.random.below(5))) { [self] in end(1 - number) }
        network.connections.removeAll { $0 === self }
    }
    private func end(_ number: Int) {
        let end = ends[number]
        end.process.run {
            let lost = end.lost
            end.receive = nil
            end.lost = nil
            lost?()
        }
    }
}
