// Copies with a header that could not be read: noted, and believed again when all of them can be read after all (a loose
// cable, a file that was brought back). Never a copy that may have missed something: that one is suspect.
import Model

extension ObjectStore {
    /// A header of the copy cannot be read. One that was being made has to be begun again.
    func noteDamage(_ object: ObjectId) {
        inOrder(object, fail: { _ in }) { [self] in
            guard let entry = index[object] else { return }
            let state: CopyState
            switch entry.state {
            case .complete: state = .damaged
            case .syncing: state = .suspect
            case .suspect, .damaged: return
            }
            index.setState(entry, state)
            var record = Record()
            record.type = .state
            record.object = object.rawValue
            record.argument = UInt64(state.rawValue)
            _ = journal.stage(record, completion: nil)
        }
        checkpointIfNeeded()
    }

    /// Reads every header and block of a copy that is `damaged`. Answers true when all of it is fine: it is complete again,
    /// durably.
    package func reread(object: ObjectId, completion: @escaping (Result<Bool, StoreError>) -> Void) {
        guard isOpen else { return later { completion(.failure(.dead)) } }
        guard let entry = index[object], entry.state == .damaged, entry.trust == index.trustGeneration else {
            return later { completion(.success(false)) }
        }
        forgetDamaged(object, entry)
        verify(object: object, deep: true) { [self] result in
            guard case .success(let outcome) = result else {
                if case .failure(let error) = result { completion(.failure(error)) }
                return
            }
            guard outcome.isFine, index[object]?.state == .damaged else { return completion(.success(false)) }
            setState(object: object, .complete, durable: true) { completion($0.map { true }) }
        }
    }

    /// What was kept in memory of headers that could not be read. One that was written to since stays: its records would
    /// be lost.
    private func forgetDamaged(_ object: ObjectId, _ entry: IndexEntry) {
        views.drop(object)
        for item in entry.generations {
            let key = FileKey(object: object, file: item.file)
            guard let sheet = sheets[key], sheet.isDamaged, sheet.isListed else { continue }
            unlist(sheet)
            sheets[key] = nil
        }
    }
}
