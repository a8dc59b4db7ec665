// Making and closing a store. A new store has all that it needs to live through a full disk; a closed one needs no
// replay. Neither is done while anything else is.
import Model

extension ObjectStore {
    /// Made at once, because a full disk must not keep the journal from turning.
    private static let firstSegments: UInt64 = 4

    /// Makes an empty store: the first journal segments, two empty index images, and at last the superblock.
    package static func format(
        _ disk: any Disk, identity: StoreIdentity, configuration: StoreConfiguration = StoreConfiguration(),
        completion: @escaping StoreCompletion
    ) {
        precondition(
            configuration.journalSegmentBytes % blockSize == 0
                && configuration.journalSegmentBytes >= Superblock.smallestSegmentBytes)
        var steps: [DiskOperation] = []
        for slot in 0..<firstSegments {
            steps.append(.createWritten(.journal(slot), size: UInt64(configuration.journalSegmentBytes)))
            let page = Buffer(capacity: SegmentHeader.bytes)
            SegmentHeader(
                store: identity.storeId.rawValue, sequence: 0, firstLsn: 0,
                size: UInt64(configuration.journalSegmentBytes)
            ).encode(to: page.bytes)
            steps.append(
                .append(
                    FileWrite(
                        file: .journal(slot), offset: 0, slices: [BufferSlice(page, offset: 0, count: page.capacity)])))
            steps.append(.sync([.journal(slot)]))
        }
        for checkpoint in [UInt32(0), 1] {
            var builder = IndexImageBuilder(
                checkpoint: checkpoint, store: identity.storeId.rawValue, startLsn: 1, nextSequence: 1, index: Index())
            steps.append(.replace(.index(UInt8(checkpoint)), contents: builder.finish(durableLsn: 0)))
        }
        let superblock = Superblock(
            identity: identity, segmentBytes: UInt64(configuration.journalSegmentBytes),
            session: StoreSession(bootId: ClusterId(high: 0, low: 0), incarnation: 0),
            lastBootId: ClusterId(high: 0, low: 0), isClean: true)
        steps.append(.replace(.superblock, contents: superblock.encode()))
        run(disk, steps[...], completion)
    }
    private static func run(
        _ disk: any Disk, _ steps: ArraySlice<DiskOperation>, _ completion: @escaping StoreCompletion
    ) {
        guard let step = steps.first else { return completion(.success(())) }
        disk.submit(step) { result in
            switch result {
            case .success: run(disk, steps.dropFirst(), completion)
            case .failure(.noSpace): completion(.failure(.full))
            case .failure(let errno): completion(.failure(.io(errno)))
            }
        }
    }

    /// Checkpoint and clean mark. Nothing may be called afterwards.
    package func close(completion: @escaping StoreCompletion) {
        guard isOpen else { return fail(completion, .dead) }
        let seal: StoreCompletion = { [self] result in
            guard case .success = result else {
                stop()
                return completion(result)
            }
            isOpen = false
            superblock.isClean = true
            disk.submit(.replace(.superblock, contents: superblock.encode())) { [self] result in
                stop()
                switch result {
                case .success: completion(.success(()))
                case .failure(let errno): completion(.failure(.io(errno)))
                }
            }
        }
        let isRunning = checkpoint != nil
        checkpointWaiters.append { [self] result in
            guard isRunning, case .success = result else { return seal(result) }
            checkpointWaiters.append(seal)
            startCheckpoint()
        }
        startCheckpoint()
    }
}
