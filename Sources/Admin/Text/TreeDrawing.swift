// The family of volumes drawn as a tree, with box characters or with ASCII. Names that came from outside are shown
// with their control characters replaced, so that a name cannot steer the terminal.

package enum TreeDrawing {
    package static func draw(_ roots: [FamilyNode], isUnicode: Bool, exactSizes: Bool = false) -> String {
        roots.map { root in
            var text = label(root, isUnicode, exactSizes) + "\n"
            draw(root.children, indent: "", isUnicode, exactSizes, into: &text)
            return text
        }.joined()
    }

    /// Whether the locale's character set (by LC_ALL, LC_CTYPE, LANG, the first that is set) is UTF-8.
    package static func isUnicodeLocale(environment: (String) -> String? = RuntimePaths.variable) -> Bool {
        let names = ["LC_ALL", "LC_CTYPE", "LANG"]
        let locale = names.lazy.compactMap(environment).first { !$0.isEmpty } ?? ""
        let lowered = locale.lowercased()
        return lowered.contains("utf-8") || lowered.contains("utf8")
    }

    private static func draw(
        _ nodes: [FamilyNode], indent: String, _ isUnicode: Bool, _ exact: Bool, into text: inout String
    ) {
        for (position, node) in nodes.enumerated() {
            let isLast = position == nodes.count - 1
            let branch = isUnicode ? (isLast ? "└── " : "├── ") : (isLast ? "`-- " : "|-- ")
            let trunk = isLast ? "    " : isUnicode ? "│   " : "|   "
            text += indent + branch + label(node, isUnicode, exact) + "\n"
            draw(node.children, indent: indent + trunk, isUnicode, exact, into: &text)
        }
    }

    private static func label(_ node: FamilyNode, _ isUnicode: Bool, _ exact: Bool) -> String {
        let size = exact ? "\(node.size)" : ByteSize.text(node.size)
        return switch node.kind {
        case "snapshot": "@\(printable(node.name))  \(size)  \(TimeText.short(node.created))"
        case "deleted-snapshot": "@(deleted, kept for its clones)"
        case "deleted-volume": "(deleted, kept for its clones)"
        default: "\(printable(node.name))  \(size)"
        }
    }
}

/// `text` with control characters as `?`.
package func printable(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 || 0x7f...0x9f ~= $0.value ? "?" : $0 }))
}
