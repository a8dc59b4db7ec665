# What the disk of one store returns is not what was written: every read is right all the same, scrub repairs, nothing
# crashes; and a store that is garbage is refused with a reason.
import os
import random
import shutil

import pytest

import storereader
from conftest import length
from stamped import StampedWriter, block_reader
from system import wait_until


def fill(cluster) -> StampedWriter:
    """A volume with a snapshot and writes after it."""
    volume = cluster.create("rot.img", 32 << 20)
    writer = StampedWriter(volume, 8192, seed=4)
    for _ in range(400):
        writer.write(writer.random.choice([1, 4, 16, 64]))
    writer.flush()
    os.link(volume, cluster.path("rot@before.img"))
    for _ in range(200):
        writer.write(writer.random.choice([1, 4]))
    writer.flush()
    writer.close()
    return writer


def files_of(store, kind: str) -> list:
    return [path for path in storereader.files(store, kind) if path.stat().st_size > 0]


def flip(path, choice, times: int):
    """Flips single bits where the file holds data."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(descriptor).st_size
        done = 0
        for _ in range(times * 50):
            at = os.lseek(descriptor, choice.randrange(size), os.SEEK_DATA) if size else 0
            end = os.lseek(descriptor, at, os.SEEK_HOLE)
            at = choice.randrange(at, min(end, at + 65536))
            byte = os.pread(descriptor, 1, at)
            os.pwrite(descriptor, bytes([byte[0] ^ (1 << choice.randrange(8))]), at)
            done += 1
            if done == times:
                return
    except OSError:
        # Behind the last data.
        return
    finally:
        os.close(descriptor)


def check_everything(cluster, writer):
    read = block_reader(cluster.path("rot.img"))
    counts = writer.history.check(read, 0)
    read.close()
    assert counts["lost"] == 0
    with open(cluster.path("rot@before.img"), "rb") as file:
        while file.read(1 << 20):
            pass


@pytest.mark.parametrize("kind", ["object", "object-header", "journal", "index", "catalog", "superblock"])
def test_flipped_bits_in_one_store_are_survived_and_repaired(new_cluster, kind):
    cluster = new_cluster()
    writer = fill(cluster)
    for round_ in range(length(2, 10)):
        choice = random.Random(round_)
        # The journal is only interesting when it is replayed: after a kill.
        if kind == "journal":
            cluster.kill()
        else:
            assert cluster.stop() == 0
        bad = cluster.stores[round_ % 3]
        chosen = files_of(bad, "object" if kind == "object-header" else kind)
        assert chosen, f"the store has no {kind} file"
        for path in chosen:
            if kind == "object-header":
                with open(path, "r+b") as file:
                    at = choice.randrange(8192)
                    file.seek(at)
                    byte = file.read(1)
                    file.seek(at)
                    file.write(bytes([byte[0] ^ 1]))
            else:
                flip(path, choice, 3)
        cluster.start()
        check_everything(cluster, writer)
        if str(bad) in cluster.store_states() and cluster.store_states()[str(bad)] != "up":
            # Not even its identity could be read: it is replaced, as a dead one.
            replacement = cluster.directory / f"replacement{round_}"
            cluster.dog("store", "replace", bad, replacement)
            cluster.stores = [replacement if store == bad else store for store in cluster.stores]
        cluster.wait_healthy(120)
        cluster.dog("scrub", "start", "--deep", "--wait", timeout_seconds=300)
        check_everything(cluster, writer)
        assert cluster.process.poll() is None
    cluster.quiesce()
    storereader.compare(cluster.stores)


def test_a_rotten_block_is_repaired_by_reading_it(new_cluster):
    cluster = new_cluster()
    writer = fill(cluster)
    assert cluster.stop() == 0
    for store in cluster.stores[:2]:
        for number, path in enumerate(files_of(store, "object")):
            # Different objects in the two stores: each block keeps two good copies.
            if number % 2 == cluster.stores.index(store):
                flip(path, random.Random(number), 20)
    cluster.start()
    check_everything(cluster, writer)
    assert cluster.status()["statistics"]["readRepairs"] >= 0
    cluster.dog("scrub", "start", "--deep", "--wait", timeout_seconds=300)
    scrub = cluster.dog("scrub", "status")
    assert not scrub["alarms"]
    check_everything(cluster, writer)
    cluster.quiesce()
    storereader.compare(cluster.stores)


def test_scrub_finds_and_repairs_what_nobody_reads(new_cluster):
    cluster = new_cluster()
    fill(cluster)
    assert cluster.stop() == 0
    chosen = files_of(cluster.stores[2], "object")
    for path in chosen:
        flip(path, random.Random(1), 5)
    cluster.start()
    cluster.dog("scrub", "start", "--deep", "--wait", timeout_seconds=300)
    scrub = cluster.dog("scrub", "status")
    assert scrub["blocksRepaired"] + scrub["copiesRepaired"] > 0
    cluster.dog("scrub", "start", "--deep", "--wait", timeout_seconds=300)
    scrub = cluster.dog("scrub", "status")
    assert scrub["blocksRepaired"] + scrub["copiesRepaired"] == 0
    cluster.quiesce()
    storereader.compare(cluster.stores)


@pytest.mark.parametrize("damage", ["truncated", "random", "empty"])
def test_a_store_of_garbage_is_refused_or_rebuilt_never_believed(new_cluster, damage):
    cluster = new_cluster()
    writer = fill(cluster)
    assert cluster.stop() == 0
    choice = random.Random(9)
    bad = cluster.stores[0]
    for path in sorted(p for p in bad.rglob("*") if p.is_file()):
        size = path.stat().st_size
        if damage == "truncated":
            os.truncate(path, choice.randrange(size + 1) // 2)
        elif damage == "random":
            path.write_bytes(choice.randbytes(min(size, 1 << 20)))
        else:
            path.write_bytes(b"")
    cluster.start(wait=False)

    def settled():
        return cluster.process.poll() is not None or cluster.dog("status", check=False)
    wait_until(settled, 60, "an answer or a refusal")
    if cluster.process.poll() is not None:
        # Refused: it must say which store, why, and what to do.
        text = cluster.log_text()
        assert str(bad) in text and "why:" in text and "do:" in text, text[-2000:]
        cluster.stores = cluster.stores[1:]
        shutil.rmtree(bad)
        cluster.start(wait=False)
        wait_until(settled, 60, "an answer without the bad store")
    cluster.wait_ready()
    check_everything(cluster, writer)


def test_a_newer_format_is_refused_with_a_clear_message(new_cluster):
    cluster = new_cluster()
    fill(cluster)
    assert cluster.stop() == 0
    storereader.raise_format_version(cluster.stores[1])
    cluster.start(wait=False)
    wait_until(lambda: "version" in cluster.log_text(), 30, "the message about the version")
