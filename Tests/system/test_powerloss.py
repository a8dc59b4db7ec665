# All stores lose power at once: their file system's unsynced writes are really dropped, at random cuts. Everything
# flushed must be there, reads must be stable, no block unreadable, and the daemon must start by itself.
import contextlib
import ctypes
import os
import random
import threading
import time

import pytest

from cluster import Cluster
from conftest import length
from powerloss import LoggedDisk, Replay
from stamped import StampedWriter, block_reader


@contextlib.contextmanager
def eager_writeback(stores):
    """The kernel may write dirty pages of a file whenever it likes; here it does so at once with those of the object
    files, which are the ones that must not get ahead of the journal."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    start_and_wait = 1 | 2 | 4
    ended = threading.Event()

    def write_back():
        opened = {}
        rounds = 0
        while not ended.wait(0.002):
            # Looking for new files costs more than writing back.
            for store in stores if rounds % 50 == 0 else []:
                for path in store.glob("objects/*/*"):
                    if path not in opened:
                        with contextlib.suppress(OSError):
                            opened[path] = os.open(path, os.O_RDONLY)
            rounds += 1
            for descriptor in opened.values():
                libc.sync_file_range(descriptor, 0, 0, start_and_wait)
        for descriptor in opened.values():
            os.close(descriptor)
    thread = threading.Thread(target=write_back)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def load(disk, directory, seconds: float, faults=(), environment=None, copies: int = 3) -> tuple:
    """A load on a cluster whose three stores are on `disk`; the daemon is killed at its end. Returns the writer and
    the log's position before the load."""
    stores = [disk.mountpoint / f"store{n}" for n in range(copies)]
    cluster = Cluster(directory / "loaded", store_paths=stores, environment=environment)
    if faults:
        cluster.faults.parent.mkdir(parents=True, exist_ok=True)
        cluster.faults.write_text("".join(f"{fault}\n" for fault in faults))
    with cluster, eager_writeback(stores):
        volume = cluster.create("stamped.img", 8 << 20)
        writer = StampedWriter(volume, 2048, 1, disk.position)
        for _ in range(200):
            writer.write(64)
        writer.flush()
        # An orderly stop writes a checkpoint: from here on the object files, and no record, hold what was flushed.
        cluster.stop()
        cluster.start(wait=False)
        writer.write()
        writer.flush()
        start = disk.position()
        deadline = time.monotonic() + seconds
        number = 0
        while time.monotonic() < deadline:
            writer.write(writer.random.choice([1, 1, 1, 2, 8, 64]))
            number += 1
            # Seldom enough that overwrites of flushed blocks are under way, unflushed, most of the time.
            if writer.random.random() < 0.02:
                writer.flush()
            if number % 400 == 0:
                # Snapshots move the writes to new object files; overwrites of flushed blocks go on.
                os.link(volume, cluster.path(f"stamped@n{number}.img"))
        writer.close()
        cluster.kill()
    return writer, start


def check_cut(mounted, directory, history, position, copies: int = 3):
    """A daemon started on what a cut left."""
    cluster = Cluster(directory / "cut-cluster", store_paths=[mounted / f"store{n}" for n in range(copies)])
    with cluster:
        volume = cluster.path("stamped.img")
        read = block_reader(volume)
        try:
            counts = history.check(read, position)
            first = volume.read_bytes()
            # The same after a second crash: what was decided once stays.
            cluster.kill()
            cluster.start()
            assert volume.read_bytes() == first, "reads changed over a restart"
        finally:
            read.close()
    return counts


def cuts(directory, count: int, seed: int, filesystem: str = "ext4", faults=(), environment=None, stop_at_failure=False,
         copies: int = 3):
    """(cuts that failed with their reasons, totals)"""
    disk = LoggedDisk(directory, size_bytes=1 << 30, filesystem=filesystem)
    with disk:
        writer, start = load(disk, directory, 4, faults, environment, copies)
    failed, totals = [], {}
    with Replay(disk) as replay:
        for number, cut in enumerate(replay.cuts(count, seed, start)):
            keep = random.Random(cut).choice([1, 1, 0.9, 0.5, 0.1])
            with replay.disk_at(cut, keep=keep, seed=seed) as mounted:
                try:
                    for key, value in check_cut(mounted, directory, writer.history, replay.position(cut), copies).items():
                        totals[key] = totals.get(key, 0) + value
                except (AssertionError, OSError) as error:
                    failed.append(f"cut {cut} (number {number}, keep {keep}): {error}")
                    if stop_at_failure:
                        break
    return failed, totals


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_every_flushed_write_survives_power_loss(directory, filesystem):
    # Half of the 40 (200) cuts on each file system.
    failed, totals = cuts(directory, length(20, 100), seed=length(7, int(time.time())), filesystem=filesystem)
    assert not failed, "\n".join(failed)
    assert totals["flushed"] > 0


def test_without_the_journals_sync_flushed_writes_are_lost_within_20_cuts(directory):
    failed, _ = cuts(directory, 20, seed=8, faults=["skip-journal-sync"], stop_at_failure=True)
    assert failed


def test_with_blocks_written_before_their_record_is_durable_flushed_writes_are_lost_within_20_cuts(directory):
    # One copy: of three, one that was not overwritten yet repairs the others.
    failed, _ = cuts(directory, 20, seed=9, faults=["apply-early"], stop_at_failure=True, copies=1)
    assert failed


def test_with_durability_always_every_acknowledged_write_survives(directory):
    disk = LoggedDisk(directory, size_bytes=1 << 30)
    with disk:
        stores = [disk.mountpoint / f"store{n}" for n in range(3)]
        with Cluster(directory / "loaded", store_paths=stores, options=["--durability", "always"]) as cluster:
            writer = StampedWriter(cluster.create("stamped.img", 8 << 20), 2048, 1, disk.position)
            start = disk.position()
            for _ in range(500):
                writer.write()
                # Nothing is flushed: the acknowledgement alone must do.
                writer.flush(really=False)
            writer.close()
            cluster.kill()
    with Replay(disk) as replay:
        for cut in replay.cuts(length(5, 30), 3, start):
            with replay.disk_at(cut, keep=0.5, seed=1) as mounted:
                check_cut(mounted, directory, writer.history, replay.position(cut))
