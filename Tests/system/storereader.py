# An independent reader of a store, written from its format's manual page, sheepfold-store-format(7), and from nothing
# else: index images, object files, journal replay, the composed view of every object. Compares stores.
# It must never write to a store (`raise_format_version` alone does, for a test), and never import the product's code.
import os
import re
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path

from crc32c import crc32c

BLOCK, BLOCKS, CHUNK_BLOCKS = 4096, 1024, 16
DATA_START = 16384
SUPERBLOCK_MAGIC, INDEX_MAGIC = 0x4F54535045454853, 0x5845444E49504853
OBJECT_MAGIC, JOURNAL_MAGIC, RECORD_MAGIC = 0x4A424F5045454853, 0x4E52554F4A504853, 0x524A4853
FORMAT = 1
COMPLETE, SYNCING, SUSPECT = 0, 1, 2
WRITE, DISCARD, BEGIN, FILL, STATE, VERSION, REMOVE_FILE, REMOVE_OBJECT, RENUMBER, FENCE, DISTRUST = range(1, 12)
_PATTERNS = {
    "superblock": "superblock", "index": "index.[01]", "journal": "journal/*.segment",
    "object": "objects/*/*.*.*", "catalog": "catalog/*", "quarantine": "quarantine/*",
}


class Damage(AssertionError):
    pass


def files(store: Path, kind: str) -> list:
    """The files of a kind: superblock, index, journal, object, catalog, quarantine."""
    return sorted(path for path in Path(store).glob(_PATTERNS[kind]) if path.is_file())


def raise_format_version(store: Path):
    """Makes a store look as if a later version had written it."""
    path = files(store, "superblock")[0]
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 8, FORMAT + 1)
    struct.pack_into("<I", content, 108, crc32c(content[:108]))
    path.write_bytes(content)


def _bits(words: bytes) -> int:
    """A bitmap as one number: bit b is block b."""
    return int.from_bytes(words, "little")


@dataclass
class Header:
    """What is known of one object file."""
    generation: int
    file: int
    stamp: int = 0
    version: int = 0
    held: int = 0
    zero: int = 0
    pending: int = 0
    chunks: list = field(default_factory=lambda: [0] * (BLOCKS // CHUNK_BLOCKS))
    checksums: list = field(default_factory=lambda: [0] * BLOCKS)
    damaged: bool = False
    # block -> (path of the segment, offset): blocks whose last record may not have reached the file.
    journaled: dict = field(default_factory=dict)

    def assign(self, block: int, held: bool, zero: bool, pending: bool):
        bit = 1 << block
        self.held = self.held | bit if held else self.held & ~bit
        self.zero = self.zero | bit if zero else self.zero & ~bit
        self.pending = self.pending | bit if pending else self.pending & ~bit


@dataclass
class Copy:
    """One object in this store."""
    object: int
    version: int = 0
    state: int = COMPLETE
    trust: int = 0
    # generation -> Header
    headers: dict = field(default_factory=dict)


@dataclass
class Record:
    path: Path
    at: int
    type: int
    flags: int
    blocks: int
    length: int
    table: bytes
    lsn: int
    durable: int
    object: int
    generation: int
    file: int
    version: int
    first: int
    count: int
    argument: int

    @property
    def payload_at(self):
        return self.at + 96 + len(self.table)

    def checksums(self):
        return struct.unpack_from(f"<{self.count}I", self.table)

    def actions(self):
        start = (4 * self.count + 7) // 8 * 8
        return self.table[start:start + self.count]


class Store:
    """Everything a store's files say, the journal replayed."""

    def __init__(self, directory: Path):
        self.directory = Path(directory)
        content = (self.directory / "superblock").read_bytes()
        magic, version, self.is_clean = struct.unpack_from("<QII", content)
        if len(content) != 112 or magic != SUPERBLOCK_MAGIC or crc32c(content[:108]) != struct.unpack_from("<I", content, 108)[0]:
            raise Damage(f"{directory}: the superblock is damaged")
        if version != FORMAT:
            raise Damage(f"{directory}: format version {version}")
        self.cluster, self.id = content[16:32], struct.unpack_from("<Q", content, 32)[0]
        self.copies = {}
        self.terms = {}
        self.trust = 0
        self.start = 1
        self._descriptors = {}
        self._object_paths = {}
        for path in files(self.directory, "object"):
            volume, index, number = (int(part, 16) for part in path.name.split("."))
            self._object_paths[volume << 32 | index, number] = path
        self._read_index()
        self._replay()

    # The index

    def _read_index(self):
        images = []
        for path in files(self.directory, "index"):
            content = path.read_bytes()
            if len(content) < 68 or crc32c(content[:-4]) != struct.unpack("<I", content[-4:])[0]:
                continue
            magic, version, checkpoint, store, start = struct.unpack_from("<QIIQQ", content)
            if magic == INDEX_MAGIC and version == FORMAT and store == self.id:
                images.append((checkpoint, content, start))
        if not images:
            return self._rebuild()
        _, content, self.start = max(images, key=lambda image: image[0])
        self.trust, terms, entries = struct.unpack_from("<IIQ", content, 40)
        at = 64
        for _ in range(terms):
            volume, term = struct.unpack_from("<II", content, at)
            self.terms[volume] = term
            at += 8
        for _ in range(entries):
            number, version, trust, count, state = struct.unpack_from("<QQIIB", content, at)
            at += 32
            copy = Copy(number, version, state, trust)
            for _ in range(count):
                generation, file, file_version, stamp, _, _ = struct.unpack_from("<IIQIHH", content, at)
                at += 24
                copy.headers[generation] = (
                    self._read_header(number, generation, file, stamp) if stamp else Header(generation, file))
                if not stamp:
                    copy.headers[generation].version = file_version
            self.copies[number] = copy
        if at != len(content) - 4:
            raise Damage(f"{self.directory}: the index has {len(content) - 4 - at} bytes too many")

    def _rebuild(self):
        for (number, file), _ in sorted(self._object_paths.items()):
            header = self._read_header(number, file, file, 0)
            if not header.damaged:
                copy = self.copies.setdefault(number, Copy(number, trust=-1))
                copy.headers[header.generation] = header

    def _read_header(self, number: int, generation: int, file: int, stamp: int) -> Header:
        best = None
        try:
            raw = self._read(self._object_paths[number, file], 0, DATA_START)
        except (KeyError, OSError):
            raw = b""
        for slot in (raw[:8192], raw[8192:]):
            if len(slot) < 8192 or crc32c(slot[:8188]) != struct.unpack_from("<I", slot, 8188)[0]:
                continue
            magic, version, written, object_, file_, slot_stamp, file_version = struct.unpack_from("<QIIQIIQ", slot)
            store = struct.unpack_from("<Q", slot, 5048)[0]
            if (magic, version, object_, file_, store) != (OBJECT_MAGIC, FORMAT, number, file, self.id) or slot_stamp < stamp:
                continue
            if best is None or slot_stamp > best.stamp:
                best = Header(generation, file, slot_stamp, file_version, _bits(slot[48:176]), _bits(slot[176:304]),
                              _bits(slot[304:432]), list(struct.unpack_from("<64Q", slot, 432)),
                              list(struct.unpack_from("<1024I", slot, 944)))
        return best or Header(generation, file, damaged=True)

    # The journal

    def _records(self) -> list:
        """All valid records from the image's start on, in order, up to the first that is missing."""
        segments = []
        for path in files(self.directory, "journal"):
            size = path.stat().st_size
            page = self._read(path, 0, 4096)
            sequence = None
            if len(page) >= 52 and crc32c(page[:48]) == struct.unpack_from("<I", page, 48)[0]:
                magic, version, _, store, sequence, first = struct.unpack_from("<QIIQQQ", page)
                if magic != JOURNAL_MAGIC or version != FORMAT or store != self.id:
                    sequence = None
            if sequence is None:
                record = self._record(path, 4096, size, None)
                if record is None:
                    continue
                sequence, first = self._sequence, record.lsn
            segments.append((sequence, first, path, size))
        records = {}
        void_from = None
        for sequence, first, path, size in sorted(segments, reverse=True):
            at = 4096
            while (record := self._record(path, at, size, sequence)) is not None:
                if void_from is None or record.lsn < void_from:
                    records[record.lsn] = record
                at += record.length
            void_from = first if void_from is None else min(void_from, first)
        chain = []
        lsn = self.start
        while lsn in records:
            chain.append(records[lsn])
            lsn += 1
        later = [r for r in records.values() if r.lsn > lsn and r.durable >= lsn]
        if later:
            raise Damage(f"{self.directory}: record {lsn} is missing, but record {later[0].lsn} says it was durable")
        return self._without_unwritten(chain)

    def _record(self, path: Path, at: int, size: int, sequence):
        head = self._read(path, at, 96)
        if len(head) < 96:
            return None
        (magic, type_, flags, blocks, length, table_length, lsn, durable, own_sequence, object_, generation, file,
         version, first, count, _, argument, _, table_crc, head_crc) = struct.unpack("<IBBHIIQQQQIIQHHIQQII", head)
        if magic != RECORD_MAGIC or crc32c(head[:92]) != head_crc:
            return None
        if length != 96 + table_length + BLOCK * blocks or at + length > size or length % 8:
            return None
        if sequence is not None and own_sequence != sequence:
            return None
        self._sequence = own_sequence
        table = self._read(path, at + 96, table_length)
        if crc32c(table) != table_crc:
            return None
        record = Record(path, at, type_, flags, blocks, length, table, lsn, durable, object_, generation, file, version,
                        first, count, argument)
        if blocks:
            wanted = record.checksums()
            if type_ == FILL:
                wanted = [c for c, action in zip(wanted, record.actions()) if action == 3]
            payload = self._read(path, record.payload_at, BLOCK * blocks)
            for number in range(blocks):
                if crc32c(payload[number * BLOCK:(number + 1) * BLOCK]) != wanted[number]:
                    return None
        return record

    def _without_unwritten(self, chain: list) -> list:
        """Ends before a record whose data should be in its file, is not, and was not known to be durable."""
        durable = max((r.durable for r in chain), default=0)
        while True:
            cut = None
            for position, record in enumerate(chain):
                if not record.flags & 1 or record.lsn <= durable or record.type not in (WRITE, FILL):
                    continue
                assigned_later = set()
                for later in chain[position + 1:]:
                    if (later.object, later.file) == (record.object, record.file) and later.type in (WRITE, DISCARD, FILL):
                        assigned_later |= set(range(later.first, later.first + later.count))
                actions = record.actions() if record.type == FILL else bytes([3]) * record.count
                for number, checksum in enumerate(record.checksums()):
                    block = record.first + number
                    if actions[number] == 3 and block not in assigned_later and \
                            crc32c(self._file_block(record.object, record.file, block)) != checksum:
                        cut = position
                        break
                if cut is not None:
                    break
            if cut is None:
                return chain
            chain = chain[:cut]

    def _replay(self):
        self._sequence = 0
        for record in self._records():
            self._apply(record)

    def _apply(self, record: Record):
        if record.type == FENCE:
            volume = record.object >> 32
            self.terms[volume] = max(self.terms.get(volume, 0), record.argument)
            return
        if record.type == DISTRUST:
            self.trust = max(self.trust, record.argument)
            return
        copy = self.copies.get(record.object)
        if record.type == REMOVE_OBJECT:
            self.copies.pop(record.object, None)
            return
        if copy is None and record.type <= VERSION:
            copy = self.copies[record.object] = Copy(record.object, trust=self.trust)
        if copy is None:
            return
        if record.type == REMOVE_FILE:
            for generation in [g for g, h in copy.headers.items() if h.file == record.file]:
                del copy.headers[generation]
            return
        if record.type == RENUMBER:
            for generation in [g for g, h in copy.headers.items() if h.file == record.file and g != record.generation]:
                copy.headers[record.generation] = copy.headers.pop(generation)
                copy.headers[record.generation].generation = record.generation
            copy.headers.setdefault(record.generation, Header(record.generation, record.file))
            return
        if record.type == STATE:
            copy.state = record.argument & 0xFFFFFFFF
            copy.trust = record.argument >> 32 or copy.trust
            return
        if record.type == VERSION:
            copy.version = record.version
            return
        header = copy.headers.get(record.generation)
        if header is None:
            header = copy.headers[record.generation] = Header(record.generation, record.file)
        if record.type == BEGIN:
            header.pending |= _bits(record.table)
            header.version = copy.version = record.version
            copy.state = SYNCING
            for chunk in range(BLOCKS // CHUNK_BLOCKS):
                if _bits(record.table) >> chunk * CHUNK_BLOCKS & 0xFFFF:
                    header.chunks[chunk] = 0
            if header.pending == (1 << BLOCKS) - 1:
                header.damaged = False
            return
        blocks = range(record.first, record.first + record.count)
        chunks = range(record.first // CHUNK_BLOCKS, (record.first + record.count - 1) // CHUNK_BLOCKS + 1)
        if record.type == DISCARD:
            for block in blocks:
                keeps = bool(record.flags & 2)
                header.assign(block, held=keeps, zero=keeps, pending=False)
                header.journaled.pop(block, None)
        else:
            actions = record.actions() if record.type == FILL else bytes([3]) * record.count
            payload = record.payload_at
            for number, block in enumerate(blocks):
                action = actions[number]
                if action == 3:
                    header.checksums[block] = record.checksums()[number]
                    header.assign(block, held=True, zero=False, pending=False)
                    if record.flags & 1:
                        header.journaled.pop(block, None)
                    else:
                        header.journaled[block] = (record.path, payload)
                        payload += BLOCK
                elif action in (1, 2):
                    header.assign(block, held=action == 2, zero=action == 2, pending=False)
                    header.journaled.pop(block, None)
                elif action == 4:
                    header.pending |= 1 << block
        if record.type == FILL:
            start = (4 * record.count + 7) // 8 * 8 + (record.count + 7) // 8 * 8
            for number, chunk in enumerate(chunks):
                header.chunks[chunk] = struct.unpack_from("<Q", record.table, start + 8 * number)[0]
        else:
            for chunk in chunks:
                header.chunks[chunk] = record.version
            header.version = record.version
            copy.version = max(copy.version, record.version)

    # Contents

    def _read(self, path: Path, at: int, count: int) -> bytes:
        descriptor = self._descriptors.get(path)
        if descriptor is None:
            if len(self._descriptors) > 500:
                self.close()
            descriptor = self._descriptors[path] = os.open(path, os.O_RDONLY)
        return os.pread(descriptor, count, at)

    def close(self):
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _file_block(self, number: int, file: int, block: int) -> bytes:
        path = self._object_paths.get((number, file))
        content = self._read(path, DATA_START + BLOCK * block, BLOCK) if path else b""
        return content.ljust(BLOCK, b"\0")

    def block(self, copy: Copy, block: int, generations) -> bytes:
        """The composed content at the newest of `generations` (ascending); None where no layer holds the block.
        Raises Damage when it is pending or does not match its checksum."""
        for generation in reversed(generations):
            header = copy.headers[generation]
            where = f"{self.directory}: object {copy.object:016x} generation {generation} block {block}"
            if header.damaged:
                raise Damage(f"{where}: the header is damaged")
            if header.pending >> block & 1:
                raise Damage(f"{where} is pending")
            if not header.held >> block & 1:
                continue
            if header.zero >> block & 1:
                return bytes(BLOCK)
            if block in header.journaled:
                path, at = header.journaled[block]
                content = self._read(path, at, BLOCK)
            else:
                content = self._file_block(copy.object, header.file, block)
            if crc32c(content) != header.checksums[block]:
                raise Damage(f"{where} does not match its checksum")
            return content
        return None

    def held(self, copy: Copy, generations) -> int:
        """The blocks that any of the generations holds, as a bitmap."""
        blocks = 0
        for generation in generations:
            blocks |= copy.headers[generation].held | copy.headers[generation].pending
        return blocks


def _is_complete(store: Store, copy: Copy) -> bool:
    return copy.state == COMPLETE and copy.trust >= store.trust


def _blocks(bitmap: int):
    while bitmap:
        low = bitmap & -bitmap
        yield low.bit_length() - 1
        bitmap ^= low


def _difference(number, a, b, ways, name, problems):
    """Compares two copies as one of `ways` (functions from the generations of both to those that are looked through)
    shows them: one must agree in every block."""
    (store_a, copy_a), (store_b, copy_b) = a, b
    own_a, own_b = set(copy_a.headers), set(copy_b.headers)
    for block in _blocks(store_a.held(copy_a, own_a) | store_b.held(copy_b, own_b)):
        for way in ways:
            try:
                one, other = store_a.block(copy_a, block, way(own_a, own_b)), store_b.block(copy_b, block, way(own_b, own_a))
            except Damage as damage:
                problems.append(str(damage))
                break
            # A block that nobody holds reads as zeros, as one that is held as zero does.
            if (one or bytes(BLOCK)) == (other or bytes(BLOCK)):
                break
        else:
            problems.append(f"object {number:016x} block {block} at generation {name} differs between "
                            f"{store_a.directory} and {store_b.directory}")


def _compare_views(number, a, b, volume, problems):
    """All views that can be reached; which they are, and what they look through, the catalog says."""
    for view in volume.views:
        _difference(number, a, b, [lambda own, _, view=view: volume.generations(view, own)], view[0], problems)


def _compare_generations(number, a, b, problems):
    """Without the catalog, where nothing was rolled back: as of each generation that both have, and of the newest. A
    layer that one of them has pruned counts in neither, or in both."""
    headers_a, headers_b = a[1].headers, b[1].headers
    tops = [max(headers) for headers in (headers_a, headers_b) if headers]
    for generation in sorted((set(headers_a) & set(headers_b)) | set(tops and [max(tops)])):
        ways = [lambda own, other: sorted(g for g in own if g <= generation),
                lambda own, other: sorted(g for g in own & other if g <= generation)]
        _difference(number, a, b, ways, generation, problems)


def compare(directories, volumes=None, limit: int = 20) -> dict:
    """Reads the stores and fails unless every object has all its copies (or one in each store, if there are fewer)
    complete, alike in version and in every block of every view. `volumes`: what the catalog says of them
    (catalogreader.read); without it three copies, and no rollbacks. Returns counts. The daemon must be stopped."""
    stores = [Store(directory) for directory in directories]
    problems = []
    counts = {"objects": 0, "copies": 0}
    try:
        if len({store.cluster for store in stores}) != 1:
            problems.append("the stores belong to different clusters")
        for number in sorted(set().union(*(store.copies for store in stores))):
            volume = volumes.get(number >> 32) if volumes is not None else None
            if volumes is not None and not volume:
                problems.append(f"object {number:016x} belongs to no volume")
                continue
            wanted = min(volume.copies if volume else 3, len(stores))
            found = [(store, store.copies[number]) for store in stores if number in store.copies]
            complete = [(store, copy) for store, copy in found if _is_complete(store, copy)]
            is_empty = not any(store.held(copy, copy.headers) for store, copy in found)
            counts["objects"] += 1
            counts["copies"] += len(complete)
            if len(complete) < wanted and not is_empty:
                states = [f"{store.directory.name}: state {copy.state}, trust {copy.trust} of {store.trust}"
                          for store, copy in found]
                problems.append(f"object {number:016x} has {len(complete)} complete copies of {wanted} ({'; '.join(states)})")
            if not is_empty and len({copy.version for _, copy in complete}) > 1:
                versions = [f"{copy.version >> 40}.{copy.version & (1 << 40) - 1}" for _, copy in complete]
                problems.append(f"object {number:016x} has versions {versions}")
            for other in complete[1:]:
                if volume:
                    _compare_views(number, complete[0], other, volume, problems)
                else:
                    _compare_generations(number, complete[0], other, problems)
            if len(problems) > limit:
                break
    finally:
        for store in stores:
            store.close()
    if problems:
        raise Damage("\n".join(problems[:limit]))
    return counts


def main():
    if len(sys.argv) < 2 or not all(re.match("[^-]", word) for word in sys.argv[1:]):
        sys.exit("usage: storereader.py STORE [STORE ...]")
    print(compare(sys.argv[1:]))


if __name__ == "__main__":
    main()
