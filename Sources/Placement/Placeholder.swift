// The types of the ring (see Ring.swift for how it is computed).
import Model

package struct RingMember: Hashable, Sendable {
    package let store: StoreId
    /// Bytes; 0 is drained: the store gets nothing.
    package let weight: UInt64
    package let zone: UInt64
    package init(store: StoreId, weight: UInt64, zone: UInt64) {
        self.store = store
        self.weight = weight
        self.zone = zone
    }
}
package struct Ring: Sendable {
    package init(members: [RingMember], copies: Int) {}
    package func targets(of range: RangeIndex) -> [StoreId] { [] }
}
