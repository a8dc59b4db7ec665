// A store of this node, as the gateway of a cluster's node uses it: the requests that carry no authority of their own
// are refused when another gateway has fenced the volume since, as the server does for gateways of other nodes. On a host
// by itself there is no other gateway, and the copy is used as it is.
import Catalog
import Model
import ObjectStore

final class GuardedCopy: CopyChannel {
    let copy: Copy
    private let clock: any Clock
    /// The terms under which this gateway fenced volumes last.
    private var terms: [VolumeId: Term] = [:]
    init(_ copy: Copy, clock: any Clock) {
        self.copy = copy
        self.clock = clock
    }
    var store: StoreId { copy.store }

    private func refusal(_ volume: VolumeId) -> CopyFailure? {
        let fenced = copy.objects.fencedTerm(of: volume)
        return (terms[volume] ?? .none) < fenced ? .staleTerm(fenced) : nil
    }
    private func unless(
        _ volume: VolumeId, _ reply: @escaping (CopyFailure?) -> Void, _ action: () -> Void
    ) {
        guard let failure = refusal(volume) else { return action() }
        clock.after(milliseconds: 0) { reply(failure) }
    }
    private func unless<T>(
        _ volume: VolumeId, _ reply: @escaping (Result<T, CopyFailure>) -> Void, _ action: () -> Void
    ) {
        guard let failure = refusal(volume) else { return action() }
        clock.after(milliseconds: 0) { reply(.failure(failure)) }
    }

    func admits(_ object: ObjectId, _ generation: Generation, _ blocks: BlockRange) -> Bool {
        copy.admits(object, generation, blocks)
    }
    func write(_ request: CopyWrite, _ reply: @escaping (Result<CopyWritten, CopyFailure>) -> Void) {
        copy.write(request, reply)
    }
    func read(
        _ object: ObjectId, _ path: GenerationPath, _ blocks: BlockRange, into buffer: Buffer, bufferOffset: Int,
        _ reply: @escaping (Result<CopyRead, CopyFailure>) -> Void
    ) {
        unless(object.volume, reply) {
            copy.read(object, path, blocks, into: buffer, bufferOffset: bufferOffset, reply)
        }
    }
    func flush(_ reply: @escaping (CopyFailure?) -> Void) { copy.flush(reply) }
    func fence(
        _ volume: VolumeId, _ authority: Authority, _ reply: @escaping (Result<[CopySummary], CopyFailure>) -> Void
    ) {
        terms[volume] = authority.term
        copy.fence(volume, authority, reply)
    }
    func view(
        _ object: ObjectId, _ path: GenerationPath, _ reply: @escaping (Result<ComposedView, CopyFailure>) -> Void
    ) {
        unless(object.volume, reply) { copy.view(object, path, reply) }
    }
    func beginSync(
        _ object: ObjectId, top: Generation, base: Version, pending: BlockBitmap, _ authority: Authority,
        _ reply: @escaping (CopyFailure?) -> Void
    ) { copy.beginSync(object, top: top, base: base, pending: pending, authority, reply) }
    func fill(_ fill: CopyFill, _ reply: @escaping (CopyFailure?) -> Void) {
        unless(fill.object.volume, reply) { copy.fill(fill, reply) }
    }
    func completeSync(_ object: ObjectId, _ authority: Authority, _ reply: @escaping (CopyFailure?) -> Void) {
        copy.completeSync(object, authority, reply)
    }
    func markSuspect(_ object: ObjectId, _ reply: @escaping (CopyFailure?) -> Void) {
        unless(object.volume, reply) { copy.markSuspect(object, reply) }
    }
    func stamp(_ object: ObjectId, _ version: Version, _ reply: @escaping (CopyFailure?) -> Void) {
        unless(object.volume, reply) { copy.stamp(object, version, reply) }
    }
    func verify(
        _ object: ObjectId, deep: Bool, _ reply: @escaping (Result<VerifyOutcome, CopyFailure>) -> Void
    ) { unless(object.volume, reply) { copy.verify(object, deep: deep, reply) } }
    func reread(_ object: ObjectId, _ reply: @escaping (Result<Bool, CopyFailure>) -> Void) {
        unless(object.volume, reply) { copy.reread(object, reply) }
    }
    func empty(_ object: ObjectId, _ reply: @escaping (CopyFailure?) -> Void) {
        unless(object.volume, reply) { copy.empty(object, reply) }
    }
    func remove(_ object: ObjectId, _ reply: @escaping (CopyFailure?) -> Void) {
        unless(object.volume, reply) { copy.remove(object, reply) }
    }
}
