// How a committed command changes the state. Deterministic and total: every command that can be decoded has an
// answer on every state, the same on every node. Handlers check everything before they change anything, and never
// ask a clock, a random number or the iteration order of a Dictionary.
import Model
import OrderedCollections
import Placement

extension CatalogState {
    /// How many answered requests are remembered at least (and at most an eighth more).
    package static let answeredLimit = 65_536

    /// A new cluster: the root directory, no store, no volume.
    package init(
        clusterId: ClusterId, settings: Settings, rootAttributes: FileAttributes, catalogStores: [StoreId] = []
    ) {
        self.clusterId = clusterId
        self.settings = settings
        self.catalogStores = catalogStores.sorted()
        map = ClusterMap(copies: settings.copies)
        directories[.root] = DirectoryRecord(id: .root, parent: .root, name: "", attributes: rootAttributes)
    }

    /// Applies the entry after `index`. A request that was answered before gets the first answer and changes nothing
    /// (except when that was EAGAIN, which invites to repeat).
    package mutating func apply(_ command: CatalogCommand, request: RequestId?) -> (CommandAnswer, [CatalogChange]) {
        index += 1
        // Nothing is appended behind a change of this list before it is committed, so an entry behind it confirms it.
        if case .setCatalogStores = command {} else { unconfirmedCatalogStores = [] }
        if let request, let earlier = answered[request] { return (earlier.answer, []) }
        var changes: [CatalogChange] = []
        let answer: CommandAnswer
        do {
            answer = try perform(command, &changes)
        } catch {
            answer = .refused(error)
        }
        if let request { remember(request, answer) }
        return (answer, changes)
    }

    private mutating func remember(_ request: RequestId, _ answer: CommandAnswer) {
        if case .refused(let error) = answer, error.errno == .tryAgain { return }
        answered[request] = AnsweredRequest(index: index, answer: answer)
        // Removing from the front moves all others, so it is done in bulk.
        let surplus = CatalogState.answeredLimit / 8
        if answered.count > CatalogState.answeredLimit + surplus { answered.removeFirst(surplus) }
    }

    private mutating func perform(
        _ command: CatalogCommand, _ changes: inout [CatalogChange]
    ) throws(SheepError) -> CommandAnswer {
        switch command {
        case .createVolume(let directory, let name, let size, let copies, let attributes):
            return try createVolume(directory, name, size, copies, attributes, &changes)
        case .createDirectory(let parent, let name, let attributes):
            return try createDirectory(parent, name, attributes, &changes)
        case .removeDirectory(let id): return try removeDirectory(id, &changes)
        case .removeVolume(let id, let recursive): return try removeVolume(id, recursive: recursive, &changes)
        case .renameVolume(let id, let directory, let name, let replacing):
            return try renameVolume(id, directory, name, replacing: replacing, &changes)
        case .renameDirectory(let id, let parent, let name): return try renameDirectory(id, parent, name, &changes)
        case .renameSnapshot(let volume, let from, let to, let replacing):
            return try renameSnapshot(volume, from, to, replacing: replacing, &changes)
        case .setAttributes(let id, let attributes): return try setAttributes(id, attributes, &changes)
        case .setDirectoryAttributes(let id, let attributes):
            return try setDirectoryAttributes(id, attributes, &changes)
        case .setSnapshotAttributes(let volume, let tag, let attributes):
            return try setSnapshotAttributes(volume, tag, attributes, &changes)
        case .setVolumeCopies(let id, let copies): return try setVolumeCopies(id, copies, &changes)
        case .copiesReached(let id, let copies, let epoch): return try copiesReached(id, copies, epoch, &changes)
        case .resize(let id, let size): return try resize(id, size, &changes)
        case .trimmed(let id): return try trimmed(id, &changes)
        case .snapshot(let members, let tag, let group, let wallClock):
            return try snapshot(members, tag, group, wallClock, &changes)
        case .removeSnapshot(let volume, let tag): return try removeSnapshot(volume, tag, &changes)
        case .removeGroupSnapshot(let directory, let tag): return try removeGroupSnapshot(directory, tag, &changes)
        case .clone(let source, let directory, let name, let copies, let attributes):
            return try clone(source, directory, name, copies, attributes, &changes)
        case .cloneCurrent(let source, let term, let directory, let name, let attributes, let wallClock):
            return try cloneCurrent(source, term, directory, name, attributes, wallClock, &changes)
        case .rollback(let volume, let term, let tag): return try rollback(volume, term, tag, &changes)
        case .flattened(let volume, let term): return try flattened(volume, term, &changes)
        case .acquireLease(let volume, let node, let incarnation):
            return try acquireLease(volume, node, incarnation, &changes)
        case .releaseLease(let volume, let term): return try releaseLease(volume, term, &changes)
        case .raiseTerm(let volume, let term): return try raiseTerm(volume, term, &changes)
        case .addStore(let description): return try addStore(description, &changes)
        case .storeUp(let id, let session, let wallClock): return try storeUp(id, session, wallClock, &changes)
        case .sessionsConfirmed(let ids): return try sessionsConfirmed(ids, &changes)
        case .storeDown(let id, let reason, let wallClock): return try storeDown(id, reason, wallClock, &changes)
        case .storeOut(let id, let reason, let wallClock): return try storeOut(id, reason, wallClock, &changes)
        case .replaceStore(let id, let description): return try replaceStore(id, description, &changes)
        case .removeStore(let id): return try removeStore(id, &changes)
        case .setWeight(let id, let weight): return try setWeight(id, weight, &changes)
        case .inSync(let id, let ranges, let epoch): return try inSync(id, ranges, epoch, &changes)
        case .dropOldRing(let epoch): return try dropOldRing(epoch, &changes)
        case .acceptLoss(let ids): return try acceptLoss(ids, &changes)
        case .adopted(let id, let since): return try adopted(id, since, &changes)
        case .allowMoveReplacement(let epoch): return try allowMoveReplacement(epoch, &changes)
        case .setCatalogStores(let ids): return try setCatalogStores(ids)
        case .changeSettings(let new): return try changeSettings(new, &changes)
        case .pruned(let volume, let store): return pruned(volume, store)
        case .none: return .done
        }
    }
}
