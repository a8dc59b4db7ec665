# The reader of the store format, proved on stores made here byte by byte from the format's page: what the layers,
# the journal and the checksums say is what it sees, and it misses no difference.
import os
import struct

import pytest

import catalogreader
import storereader
from catalogreader import Volume
from crc32c import crc32c
from storereader import BLOCK, DISCARD, RENUMBER, STATE, WRITE, Damage, Store, compare

OBJECT = 7 << 32 | 3
PATH = "objects/00/00000007.00000003.{:08x}"


def sealed(content: bytes) -> bytes:
    return content + struct.pack("<I", crc32c(content))


def object_file(store_id, number, file, generation, blocks, zero=(), stamp=1, version=5):
    """A file with its header in slot 0; `blocks`: block -> content."""
    held = sum(1 << b for b in blocks) | sum(1 << b for b in zero)
    slot = struct.pack("<QIIQIIQB7x", storereader.OBJECT_MAGIC, 1, generation, number, file, stamp, version, 0)
    slot += held.to_bytes(128, "little") + sum(1 << b for b in zero).to_bytes(128, "little") + bytes(128)
    slot += struct.pack("<64Q", *[version] * 64)
    slot += struct.pack("<1024I", *[crc32c(blocks[b]) if b in blocks else 0 for b in range(1024)])
    slot += struct.pack("<QQ", version, store_id)
    content = bytearray(sealed(slot.ljust(8188, b"\0")).ljust(16384, b"\0"))
    for block, data in sorted(blocks.items()):
        content = content.ljust(16384 + BLOCK * block, b"\0")
        content += data
    return bytes(content)


def record(type_, lsn, generation=1, version=6, first=0, blocks=(), count=None, flags=0, table=None, argument=0, file=None,
           durable=0, sequence=1):
    checksums = b"".join(struct.pack("<I", crc32c(b)) for b in blocks)
    if table is None:
        table = checksums + bytes(-len(checksums) % 8)
    payload = b"" if flags & 1 else b"".join(blocks)
    head = struct.pack("<IBBHIIQQQQIIQHHIQQI", storereader.RECORD_MAGIC, type_, flags, len(payload) // BLOCK,
                       96 + len(table) + len(payload), len(table), lsn, durable, sequence, OBJECT, generation,
                       file or generation, version, first, len(blocks) if count is None else count, 0, argument, 0,
                       crc32c(table))
    return sealed(head) + table + payload


def make_store(path, number=1, files=(), records=(), start=1, version=5, state=0):
    """`files`: (file number, generation, {block: content}, zero blocks)."""
    for folder in ["journal", "objects/00"]:
        (path / folder).mkdir(parents=True)
    superblock = struct.pack("<QII", storereader.SUPERBLOCK_MAGIC, 1, 0) + b"c" * 16 + struct.pack("<Q", number)
    (path / "superblock").write_bytes(sealed(superblock.ljust(108, b"\0")))
    entry = struct.pack("<QQIIB7x", OBJECT, version, 0, len(files), state)
    for file, generation, blocks, zero in files:
        entry += struct.pack("<IIQIHH", generation, file, version, 1, len(blocks), 0)
        (path / PATH.format(file)).write_bytes(object_file(number, OBJECT, file, generation, blocks, zero))
    index = struct.pack("<QIIQQQIIQQ", storereader.INDEX_MAGIC, 1, 1, number, start, 1, 0, 0, 1 if files else 0, 0)
    (path / "index.1").write_bytes(sealed(index + (entry if files else b"")))
    page = struct.pack("<QIIQQQQ", storereader.JOURNAL_MAGIC, 1, 0, number, 1, 1, 1 << 20)
    journal = sealed(page).ljust(4096, b"\0") + b"".join(records)
    (path / "journal" / f"{1:016x}.segment").write_bytes(journal.ljust(1 << 20, b"\0"))
    return path


def content(text: str) -> bytes:
    return text.encode() * (BLOCK // len(text))


A, B, C = content("aaaa"), content("bbbb"), content("cccc")
LAYERS = [(1, 1, {0: A, 1: A, 2: A}, ()), (2, 2, {1: B}, (2,))]


def read(path, block, generations=(1, 2)):
    store = Store(path)
    try:
        return store.block(store.copies[OBJECT], block, list(generations))
    finally:
        store.close()


def test_layers_are_looked_through(tmp_path):
    path = make_store(tmp_path / "s", files=LAYERS)
    assert [read(path, b) for b in range(4)] == [A, B, bytes(BLOCK), None]
    assert [read(path, b, [1]) for b in range(3)] == [A, A, A]


def test_the_journal_is_replayed_over_the_files(tmp_path):
    path = make_store(tmp_path / "s", files=LAYERS, records=[
        record(WRITE, 1, generation=2, first=0, blocks=[C]),
        record(DISCARD, 2, generation=2, version=7, first=1, count=1, table=b""),
        record(STATE, 3, argument=2)])
    assert read(path, 0) == C and read(path, 1) == A
    store = Store(path)
    assert store.copies[OBJECT].version == 7 and store.copies[OBJECT].state == 2
    store.close()


def test_a_record_that_is_not_whole_ends_the_journal(tmp_path):
    torn = bytearray(record(WRITE, 2, generation=2, first=1, blocks=[C]))
    torn[-1] ^= 1
    path = make_store(tmp_path / "s", files=LAYERS, records=[
        record(WRITE, 1, generation=2, first=0, blocks=[C]), bytes(torn), record(WRITE, 3, generation=2, first=2, blocks=[C])])
    assert read(path, 0) == C and read(path, 1) == B


def test_a_gap_that_was_durable_is_damage(tmp_path):
    path = make_store(tmp_path / "s", files=LAYERS, records=[
        record(WRITE, 1, first=0, blocks=[C]), record(WRITE, 3, first=0, blocks=[C], durable=2)])
    with pytest.raises(Damage, match="missing"):
        Store(path)


def test_a_write_past_the_journal_counts_only_if_its_data_is_there(tmp_path):
    path = make_store(tmp_path / "s", files=LAYERS, records=[
        record(WRITE, 1, generation=2, version=8, first=1, blocks=[C], flags=1)])
    # The file still has B: the journal ends before the record.
    store = Store(path)
    assert store.copies[OBJECT].version == 5
    store.close()
    assert read(path, 1) == B


def test_a_renumbered_file_stands_for_its_new_generation(tmp_path):
    path = make_store(tmp_path / "s", files=LAYERS[:1], records=[record(RENUMBER, 1, generation=4, file=1)])
    assert read(path, 0, [4]) == A


def test_a_flipped_bit_is_found(tmp_path):
    path = make_store(tmp_path / "s", files=LAYERS)
    file = path / PATH.format(1)
    damaged = bytearray(file.read_bytes())
    damaged[16384 + 77] ^= 4
    file.write_bytes(damaged)
    with pytest.raises(Damage, match="checksum"):
        read(path, 0)
    damaged[100] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(Damage, match="header"):
        read(path, 0)


def test_equal_stores_compare_equal_wherever_the_blocks_are(tmp_path):
    one = make_store(tmp_path / "1", 1, files=LAYERS, version=6,
                     records=[record(WRITE, 1, generation=2, first=5, blocks=[C])])
    other = make_store(tmp_path / "2", 2, version=6,
                       files=[(1, 1, {0: A, 1: A, 2: A}, ()), (9, 2, {1: B, 5: C}, (2,))])
    assert compare([one, other])["objects"] == 1


@pytest.mark.parametrize("files,version,state,says", [
    ([(1, 1, {0: A, 1: A, 2: A}, ()), (2, 2, {1: C}, (2,))], 5, 0, "differs"),
    ([(1, 1, {0: A, 1: A, 2: B}, ()), (2, 2, {1: B}, (2,))], 5, 0, "differs"),
    (LAYERS, 6, 0, "versions"),
    (LAYERS, 5, 2, "complete copies"),
    ([], 5, 0, "complete copies"),
])
def test_every_difference_is_found(tmp_path, files, version, state, says):
    one = make_store(tmp_path / "1", 1, files=LAYERS)
    other = make_store(tmp_path / "2", 2, files=files, version=version, state=state)
    with pytest.raises(Damage, match=says):
        compare([one, other])


def test_a_view_does_not_look_at_what_a_rollback_undid(tmp_path):
    # Generation 2 was undone. One copy has the layers as they were written, the other one had them made anew.
    layers = [(1, 1, {0: A}, ()), (2, 2, {0: B, 1: B}, ()), (3, 3, {2: C}, ())]
    one = make_store(tmp_path / "1", 1, files=layers)
    other = make_store(tmp_path / "2", 2, files=[(2, 2, {0: B, 1: B}, ()), (3, 3, {0: A, 2: C}, ())])
    rolled_back = Volume(copies=2, views=[(2, []), (3, [(2, 2)])])
    assert compare([one, other], {OBJECT >> 32: rolled_back})["objects"] == 1
    with pytest.raises(Damage, match="block 0 at generation 3 differs"):
        compare([one, other], {OBJECT >> 32: Volume(copies=2, views=[(2, []), (3, [])])})
    with pytest.raises(Damage, match="2 complete copies of 3"):
        compare([one, other, make_store(tmp_path / "3", 3, files=[])],
                {OBJECT >> 32: Volume(copies=3, views=rolled_back.views)})
    with pytest.raises(Damage, match="belongs to no volume"):
        compare([one, other], {})


def test_the_catalogs_views_are_read(new_cluster):
    cluster = new_cluster()
    cluster.dog("vdi", "create", "vol.img", 1 << 20)
    for tag in ["a", "b"]:
        cluster.dog("vdi", "snapshot", "vol.img", tag)
    cluster.dog("vdi", "rollback", "vol.img", "a")
    cluster.dog("vdi", "clone", "vol@b.img", "clone.img")
    os.setxattr(cluster.path("clone.img"), "user.sheep.copies", b"2")
    number = int(os.getxattr(cluster.path("vol.img"), "user.sheep.id"), 16)
    clone = int(os.getxattr(cluster.path("clone.img"), "user.sheep.id"), 16)
    cluster.stop_and_start()
    cluster.quiesce()
    assert catalogreader.read(cluster.stores[0]) == {
        number: Volume(copies=3, views=[(1, []), (2, []), (4, [(2, 3)])]), clone: Volume(copies=2, views=[(1, [])])}


def test_a_newer_format_is_refused(tmp_path):
    path = make_store(tmp_path / "s", files=LAYERS)
    storereader.raise_format_version(path)
    with pytest.raises(Damage, match="version 2"):
        Store(path)
