// A state on one store: an image of it and the log of entries after it. Reads what is there, appends, and
// replaces the image. Knows nothing of other stores, and never believes a byte that its checksum does not cover.
import Model

final class StateLog<State: LoggedState> {
    typealias Format = StateLogFormat<State>

    let id: StoreId
    let disk: any Disk
    /// The highest view that is durable here as a promise.
    private(set) var promised: UInt64 = 0
    /// What this store has, once read or written; nil: nothing that can be used.
    private(set) var found: Format.Image?
    /// There is no such file, not even a damaged one.
    private(set) var isBlank = false
    /// Where the next append goes.
    private var base: UInt64 = 1
    private var offset: UInt64 = 0

    init(id: StoreId, disk: any Disk) {
        self.id = id
        self.disk = disk
    }

    // MARK: reading

    enum Failure: Error {
        case disk(Errno)
        case refused(SheepError)
    }

    /// Reads the newest image that is whole, and the log after it up to its torn end. Then `found` is nil when there
    /// is none, or when entries that were acknowledged are damaged.
    func load(_ completion: @escaping (Failure?) -> Void) {
        found = nil
        disk.submit(.list(.catalogState)) { result in
            switch result {
            case .failure(let errno): completion(.disk(errno))
            case .success(.files(let files)):
                self.isBlank = files.isEmpty
                self.loadImages(Array(files.reversed()), completion)
            case .success: completion(.disk(.inputOutput))
            }
        }
    }

    private func loadImages(_ files: [StoreFile], _ completion: @escaping (Failure?) -> Void) {
        guard let file = files.first else {
            guard let found else { return completion(nil) }
            return loadLog(found, completion)
        }
        disk.submit(.readWhole(file, limit: Format.maximumImageBytes)) { result in
            switch result {
            case .success(.contents(let bytes)):
                do throws(SheepError) {
                    if let image = try Format.decodeImage(bytes) {
                        self.promised = max(self.promised, image.promised, image.view)
                        if self.found.map({ $0.position < image.position }) ?? true { self.found = image }
                    }
                } catch {
                    return completion(.refused(error))
                }
                self.loadImages(Array(files.dropFirst()), completion)
            case .failure(.noEntry): self.loadImages(Array(files.dropFirst()), completion)
            case .failure(let errno): completion(.disk(errno))
            case .success: completion(.disk(.inputOutput))
            }
        }
    }

    private func loadLog(_ image: Format.Image, _ completion: @escaping (Failure?) -> Void) {
        let log = StoreFile.catalogLog(image.state.index + 1)
        disk.submit(.readWhole(log, limit: Format.maximumImageBytes)) { result in
            switch result {
            case .success(.contents(let bytes)):
                do throws(SheepError) {
                    self.found = try StateLog.replay(bytes, onto: image)
                    self.promised = max(self.promised, self.found?.view ?? 0)
                    completion(nil)
                } catch {
                    completion(.refused(error))
                }
            case .failure(.noEntry): completion(nil)
            case .failure(let errno): completion(.disk(errno))
            case .success: completion(.disk(.inputOutput))
            }
        }
    }

    /// The image brought forward by the entries of its log. A torn last append is cut off. nil: something that was
    /// written before a later append is damaged, so entries that were acknowledged are lost here.
    static func replay(
        _ log: [UInt8], onto start: Format.Image
    ) throws(SheepError) -> Format.Image? {
        var image = start
        var offset = 0
        while true {
            switch Format.parse(log, at: offset, image.state.clusterId, hash: image.hash) {
            case .newerFormat(let version): throw Format.newer(version)
            case .entry(let entry, let end, let hash):
                guard entry.index == image.state.index + 1, entry.view >= image.view else { return nil }
                image.state.replay(entry.command, request: entry.request)
                image.view = entry.view
                image.hash = hash
                offset = end
            case .end:
                return hasLaterAppend(log, from: offset, image) ? nil : image
            }
        }
    }

    /// Whether behind the end there is an entry of an append that began after the one that is broken here.
    private static func hasLaterAppend(_ log: [UInt8], from start: Int, _ image: Format.Image) -> Bool {
        let magic = withUnsafeBytes(of: State.entryMagic.littleEndian) { Array($0) }
        guard log.count >= Format.headerBytes, start <= log.count - Format.headerBytes else {
            return false
        }
        for position in start...(log.count - Format.headerBytes)
        where log[position] == magic[0] && log[position + 1] == magic[1] {
            guard case .header(let header) = Format.parseHeader(log, at: position, image.state.clusterId)
            else { continue }
            if header.entry.view >= image.view, header.entry.batch > image.state.index + 1 { return true }
        }
        return false
    }

    // MARK: writing

    /// Makes `view` durable as a promise, with what the store has.
    func promise(_ view: UInt64, _ completion: @escaping (Errno?) -> Void) {
        guard let found else { return completion(.noData) }
        replaceImage(
            Format.encode(promised: view, view: found.view, hash: found.hash, state: found.state.encoded()),
            index: found.state.index, promised: view, completion)
    }

    /// Writes the state whole and durably; older files go afterwards. `image` is made by `StateLogFormat.encode`.
    func replaceImage(
        _ image: [UInt8], index: UInt64, promised view: UInt64, _ completion: @escaping (Errno?) -> Void
    ) {
        disk.submit(.replace(.catalogState(index), contents: image)) { result in
            if case .failure(let errno) = result { return completion(errno) }
            self.promised = max(self.promised, view)
            self.base = index + 1
            self.offset = 0
            self.removeOthers(keeping: index, completion)
        }
    }

    /// Removes all other images and all logs. The log after this image is a new one: whatever a file of its name holds
    /// is in the image, or was passed over.
    private func removeOthers(keeping index: UInt64, _ completion: @escaping (Errno?) -> Void) {
        var files: [StoreFile] = []
        func list(_ kinds: ArraySlice<StoreFileKind>) {
            guard let kind = kinds.first else {
                if files.isEmpty { return completion(nil) }
                disk.submit(.remove(files, syncDirectory: true)) { result in
                    if case .failure(let errno) = result { completion(errno) } else { completion(nil) }
                }
                return
            }
            disk.submit(.list(kind)) { result in
                switch result {
                case .success(.files(let found)):
                    files += found.filter { $0 != .catalogState(index) }
                    list(kinds.dropFirst())
                case .failure(let errno): completion(errno)
                case .success: completion(.inputOutput)
                }
            }
        }
        list([.catalogState, .catalogLog])
    }

    func append(_ bytes: [UInt8], _ completion: @escaping (Errno?) -> Void) {
        disk.submit(.appendSynced(.catalogLog(base), offset: offset, contents: bytes)) { result in
            if case .failure(let errno) = result { return completion(errno) }
            self.offset += UInt64(bytes.count)
            completion(nil)
        }
    }

    /// What was read is not needed once the catalog is open.
    func forgetFound() { found = nil }
}
