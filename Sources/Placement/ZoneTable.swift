// The zones of a ring's members. A drained member, of weight 0, belongs to none: it must never count as a place for
// a copy.
import Model

/// The zones that have a weight, ascending.
struct ZoneTable {
    let weights: [Double]
    /// The index of each member's zone; nil for a drained member.
    let zoneOfMember: [Int?]

    init(_ members: [RingMember]) {
        var numbers = members.filter { $0.weight > 0 }.map(\.zone).sorted()
        var unique: [UInt64] = []
        for number in numbers where unique.last != number { unique.append(number) }
        numbers = unique
        var weights = [Double](repeating: 0, count: numbers.count)
        var zoneOfMember = [Int?](repeating: nil, count: members.count)
        for (i, member) in members.enumerated() where member.weight > 0 {
            var low = 0
            var high = numbers.count
            while low < high {
                let middle = (low + high) / 2
                if numbers[middle] < member.zone { low = middle + 1 } else { high = middle }
            }
            weights[low] += Double(member.weight)
            zoneOfMember[i] = low
        }
        self.weights = weights
        self.zoneOfMember = zoneOfMember
    }
}
