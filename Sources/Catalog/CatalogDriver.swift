// What puts commands into one order and makes them durable, as the state machine sees it. Today the stores of one host
// (StoreGroup); a cluster's driver takes its place without the state machine noticing.
import Model

/// A command on its way into the log.
package struct CatalogProposal: Sendable {
    package let command: CatalogCommand
    package let request: RequestId?
    /// The driver's own, for which nobody waits.
    package let isInternal: Bool
    package init(_ command: CatalogCommand, request: RequestId? = nil, isInternal: Bool = false) {
        self.command = command
        self.request = request
        self.isInternal = isInternal
    }
}

package protocol CatalogDriver: AnyObject {
    /// Called with each committed entry exactly once, in order, and never from inside `append`.
    var onCommit: ((CatalogProposal) -> Void)? { get set }
    /// Appends the commands behind all others. Answers nil after they were committed (and handed to `onCommit`), else
    /// why that is not known: then nothing more is committed by this driver. One append at a time.
    func append(_ proposals: [CatalogProposal], _ completion: @escaping (SheepError?) -> Void)
}
