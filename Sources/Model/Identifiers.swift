// Every id is a type of its own, so that a store's number cannot be passed where a node's is meant.

/// A volume (VDI). Never reused while the cluster lives. 0 is no volume.
package struct VolumeId: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt32
    package init(_ rawValue: UInt32) { self.rawValue = rawValue }
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    package var description: String { hexadecimal(UInt64(rawValue), digits: 8) }
}

/// An object: 4 MiB of a volume. The upper 32 bits are the volume, the lower 32 the index in it.
package struct ObjectId: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt64
    package init(rawValue: UInt64) { self.rawValue = rawValue }
    package init(_ volume: VolumeId, _ index: UInt32) {
        rawValue = UInt64(volume.rawValue) << 32 | UInt64(index)
    }
    package var volume: VolumeId { VolumeId(UInt32(rawValue >> 32)) }
    package var index: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    package var description: String { hexadecimal(rawValue, digits: 16) }

    /// Where the object stands on the hash ring: 64 bits, evenly spread (the finalizer of SplitMix64).
    package var hash: UInt64 {
        var x = rawValue &+ 0x9e37_79b9_7f4a_7c15
        x = (x ^ (x >> 30)) &* 0xbf58_476d_1ce4_e5b9
        x = (x ^ (x >> 27)) &* 0x94d0_49bb_1331_11eb
        return x ^ (x >> 31)
    }
    /// The range the object belongs to: the upper 16 bits of its hash.
    package var range: RangeIndex { RangeIndex(UInt16(hash >> 48)) }
}

/// One of the 65,536 slices of the object-id hash.
package struct RangeIndex: Hashable, Comparable, Sendable {
    package let rawValue: UInt16
    package init(_ rawValue: UInt16) { self.rawValue = rawValue }
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// A volume's snapshot counter. The first generation is 1.
package struct Generation: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt32
    package init(_ rawValue: UInt32) { self.rawValue = rawValue }
    package static let first = Generation(1)
    package var next: Generation { Generation(rawValue + 1) }
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    package var description: String { String(rawValue) }
}

/// A store: one disk (directory). Random, given when the store is made. 0 is no store.
package struct StoreId: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt64
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    package var description: String { hexadecimal(rawValue, digits: 16) }
}

/// A node (host). The embedded single host is node 1.
package struct NodeId: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt32
    package init(_ rawValue: UInt32) { self.rawValue = rawValue }
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    package var description: String { String(rawValue) }
}

/// A cluster: 128 random bits, given when the cluster is made.
package struct ClusterId: Hashable, Sendable, CustomStringConvertible {
    package let high: UInt64
    package let low: UInt64
    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
    package var description: String { hexadecimal(high, digits: 16) + hexadecimal(low, digits: 16) }
}

/// A directory of the namespace. The root is 1. Never reused.
package struct DirectoryId: Hashable, Comparable, Sendable {
    package let rawValue: UInt32
    package init(_ rawValue: UInt32) { self.rawValue = rawValue }
    package static let root = DirectoryId(1)
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// The number of the cluster map. Every request carries it.
package struct Epoch: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt64
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
    package var next: Epoch { Epoch(rawValue + 1) }
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    package var description: String { String(rawValue) }
}

/// The number of a volume's lease: at most 24 bits, because it is the upper part of a version.
package struct Term: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt32
    package static let maximum: UInt32 = 1 << 24 - 1
    package init(_ rawValue: UInt32) {
        precondition(rawValue <= Term.maximum, "term beyond 24 bits")
        self.rawValue = rawValue
    }
    package static let none = Term(0)
    package var next: Term { Term(rawValue + 1) }
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    package var description: String { String(rawValue) }
}

/// An object's write counter: (term, sequence), compared by term first, in one 64-bit word:
/// 24 bits of term, 40 of sequence. The sequence goes on counting when the term changes.
package struct Version: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt64
    package init(rawValue: UInt64) { self.rawValue = rawValue }
    package init(term: Term, sequence: UInt64) {
        precondition(sequence < 1 << 40, "sequence beyond 40 bits")
        rawValue = UInt64(term.rawValue) << 40 | sequence
    }
    /// Nothing was ever written.
    package static let zero = Version(rawValue: 0)
    package var term: Term { Term(UInt32(rawValue >> 40)) }
    package var sequence: UInt64 { rawValue & (1 << 40 - 1) }
    /// The version that a write under `term` gives to an object that stands at this one.
    package func following(in term: Term) -> Version {
        precondition(term >= self.term, "a write under an older term")
        return Version(term: term, sequence: sequence + 1)
    }
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    package var description: String { "\(term).\(sequence)" }
}

/// One life of a store: a stop that was not clean under another boot id makes a new, unknown session.
package struct StoreSession: Hashable, Sendable {
    package let bootId: ClusterId
    package let incarnation: UInt64
    package init(bootId: ClusterId, incarnation: UInt64) {
        self.bootId = bootId
        self.incarnation = incarnation
    }
}

/// `value` in lower-case hexadecimal with leading zeros.
package func hexadecimal(_ value: UInt64, digits: Int) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
}
