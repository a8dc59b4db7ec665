# The tools that people use on disk images and files, on the real mount: qemu-img with all it can, file systems on loop
# devices, coreutils, rsync.
import json
import os
import random
import shutil

import pytest

from system import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, fallocate, loop_device, mounted, run, wait_until

MIB = 1 << 20


def random_file(path, size, seed=1):
    choice = random.Random(seed)
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(choice.randbytes(MIB))


def allocated(path) -> int:
    return path.stat().st_blocks * 512


# qemu-img

def test_qemu_img_create_info_resize_map(folder):
    path = folder / "vol.img"
    run("qemu-img", "create", "-f", "raw", path, "64M")
    info = json.loads(run("qemu-img", "info", "--output=json", path).stdout)
    assert info["virtual-size"] == 64 * MIB and info["format"] == "raw"
    run("qemu-io", "-f", "raw", "-c", "write -P 7 8M 1M", path)
    extents = [e for e in json.loads(run("qemu-img", "map", "-f", "raw", "--output=json", path).stdout) if e["data"]]
    assert extents and extents[0]["start"] <= 8 * MIB and sum(e["length"] for e in extents) <= 2 * MIB
    run("qemu-img", "resize", "-f", "raw", path, "128M")
    assert path.stat().st_size == 128 * MIB
    run("qemu-img", "resize", "--shrink", "-f", "raw", path, "32M")
    assert path.stat().st_size == 32 * MIB
    run("qemu-io", "-f", "raw", "-c", "read -P 7 8M 1M", path)


@pytest.mark.parametrize("preallocation", ["off", "falloc", "full"])
def test_qemu_img_create_with_every_preallocation(folder, preallocation):
    path = folder / "vol.img"
    run("qemu-img", "create", "-f", "raw", "-o", f"preallocation={preallocation}", path, "16M")
    assert path.stat().st_size == 16 * MIB


@pytest.mark.parametrize("copy_offload", [[], ["-C"], ["-W", "-m", "8"]])
def test_qemu_img_convert_to_and_from_the_mount(folder, directory, copy_offload):
    source = directory / "source.img"
    random_file(source, 16 * MIB)
    with open(source, "r+b") as file:
        file.truncate(40 * MIB)
    inside, again, back = folder / "in.img", folder / "again.img", directory / "back.img"
    run("qemu-img", "convert", *copy_offload, "-f", "raw", "-O", "raw", source, inside)
    run("qemu-img", "convert", *copy_offload, "-f", "raw", "-O", "raw", inside, again)
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", again, back)
    run("cmp", source, back)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, again)
    assert allocated(again) <= 20 * MIB


@pytest.mark.parametrize("engine,cache", [
    (engine, cache) for engine in ["threads", "native", "io_uring"]
    for cache in ["none", "writeback", "writethrough", "directsync", "unsafe"]
    # qemu's native engine wants O_DIRECT.
    if engine != "native" or cache in ("none", "directsync")])
def test_qemu_img_bench(folder, engine, cache):
    path = folder / "bench.img"
    run("qemu-img", "create", "-q", "-f", "raw", path, "32M")
    for more in [["-w"], [], ["-w", "--flush-interval=64"]]:
        run("qemu-img", "bench", "-f", "raw", "-t", cache, "-i", engine, "-c", "1000", "-s", "4096", "-d", "16", *more,
            path)


def test_a_qcow2_on_the_mount(folder):
    path = folder / "image.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "1G")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", "-c", "write -P 2 512M 64k", "-c", "flush", path)
    run("qemu-img", "snapshot", "-c", "inside", path)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 3 0 64k", path)
    run("qemu-img", "check", "-f", "qcow2", path)
    run("qemu-io", "-f", "qcow2", "-c", "read -P 3 0 64k", "-c", "read -P 1 64k 64k", "-c", "read -P 2 512M 64k", path)
    os.link(path, folder / "image@outside.qcow2")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 9 0 64k", path)
    run("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 3 0 64k", folder / "image@outside.qcow2")


def test_qemu_io_discard_and_write_zeroes(folder):
    path = folder / "vol.img"
    run("qemu-img", "create", "-q", "-f", "raw", path, "64M")
    run("qemu-io", "-f", "raw", "-d", "unmap", "-c", "write -P 5 0 32M", path)
    full = allocated(path)
    assert full >= 32 * MIB
    run("qemu-io", "-f", "raw", "-d", "unmap", "-c", "discard 0 16M", path)
    # What stat says of the space may be a second old.
    wait_until(lambda: allocated(path) <= full - 15 * MIB, 5, "the space being given back")
    run("qemu-io", "-f", "raw", "-d", "unmap", "-c", "write -z 16M 4M", "-c", "write -zu 20M 4M", path)
    run("qemu-io", "-f", "raw", "-c", "read -P 0 16M 8M", "-c", "read -P 5 24M 8M", path)


# File systems

@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_file_system_on_a_loop_device(folder, directory, kind):
    path = folder / "disk.img"
    with open(path, "wb") as file:
        file.truncate(512 * MIB)
    with loop_device(path, "--direct-io=on") as device:
        run(f"mkfs.{kind}", *(["-q", "-F"] if kind == "ext4" else ["-q", "-f"]), device)
        with mounted(device, directory / "m") as inside:
            random_file(inside / "a", 64 * MIB)
            expected = run("md5sum", inside / "a").stdout.split()[0]
            run("sync", "-f", inside)
            before = allocated(path)
            assert before >= 64 * MIB
            random_file(inside / "b", 32 * MIB, seed=2)
            run("sync", "-f", inside)
            (inside / "b").unlink()
            run("sync", "-f", inside)

            def trimmed():
                # XFS frees what was unlinked a moment later.
                run("fstrim", inside)
                return allocated(path) <= before + 8 * MIB
            wait_until(trimmed, 10, "the space being given back", 0.5)
            # A snapshot while it is mounted, as a backup takes it.
            run("fsfreeze", "--freeze", inside)
            os.link(path, folder / "disk@frozen.img")
            run("fsfreeze", "--unfreeze", inside)
            (inside / "a").write_bytes(b"changed")
        run("fsck.ext4" if kind == "ext4" else "xfs_repair", *(["-f", "-n"] if kind == "ext4" else ["-n"]), device)
    with loop_device(folder / "disk@frozen.img", "--read-only") as device:
        options = ["-o", "ro,noload" if kind == "ext4" else "ro,norecovery,nouuid"]
        with mounted(device, directory / "m", *options) as inside:
            assert run("md5sum", inside / "a").stdout.split()[0] == expected


# Coreutils and friends

@pytest.fixture
def volume(folder):
    path = folder / "vol.img"
    random_file(path, 8 * MIB)
    with open(path, "r+b") as file:
        file.truncate(64 * MIB)
    return path


def test_cp_of_a_snapshot_is_a_clone_at_once(cluster, folder, volume):
    snapshot = folder / "vol@tag.img"
    os.link(volume, snapshot)
    run("cp", snapshot, folder / "clone.img")
    run("cmp", snapshot, folder / "clone.img")
    info = cluster.dog("vdi", "info", f"{folder.name}/clone.img")
    assert info["parent"] == f"{folder.name}/vol@tag.img"
    assert info["allocatedBytes"] == 0
    assert (folder / "clone.img").stat().st_mode & 0o200


def test_cp_of_a_volume_is_a_sparse_copy(folder, volume):
    run("cp", volume, folder / "copy.img")
    run("cmp", volume, folder / "copy.img")
    assert allocated(folder / "copy.img") <= 12 * MIB


def test_cp_onto_a_snapshots_name_takes_it(folder, volume):
    run("cp", volume, folder / "vol@copied.img")
    run("cmp", volume, folder / "vol@copied.img")
    assert (folder / "vol@copied.img").stat().st_mode & 0o777 == 0o444


def test_cp_a_keeps_what_files_have(folder, directory, volume):
    os.chmod(volume, 0o640)
    os.chown(volume, 1000, 1001)
    run("cp", "-a", volume, folder / "kept.img")
    stat = (folder / "kept.img").stat()
    assert (stat.st_mode & 0o777, stat.st_uid, stat.st_gid) == (0o640, 1000, 1001)
    run("cp", "-a", volume, directory / "out.img")
    run("cp", "-a", directory / "out.img", folder / "in.img")
    run("cmp", volume, folder / "in.img")
    assert int((folder / "in.img").stat().st_mtime) == int(volume.stat().st_mtime)


def test_cp_a_of_a_whole_tree(folder, directory):
    (folder / "tree" / "deep").mkdir(parents=True)
    random_file(folder / "tree" / "a.img", MIB)
    random_file(folder / "tree" / "deep" / "b.img", MIB, seed=2)
    run("cp", "-a", folder / "tree", directory / "out")
    run("cp", "-a", directory / "out", folder / "again")
    run("diff", "-r", folder / "tree", folder / "again")


@pytest.mark.parametrize("options", [["-a"], ["-a", "--inplace"], ["-aS"], ["-a", "--inplace", "--no-whole-file"]])
def test_rsync_in_and_out(folder, directory, options):
    (directory / "source").mkdir()
    random_file(directory / "source" / "a.img", 2 * MIB)
    (folder / "target").mkdir()
    run("rsync", *options, f"{directory}/source/", f"{folder}/target/")
    with open(directory / "source" / "a.img", "r+b") as file:
        file.write(b"changed")
    run("rsync", *options, "--ignore-times", f"{directory}/source/", f"{folder}/target/")
    run("cmp", directory / "source" / "a.img", folder / "target" / "a.img")
    run("rsync", "-a", f"{folder}/target/", f"{directory}/back/")
    run("cmp", directory / "source" / "a.img", directory / "back" / "a.img")
    assert os.listdir(folder / "target") == ["a.img"]


def test_mv_takes_the_snapshots_along(folder, volume):
    os.link(volume, folder / "vol@tag.img")
    (folder / "sub").mkdir()
    run("mv", volume, folder / "sub" / "new.img")
    assert sorted(os.listdir(folder / "sub")) == ["new.img", "new@tag.img"]
    run("cmp", folder / "sub" / "new.img", folder / "sub" / "new@tag.img")
    run("mv", folder / "sub" / "new@tag.img", folder / "sub" / "new@other.img")
    assert sorted(os.listdir(folder / "sub")) == ["new.img", "new@other.img"]


def test_mv_between_the_mount_and_elsewhere(folder, directory, volume):
    expected = run("md5sum", volume).stdout.split()[0]
    run("mv", volume, directory / "out.img")
    assert not volume.exists()
    run("mv", directory / "out.img", volume)
    assert run("md5sum", volume).stdout.split()[0] == expected


def test_mv_onto_an_existing_volume_replaces_it(folder, volume):
    random_file(folder / "new.img", MIB, seed=3)
    expected = run("md5sum", folder / "new.img").stdout.split()[0]
    run("mv", "-f", folder / "new.img", volume)
    assert os.listdir(folder) == ["vol.img"]
    assert run("md5sum", volume).stdout.split()[0] == expected


def test_ln_f_and_cp_f_replace_a_snapshot(folder, volume):
    os.link(volume, folder / "vol@tag.img")
    with open(volume, "r+b") as file:
        file.write(b"changed!")
    run("ln", "-f", volume, folder / "vol@tag.img")
    assert (folder / "vol@tag.img").read_bytes()[:8] == b"changed!"
    assert sorted(os.listdir(folder)) == ["vol.img", "vol@tag.img"]


def test_rm_r_of_a_folder(folder, volume):
    os.link(volume, folder / "vol@tag.img")
    run("rm", folder / "vol@tag.img")
    (folder / "sub").mkdir()
    random_file(folder / "sub" / "x.img", MIB)
    run("rm", "-r", folder / "sub", volume)
    assert os.listdir(folder) == []


def test_du_and_df(cluster, folder, volume):
    kib = int(run("du", "-k", volume).stdout.split()[0])
    assert 8 * 1024 <= kib <= 12 * 1024
    fields = run("df", "-B1", "--output=size,avail", cluster.mount).stdout.split()[-2:]
    store = os.statvfs(cluster.stores[0])
    # Three stores, three copies, one disk.
    assert 0 < int(fields[0]) <= store.f_blocks * store.f_frsize
    assert 0 < int(fields[1]) <= int(fields[0])


def test_getfattr_and_setfattr(folder, volume):
    os.link(volume, folder / "vol@tag.img")
    for name in ["id", "copies", "health", "allocated"]:
        assert run("getfattr", "--only-values", "-n", f"user.sheep.{name}", volume).stdout
    assert run("getfattr", "--only-values", "-n", "user.sheep.copies", volume).stdout.strip() == "3"
    assert run("getfattr", "--only-values", "-n", "user.sheep.tag", folder / "vol@tag.img").stdout.strip() == "tag"
    run("setfattr", "-n", "user.sheep.copies", "-v", "2", volume)
    assert run("getfattr", "--only-values", "-n", "user.sheep.copies", volume).stdout.strip() == "2"
    # Not listed, so that copies do not stumble over them.
    assert "sheep" not in run("getfattr", "-m", "-", "-d", volume).stdout


def test_punched_space_comes_back_on_every_store(cluster, folder, volume):
    def used():
        return sum(int(run("du", "-sk", store).stdout.split()[0]) << 10 for store in cluster.stores)
    os.sync()
    before = used()
    random_file(folder / "second.img", 32 * MIB, seed=4)
    descriptor = os.open(folder / "second.img", os.O_RDWR)
    try:
        os.fsync(descriptor)
        assert used() >= before + 3 * 32 * MIB * 0.9
        fallocate(descriptor, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 0, 32 * MIB)
        os.fsync(descriptor)
        wait_until(lambda: allocated(folder / "second.img") == 0, 5, "the space being given back")
    finally:
        os.close(descriptor)
    # Blocks leave the object files when their records do: with the next checkpoint.
    wait_until(lambda: used() <= before + 3 * 8 * MIB, 60, "the space coming back", 0.5)


def test_tree_draws_the_family(cluster, folder, volume):
    os.link(volume, folder / "vol@monday.img")
    os.link(folder / "vol@monday.img", folder / "web1.img")
    drawn = run("tree", cluster.mount / ".lineage" / folder.name).stdout
    for name in ["vol.img", "monday", "web1.img"]:
        assert name in drawn
    assert "web1.img" in cluster.dog_text("vdi", "tree").stdout


def test_a_snapshot_of_a_directory_is_of_one_instant(folder):
    for name in ["a.img", "b.img"]:
        random_file(folder / name, MIB)
    os.mkdir(folder / ".snap" / "tag")
    assert sorted(os.listdir(folder / ".snap" / "tag")) == ["a.img", "b.img"]
    run("cmp", folder / "a.img", folder / ".snap" / "tag" / "a.img")
    assert ".snap" not in os.listdir(folder)
    os.rmdir(folder / ".snap" / "tag")
    assert os.listdir(folder / ".snap") == []


def test_copying_the_mount_copies_what_one_sees(cluster, folder, directory, volume):
    os.link(volume, folder / "vol@tag.img")
    shutil.copytree(folder, directory / "copy")
    assert sorted(os.listdir(directory / "copy")) == ["vol.img", "vol@tag.img"]
