// What comes back over the administrator's socket, one JSON object a line: any number of progress messages and parts
// of a long list, then exactly one result or one error. A part carries elements of the result's lists; the client
// appends them in the order they come.
import Model

package struct AdminAnswer: Codable, Equatable, Sendable {
    package var version = adminProtocolVersion
    /// The request's id; 0 when the request could not be read that far.
    package var id: UInt64
    package var progress: AdminProgress?
    package var part: AdminResult?
    package var result: AdminResult?
    package var error: AdminFailure?

    package init(
        id: UInt64, progress: AdminProgress? = nil, part: AdminResult? = nil, result: AdminResult? = nil,
        error: AdminFailure? = nil
    ) {
        self.id = id
        self.progress = progress
        self.part = part
        self.result = result
        self.error = error
    }
    /// No more answers to this request follow.
    package var isFinal: Bool { result != nil || error != nil }
}

package struct AdminProgress: Codable, Hashable, Sendable {
    package var done: UInt64
    /// 0: not known yet.
    package var total: UInt64
    /// `bytes` or `objects`.
    package var unit: String
    /// Why it waits, or what it does right now; may be empty.
    package var note: String
    package init(done: UInt64, total: UInt64, unit: String, note: String = "") {
        self.done = done
        self.total = total
        self.unit = unit
        self.note = note
    }
}

/// A `SheepError` as it travels.
package struct AdminFailure: Codable, Hashable, Sendable, Error {
    package var errno: Int32
    package var what: String
    package var why: String
    package var remedy: String
    package init(_ error: SheepError) {
        errno = error.errno.code
        what = error.what
        why = error.why
        remedy = error.remedy
    }
    package var error: SheepError { SheepError(Errno(errno), what: what, why: why, remedy: remedy) }
}

/// The fields that an operation has nothing to say in stay nil; all nil: done.
package struct AdminResult: Codable, Equatable, Sendable {
    package var status: StatusReport?
    package var volume: VolumeReport?
    package var volumes: [VolumeReport]?
    package var snapshots: [SnapshotReport]?
    package var tree: [FamilyNode]?
    package var stores: [StoreReport]?
    package var recovery: RecoveryReport?
    package var scrub: ScrubReport?
    package var settings: SettingsReport?
    package var check: CheckResult?
    package var objects: [ObjectReport]?
    /// Paths that the operation made, removed, mounted or unmounted.
    package var paths: [String]?
    /// Ids of stores that the operation made.
    package var storeIds: [String]?
    package init() {}

    /// Takes in what came later: lists grow, everything else is set.
    package mutating func merge(_ later: AdminResult) {
        var merged = later
        if let earlier = volumes { merged.volumes = earlier + (later.volumes ?? []) }
        if let earlier = snapshots { merged.snapshots = earlier + (later.snapshots ?? []) }
        if let earlier = objects { merged.objects = earlier + (later.objects ?? []) }
        self = merged
    }
}
