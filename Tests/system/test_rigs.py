# The rigs themselves, proved on ordinary file systems: each must find what it is made to find, and nothing else.
import errno
import os
import random

import pytest

import fsx
import guest
from conftest import length
from disks import FailingDisk
from overlap import check_blocks, write_concurrently
from powerloss import LoggedDisk, Replay
from stamped import BLOCK, StampedWriter, block_reader, read_stamp, stamp
from system import run


def test_a_guest_boots_writes_and_is_checked(directory):
    image = directory / "root.img"
    guest.make_root(image)
    with guest.Guest(image, "write", directory / "console") as running:
        running.wait_for("GUEST-WROTE", count=5)
        running.assert_no_error()
        wrote = running.wrote()
    guest.fsck(image)
    assert guest.boot_and_check(image, directory / "console-2") >= wrote


def test_a_guest_notices_damage(directory):
    image = directory / "root.img"
    guest.make_root(image)
    with guest.Guest(image, "write", directory / "console") as running:
        running.wait_for("GUEST-WROTE", count=3)
    guest.fsck(image)
    # One byte of a file's data, where the file system itself sees nothing.
    extent = run("debugfs", "-R", "blocks /data/1", image).stdout.split()[0]
    with open(image, "r+b") as file:
        file.seek(int(extent) * block_size(image) + 100)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(AssertionError, match="GUEST-ERROR|damaged"):
        guest.boot_and_check(image, directory / "console-2")


def block_size(image) -> int:
    text = run("dumpe2fs", "-h", image).stdout
    return int(next(line for line in text.splitlines() if line.startswith("Block size")).split()[-1])


def cut_power(directory, filesystem: str, honest: bool, cuts: int) -> dict:
    """A plain program on a plain file system; whether its syncs are real is `honest`. Returns what the cuts showed."""
    disk = LoggedDisk(directory, size_bytes=512 << 20, filesystem=filesystem)
    with disk:
        writer = StampedWriter(disk.mountpoint / "file", 2000, 1, disk.position, direct=False)
        writer.flush()
        os.sync()
        start = disk.position()
        for _ in range(6000):
            writer.write(writer.random.choice([1, 1, 1, 4]))
            if writer.random.random() < 0.02:
                writer.flush(really=honest)
            # What the kernel would write back by and by, here often: it is in the log, but nobody relies on it.
            if writer.random.random() < 0.02:
                os.fdatasync(writer.descriptor)
        writer.close()
    totals = {"failed": 0, "lost": 0, "flushed": 0, "later": 0}
    with Replay(disk) as replay:
        for cut in replay.cuts(cuts, 5, start):
            with replay.disk_at(cut, keep=random.Random(cut).choice([1, 0.5, 0.9]), seed=3) as mounted:
                read = None
                try:
                    read = block_reader(mounted / "file")
                    for key, value in writer.history.check(read, replay.position(cut)).items():
                        totals[key] += value
                except (AssertionError, FileNotFoundError):
                    totals["failed"] += 1
                finally:
                    if read:
                        read.close()
    return totals


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_what_was_synced_survives_a_cut_and_the_rest_may_not(directory, filesystem):
    totals = cut_power(directory, filesystem, honest=True, cuts=15)
    assert totals["failed"] == 0
    assert totals["flushed"] > 0 and totals["lost"] > 0


def test_a_program_that_does_not_sync_is_found_out_within_20_cuts(directory):
    assert cut_power(directory, "ext4", honest=False, cuts=20)["failed"] > 0


def test_a_torn_block_is_noticed():
    whole = stamp(7, 3, 1)
    assert read_stamp(whole, 7) == (3, 1)
    assert read_stamp(bytes(BLOCK), 7) is None
    with pytest.raises(AssertionError, match="torn"):
        read_stamp(whole[:2048] + stamp(7, 4, 1)[2048:], 7)
    with pytest.raises(AssertionError, match="belongs"):
        read_stamp(whole, 8)


def test_overlapping_writers_leave_whole_blocks_on_an_ordinary_file(directory):
    path = directory / "file"
    path.write_bytes(bytes(64 * BLOCK))
    write_concurrently(path, 64, writes=50)
    assert sum(check_blocks(path, 64).values()) == 64


def test_the_random_tester_finds_no_difference_on_an_ordinary_file_system(directory):
    done = fsx.test_target(lambda: fsx.PlainTarget(directory), 11, length(10.0, 60.0), True, directory / "operations")
    assert done > 1000


def test_the_random_tester_finds_a_byte_that_changed_and_shrinks_the_way_to_it(directory):
    with pytest.raises(AssertionError, match="shrunk to"):
        fsx.test_target(lambda: fsx.BrokenTarget(directory), 1, 20, True, directory / "operations", 20)
    assert len((directory / "operations").read_text()) < 1000


def test_a_dead_disk_fails_every_operation(directory):
    with FailingDisk(directory, 64 << 20) as disk:
        path = disk.mountpoint / "file"
        path.write_bytes(b"x" * 8192)
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
            disk.die()
            os.pwrite(descriptor, b"y" * 4096, 0)
            with pytest.raises(OSError) as caught:
                os.fsync(descriptor)
            assert caught.value.errno in (errno.EIO, errno.EROFS)
        finally:
            os.close(descriptor)


def test_a_disk_can_be_filled(directory):
    with FailingDisk(directory, 64 << 20) as disk:
        foreign = disk.fill()
        with pytest.raises(OSError) as caught, open(disk.mountpoint / "more", "wb") as file:
            file.write(bytes(1 << 20))
            file.flush()
        assert caught.value.errno == errno.ENOSPC
        foreign.unlink()
