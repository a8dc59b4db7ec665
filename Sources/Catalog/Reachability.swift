// What of a volume can still be read by anybody, so that stores know what they may merge or remove. Every store
// works that out for itself from the same state; nothing is counted.
import Model
import OrderedCollections

extension CatalogState {
    /// The views through which something of this volume can be read: the current one (unless the volume is removed),
    /// then its snapshots, hidden ones included. Empty: the volume's objects can be removed, provided that its id
    /// is below `nextVolumeId` of this state (a newer id may be a volume that this state has not heard of).
    package func reachableViews(of id: VolumeId) -> [GenerationPath] {
        guard let volume = volumes[id] else { return [] }
        return (volume.isHidden ? [] : [volume.currentPath]) + volume.snapshots.map(\.path)
    }
}

extension [GenerationPath] {
    /// Whether some view looks at this generation. If none does, its files can be removed.
    package func reach(_ generation: Generation) -> Bool { contains { $0.contains(generation) } }

    /// Whether a file of `lower` may be merged into the next file above, of generation `upper`: every view sees both
    /// or neither. That is: no view has its top in [lower, upper), and none hides just one of them (a rollback).
    /// The store first removes files that no view reaches, so that nothing stands between the two.
    package func allowMerge(_ lower: Generation, into upper: Generation) -> Bool {
        lower < upper && allSatisfy { $0.contains(lower) == $0.contains(upper) }
    }
}
