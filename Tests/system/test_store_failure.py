# One of three stores fails under load: it returns EIO, its disk dies, it is deleted, or it fills up. Guests go on,
# `dog status` says what happened, replacing it brings redundancy back, and no more is moved than was needed.
import os
import shutil
import time

import pytest

import storereader
from disks import FailingDisk
from stamped import StampedWriter, block_reader
from system import wait_until


class Load:
    """A stamped writer on a volume that must never see an error."""

    def __init__(self, cluster, name="load.img", blocks=4096):
        self.path = cluster.create(name, blocks * 4096)
        self.writer = StampedWriter(self.path, blocks, seed=5)

    def write(self, seconds: float = 0, count: int = 0):
        deadline = time.monotonic() + seconds
        number = 0
        while time.monotonic() < deadline or number < count:
            self.writer.write(self.writer.random.choice([1, 1, 4, 16]))
            number += 1
            if number % 20 == 0:
                self.writer.flush()

    def check(self):
        self.writer.flush()
        read = block_reader(self.path)
        assert self.writer.history.check(read, 0)["lost"] == 0
        read.close()

    def close(self):
        self.writer.close()


def redundancy_by_replacement(cluster, load, bad, replacement):
    """Replaces a store and checks that everything is whole again; returns the bytes that were moved."""
    before = cluster.status()["recovery"]["bytesMoved"]
    cluster.dog("store", "replace", bad, replacement)
    load.write(1)
    cluster.wait_healthy(120)
    load.check()
    moved = cluster.status()["recovery"]["bytesMoved"] - before
    load.close()
    cluster.stores = [replacement if store == bad else store for store in cluster.stores]
    cluster.quiesce()
    storereader.compare(cluster.stores)
    return moved


@pytest.mark.parametrize("fault", ["eio-read", "eio-write", "eio-sync"])
def test_a_store_that_returns_errors_leaves_and_is_replaced(new_cluster, directory, fault):
    cluster = new_cluster()
    load = Load(cluster)
    load.write(1)
    bad = cluster.stores[1]
    cluster.inject(f"{fault} {bad}")
    load.write(3)
    if fault == "eio-read":
        # Reads come from memory where they can; a scrub looks at the disk.
        cluster.dog("scrub", "start", "--deep")
    wait_until(lambda: cluster.store_states()[str(bad)] != "up", 30, "the store leaving")
    status = cluster.status()
    assert status["health"] != "healthy"
    assert any(str(bad) in problem for problem in status["problems"] + status["risks"]), status
    load.write(1)
    load.check()
    # Whole objects come anew: not more than the volume.
    moved = redundancy_by_replacement(cluster, load, bad, directory / "new-disk")
    assert moved <= 1.2 * 4096 * 4096 + (4 << 20)


def test_a_disk_that_dies_under_load(directory, new_cluster):
    with FailingDisk(directory / "hardware", 512 << 20) as disk:
        stores = [directory / "a", directory / "b", disk.mountpoint / "store"]
        cluster = new_cluster(store_paths=stores)
        load = Load(cluster)
        load.write(1)
        disk.die()
        load.write(3)
        wait_until(lambda: cluster.store_states()[str(stores[2])] != "up", 30, "the store leaving")
        load.check()
        redundancy_by_replacement(cluster, load, stores[2], directory / "new-disk")


def test_a_store_that_is_deleted_under_load(new_cluster, directory):
    cluster = new_cluster()
    load = Load(cluster)
    load.write(1)
    bad = cluster.stores[2]
    shutil.rmtree(bad)
    load.write(2)
    cluster.dog("scrub", "start", "--deep", check=False)
    wait_until(lambda: cluster.store_states()[str(bad)] != "up", 60, "the store leaving")
    load.write(1)
    load.check()
    redundancy_by_replacement(cluster, load, bad, directory / "new-disk")


def test_stores_that_fill_up_stay_readable_and_recover(directory, new_cluster):
    with FailingDisk(directory / "one", 512 << 20) as first, FailingDisk(directory / "two", 512 << 20) as second:
        stores = [directory / "a", first.mountpoint / "store", second.mountpoint / "store"]
        cluster = new_cluster(store_paths=stores)
        load = Load(cluster)
        load.write(1)
        load.writer.flush()

        def level(store):
            return next(s for s in cluster.status()["stores"] if s["path"] == str(store))["spaceLevel"]
        # One is full: guests go on with the copies of the others, and it is said.
        foreign = [first.fill()]
        wait_until(lambda: level(stores[1]) == "full", 30, "the warning of a full store")
        big = cluster.create("big.img", 600 << 20)
        with open(big, "r+b", buffering=0) as file:
            for _ in range(40):
                file.write(b"x" * (1 << 20))
        load.write(1)
        load.check()
        assert any(str(stores[1]) in text and "full" in text for text in cluster.status()["problems"])
        # Fewer than min-copies have room: new space is refused before anything is damaged; what is written stays
        # readable.
        foreign.append(second.fill())
        wait_until(lambda: level(stores[2]) == "full", 30, "the warning of a second full store")
        with pytest.raises(OSError) as caught, open(big, "r+b", buffering=0) as file:
            file.seek(200 << 20)
            for _ in range(100):
                file.write(b"x" * (1 << 20))
        assert caught.value.errno == 28
        load.check()
        with open(big, "rb") as file:
            assert all(file.read(1 << 20) == b"x" * (1 << 20) for _ in range(40))
        for path in foreign:
            path.unlink()
        wait_until(lambda: {level(store) for store in stores} <= {"fine", "low"}, 30, "the stores having space again")
        with open(big, "r+b", buffering=0) as file:
            file.seek(200 << 20)
            file.write(b"x" * (1 << 20))
        load.write(1)
        load.check()
        load.close()
        cluster.wait_healthy()
        cluster.quiesce()
        storereader.compare(stores)


def test_a_store_that_was_away_receives_only_what_changed(new_cluster):
    cluster = new_cluster()
    load = Load(cluster, blocks=16384)
    # Everything is written, so that "all of it" would be 64 MiB.
    with open(load.path, "r+b", buffering=0) as file:
        for _ in range(64):
            file.write(os.urandom(1 << 20))
    away = cluster.stores[0]
    cluster.inject(f"eio-write {away}")
    load.write(count=5)
    wait_until(lambda: cluster.store_states()[str(away)] != "up", 30, "the store leaving")
    # 32 chunks of 64 KiB, whole.
    changed = 32 * 65536
    with open(load.path, "r+b", buffering=0) as file:
        for number in range(32):
            os.pwrite(file.fileno(), os.urandom(65536), number * (2 << 20))
    before = cluster.status()["recovery"]["bytesMoved"]
    cluster.inject()
    cluster.restart()
    cluster.wait_healthy(120)
    moved = cluster.status()["recovery"]["bytesMoved"]
    moved -= before if moved >= before else 0
    # The few writes before it left are whole chunks too.
    assert moved <= 1.2 * (changed + 5 * 2 * 65536), f"{moved} bytes moved for {changed} changed"
    load.close()
    cluster.quiesce()
    storereader.compare(cluster.stores)


def test_reads_go_on_below_min_copies_and_writes_wait(new_cluster):
    cluster = new_cluster()
    load = Load(cluster)
    load.write(1)
    load.check()
    cluster.inject(f"eio-sync {cluster.stores[1]}", f"eio-write {cluster.stores[1]}")
    load.write(2)
    wait_until(lambda: cluster.store_states()[str(cluster.stores[1])] != "up", 30, "the first store leaving")
    load.check()
    load.close()


def files_in_use(cluster, path) -> list:
    """What the daemon has open at or below a directory."""
    found = []
    for entry in os.scandir(f"/proc/{cluster.process.pid}/fd"):
        try:
            target = os.readlink(entry.path)
        except FileNotFoundError:
            continue
        if target == str(path) or target.startswith(f"{path}/"):
            found.append(target)
    return found


def test_a_store_that_could_not_be_added_can_be_added_later(new_cluster, directory):
    cluster = new_cluster()
    load = Load(cluster)
    load.write(2)
    fourth, fifth = directory / "fourth", directory / "fifth"
    for path in [fourth, fifth]:
        path.mkdir()
    cluster.dog("store", "add", fourth)
    # Data moves to the fourth one: the next has to wait (or is taken, where that is over already).
    refused = cluster.dog_text("store", "add", fifth)
    load.write(1)
    if refused.returncode != 0:
        assert "wait" in refused.stdout + refused.stderr
        assert not files_in_use(cluster, fifth)
        assert not (fifth / "superblock").exists()
        assert str(fifth) not in cluster.store_states()
        cluster.wait_healthy(120)
        cluster.dog("store", "add", fifth)
    cluster.wait_healthy(120)
    load.check()
    load.close()
    cluster.stores += [fourth, fifth]
    cluster.restart()
    cluster.wait_healthy(120)
    assert set(cluster.store_states().values()) == {"up"}
    cluster.quiesce()
    storereader.compare(cluster.stores)


def test_a_store_added_is_filled_and_one_removed_is_emptied(new_cluster, directory):
    cluster = new_cluster()
    load = Load(cluster)
    load.write(1)
    fourth = directory / "fourth"
    fourth.mkdir()
    cluster.dog("store", "add", fourth)
    load.write(1)
    cluster.wait_healthy(120)
    load.check()
    cluster.dog("store", "remove", cluster.stores[0])
    load.write(1)
    cluster.wait_healthy(120)
    wait_until(lambda: not files_in_use(cluster, cluster.stores[0]), 20, "the removed store being closed")
    load.write(1)
    load.check()
    load.close()
    cluster.stores = cluster.stores[1:] + [fourth]
    cluster.quiesce()
    storereader.compare(cluster.stores)


def test_two_stores_give_two_copies_and_say_so(new_cluster):
    cluster = new_cluster(stores=2)
    load = Load(cluster)
    load.write(1)
    load.check()
    load.close()
    status = cluster.status()
    assert any("2" in text and "cop" in text for text in status["risks"] + status["problems"]), status


def test_one_store_serves_alone(new_cluster):
    cluster = new_cluster(stores=1)
    load = Load(cluster)
    load.write(1)
    cluster.restart()
    load.check()
    load.close()
