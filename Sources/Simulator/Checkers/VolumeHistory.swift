// What guests asked of volumes and what they were told, sector by sector, through snapshots, clones, rollbacks and power
// losses: whether all of it fits the contract (linearizable; flushed data survives a power loss; what was undecided is
// decided once; a snapshot has what was answered before it and nothing that was issued after it, and never changes).
// Times are the order of events, so that no two are equal.

/// A volume's content since it was made or last rolled back.
package final class Branch {
    fileprivate let base: Shot?
    /// Sectors of the base that show where nothing was cut off since the last power loss.
    fileprivate var visible: Int
    /// What was cut off since then: from which sector on, and when.
    fileprivate var cuts: [(from: Int, begun: Int, ended: Int?)] = []
    fileprivate var registers: [Int: SectorRegister] = [:]
    /// Counts power losses.
    fileprivate var segment = 0
    /// When the latest flush began that has ended.
    fileprivate var flush = Int.min

    fileprivate init(base: Shot?, visible: Int) {
        self.base = base
        self.visible = visible
    }
    fileprivate func register(_ sector: Int) -> SectorRegister {
        if let register = registers[sector] { return register }
        let register = SectorRegister(initial: [base != nil && sector < visible ? SectorRegister.base : 0])
        for cut in cuts where cut.from <= sector {
            register.writeBegan(0, cut.begun)
            if let ended = cut.ended { _ = register.writeEnded(begun: cut.begun, ended, durable: true) }
        }
        registers[sector] = register
        return register
    }
    /// Sectors of the base that show where nothing was written.
    fileprivate var visibleNow: Int { cuts.reduce(visible) { $1.ended == nil ? $0 : min($0, $1.from) } }
}

/// A snapshot's content.
package final class Shot {
    fileprivate let source: Branch
    fileprivate let segment: Int
    fileprivate let begun: Int
    fileprivate let ended: Int
    /// Power was lost while it was made: which side of that it is on is not known.
    fileprivate let isLoose: Bool
    package let sectors: Int
    /// Sectors of the source's base that show where nothing was written.
    fileprivate let visible: Int
    /// What was seen since the last power loss.
    fileprivate var seen: [Int: SectorValue] = [:]
    /// What it may be since the power loss that ended its segment.
    fileprivate var candidates: [Int: [SectorValue]] = [:]

    fileprivate init(source: Branch, segment: Int, begun: Int, ended: Int, isLoose: Bool, sectors: Int) {
        self.source = source
        self.segment = segment
        self.begun = begun
        self.ended = ended
        self.isLoose = isLoose
        self.sectors = sectors
        visible = source.visibleNow
    }
}

/// The branches and snapshots of one volume: a flush covers them all.
package final class Lineage {
    fileprivate var branches: [Branch] = []
    fileprivate var shots: [Shot] = []
    package var current: Branch { branches[branches.count - 1] }
}

package final class VolumeHistory {
    package struct Violation: Hashable, Sendable {
        package let checker: String
        package let text: String
    }
    private struct Write {
        let branch: Branch
        let sectors: Range<Int>
        let segment: Int
    }
    /// By id less one.
    private var writes: [Write] = []
    private var lineages: [Lineage] = []
    private var time = 0
    /// How often power was lost everywhere.
    package private(set) var powerLosses = 0
    package private(set) var violation: Violation?

    package init() {}

    package func now() -> Int {
        time += 1
        return time
    }
    private func fail(_ checker: String, _ text: String) {
        if violation == nil { violation = Violation(checker: checker, text: text) }
    }

    // MARK: volumes

    package func newVolume() -> Lineage { newLineage(Branch(base: nil, visible: 0)) }
    package func newClone(of shot: Shot) -> Lineage { newLineage(Branch(base: shot, visible: shot.sectors)) }
    private func newLineage(_ branch: Branch) -> Lineage {
        let lineage = Lineage()
        lineage.branches = [branch]
        lineages.append(lineage)
        return lineage
    }
    package func rolledBack(_ lineage: Lineage, to shot: Shot) {
        lineage.branches.append(Branch(base: shot, visible: shot.sectors))
    }
    /// A snapshot was asked for at `begun`, when power had been lost so many times, and was there now.
    package func snapshot(_ lineage: Lineage, begun: Int, powerLosses then: Int, sectors: Int) -> Shot {
        let branch = lineage.current
        let shot = Shot(
            source: branch, segment: branch.segment, begun: begun, ended: now(), isLoose: then != powerLosses,
            sectors: sectors)
        lineage.shots.append(shot)
        return shot
    }

    // MARK: guests

    /// Its id is what every sector of it must carry.
    package func writeBegan(_ branch: Branch, _ sectors: Range<Int>) -> (id: SectorValue, begun: Int) {
        let begun = now()
        writes.append(Write(branch: branch, sectors: sectors, segment: branch.segment))
        let id = SectorValue(writes.count)
        for sector in sectors { branch.register(sector).writeBegan(id, begun) }
        return (id, begun)
    }
    package func discardBegan(_ branch: Branch, _ sectors: Range<Int>) -> Int {
        let begun = now()
        for sector in sectors { branch.register(sector).writeBegan(0, begun) }
        return begun
    }
    package func ended(_ branch: Branch, _ sectors: Range<Int>, begun: Int, durable: Bool) {
        let ended = now()
        for sector in sectors where !branch.register(sector).writeEnded(begun: begun, ended, durable: durable) {
            fail("linearizability", "sector \(sector) went back: \(describe(branch.register(sector)))")
        }
    }
    /// From `sector` on everything becomes zeros.
    package func shrinkBegan(_ branch: Branch, from sector: Int) -> Int {
        let begun = now()
        for key in branch.registers.keys.sorted() where key >= sector {
            branch.register(key).writeBegan(0, begun)
        }
        branch.cuts.append((sector, begun, nil))
        return begun
    }
    package func shrunk(_ branch: Branch, from sector: Int, begun: Int) {
        let ended = now()
        for i in branch.cuts.indices where branch.cuts[i].begun == begun { branch.cuts[i].ended = ended }
        for key in branch.registers.keys.sorted() where key >= sector {
            if !branch.register(key).writeEnded(begun: begun, ended, durable: true) {
                fail("linearizability", "sector \(key) came back: \(describe(branch.register(key)))")
            }
        }
    }
    /// A flush that began then has ended.
    package func flushed(_ lineage: Lineage, begun: Int) {
        for branch in lineage.branches { branch.flush = max(branch.flush, begun) }
    }

    // MARK: reads

    package func read(_ branch: Branch, _ sector: Int, _ value: SectorValue, begun: Int, ended: Int) {
        if let problem = observe(branch, sector, value, begun, ended) {
            fail("linearizability", "sector \(sector) was read as #\(value): \(problem)")
        }
    }
    package func read(_ shot: Shot, _ sector: Int, _ value: SectorValue) {
        if let problem = observe(shot, sector, value) {
            fail("snapshot content", "sector \(sector) of a snapshot was read as #\(value): \(problem)")
        }
    }

    /// Nil when it fits.
    private func observe(_ branch: Branch, _ sector: Int, _ value: SectorValue, _ begun: Int, _ ended: Int) -> String? {
        let register = branch.register(sector)
        if value == 0 { return observeZero(branch, sector, register, begun, ended) }
        guard value <= writes.count else { return "nobody wrote that" }
        let write = writes[Int(value) - 1]
        if write.branch === branch, write.sectors.contains(sector) {
            if write.segment == branch.segment {
                guard let cluster = register.cluster(of: value) else { return "it was not written here" }
                return register.read(cluster, begun, ended) ? nil : "not linearizable: \(describe(register))"
            }
            guard register.decide(value) else { return "of before the power loss only \(register.initial) may be" }
            return register.read(0, begun, ended) ? nil : "not linearizable: \(describe(register))"
        }
        guard let base = branch.base, sector < branch.visible || register.initial.contains(SectorRegister.base) else {
            return "it was written elsewhere"
        }
        guard register.decide(SectorRegister.base) else {
            return "of before the power loss only \(register.initial) may be"
        }
        guard register.read(0, begun, ended) else { return "not linearizable: \(describe(register))" }
        return observe(base, sector, value)
    }
    /// Zeros carry no id: where they may be of several discards, nothing is concluded.
    private func observeZero(
        _ branch: Branch, _ sector: Int, _ register: SectorRegister, _ begun: Int, _ ended: Int
    ) -> String? {
        var possible: [Int] = []
        for (i, cluster) in register.clusters.enumerated() {
            let mayBeZero =
                i == 0
                ? register.initial.contains(0) || register.initial.contains(SectorRegister.base) : cluster.value == 0
            if mayBeZero, register.mayRead(i, begun, ended) { possible.append(i) }
        }
        guard let only = possible.first else { return "zeros cannot be: \(describe(register))" }
        if possible.count > 1 { return nil }
        guard register.read(only, begun, ended) else { return "not linearizable: \(describe(register))" }
        guard only == 0 else { return nil }
        switch (register.initial.contains(0), register.initial.contains(SectorRegister.base)) {
        case (true, false):
            _ = register.decide(0)
            return nil
        case (false, true):
            _ = register.decide(SectorRegister.base)
            return branch.base.flatMap { observe($0, sector, 0) }
        default: return nil
        }
    }

    private func observe(_ shot: Shot, _ sector: Int, _ value: SectorValue) -> String? {
        if let seen = shot.seen[sector] { return seen == value ? nil : "it was #\(seen) before" }
        shot.seen[sector] = value
        if shot.isLoose { return nil }
        if shot.segment == shot.source.segment {
            return observe(shot.source, sector, value, shot.begun, shot.ended)
        }
        let write = value > 0 && value <= writes.count ? writes[Int(value) - 1] : nil
        let isOwn = write.map { $0.branch === shot.source && $0.sectors.contains(sector) } ?? false
        guard let candidates = shot.candidates[sector] else {
            // Nothing had been asked of that sector.
            if isOwn { return "it was written later" }
            guard let base = shot.source.base, sector < shot.visible else {
                return value == 0 ? nil : "it was written elsewhere"
            }
            return observe(base, sector, value)
        }
        if candidates.contains(value) {
            shot.candidates[sector] = [value]
            return nil
        }
        guard !isOwn, candidates.contains(SectorRegister.base), let base = shot.source.base else {
            return "after the power loss only \(candidates) may be"
        }
        shot.candidates[sector] = [SectorRegister.base]
        return observe(base, sector, value)
    }

    /// Sectors of which something is known, ascending.
    package func touched(_ branch: Branch) -> [Int] {
        var sectors = Set(branch.registers.keys)
        if let base = branch.base { sectors.formUnion(touched(base).filter { $0 < branch.visible }) }
        return sectors.sorted()
    }
    package func touched(_ shot: Shot) -> [Int] { touched(shot.source).filter { $0 < shot.sectors } }

    // MARK: power

    /// Every store lost power at once: what was not flushed is there or not.
    package func powerWasLost() {
        powerLosses += 1
        for lineage in lineages {
            for shot in lineage.shots {
                if !shot.isLoose, shot.segment == shot.source.segment {
                    for sector in shot.source.registers.keys.sorted() {
                        shot.candidates[sector] = shot.source.registers[sector]!.survivors(
                            flush: shot.source.flush, asked: shot.begun, there: shot.ended)
                    }
                }
                shot.seen = [:]
            }
            for branch in lineage.branches {
                for sector in branch.registers.keys.sorted() {
                    let values = branch.registers[sector]!.survivors(flush: branch.flush)
                    branch.registers[sector] = SectorRegister(initial: values)
                }
                branch.visible = branch.visibleNow
                branch.cuts = []
                branch.segment += 1
                branch.flush = .min
            }
        }
    }

    private func describe(_ register: SectorRegister) -> String {
        let clusters = register.clusters.dropFirst().suffix(6).map { cluster in
            "#\(cluster.value) begun \(cluster.begun)"
                + (cluster.finish == .max ? "" : " seen done \(cluster.finish), last asked \(cluster.start)")
        }
        return "at first \(register.initial.map { $0 == SectorRegister.base ? "base" : "#\($0)" }), \(clusters)"
    }
}
