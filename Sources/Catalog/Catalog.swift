// The catalog as its users see it: propose a command, hear when it is committed, read the state, hear of changes.
import Model

package protocol CatalogProposer: AnyObject {
    var state: CatalogState { get }
    /// Proposes a command. `request` makes it idempotent: a repeated one gets the first answer. The answer comes
    /// after the entry is durable on enough of the node's stores, never from inside the call.
    func propose(_ command: CatalogCommand, request: RequestId?, _ completion: @escaping (CommandAnswer) -> Void)
    /// Calls `observer` after each applied entry with what it changed, in order.
    func observe(_ observer: @escaping ([CatalogChange]) -> Void)
}
