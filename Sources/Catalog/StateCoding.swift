// The whole state as bytes, for images on stores and for nodes that join. What can be computed (rings, the table of
// names) is not in it. A state that was read is checked as a whole before anybody uses it.
import Model
import OrderedCollections
import Placement

/// The version of the formats of log entries and state images.
/// 2: adoptions, behind everything else where there are any. 3: behind these, parts of S whose sessions broke.
package let catalogFormatVersion: UInt16 = 3

extension CatalogState {
    package func encoded() -> [UInt8] {
        var w = ByteWriter()
        w.write(clusterId)
        w.write(index)
        w.write(settings)
        w.write(nextVolumeId)
        w.write(nextDirectoryId)
        w.write(all: catalogStores) { $0.write($1) }
        w.write(all: unconfirmedCatalogStores) { w, list in w.write(all: list) { $0.write($1) } }
        map.encode(&w)
        w.write(all: directories.values) { $1.encode(&$0) }
        w.write(all: volumes.values) { $1.encode(&$0) }
        w.write(all: deletedVolumes.values) { w, deleted in
            w.write(deleted.id)
            w.write(all: deleted.stores) { $0.write($1) }
        }
        w.write(UInt32(answered.count))
        for (request, answered) in answered {
            w.write(request)
            w.write(answered.index)
            w.write(answered.answer)
        }
        map.encodeAdoptions(&w)
        map.encodeBroken(&w)
        return w.bytes
    }

    /// Fails on bytes that `encoded` cannot have made; never traps.
    package init(decoding bytes: [UInt8]) throws(DecodeError) {
        var r = ByteReader(bytes)
        clusterId = try r.clusterId()
        index = try r.counter()
        settings = try r.settings()
        nextVolumeId = try r.read()
        nextDirectoryId = try r.read()
        catalogStores = try r.all(8) { r throws(DecodeError) in try r.storeId() }
        unconfirmedCatalogStores = try r.all(4) { r throws(DecodeError) in
            try r.all(8) { r throws(DecodeError) in try r.storeId() }
        }
        map = try ClusterMap(&r)
        for _ in 0..<(try r.readCount(minimumSize: 40)) {
            let record = try DirectoryRecord(&r)
            directories[record.id] = record
            if record.id != .root { names[DirectoryEntryKey(record.parent, record.name)] = .directory(record.id) }
        }
        for _ in 0..<(try r.readCount(minimumSize: 60)) {
            let record = try VolumeRecord(&r)
            volumes[record.id] = record
            if !record.isHidden { names[DirectoryEntryKey(record.directory, record.name)] = .volume(record.id) }
        }
        for _ in 0..<(try r.readCount(minimumSize: 8)) {
            let id = try r.volumeId()
            let stores = try r.all(8) { r throws(DecodeError) in try r.storeId() }
            deletedVolumes[id] = DeletedVolume(id: id, stores: stores)
        }
        for _ in 0..<(try r.readCount(minimumSize: 25)) {
            let request = try r.requestId()
            answered[request] = AnsweredRequest(index: try r.counter(), answer: try r.answer())
        }
        if r.remaining > 0 { try map.readAdoptions(&r) }
        if r.remaining > 0 { try map.readBroken(&r) }
        guard r.remaining == 0 else { throw .badValue("bytes behind the state") }
        if let problem = inconsistency() { throw .badValue(problem) }
    }
}

extension ClusterMap {
    fileprivate func encode(_ w: inout ByteWriter) {
        w.write(epoch)
        w.write(joinedZones)
        w.write(moveIsReplaceable)
        w.write(all: stores) { $1.encode(&$0) }
        onRing.encode(&w)
        w.write(optional: toRing) { $1.encode(&$0) }
    }

    fileprivate init(_ r: inout ByteReader) throws(DecodeError) {
        self.init(copies: 1)
        epoch = try r.epoch()
        joinedZones = try r.int()
        moveIsReplaceable = try r.readBool()
        stores = try r.all(80) { r throws(DecodeError) in try StoreRecord(&r) }
        guard zip(stores, stores.dropFirst()).allSatisfy({ $0.id < $1.id }) else { throw .badValue("stores") }
        let known = Set(stores.map(\.id))
        let on = try RingDescription(&r, known)
        let to = try r.optional { r throws(DecodeError) in try RingDescription(&r, known) }
        setOn(on)
        setTo(to)
    }

    fileprivate func encodeAdoptions(_ w: inout ByteWriter) {
        let adopting = stores.filter { $0.adoption != nil }
        guard !adopting.isEmpty || stores.contains(where: { $0.broken != nil }) else { return }
        w.write(all: adopting) { w, store in
            w.write(store.id)
            w.write(store.adoption!.since)
            w.write(all: store.adoption!.ranges.levels) { $0.write($1) }
        }
    }

    fileprivate mutating func readAdoptions(_ r: inout ByteReader) throws(DecodeError) {
        let count = try r.readCount(minimumSize: 20)
        guard count > 0 || r.remaining > 0 else { throw .badValue("adoptions") }
        var next = 0
        for _ in 0..<count {
            let id = try r.storeId()
            let since = try r.epoch()
            let ranges = try InSyncSets(&r)
            guard let index = stores[next...].firstIndex(where: { $0.id == id }) else { throw .badValue("adoptions") }
            stores[index].adoption = Adoption(ranges: ranges, since: since)
            next = index + 1
        }
    }

    fileprivate func encodeBroken(_ w: inout ByteWriter) {
        let broken = stores.filter { $0.broken != nil }
        guard !broken.isEmpty else { return }
        w.write(all: broken) { w, store in
            w.write(store.id)
            w.write(all: store.broken!.levels) { $0.write($1) }
        }
    }

    fileprivate mutating func readBroken(_ r: inout ByteReader) throws(DecodeError) {
        let count = try r.readCount(minimumSize: 12)
        guard count > 0 else { throw .badValue("broken sessions") }
        var next = 0
        for _ in 0..<count {
            let id = try r.storeId()
            let ranges = try InSyncSets(&r)
            guard let index = stores[next...].firstIndex(where: { $0.id == id }) else {
                throw .badValue("broken sessions")
            }
            stores[index].broken = ranges
            next = index + 1
        }
    }
}

extension InSyncSets {
    fileprivate init(_ r: inout ByteReader) throws(DecodeError) {
        let count = try r.readCount(minimumSize: 1)
        guard (1...7).contains(count) else { throw .badValue("in-sync ranges") }
        var levels: [RangeSet] = []
        for _ in 0..<count { levels.append(try r.rangeSet()) }
        self.init(levels: levels)
    }
}

extension RingDescription {
    fileprivate func encode(_ w: inout ByteWriter) {
        w.write(copies)
        w.write(all: members) { w, member in
            w.write(member.store)
            w.write(member.weight)
            w.write(member.zone)
        }
    }

    /// Checks all that computing the ring relies on.
    fileprivate init(_ r: inout ByteReader, _ known: Set<StoreId>) throws(DecodeError) {
        copies = try r.int()
        members = try r.all(24) { r throws(DecodeError) in
            RingMember(store: try r.storeId(), weight: try r.read(), zone: try r.read())
        }
        let isSane =
            (1...7).contains(copies) && members.count <= ClusterMap.maximumStores
            && members.allSatisfy { known.contains($0.store) && $0.weight <= ClusterMap.maximumWeight }
            && zip(members, members.dropFirst()).allSatisfy { $0.store < $1.store }
        guard isSane else { throw .badValue("ring") }
    }
}

extension StoreRecord {
    fileprivate func encode(_ w: inout ByteWriter) {
        w.write(id)
        w.write(node)
        w.write(path)
        w.write(weight)
        w.write(zone)
        w.write(status.rawValue)
        w.write(session)
        w.write(reason)
        w.write(changedWallClock)
        w.write(all: inSync.levels) { $0.write($1) }
        w.write(isLeaving)
        w.write(optional: sessionBrokeAt) { $0.write($1) }
    }

    fileprivate init(_ r: inout ByteReader) throws(DecodeError) {
        id = try r.storeId()
        node = try r.nodeId()
        path = try r.readString()
        weight = try r.read()
        zone = try r.read()
        guard let known = StoreStatus(rawValue: try r.read()) else { throw .badValue("store status") }
        status = known
        session = try r.session()
        reason = try r.readString()
        changedWallClock = try r.read()
        inSync = try InSyncSets(&r)
        isLeaving = try r.readBool()
        sessionBrokeAt = try r.optional { r throws(DecodeError) in try r.epoch() }
    }
}

extension DirectoryRecord {
    fileprivate func encode(_ w: inout ByteWriter) {
        w.write(id)
        w.write(parent)
        w.write(name)
        w.write(attributes)
        w.write(all: groupSnapshots.values) { w, group in
            w.write(group.tag)
            w.write(group.createdWallClock)
            w.write(all: group.members) { $0.write($1) }
        }
    }

    fileprivate init(_ r: inout ByteReader) throws(DecodeError) {
        id = try r.directoryId()
        parent = try r.directoryId()
        name = try r.readString()
        attributes = try r.attributes()
        let groups = try r.all(16) { r throws(DecodeError) in
            GroupSnapshotRecord(
                tag: try r.readString(), createdWallClock: try r.read(),
                members: try r.all(8) { r throws(DecodeError) in try r.snapshotReference() })
        }
        for group in groups { groupSnapshots[group.tag] = group }
    }
}

extension VolumeRecord {
    fileprivate func encode(_ w: inout ByteWriter) {
        w.write(id)
        w.write(directory)
        w.write(name)
        w.write(size)
        w.write(optional: trimFrom) { $0.write($1) }
        w.write(copies)
        w.write(optional: wantedCopies) { $0.write($1) }
        w.write(generation)
        w.write(all: hidden) { $0.write($1) }
        w.write(all: snapshots) { $1.encode(&$0) }
        w.write(optional: parent) { w, parent in
            w.write(parent.volume)
            w.write(parent.generation)
            w.write(parent.visibleBytes)
        }
        w.write(attributes)
        w.write(optional: lease) { w, lease in
            w.write(lease.node)
            w.write(lease.incarnation)
            w.write(lease.term)
        }
        w.write(term)
        w.write(createdWallClock)
        w.write(isHidden)
    }

    fileprivate init(_ r: inout ByteReader) throws(DecodeError) {
        id = try r.volumeId()
        directory = try r.directoryId()
        name = try r.readString()
        size = try r.read()
        trimFrom = try r.optional { r throws(DecodeError) in try r.read() }
        copies = try r.int()
        wantedCopies = try r.optional { r throws(DecodeError) in try r.int() }
        generation = try r.generation()
        hidden = try r.all(8) { r throws(DecodeError) in try r.generations() }
        snapshots = try r.all(60) { r throws(DecodeError) in try SnapshotRecord(&r) }
        parent = try r.optional { r throws(DecodeError) in
            ParentReference(volume: try r.volumeId(), generation: try r.generation(), visibleBytes: try r.read())
        }
        attributes = try r.attributes()
        lease = try r.optional { r throws(DecodeError) in
            Lease(node: try r.nodeId(), incarnation: try r.read(), term: try r.term())
        }
        term = try r.term()
        createdWallClock = try r.read()
        isHidden = try r.readBool()
    }
}

extension SnapshotRecord {
    fileprivate func encode(_ w: inout ByteWriter) {
        w.write(tag)
        w.write(generation)
        w.write(all: hidden) { $0.write($1) }
        w.write(size)
        w.write(parentVisibleBytes)
        w.write(optional: trimFrom) { $0.write($1) }
        w.write(attributes)
        w.write(createdWallClock)
        w.write(isHidden)
        w.write(cloneCount)
    }

    fileprivate init(_ r: inout ByteReader) throws(DecodeError) {
        tag = try r.readString()
        generation = try r.generation()
        hidden = try r.all(8) { r throws(DecodeError) in try r.generations() }
        size = try r.read()
        parentVisibleBytes = try r.read()
        trimFrom = try r.optional { r throws(DecodeError) in try r.read() }
        attributes = try r.attributes()
        createdWallClock = try r.read()
        isHidden = try r.readBool()
        cloneCount = try r.int()
    }
}
