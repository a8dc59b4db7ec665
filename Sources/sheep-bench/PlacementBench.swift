// `sheep-bench placement`: how evenly the ring fills the stores, what a change moves, what it costs.
import ArgumentParser
import Model
import Placement

struct PlacementBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "placement", abstract: "Balance, movement and cost of the ring.",
        discussion: """
            deviation: the worst store against its attainable share, and in standard deviations of binomial noise.
            add, remove, reweight: copies moved, relative to the minimum that the change of shares needs.
            """)

    @Option(help: "Copies of each range.") var copies = 3
    @Option(help: "Numbers of stores, each in a zone of its own.") var stores: [Int] = [3, 10, 100, 1000]

    private static let weights: [(name: String, terabytes: [UInt64])] = [
        ("equal", [4]), ("mixed", [1, 2, 4, 8]), ("like", [3, 4, 5]),
    ]

    func run() {
        let titles = [
            "stores", "weights", "deviation", "in sigma", "add", "remove", "reweight", "build ms", "look-up ns",
        ]
        print(titles.map { padded($0) }.joined())
        for count in stores {
            for (name, terabytes) in Self.weights {
                let members = (0..<count).map { i in
                    member(UInt64(i), terabytes[i % terabytes.count])
                }
                print(([String(count), name] + row(members)).map { padded($0) }.joined())
            }
        }
    }

    private func member(_ number: UInt64, _ terabytes: UInt64) -> RingMember {
        RingMember(
            store: StoreId(number &* 0x9e37_79b9_7f4a_7c15 &+ 1), weight: terabytes * 1_000_000_000_000, zone: number)
    }

    private func row(_ members: [RingMember]) -> [String] {
        let clock = ContinuousClock()
        let start = clock.now
        let ring = Ring(members: members, copies: copies)
        let build = clock.now - start

        let (worst, sigmas) = deviation(of: ring)
        let removed = Ring(members: Array(members.dropFirst()), copies: copies)
        let added = Ring(members: members + [member(UInt64(members.count), 4)], copies: copies)
        let first = RingMember(store: members[0].store, weight: members[0].weight * 3 / 2, zone: members[0].zone)
        let reweighted = Ring(members: [first] + members.dropFirst(), copies: copies)
        return [
            percent(worst), decimal(sigmas, digits: 1), movement(ring, added), movement(ring, removed),
            movement(ring, reweighted), decimal(milliseconds(build), digits: 1),
            decimal(lookupNanoseconds(ring), digits: 1),
        ]
    }

    private func deviation(of ring: Ring) -> (worst: Double, sigmas: Double) {
        var worst = 0.0
        var sigmas = 0.0
        for member in ring.members {
            let wanted = ring.attainableShare(of: member.store)
            let error = abs(ring.share(of: member.store) / wanted - 1)
            let probability = wanted * Double(ring.effectiveCopies)
            worst = max(worst, error)
            if probability < 1 {
                sigmas = max(sigmas, error / ((1 - probability) / (probability * Double(rangeCount))).squareRoot())
            }
        }
        return (worst, sigmas)
    }

    /// Copies that get a new place, relative to what the change of the attainable shares needs.
    private func movement(_ old: Ring, _ new: Ring) -> String {
        guard old.effectiveCopies == new.effectiveCopies else { return "-" }
        var moved = 0
        for range in 0..<rangeCount {
            let range = RangeIndex(UInt16(range))
            for copy in 0..<new.effectiveCopies
            where !old.isTarget(new.target(of: range, copy: copy), of: range) { moved += 1 }
        }
        var minimum = 0.0
        for member in new.members {
            minimum += max(0, new.attainableShare(of: member.store) - old.attainableShare(of: member.store))
        }
        minimum *= Double(rangeCount * new.effectiveCopies)
        return minimum < 1 ? (moved == 0 ? "none" : "\(moved) of 0") : decimal(Double(moved) / minimum, digits: 3)
    }

    private func lookupNanoseconds(_ ring: Ring) -> Double {
        let clock = ContinuousClock()
        let rounds = 2_000_000
        var sum: UInt64 = 0
        let start = clock.now
        for i in 0..<rounds {
            let object = ObjectId(rawValue: UInt64(i))
            for copy in 0..<ring.effectiveCopies { sum &+= ring.target(of: object.range, copy: copy).rawValue }
        }
        let time = clock.now - start
        // The sum is used, so that the loop is not optimised away.
        return milliseconds(time) * 1e6 / Double(rounds) + (sum == 1 ? 1e-9 : 0)
    }
}

func milliseconds(_ duration: Duration) -> Double {
    Double(duration.components.seconds) * 1e3 + Double(duration.components.attoseconds) / 1e15
}
func decimal(_ value: Double, digits: Int) -> String {
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let whole = Int((value * scale).rounded())
    let fraction = String(whole % Int(scale))
    return digits == 0
        ? String(whole) : "\(whole / Int(scale))." + String(repeating: "0", count: digits - fraction.count) + fraction
}
func percent(_ value: Double) -> String { decimal(value * 100, digits: 2) + " %" }
func padded(_ text: String) -> String { text + String(repeating: " ", count: max(1, 12 - text.count)) }
