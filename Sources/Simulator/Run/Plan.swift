// What is done in a run and when: drawn from the seed before anything runs, each step with random numbers of its own, so
// that a step can be left out and all others stay what they were. That is how a failure is made short.
import Model

package enum StepKind: String, CaseIterable, Sendable {
    // guests
    case write, read, flush, discard, readSnapshot
    // volumes as a whole
    case create, snapshot, groupSnapshot, removeSnapshot, clone, cloneCurrent, rollback, resize, removeVolume, flatten
    // administrators
    case addStore, removeStore, setWeight, scrub
    // faults
    case kill, powerLoss, stop, failStore, rot, strayWrites, readErrors, slowDisk, fullDisk
    case cut, breakConnections, slowNetwork, groupPartition, stopCorosync, replaceDisk

    package var isFault: Bool {
        switch self {
        case .kill, .powerLoss, .stop, .failStore, .rot, .strayWrites, .readErrors, .slowDisk, .fullDisk, .cut,
            .breakConnections, .slowNetwork, .groupPartition, .stopCorosync, .replaceDisk:
            true
        default: false
        }
    }
}

package struct Step: Sendable {
    package let index: Int
    /// After the start.
    package let atNanoseconds: UInt64
    package let kind: StepKind
    /// Of its own random numbers.
    package let seed: UInt64
}

package struct Plan: Sendable {
    package var steps: [Step] = []
    package let endNanoseconds: UInt64

    package init(_ knobs: Knobs, _ random: inout Random) {
        var drafts: [(at: UInt64, kind: StepKind, seed: UInt64)] = []
        var time: UInt64 = 0
        for _ in 0..<knobs.operations {
            // Bursts and pauses.
            let gap = random.chance(percent: 60) ? knobs.gapNanoseconds / 4 : 2 * knobs.gapNanoseconds
            time += UInt64(random.below(Int(gap) + 1))
            drafts.append((time, Plan.operation(knobs, &random), random.next()))
        }
        let kinds = Plan.faults(knobs)
        for _ in 0..<knobs.faults where !kinds.isEmpty {
            drafts.append((UInt64(random.below(Int(time))), random.pick(kinds), random.next()))
        }
        for fault in knobs.forced { drafts.append((time / 100 * UInt64(fault.atPercent), fault.kind, random.next())) }
        let order = drafts.indices.sorted { (drafts[$0].at, $0) < (drafts[$1].at, $1) }
        for (index, i) in order.enumerated() {
            steps.append(
                Step(index: index, atNanoseconds: drafts[i].at, kind: drafts[i].kind, seed: drafts[i].seed))
        }
        endNanoseconds = time
    }

    private static func operation(_ knobs: Knobs, _ random: inout Random) -> StepKind {
        if random.below(1000) < knobs.familyPerMille {
            return random.pick([
                .snapshot, .snapshot, .snapshot, .snapshot, .groupSnapshot, .removeSnapshot, .removeSnapshot, .clone,
                .clone, .cloneCurrent, .rollback, .resize, .resize, .removeVolume, .flatten, .create,
            ])
        }
        switch random.below(1000) {
        case 0..<500: return .write
        case 500..<790: return .read
        case 790..<860: return .discard
        case 860..<930: return .flush
        case 930..<985: return .readSnapshot
        case 985..<993: return .scrub
        default: return random.pick([.addStore, .setWeight, .removeStore])
        }
    }
    private static func faults(_ knobs: Knobs) -> [StepKind] {
        var kinds: [StepKind] = [.kill, .kill, .kill, .powerLoss, .powerLoss, .stop, .slowDisk]
        if knobs.hosts > 1 {
            kinds += [.kill, .stop, .cut, .cut, .breakConnections, .slowNetwork, .groupPartition, .groupPartition]
            kinds += [.stopCorosync]
        }
        if knobs.allowsStoreFaults { kinds += [.failStore, .failStore, .rot, .readErrors, .strayWrites] }
        return kinds
    }
}
