// What a volume may show, sector by sector: which stamps a read may return, given what was acknowledged, flushed, lost in
// flight or thrown away by a power loss. Knows nothing of how the system works.

/// One sector as a register. Stamps are unique; 0 is zeros.
struct Cell {
    /// What it may be now, apart from writes on their way.
    var possible: [UInt64] = [0]
    /// Writes on their way.
    var pending: [UInt64] = []
    /// What it may be after a power loss: all since the last flush began, with the number of the operation.
    var sinceFlush: [(stamp: UInt64, operation: Int)] = [(0, 0)]

    mutating func began(_ stamp: UInt64, operation: Int) {
        pending.append(stamp)
        sinceFlush.append((stamp, operation))
    }
    /// `others`: whether another write of this sector was on its way at some time during this one.
    mutating func ended(_ stamp: UInt64, hadCompany: Bool, isCertain: Bool) {
        pending.removeAll { $0 == stamp }
        if hadCompany || !isCertain {
            if !possible.contains(stamp) { possible.append(stamp) }
        } else {
            possible = [stamp]
        }
    }
    /// The process died: what was on its way is there or not.
    mutating func processDied() {
        for stamp in pending where !possible.contains(stamp) { possible.append(stamp) }
        pending = []
    }
    mutating func powerWasLost() {
        processDied()
        possible = sinceFlush.map(\.stamp)
    }
    /// All that a read which began now may return, besides what begins later.
    var readable: [UInt64] { possible + pending }
    /// A read with nothing on its way has seen it: it must not change any more.
    mutating func seen(_ stamp: UInt64) { if pending.isEmpty { possible = [stamp] } }
}

/// The sectors of a view; what is not there is looked up in what it was cloned from.
final class Layer {
    var cells: [Int: Cell] = [:]
    let parent: Layer?
    /// Sectors of the parent that show.
    var visible: Int

    init(parent: Layer? = nil, visible: Int = 0) {
        self.parent = parent
        self.visible = visible
    }
    subscript(sector: Int) -> Cell {
        get { cells[sector] ?? (sector < visible ? parent?[sector] : nil) ?? Cell() }
        set { cells[sector] = newValue }
    }
    func seen(_ sector: Int, _ stamp: UInt64) {
        if cells[sector] == nil, sector < visible, let parent { return parent.seen(sector, stamp) }
        self[sector].seen(stamp)
    }
    func copy() -> Layer {
        let copy = Layer(parent: parent, visible: visible)
        copy.cells = cells
        return copy
    }
    func processDied() { for key in cells.keys { cells[key]!.processDied() } }
    func powerWasLost() { for key in cells.keys { cells[key]!.powerWasLost() } }
    /// A flush that began when cells were as in `then`, and before `operation`, has ended.
    func flushed(_ then: Layer, before operation: Int) {
        for key in cells.keys {
            let old = then[key].readable
            cells[key]!.sinceFlush.removeAll { $0.operation < operation && !old.contains($0.stamp) }
        }
    }
    /// From this sector on all is zeros now.
    func cut(from sector: Int, through end: Int) {
        visible = min(visible, sector)
        for key in cells.keys where key >= sector { cells[key] = Cell() }
    }
}
