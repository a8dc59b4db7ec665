// Commands as bytes, for log entries: a tag, then the fields in the order of their declaration. A tag is never given a
// new meaning; a new command gets the next number, and a changed format a new `catalogFormatVersion`.
import Model

extension CatalogCommand {
    func encode(_ w: inout ByteWriter) {
        switch self {
        case .createVolume(let directory, let name, let size, let copies, let attributes):
            w.write(UInt8(1))
            w.write(directory)
            w.write(name)
            w.write(size)
            w.write(optional: copies) { $0.write($1) }
            w.write(attributes)
        case .createDirectory(let parent, let name, let attributes):
            w.write(UInt8(2))
            w.write(parent)
            w.write(name)
            w.write(attributes)
        case .removeDirectory(let v0):
            w.write(UInt8(3))
            w.write(v0)
        case .removeVolume(let v0, let recursive):
            w.write(UInt8(4))
            w.write(v0)
            w.write(recursive)
        case .renameVolume(let v0, let directory, let name, let replacing):
            w.write(UInt8(5))
            w.write(v0)
            w.write(directory)
            w.write(name)
            w.write(replacing)
        case .renameDirectory(let v0, let parent, let name):
            w.write(UInt8(6))
            w.write(v0)
            w.write(parent)
            w.write(name)
        case .renameSnapshot(let volume, let from, let to, let replacing):
            w.write(UInt8(7))
            w.write(volume)
            w.write(from)
            w.write(to)
            w.write(replacing)
        case .setAttributes(let v0, let v1):
            w.write(UInt8(8))
            w.write(v0)
            w.write(v1)
        case .setDirectoryAttributes(let v0, let v1):
            w.write(UInt8(9))
            w.write(v0)
            w.write(v1)
        case .setSnapshotAttributes(let volume, let tag, let v2):
            w.write(UInt8(10))
            w.write(volume)
            w.write(tag)
            w.write(v2)
        case .setVolumeCopies(let v0, let copies):
            w.write(UInt8(11))
            w.write(v0)
            w.write(copies)
        case .copiesReached(let v0, let copies, let epoch):
            w.write(UInt8(38))
            w.write(v0)
            w.write(copies)
            w.write(epoch)
        case .resize(let v0, let size):
            w.write(UInt8(12))
            w.write(v0)
            w.write(size)
        case .trimmed(let v0):
            w.write(UInt8(13))
            w.write(v0)
        case .snapshot(let members, let tag, let group, let wallClock):
            w.write(UInt8(14))
            w.write(all: members) { w, member in
                w.write(member.volume)
                w.write(member.term)
                w.write(member.replaceExisting)
            }
            w.write(tag)
            w.write(optional: group) { $0.write($1) }
            w.write(wallClock)
        case .removeSnapshot(let volume, let tag):
            w.write(UInt8(15))
            w.write(volume)
            w.write(tag)
        case .removeGroupSnapshot(let directory, let tag):
            w.write(UInt8(16))
            w.write(directory)
            w.write(tag)
        case .clone(let source, let directory, let name, let copies, let attributes):
            w.write(UInt8(17))
            w.write(source)
            w.write(directory)
            w.write(name)
            w.write(optional: copies) { $0.write($1) }
            w.write(attributes)
        case .cloneCurrent(let source, let term, let directory, let name, let attributes, let wallClock):
            w.write(UInt8(18))
            w.write(source)
            w.write(term)
            w.write(directory)
            w.write(name)
            w.write(attributes)
            w.write(wallClock)
        case .rollback(let volume, let term, let tag):
            w.write(UInt8(19))
            w.write(volume)
            w.write(term)
            w.write(tag)
        case .flattened(let volume, let term):
            w.write(UInt8(20))
            w.write(volume)
            w.write(term)
        case .acquireLease(let v0, let node, let incarnation):
            w.write(UInt8(21))
            w.write(v0)
            w.write(node)
            w.write(incarnation)
        case .releaseLease(let v0, let term):
            w.write(UInt8(22))
            w.write(v0)
            w.write(term)
        case .addStore(let v0):
            w.write(UInt8(23))
            w.write(v0)
        case .storeUp(let v0, let session, let wallClock):
            w.write(UInt8(24))
            w.write(v0)
            w.write(session)
            w.write(wallClock)
        case .storeDown(let v0, let reason, let wallClock):
            w.write(UInt8(25))
            w.write(v0)
            w.write(reason)
            w.write(wallClock)
        case .storeOut(let v0, let reason, let wallClock):
            w.write(UInt8(26))
            w.write(v0)
            w.write(reason)
            w.write(wallClock)
        case .replaceStore(let v0, let v1):
            w.write(UInt8(27))
            w.write(v0)
            w.write(v1)
        case .removeStore(let v0):
            w.write(UInt8(28))
            w.write(v0)
        case .setWeight(let v0, let v1):
            w.write(UInt8(29))
            w.write(v0)
            w.write(v1)
        case .inSync(let v0, let v1, let epoch):
            w.write(UInt8(30))
            w.write(v0)
            w.write(v1)
            w.write(epoch)
        case .dropOldRing(let epoch):
            w.write(UInt8(31))
            w.write(epoch)
        case .acceptLoss(let v0):
            w.write(UInt8(32))
            w.write(all: v0) { $0.write($1) }
        case .changeSettings(let v0):
            w.write(UInt8(33))
            w.write(v0)
        case .pruned(let v0, let v1):
            w.write(UInt8(34))
            w.write(v0)
            w.write(v1)
        case .none:
            w.write(UInt8(35))
        case .allowMoveReplacement(let epoch):
            w.write(UInt8(36))
            w.write(epoch)
        case .setCatalogStores(let v0):
            w.write(UInt8(37))
            w.write(all: v0) { $0.write($1) }
        case .adopted(let v0, let since):
            w.write(UInt8(39))
            w.write(v0)
            w.write(since)
        case .raiseTerm(let v0, let v1):
            w.write(UInt8(40))
            w.write(v0)
            w.write(v1)
        case .sessionsConfirmed(let v0):
            w.write(UInt8(41))
            w.write(all: v0) { $0.write($1) }
        }
    }

    init(_ r: inout ByteReader) throws(DecodeError) {
        switch try r.read(UInt8.self) {
        case 1:
            self = .createVolume(
                directory: try r.directoryId(), name: try r.readString(), size: try r.read(),
                copies: try r.optional { r throws(DecodeError) in try r.int() }, attributes: try r.attributes())
        case 2:
            self = .createDirectory(
                parent: try r.directoryId(), name: try r.readString(), attributes: try r.attributes())
        case 3: self = .removeDirectory(try r.directoryId())
        case 4: self = .removeVolume(try r.volumeId(), recursive: try r.readBool())
        case 5:
            self = .renameVolume(
                try r.volumeId(), directory: try r.directoryId(), name: try r.readString(), replacing: try r.readBool())
        case 6: self = .renameDirectory(try r.directoryId(), parent: try r.directoryId(), name: try r.readString())
        case 7:
            self = .renameSnapshot(
                volume: try r.volumeId(), from: try r.readString(), to: try r.readString(), replacing: try r.readBool())
        case 8: self = .setAttributes(try r.volumeId(), try r.attributes())
        case 9: self = .setDirectoryAttributes(try r.directoryId(), try r.attributes())
        case 10: self = .setSnapshotAttributes(volume: try r.volumeId(), tag: try r.readString(), try r.attributes())
        case 11: self = .setVolumeCopies(try r.volumeId(), copies: try r.int())
        case 12: self = .resize(try r.volumeId(), size: try r.read())
        case 13: self = .trimmed(try r.volumeId())
        case 14:
            self = .snapshot(
                members: try r.all(9) { r throws(DecodeError) in
                    SnapshotRequest(volume: try r.volumeId(), term: try r.term(), replaceExisting: try r.readBool())
                }, tag: try r.readString(), group: try r.optional { r throws(DecodeError) in try r.directoryId() },
                wallClock: try r.read())
        case 15: self = .removeSnapshot(volume: try r.volumeId(), tag: try r.readString())
        case 16: self = .removeGroupSnapshot(directory: try r.directoryId(), tag: try r.readString())
        case 17:
            self = .clone(
                source: try r.snapshotReference(), directory: try r.directoryId(), name: try r.readString(),
                copies: try r.optional { r throws(DecodeError) in try r.int() }, attributes: try r.attributes())
        case 18:
            self = .cloneCurrent(
                source: try r.volumeId(), term: try r.term(), directory: try r.directoryId(), name: try r.readString(),
                attributes: try r.attributes(), wallClock: try r.read())
        case 19: self = .rollback(volume: try r.volumeId(), term: try r.term(), tag: try r.readString())
        case 20: self = .flattened(volume: try r.volumeId(), term: try r.term())
        case 21: self = .acquireLease(try r.volumeId(), node: try r.nodeId(), incarnation: try r.read())
        case 22: self = .releaseLease(try r.volumeId(), term: try r.term())
        case 23: self = .addStore(try r.storeDescription())
        case 24: self = .storeUp(try r.storeId(), session: try r.session(), wallClock: try r.read())
        case 25: self = .storeDown(try r.storeId(), reason: try r.readString(), wallClock: try r.read())
        case 26: self = .storeOut(try r.storeId(), reason: try r.readString(), wallClock: try r.read())
        case 27: self = .replaceStore(try r.storeId(), by: try r.storeDescription())
        case 28: self = .removeStore(try r.storeId())
        case 29: self = .setWeight(try r.storeId(), try r.read())
        case 30: self = .inSync(try r.storeId(), try r.rangeSet(), epoch: try r.epoch())
        case 31: self = .dropOldRing(epoch: try r.epoch())
        case 32: self = .acceptLoss(try r.all(8) { r throws(DecodeError) in try r.storeId() })
        case 33: self = .changeSettings(try r.settings())
        case 34: self = .pruned(try r.volumeId(), try r.storeId())
        case 35: self = .none
        case 36: self = .allowMoveReplacement(epoch: try r.epoch())
        case 38: self = .copiesReached(try r.volumeId(), copies: try r.int(), epoch: try r.epoch())
        case 37: self = .setCatalogStores(try r.all(8) { r throws(DecodeError) in try r.storeId() })
        case 39: self = .adopted(try r.storeId(), since: try r.epoch())
        case 40: self = .raiseTerm(try r.volumeId(), try r.term())
        case 41: self = .sessionsConfirmed(try r.all(8) { r throws(DecodeError) in try r.storeId() })
        default: throw .badValue("command")
        }
    }
}
