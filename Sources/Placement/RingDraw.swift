// Fills the table of a ring: for each range it draws the stores by their hashes. It must never depend on anything but
// the members, so every number comes from integers and from IEEE 754's four operations in a fixed order.
import Model

/// Weighted rendezvous over the fixed ranges, instead of a circle with virtual nodes: a range's stores are those with
/// the lowest scores, at most one in a zone, and a store's score depends on itself, its zone's rate and the range alone.
///
/// Why not a circle: with copies in distinct zones the walk along it gives small zones too much and heavy ones too
/// little, and no number of virtual nodes mends that. Drawing one copy after the other (CRUSH's straw2) has the same
/// fault. Here the rates are corrected once, analytically (`calibratedRates`), and what is left is binomial noise.
/// They are not fitted to the counts of the hashes themselves: that would remove the noise too, but move ranges between
/// stores that have nothing to do with a change.
///
/// A zone's score is uniform divided by its rate: of the distributions tried (exponential, logistic) it keeps the
/// order of the stores best when a change scales all shares, so it moves least beyond the minimum. Within a zone the
/// least of exponentials (-ln u / weight) wins: that is exact for one draw, and a new store takes only for itself.
struct RingDraw {
    private struct Candidate {
        let member: UInt16
        let zone: Int32
        let key: UInt64
        /// Hashes above it cannot be among the lowest scores, but for one range in thousands, which is drawn again.
        let limit: UInt64
        /// Its part of its zone; 1 when it is alone there.
        let part: Double
        let rate: Double
    }
    private struct Drawn {
        var score: Double
        var member: UInt16
        var zone: Int32
    }

    private let copies: Int
    private let candidates: [Candidate]

    /// `probabilities`: of each zone, as `inclusionProbabilities` gives them for `copies`.
    init(members: [RingMember], zones: ZoneTable, probabilities: [Double], copies: Int) {
        self.copies = copies
        let open = probabilities.indices.filter { probabilities[$0] > 0 && probabilities[$0] < 1 }
        let certain = probabilities.indices.filter { probabilities[$0] >= 1 }
        let openCopies = copies - certain.count
        var rates = [Double](repeating: 0, count: probabilities.count)
        // A zone that holds every range always comes first.
        for zone in certain { rates[zone] = 1e30 }
        if openCopies > 0 {
            let fitted = calibratedRates(probabilities: open.map { probabilities[$0] }, copies: openCopies)
            for (i, zone) in open.enumerated() { rates[zone] = fitted[i] }
        }
        // Scores below it hold all copies of nearly every range.
        let reach = 4 + 10 / Double(max(openCopies, 1))
        var candidates: [Candidate] = []
        for (i, member) in members.enumerated() {
            guard let zone = zones.zoneOfMember[i], probabilities[zone] > 0 else { continue }
            let part = Double(member.weight) / zones.weights[zone]
            let zoneLimit = min(1, rates[zone] * reach)
            // -ln(1 - x) is at most x / (1 - x).
            let limit = part == 1 ? zoneLimit : zoneLimit < 1 ? part * zoneLimit / (1 - zoneLimit) : 1
            candidates.append(
                Candidate(
                    member: UInt16(i), zone: Int32(zone), key: mixed(member.store.rawValue &+ 0x9e37_79b9_7f4a_7c15),
                    limit: limit < 1 ? UInt64(limit * 0x1p64) : .max, part: part, rate: rates[zone]))
        }
        self.candidates = candidates
    }

    /// For each range the indices of its members, the lowest score (the primary) first.
    func table() -> [UInt16] {
        guard copies > 0 else { return [] }
        var table = [UInt16](repeating: 0, count: rangeCount * copies)
        var lowest = [Drawn](repeating: Drawn(score: 0, member: 0, zone: -1), count: copies)
        for range in 0..<rangeCount {
            let key = mixed(UInt64(range) &* 0xd1b5_4a32_d192_ed03 &+ 0x8cb9_2ba7_2f3d_8dd7)
            if !draw(key, isLimited: true, into: &lowest) {
                let isComplete = draw(key, isLimited: false, into: &lowest)
                precondition(isComplete, "fewer zones than copies")
            }
            for copy in 0..<copies { table[range * copies + copy] = lowest[copy].member }
        }
        return table
    }

    /// False when fewer than `copies` zones were found.
    private func draw(_ rangeKey: UInt64, isLimited: Bool, into lowest: inout [Drawn]) -> Bool {
        var count = 0
        for i in candidates.indices {
            let hash = mixed(candidates[i].key ^ rangeKey)
            if hash > candidates[i].limit && isLimited { continue }
            let candidate = candidates[i]
            var uniform = (Double(hash >> 11) + 0.5) * 0x1p-53
            if candidate.part < 1 { uniform = 1 - negativeExponential(-naturalLogarithm(1 - uniform) / candidate.part) }
            let new = Drawn(score: uniform / candidate.rate, member: candidate.member, zone: candidate.zone)
            insert(new, into: &lowest, count: &count)
        }
        return count == copies
    }

    /// Keeps `lowest[..<count]` ascending, with one entry of each zone.
    private func insert(_ new: Drawn, into lowest: inout [Drawn], count: inout Int) {
        // What is left behind, to be overwritten: the zone's former entry, the free place, or the highest score.
        var hole = count
        for i in 0..<count where lowest[i].zone == new.zone { hole = i }
        if hole == copies { hole -= 1 }
        if hole < count && lowest[hole].score <= new.score { return }
        if hole == count { count += 1 }
        while hole > 0 && lowest[hole - 1].score > new.score {
            lowest[hole] = lowest[hole - 1]
            hole -= 1
        }
        lowest[hole] = new
    }
}
