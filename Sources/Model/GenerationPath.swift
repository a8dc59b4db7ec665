// Which generations of a volume one looks through. Usually all up to the one that is looked at; a rollback
// hides those between the snapshot it returned to and the generation that it opened.

/// The view of a volume at `top`: the generations at or below it that are not hidden.
package struct GenerationPath: Hashable, Sendable {
    /// The newest generation of the view.
    package let top: Generation
    /// Hidden generations, ascending, not overlapping, all below `top`.
    package let hidden: [ClosedRange<Generation>]

    package init(top: Generation, hidden: [ClosedRange<Generation>] = []) {
        self.top = top
        self.hidden = hidden
    }

    package func contains(_ generation: Generation) -> Bool {
        generation <= top && !hidden.contains { $0.contains(generation) }
    }
}
