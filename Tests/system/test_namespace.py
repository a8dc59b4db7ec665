# Every row of the two tables of sheepfs(5), with the real tools on a real mount of an embedded cluster. One cluster for
# all tests; each works in a directory of its own.
import errno
import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import Cluster
from system import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, fallocate, run, scratch, wait_until

MEBI = 1 << 20
OFD_SETLK, OFD_SETLKW = 37, 38


@pytest.fixture(scope="module")
def cluster():
    with scratch("namespace") as directory, Cluster(directory) as cluster:
        yield cluster


@pytest.fixture
def here(cluster, request):
    """A directory of the mount for one test."""
    path = cluster.mount / re.sub(r"\W", "_", request.node.name)
    path.mkdir()
    return path


def fails(expected, function, *arguments):
    with pytest.raises(OSError) as caught:
        function(*arguments)
    assert caught.value.errno == expected, errno.errorcode.get(caught.value.errno)


def attribute(path, name) -> str:
    return os.getxattr(path, f"user.sheep.{name}").decode()


def filled(path: Path, size: int = MEBI) -> bytes:
    data = os.urandom(size)
    path.write_bytes(data)
    return data


def inode(path) -> int:
    return os.stat(path).st_ino


def ofd_lock(file, kind, start, wait=False):
    fcntl.fcntl(file, OFD_SETLKW if wait else OFD_SETLK, struct.pack("hhqqi", kind, 0, start, 1, 0))


# What is where

def test_a_volume_is_a_writable_file_of_any_name(here):
    for name in ["vol.img", "disk", "a.b.raw", "vm-100-disk-0.qcow2", "ünï cöde"]:
        data = filled(here / name, 10_000)
        assert (here / name).read_bytes() == data
        assert os.stat(here / name).st_nlink == 1


def test_a_volume_can_be_almost_16_pebibytes(here):
    largest = (1 << 54) - 4 * MEBI
    (here / "big").touch()
    os.truncate(here / "big", largest)
    with open(here / "big", "r+b", buffering=0) as file:
        file.seek(largest - 3)
        file.write(b"end")
        file.seek(largest - 3)
        assert file.read() == b"end"
        fails(errno.EFBIG, os.truncate, here / "big", largest + 1)
        fails(errno.EFBIG, os.pwrite, file.fileno(), b"x", largest)


def test_a_snapshot_is_a_read_only_file_with_its_own_inode(here):
    data = filled(here / "vol.img")
    os.link(here / "vol.img", here / "vol@t-1_a:b.img")
    snapshot = here / "vol@t-1_a:b.img"
    assert snapshot.read_bytes() == data
    assert os.stat(snapshot).st_mode & 0o7777 == 0o444
    assert inode(snapshot) != inode(here / "vol.img")
    filled(here / "disk")
    os.link(here / "disk", here / "disk@t")
    assert (here / "disk@t").exists()


def test_directories_group_volumes(here):
    (here / "images/100").mkdir(parents=True)
    filled(here / "images/100/vm.raw")
    assert os.listdir(here / "images") == ["100"]
    fails(errno.ENOTEMPTY, os.rmdir, here / "images/100")
    os.unlink(here / "images/100/vm.raw")
    os.rmdir(here / "images/100")


def test_mkdir_in_snap_snapshots_the_directory_at_one_instant(here):
    before = {name: filled(here / name, 5000) for name in ["a.img", "b.img"]}
    os.mkdir(here / ".snap/now")
    for name in before:
        filled(here / name, 5000)
    assert sorted(os.listdir(here / ".snap/now")) == ["a.img", "b.img"]
    for name, data in before.items():
        assert (here / ".snap/now" / name).read_bytes() == data
    assert inode(here / ".snap/now/a.img") == inode(here / "a@now.img")
    assert os.listdir(here / ".snap") == ["now"]
    assert ".snap" not in os.listdir(here)
    fails(errno.EEXIST, os.mkdir, here / ".snap/now")
    fails(errno.EINVAL, os.mkdir, here / ".snap/bad tag")
    os.rmdir(here / ".snap/now")
    assert not (here / "a@now.img").exists()


def test_lineage_mirrors_the_family(cluster, here):
    data = filled(here / "vol.img", 5000)
    family = cluster.mount / ".lineage" / here.name / "vol.img"
    os.mkdir(family / "monday")
    assert (here / "vol@monday.img").read_bytes() == data
    os.mkdir(family / "monday" / "web.img")
    assert (here / "web.img").read_bytes() == data
    os.mkdir(family / "monday" / "web.img" / "tuesday")
    assert "tuesday" in run("tree", family).stdout
    fails(errno.ENOTEMPTY, os.rmdir, family / "monday")
    fails(errno.EPERM, os.rmdir, family / "monday" / "web.img")
    os.rmdir(family / "monday" / "web.img" / "tuesday")
    os.unlink(here / "web.img")
    os.rmdir(family / "monday")
    assert not (here / "vol@monday.img").exists()


def test_control_files_tell_the_state(cluster):
    control = cluster.mount / ".sheep"
    assert ".sheep" not in os.listdir(cluster.mount)
    assert set(os.listdir(control)) == {"status", "status.json", "nodes", "health", "metrics", "config"}
    for name in os.listdir(control):
        assert (control / name).read_text(), name
    json.loads((control / "status.json").read_text())
    for line in (control / "metrics").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z_]+(\{[^}]*\})? [-+0-9.e]+", line), line
    fails(errno.EROFS, open, control / "status", "r+")


def test_reserved_and_bad_names(here):
    volume = here / "vol.img"
    volume.touch()
    for name in ["a@b@c.img", "@t.img", "vol@bad tag.img", f"vol@{'t' * 65}.img"]:
        fails(errno.EINVAL, os.mknod, here / name)
    fails(errno.ENOENT, os.mknod, here / "nothing@t.img")
    fails(errno.ENAMETOOLONG, os.mknod, here / ("x" * 250))
    fails(errno.EEXIST, os.mkdir, here / ".snap")
    fails(errno.EINVAL, os.mkdir, here / "a@b")
    fails(errno.EPERM, os.symlink, "x", here / "y")
    fails(errno.EPERM, os.mkfifo, here / "pipe")


# What you do, and what it means

def test_creating_growing_and_shrinking(here):
    run("qemu-img", "create", "-q", "-f", "raw", here / "a.img", "100G")
    assert os.stat(here / "a.img").st_size == 100 << 30
    run("truncate", "-s", "200G", here / "a.img")
    run("qemu-img", "resize", "-q", "-f", "raw", here / "a.img", "300G")
    assert os.stat(here / "a.img").st_size == 300 << 30
    run("touch", here / "b.img")
    assert os.stat(here / "b.img").st_size == 0
    (here / "c.img").write_bytes(b"hello")
    os.truncate(here / "c.img", 3)
    os.truncate(here / "c.img", 6)
    assert (here / "c.img").read_bytes() == b"hel\0\0\0"
    with open(here / "c.img", "ab") as file:
        file.write(b"more")
    assert (here / "c.img").read_bytes() == b"hel\0\0\0more"
    run("fallocate", "-l", "5M", here / "c.img")
    assert os.stat(here / "c.img").st_size == 5 * MEBI
    assert os.stat(here / "c.img").st_blocks * 512 < MEBI
    with open(here / "c.img", "r+b") as file:
        fails(errno.EOPNOTSUPP, fallocate, file.fileno(), 8, 0, 4096)


def test_many_appends_are_counted_right(here):
    with open(here / "log", "wb", buffering=0) as file:
        for number in range(3000):
            file.write(b"%07d\n" % number)
            if number % 500 == 0:
                os.fsync(file.fileno())
            assert os.fstat(file.fileno()).st_size == 8 * (number + 1)
    assert (here / "log").read_bytes().split() == [b"%07d" % n for n in range(3000)]


def test_ln_of_a_volume_to_an_at_name_is_a_snapshot(here):
    old = filled(here / "vol.img")
    run("ln", here / "vol.img", here / "vol@t.img")
    filled(here / "vol.img")
    assert (here / "vol@t.img").read_bytes() == old
    fails(errno.EEXIST, os.link, here / "vol.img", here / "vol@t.img")
    filled(here / "other.img")
    fails(errno.EXDEV, os.link, here / "other.img", here / "vol@u.img")
    fails(errno.EINVAL, os.link, here / "vol@t.img", here / "vol@u.img")


def test_ln_to_a_plain_name_is_a_clone(here):
    old = filled(here / "vol.img")
    run("ln", here / "vol.img", here / "vol@t.img")
    new = filled(here / "vol.img")
    run("ln", here / "vol@t.img", here / "then.img")
    run("ln", here / "vol.img", here / "now.img")
    filled(here / "vol.img")
    assert (here / "then.img").read_bytes() == old
    assert (here / "now.img").read_bytes() == new
    with open(here / "then.img", "r+b") as file:
        file.write(b"mine")
    assert (here / "vol@t.img").read_bytes() == old
    assert attribute(here / "then.img", "parent") == f"/{here.name}/vol@t.img"
    fails(errno.EEXIST, os.link, here / "vol@t.img", here / "now.img")


def test_cp_of_a_snapshot_is_a_clone_at_once(here):
    with open(here / "vol.img", "wb") as file:
        file.truncate(64 << 30)
        file.seek(32 << 30)
        file.write(b"middle")
    os.link(here / "vol.img", here / "vol@t.img")
    started = time.monotonic()
    run("cp", here / "vol@t.img", here / "new.img")
    assert time.monotonic() - started < 5, "64 GiB were read"
    assert attribute(here / "new.img", "parent") == f"/{here.name}/vol@t.img"
    assert attribute(here / "new.img", "allocated") == "0"
    with open(here / "new.img", "r+b") as file:
        file.seek(32 << 30)
        assert file.read(6) == b"middle"
        file.write(b"clone")
    os.unlink(here / "new.img")


def test_cp_of_a_volume_is_sparse_and_equal(here):
    with open(here / "vol.img", "wb") as file:
        file.truncate(256 * MEBI)
        for position in (0, 77_777_777, 200 * MEBI):
            file.seek(position)
            file.write(os.urandom(100_000))
    run("cp", here / "vol.img", here / "copy.img")
    run("cp", "-a", here / "vol.img", here / "all.img")
    for copy in ("copy.img", "all.img"):
        run("cmp", here / "vol.img", here / copy)
        assert os.stat(here / copy).st_blocks * 512 < 16 * MEBI


def test_cp_to_a_snapshot_name_takes_the_snapshot(here):
    data = filled(here / "vol.img", 3 * MEBI)
    run("cp", here / "vol.img", here / "vol@t.img")
    assert (here / "vol@t.img").read_bytes() == data
    assert os.stat(here / "vol@t.img").st_mode & 0o222 == 0
    filled(here / "other.img", 3 * MEBI)
    assert run("cp", here / "other.img", here / "vol@wrong.img", check=False).returncode != 0
    run("cp", "-f", here / "vol.img", here / "vol@t.img")


def test_copy_file_range_within_the_cluster(here):
    data = filled(here / "vol.img", 2 * MEBI)
    filled(here / "target.img", 3 * MEBI)
    with open(here / "vol.img", "rb") as source, open(here / "target.img", "r+b") as target:
        copied = 0
        while copied < MEBI:
            copied += os.copy_file_range(source.fileno(), target.fileno(), MEBI - copied, 12345 + copied, 777 + copied)
    assert (here / "target.img").read_bytes()[777:777 + MEBI] == data[12345:12345 + MEBI]
    run("qemu-img", "convert", "-C", "-f", "raw", "-O", "raw", here / "vol.img", here / "converted.img")
    run("cmp", here / "vol.img", here / "converted.img")


def test_replacement_is_atomic_and_refused_when_in_use(here):
    one = filled(here / "vol.img")
    os.link(here / "vol.img", here / "vol@t.img")
    two = filled(here / "vol.img")
    run("ln", "-f", here / "vol.img", here / "vol@t.img")
    assert (here / "vol@t.img").read_bytes() == two != one
    filled(here / "other.img")
    run("ln", "-f", here / "vol.img", here / "other.img")
    assert (here / "other.img").read_bytes() == two
    run("ln", "-f", here / "vol@t.img", here / "third.img")
    assert sorted(os.listdir(here)) == ["other.img", "third.img", "vol.img", "vol@t.img"]
    filled(here / "new.img")
    with open(here / "third.img"):
        fails(errno.EBUSY, os.rename, here / "new.img", here / "third.img")
    os.rename(here / "new.img", here / "third.img")
    fails(errno.ENOTEMPTY, os.rename, here / "third.img", here / "vol.img")


def test_rsync_works_with_its_temporary_names(here):
    one = filled(here / "vol.img")
    run("rsync", here / "vol.img", here / "vol@r.img")
    two = filled(here / "vol.img")
    assert (here / "vol@r.img").read_bytes() == one
    run("rsync", "-I", here / "vol.img", here / "vol@r.img")
    assert (here / "vol@r.img").read_bytes() == two
    run("rsync", "-a", here / "vol@r.img", here / "new.img")
    assert (here / "new.img").read_bytes() == two
    assert sorted(os.listdir(here)) == ["new.img", "vol.img", "vol@r.img"]


def test_mv_takes_the_snapshots_along(here):
    data = filled(here / "vol.img")
    os.link(here / "vol.img", here / "vol@t.img")
    (here / "d").mkdir()
    run("mv", here / "vol.img", here / "d/new.img")
    assert not (here / "vol@t.img").exists()
    assert (here / "d/new@t.img").read_bytes() == data
    run("mv", here / "d/new@t.img", here / "d/new@u.img")
    assert sorted(os.listdir(here / "d")) == ["new.img", "new@u.img"]
    fails(errno.EPERM, os.rename, here / "d/new@u.img", here / "d/plain.img")
    fails(errno.EPERM, os.rename, here / "d/new.img", here / "d/other@t.img")
    run("mv", here / "d", here / "e")
    assert (here / "e/new@u.img").exists()


def test_rm_removes_what_is_free(here):
    filled(here / "vol.img")
    os.link(here / "vol.img", here / "vol@t.img")
    fails(errno.ENOTEMPTY, os.unlink, here / "vol.img")
    os.link(here / "vol@t.img", here / "clone.img")
    data = (here / "clone.img").read_bytes()
    os.unlink(here / "vol@t.img")
    assert (here / "clone.img").read_bytes() == data
    with open(here / "vol.img"):
        fails(errno.EBUSY, os.unlink, here / "vol.img")
    os.unlink(here / "vol.img")
    assert (here / "clone.img").read_bytes() == data


def test_dog_removes_a_volume_with_its_snapshots(cluster, here):
    filled(here / "vol.img")
    os.link(here / "vol.img", here / "vol@t.img")
    cluster.dog("vdi", "delete", "--recursive", f"{here.name}/vol.img")
    assert os.listdir(here) == []


def test_holes_give_space_back(here):
    data = filled(here / "vol.img", 8 * MEBI)
    full = os.stat(here / "vol.img").st_blocks
    with open(here / "vol.img", "r+b") as file:
        fallocate(file.fileno(), FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, MEBI, 2 * MEBI)
        fallocate(file.fileno(), FALLOC_ZERO_RANGE, 6 * MEBI, MEBI)
    wait_until(lambda: os.stat(here / "vol.img").st_blocks == full - 3 * MEBI // 512, 5, "the space coming back")
    expected = data[:MEBI] + bytes(2 * MEBI) + data[3 * MEBI:6 * MEBI] + bytes(MEBI) + data[7 * MEBI:]
    assert (here / "vol.img").read_bytes() == expected


def test_a_loop_device_discards(here):
    run("truncate", "-s", "64M", here / "vol.img")
    device = run("losetup", "--find", "--show", here / "vol.img").stdout.strip()
    try:
        run("mkfs.ext4", "-q", device)
        run("sync", device)
        # The daemon counts blocks at most once a second.
        written = wait_until(lambda: os.stat(here / "vol.img").st_blocks, 5, "blocks of the file system")
        run("blkdiscard", device)
    finally:
        run("losetup", "-d", device)
    wait_until(lambda: os.stat(here / "vol.img").st_blocks < written, 5, "the space coming back")


def test_seek_map_du_and_df_tell_the_truth(cluster, here):
    with open(here / "vol.img", "wb") as file:
        file.truncate(40 * MEBI)
        file.seek(20 * MEBI)
        file.write(os.urandom(MEBI))
        file.flush()
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 20 * MEBI
        assert os.lseek(file.fileno(), 20 * MEBI, os.SEEK_HOLE) == 21 * MEBI
        fails(errno.ENXIO, os.lseek, file.fileno(), 21 * MEBI, os.SEEK_DATA)
    extents = json.loads(run("qemu-img", "map", "--output=json", "-f", "raw", here / "vol.img").stdout)
    assert [(e["start"], e["length"]) for e in extents if e["data"]] == [(20 * MEBI, MEBI)]
    assert run("du", "-k", here / "vol.img").stdout.split()[0] == "1024"
    space = os.statvfs(cluster.mount)
    disk = os.statvfs(cluster.stores[0])
    assert 0 < space.f_bavail <= space.f_blocks
    assert space.f_blocks * space.f_frsize <= disk.f_blocks * disk.f_frsize * 1.01


def test_a_snapshot_reports_dense_blocks(here):
    run("truncate", "-s", "32M", here / "vol.img")
    os.link(here / "vol.img", here / "vol@t.img")
    assert os.stat(here / "vol@t.img").st_blocks == 65536
    assert attribute(here / "vol@t.img", "allocated") == "0"


def test_extended_attributes(here):
    filled(here / "vol.img")
    os.link(here / "vol.img", here / "vol@t.img")
    assert attribute(here / "vol@t.img", "tag") == "t"
    assert attribute(here / "vol@t.img", "parent") == f"/{here.name}/vol.img"
    assert attribute(here / "vol.img", "health") == "ok"
    assert int(attribute(here / "vol.img", "allocated")) in (0, MEBI)
    assert attribute(here / "vol.img", "copies") == "3"
    os.setxattr(here / "vol.img", "user.sheep.copies", b"2")
    assert attribute(here / "vol.img", "copies") == "2"
    fails(errno.EINVAL, os.setxattr, here / "vol.img", "user.sheep.copies", b"many")
    fails(errno.EPERM, os.setxattr, here / "vol.img", "user.sheep.id", b"1")
    assert os.listxattr(here / "vol.img") == []
    fails(errno.ENODATA, os.getxattr, here / "vol.img", "security.capability")
    assert attribute(here / "vol.img", "id") in run("getfattr", "-n", "user.sheep.id", here / "vol.img").stdout


def test_a_snapshot_refuses_to_change(here):
    filled(here / "vol.img")
    snapshot = here / "vol@t.img"
    os.link(here / "vol.img", snapshot)
    fails(errno.EROFS, open, snapshot, "r+b")
    fails(errno.EROFS, os.truncate, snapshot, 0)
    fails(errno.EROFS, os.chmod, snapshot, 0o644)
    assert os.stat(snapshot).st_size == MEBI


def test_owner_mode_and_times_are_kept(cluster, here):
    filled(here / "vol.img")
    os.chown(here / "vol.img", 64055, 994)
    os.chmod(here / "vol.img", 0o600)
    os.utime(here / "vol.img", ns=(1_000_000_000_123_456_789,) * 2)
    status = os.stat(here / "vol.img")
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (64055, 994, 0o600)
    assert status.st_mtime_ns == 1_000_000_000_123_456_789
    before = time.time()
    with open(here / "vol.img", "r+b") as file:
        file.write(b"x")
    assert os.stat(here / "vol.img").st_mtime >= before - 1


def test_ofd_locks_exclude_and_fall_with_the_last_close(here):
    filled(here / "vol.img")
    first, second = (open(here / "vol.img", "r+b", buffering=0) for _ in range(2))
    ofd_lock(first, fcntl.F_WRLCK, 100)
    fails(errno.EAGAIN, ofd_lock, second, fcntl.F_RDLCK, 100)
    ofd_lock(second, fcntl.F_RDLCK, 101)
    first.close()
    ofd_lock(second, fcntl.F_RDLCK, 100, True)
    second.close()


def test_posix_locks_wait_and_fall_with_any_close(here):
    filled(here / "vol.img")
    lock = "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX, 10, 5)"
    with open(here / "vol.img", "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 10, 0)
        other = subprocess.Popen([sys.executable, "-c", lock, here / "vol.img"])
        time.sleep(0.3)
        assert other.poll() is None
        open(here / "vol.img").close()
        assert other.wait(10) == 0


def test_a_second_vm_is_refused(here):
    run("qemu-img", "create", "-q", "-f", "raw", here / "vol.img", "16M")
    machine = ["qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-S", "-nodefaults",
               "-drive", f"file={here / 'vol.img'},format=raw,cache=none,if=virtio"]
    first = subprocess.Popen(machine + ["-monitor", "stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        line = first.stdout.readline()
        assert "QEMU" in line
        second = subprocess.run(machine, capture_output=True, text=True, timeout=60)
        assert second.returncode != 0 and 'Failed to get "write" lock' in second.stderr
        fails(errno.EBUSY, os.unlink, here / "vol.img")
    finally:
        first.stdin.write("quit\n")
        first.stdin.flush()
        first.wait(30)
    os.unlink(here / "vol.img")


def test_qemu_io_of_every_kind(here):
    run("qemu-img", "create", "-q", "-f", "raw", here / "vol.img", "64M")
    for aio in ("threads", "native", "io_uring"):
        for cache in ("none", "writethrough", "directsync"):
            run("qemu-img", "bench", "-q", "-f", "raw", "-t", cache, "-c", "64", "-d", "8", "-s", "4096", "-w",
                *(["-i", aio] if aio == "threads" or cache != "writethrough" else []), here / "vol.img")
    text = run("qemu-io", "-f", "raw", "-t", "none", "-c", "write -P 5 1M 2M", "-c", "discard 1M 1M",
               "-c", "write -zu 2M 64k", "-c", "write -z 3M 64k", "-c", "read -P 0 1M 1M", "-c", "flush",
               here / "vol.img").stdout
    assert "fail" not in text.lower()
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", here / "q.qcow2", "16M")
    run("qemu-io", "-c", "write -P 7 0 8M", here / "q.qcow2")
    run("qemu-img", "check", "-q", here / "q.qcow2")


def test_mapped_memory(here):
    import mmap
    filled(here / "vol.img")
    with open(here / "vol.img", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[5000:5005] = b"hello"
        memory.flush()
    assert (here / "vol.img").read_bytes()[5000:5005] == b"hello"


# The options

@pytest.mark.parametrize("options, check", [
    ("snapshots=hidden", lambda d: (sorted(os.listdir(d)), (d / "v@t.img").exists()) == ([".lineage", "d", "v.img"], True)),
    ("subdir=d", lambda d: [n for n in os.listdir(d) if n != ".lineage"] == ["inner.img"]),
    ("ro", lambda d: (fails(errno.EROFS, os.mkdir, d / "x"), True)[1]),
    ("cp=clone", lambda d: (run("cp", d / "v.img", d / "c.img"), attribute(d / "c.img", "allocated") == "0")[1]),
])
def test_mount_options(options, check):
    with scratch("options") as directory, Cluster(directory, stores=1) as cluster:
        (cluster.mount / "d").mkdir()
        filled(cluster.mount / "d/inner.img", 4096)
        filled(cluster.mount / "v.img", 4096)
        os.link(cluster.mount / "v.img", cluster.mount / "v@t.img")
        cluster.stop()
        cluster.options += ["-o", options]
        cluster.start(wait=False)
        for _ in range(200):
            try:
                if os.path.ismount(cluster.mount) and os.listdir(cluster.mount):
                    break
            except OSError:
                pass
            time.sleep(0.05)
        assert check(cluster.mount)


# Runs beside the test: whoever has a file open on the mount must not start the daemon, for a child's close of an
# inherited descriptor waits for an answer of the daemon that it is about to become.
HOLDS_FILES = """
import errno, fcntl, os, struct, sys
def lock(file, kind):
    fcntl.fcntl(file, 37, struct.pack('hhqqi', kind, 0, 100, 1, 0))
file, other = (open(sys.argv[1], 'r+b', buffering=0) for _ in range(2))
lock(file, fcntl.F_WRLCK)
for number in range(10):
    file.seek(0, os.SEEK_END)
    file.write(b'%04d' % number)
print('ready', flush=True)
input()
try:
    lock(other, fcntl.F_RDLCK)
    sys.exit('the lock was lost')
except OSError as error:
    assert error.errno == errno.EAGAIN
file.seek(1 << 20)
assert file.read() == b''.join(b'%04d' % n for n in range(10))
print('checked', flush=True)
input()
file.close()
lock(other, fcntl.F_RDLCK)
other.close()
"""


def test_open_files_and_locks_survive_a_killed_daemon(cluster, here):
    filled(here / "vol.img")
    holder = subprocess.Popen([sys.executable, "-c", HOLDS_FILES, here / "vol.img"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "ready\n"
        cluster.restart()
        print(file=holder.stdin, flush=True)
        assert holder.stdout.readline() == "checked\n"
        fails(errno.EBUSY, os.unlink, here / "vol.img")
        print(file=holder.stdin, flush=True)
        assert holder.wait(30) == 0
    finally:
        holder.kill()
    os.unlink(here / "vol.img")
