// Mutations of inputs from a seed: flipped bits, lost and repeated pieces, numbers at their limits, two inputs spliced.
import TestSupport

struct Mutator {
    private var random: Random
    init(seed: UInt64) { random = Random(seed) }

    /// Whole stores, catalogs and mounts take longer.
    static func rounds(_ target: FuzzTarget) -> Int {
        switch target.name {
        case "store", "catalog", "filesystem", "kept", "state", "command", "shared", "decision": 40
        default: 400
        }
    }

    private static let numbers: [UInt64] = [
        0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 40 - 1, .max >> 1, .max - 1,
        .max,
    ]

    mutating func mutate(_ inputs: [[UInt8]], limit: Int) -> [UInt8] {
        var bytes = random.pick(inputs)
        for _ in 0...random.below(4) { change(&bytes, inputs) }
        return Array(bytes.prefix(limit))
    }

    private mutating func change(_ bytes: inout [UInt8], _ inputs: [[UInt8]]) {
        guard !bytes.isEmpty else { return bytes = [UInt8(truncatingIfNeeded: random.next())] }
        let at = random.below(bytes.count)
        switch random.below(8) {
        case 0: bytes[at] ^= 1 << UInt8(random.below(8))
        case 1: bytes[at] = UInt8(truncatingIfNeeded: random.next())
        case 2: bytes.removeLast(bytes.count - at)
        case 3: bytes.removeSubrange(at..<min(bytes.count, at + 1 + random.below(16)))
        case 4: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + 1 + random.below(64))], at: at)
        case 5, 6:
            let number = littleEndian(random.pick(Mutator.numbers))
            for (i, byte) in number.prefix(1 << random.below(4)).enumerated() where at + i < bytes.count {
                bytes[at + i] = byte
            }
        default:
            let other = random.pick(inputs)
            guard !other.isEmpty else { return }
            bytes = Array(bytes[..<at] + other[random.below(other.count)...])
        }
    }
}
