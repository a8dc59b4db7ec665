# The mount outlives the daemon: kill -9 at random points under fio with verification and under a guest, an upgrade
# the same way. Nobody may see an error, nobody may wait long, and the copies must be identical.
import os
import random
import re
import shutil
import subprocess
import time

import pytest

import guest
import storereader
from cluster import binaries
from conftest import length
from overlap import check_blocks, write_concurrently
from stamped import StampedWriter, block_reader


class Probe:
    """Reads and writes one block of a volume all the time; remembers the longest wait."""
    PROGRAM = """
import mmap, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
buffer = mmap.mmap(-1, 4096)
longest = 0
while not os.path.exists(sys.argv[2]):
    started = time.monotonic()
    os.pwritev(descriptor, [buffer], 0)
    os.preadv(descriptor, [buffer], 0)
    longest = max(longest, time.monotonic() - started)
    time.sleep(0.005)
print(longest)
"""

    def __init__(self, volume, directory):
        self.end = directory / "probe-end"
        self.process = subprocess.Popen(["/usr/bin/python3", "-c", self.PROGRAM, volume, self.end],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def longest_wait_seconds(self) -> float:
        self.end.touch()
        out, error = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, error
        return float(out)


def fio_with_verification(volume, seconds: float, log):
    """Writes that are read back and verified, for as long as it runs."""
    output = open(log, "wb")
    return subprocess.Popen(
        ["fio", "--name=verify", f"--filename={volume}", "--size=64M", "--rw=randrw", "--bs=4k", "--direct=1",
         "--ioengine=io_uring", "--iodepth=8", "--verify=crc32c", "--verify_backlog=64", "--verify_fatal=1",
         "--time_based", f"--runtime={seconds}", "--allow_file_create=0"], stdout=output, stderr=output)


def assert_copies_identical(cluster):
    cluster.quiesce()
    storereader.compare(cluster.stores)


def kill_repeatedly(cluster, times: int, seed: int, also_while_starting: bool = False):
    """Kills at random points, each after the daemon has answered again, unless it is to be killed while it starts."""
    choice = random.Random(seed)
    for _ in range(times):
        time.sleep(choice.uniform(0, 0.4) if also_while_starting else choice.uniform(0.1, 0.9))
        cluster.kill()
        cluster.start(wait=not also_while_starting)
    cluster.wait_ready()


def test_twenty_kills_under_fio_and_under_a_guest(new_cluster, directory, capsys):
    cluster = new_cluster()
    times = length(20, 100)
    volume, machine, probed = (cluster.create(name, 256 << 20) for name in ["fio.img", "vm.img", "probe.img"])
    guest.make_root(machine)
    fio = fio_with_verification(volume, 1.2 * times + 10, directory / "fio.log")
    try:
        with guest.Guest(machine, "write", directory / "console") as running:
            running.wait_for("GUEST-WROTE", count=3)
            probe = Probe(probed, directory)
            kill_repeatedly(cluster, times, seed=1)
            longest = probe.longest_wait_seconds()
            # A daemon that never gets to serve makes clients wait, but must not make them fail.
            kill_repeatedly(cluster, times // 4, seed=2, also_while_starting=True)
            wrote = running.wrote()
            running.wait_for("GUEST-WROTE", count=wrote + 5)
            running.assert_no_error()
        assert fio.wait(240) == 0, (directory / "fio.log").read_text()[-3000:]
    finally:
        if fio.poll() is None:
            fio.kill()
            fio.wait()
    with capsys.disabled():
        print(f"\n{times} kills: longest wait {longest * 1000:.0f} ms")
    assert guest.boot_and_check(machine, directory / "console-2") >= wrote
    guest.fsck(machine)
    assert_copies_identical(cluster)
    # Last, because on a machine that is busy with other things only this may fail.
    assert longest < 2


def test_an_upgrade_under_load(new_cluster, directory):
    """Another build of the program takes the mount over, and so does the first one again."""
    other = directory / "other-build"
    shutil.copytree(binaries(), other, symlinks=True, ignore=shutil.ignore_patterns("*.build", "*.swiftmodule", "*.json"))
    with open(other / "sheep", "ab") as program:
        program.write(b"another build")
    cluster = new_cluster()
    original = cluster.binaries
    volume = cluster.create("fio.img", 64 << 20)
    fio = fio_with_verification(volume, 15, directory / "fio.log")
    try:
        for build in [other, original, other]:
            time.sleep(1)
            cluster.kill()
            cluster.binaries = build
            cluster.start(timeout_seconds=20)
        assert fio.wait(120) == 0, (directory / "fio.log").read_text()[-3000:]
    finally:
        if fio.poll() is None:
            fio.kill()
            fio.wait()
    assert_copies_identical(cluster)


@pytest.mark.parametrize("engine", ["threads", "native", "io_uring"])
def test_qemu_sees_no_error_over_kills(new_cluster, engine):
    cluster = new_cluster()
    volume = cluster.create("bench.img", 64 << 20)
    bench = subprocess.Popen(
        ["qemu-img", "bench", "-f", "raw", "-t", "none", "-i", engine, "-w", "-c", "20000", "-d", "16", "-s", "4096",
         volume], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    kill_repeatedly(cluster, 3, seed=2)
    output, _ = bench.communicate(timeout=180)
    assert bench.returncode == 0 and "error" not in output.lower(), output


def test_acknowledged_writes_survive_kills_and_reads_do_not_flap(new_cluster):
    cluster = new_cluster()
    volume = cluster.create("stamped.img", 16 << 20)
    writer = StampedWriter(volume, 4096, seed=3)
    for round_ in range(length(5, 30)):
        for _ in range(300):
            writer.write(writer.random.choice([1, 1, 2, 8]))
        restart = cluster.kill_and_restart_later(writer.random.uniform(0, 0.05))
        for _ in range(300):
            writer.write(writer.random.choice([1, 1, 2, 8]))
        restart.join()
    # Every write was acknowledged, so every block must hold its last one: as if all of it had been flushed.
    writer.history.flushes.append((len(writer.history.begun) - 1, 0))
    read = block_reader(volume)
    counts = writer.history.check(read, 0)
    read.close()
    writer.close()
    assert counts["lost"] == 0 and counts["flushed"] > 0
    assert_copies_identical(cluster)


def test_namespace_operations_are_done_once_over_kills(new_cluster):
    cluster = new_cluster()
    volume = cluster.create("vol.img", 8 << 20)
    for number in range(length(20, 100)):
        restart = cluster.kill_and_restart_later(0.001 * (number % 7))
        os.link(volume, cluster.path(f"vol@t{number}.img"))
        os.link(cluster.path(f"vol@t{number}.img"), cluster.path(f"clone{number}.img"))
        os.mkdir(cluster.path(f"directory{number}"))
        os.rename(cluster.path(f"clone{number}.img"), cluster.path(f"directory{number}/moved.img"))
        os.unlink(cluster.path(f"directory{number}/moved.img"))
        os.rmdir(cluster.path(f"directory{number}"))
        restart.join()
    assert sorted(os.listdir(cluster.mount)) == sorted(
        [".lineage"] * (".lineage" in os.listdir(cluster.mount)) + ["vol.img"]
        + [f"vol@t{n}.img" for n in range(length(20, 100))])


def test_overlapping_writers_leave_identical_copies(new_cluster):
    cluster = new_cluster()
    volume = cluster.create("overlap.img", 8 << 20)
    for round_ in range(length(4, 24)):
        write_concurrently(volume, 64, threads=16, writes=100, seed=round_, flush_every=0 if round_ % 2 else 20)
        assert sum(check_blocks(volume, 64).values()) == 64
    assert_copies_identical(cluster)


def test_sigterm_leaves_an_open_mount_to_the_holder(new_cluster):
    cluster = new_cluster()
    volume = cluster.create("open.img", 8 << 20)
    descriptor = os.open(volume, os.O_RDWR)
    try:
        os.pwrite(descriptor, b"before", 0)
        assert cluster.stop() == 0
        assert re.search("open", cluster.log_text().splitlines()[-1] + cluster.log_text(), re.IGNORECASE)
        cluster.start()
        assert os.pread(descriptor, 6, 0) == b"before"
        os.pwrite(descriptor, b"after ", 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    assert volume.read_bytes()[:6] == b"after "
