// Columns for people: left or right aligned, two spaces apart, no trailing blanks.

package struct Table {
    package enum Side { case left, right }
    private let sides: [Side]
    private var rows: [[String]]

    /// Heads that begin with `>` are of columns aligned to the right.
    package init(_ heads: String...) {
        sides = heads.map { $0.hasPrefix(">") ? .right : .left }
        rows = [heads.map { $0.hasPrefix(">") ? String($0.dropFirst()) : $0 }]
    }

    package mutating func add(_ cells: String...) { rows.append(cells) }

    package func text(indent: String = "") -> String {
        var widths = sides.map { _ in 0 }
        for row in rows { for (column, cell) in row.enumerated() { widths[column] = max(widths[column], cell.count) } }
        return rows.map { row in
            var line = indent
            for (column, cell) in row.enumerated() {
                let blanks = String(repeating: " ", count: widths[column] - cell.count)
                line += (column > 0 ? "  " : "") + (sides[column] == .right ? blanks + cell : cell + blanks)
            }
            while line.last == " " { line.removeLast() }
            return line + "\n"
        }.joined()
    }
}
