# Wrong names, sizes, options and stores: the right errno, a clear message, nothing lost.
import errno
import os
import shutil
import subprocess

import pytest

from cluster import binaries
from system import run

LIMIT = (4 << 20) * 0xFFFFFFFF


@pytest.fixture
def volume(cluster, folder):
    path = folder / "vol.img"
    with open(path, "wb") as file:
        file.truncate(8 << 20)
        file.write(b"content")
    return path


def failing(number, action, *arguments):
    with pytest.raises(OSError) as caught:
        action(*arguments)
    wanted = number if isinstance(number, (list, tuple)) else [number]
    assert caught.value.errno in wanted, caught.value


@pytest.mark.parametrize("name", ["with blank.img", "ümläut.img", "日本.img", "tab\there.img", "new\nline.img", "-dash",
                                  "'quote\".img", "$(x).img", "a" * 180 + ".img", "trailing.", "%41", "\\back"])
def test_odd_names_are_names(folder, name):
    path = folder / name
    with open(path, "wb") as file:
        file.truncate(1 << 20)
        file.write(b"x")
    assert name in os.listdir(folder)
    assert path.read_bytes()[:1] == b"x"
    stem, suffix = os.path.splitext(name)
    os.link(path, folder / f"{stem}@tag{suffix}")
    os.unlink(folder / f"{stem}@tag{suffix}")
    os.rename(path, folder / "plain.img")
    os.unlink(folder / "plain.img")


def test_a_name_leaves_room_for_the_longest_tag_and_no_more(folder):
    volume = folder / ("b" * 190)
    volume.touch()
    os.link(volume, folder / ("b" * 190 + "@" + "t" * 64))
    failing(errno.ENAMETOOLONG, (folder / ("b" * 191)).touch)
    failing(errno.ENAMETOOLONG, (folder / ("b" * 256)).touch)


@pytest.mark.parametrize("name", ["@.img", "vol@.img", "@tag.img", "vol@a@b.img", "vol@with blank.img", "vol@ü.img",
                                  "vol@a.b.img", "vol@" + "t" * 65 + ".img"])
def test_names_with_the_at_sign_in_the_wrong_place_are_refused(folder, volume, name):
    failing([errno.EINVAL, errno.ENAMETOOLONG, errno.EPERM], os.link, volume, folder / name)
    failing([errno.EINVAL, errno.ENAMETOOLONG, errno.EPERM, errno.ENOENT], (folder / name).touch)
    assert os.listdir(folder) == ["vol.img"]


def test_a_snapshot_of_a_volume_that_does_not_exist(folder, volume):
    failing([errno.ENOENT, errno.EINVAL, errno.EPERM, errno.EXDEV], os.link, volume, folder / "other@tag.img")
    failing(errno.ENOENT, (folder / "other@tag.img").touch)


def test_a_tag_is_taken_once(folder, volume):
    os.link(volume, folder / "vol@tag.img")
    failing(errno.EEXIST, os.link, volume, folder / "vol@tag.img")
    assert (folder / "vol@tag.img").read_bytes()[:7] == b"content"


def test_a_snapshot_of_a_snapshot_is_refused(folder, volume):
    os.link(volume, folder / "vol@tag.img")
    failing([errno.EINVAL, errno.EPERM, errno.EROFS], os.link, folder / "vol@tag.img", folder / "vol@second.img")


def test_a_clone_onto_an_existing_name_is_refused(folder, volume):
    os.link(volume, folder / "vol@tag.img")
    (folder / "other.img").write_bytes(b"keep this" + bytes(503))
    failing(errno.EEXIST, os.link, folder / "vol@tag.img", folder / "other.img")
    assert (folder / "other.img").read_bytes()[:9] == b"keep this"


def test_an_empty_file_is_a_volume(folder):
    path = folder / "empty.img"
    path.touch()
    assert path.stat().st_size == 0 and path.read_bytes() == b""
    os.link(path, folder / "empty@tag.img")
    assert (folder / "empty@tag.img").stat().st_size == 0


def test_the_largest_volume_and_one_sector_more(folder):
    path = folder / "big.img"
    path.touch()
    os.truncate(path, LIMIT)
    assert path.stat().st_size == LIMIT
    failing([errno.EFBIG, errno.EINVAL], os.truncate, path, LIMIT + 512)
    with open(path, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"end", LIMIT - 4096)
        failing([errno.EFBIG, errno.ENOSPC, errno.EINVAL], os.pwrite, file.fileno(), b"x", LIMIT)
        assert os.pread(file.fileno(), 3, LIMIT - 4096) == b"end"


def test_a_size_that_is_not_whole_sectors_is_kept_or_refused_never_rounded_silently(folder):
    path = folder / "odd.img"
    path.touch()
    try:
        os.truncate(path, 1000)
        assert path.stat().st_size == 1000
    except OSError as error:
        assert error.errno == errno.EINVAL
        assert path.stat().st_size == 0


def test_a_volume_with_snapshots_cannot_be_removed(folder, volume):
    os.link(volume, folder / "vol@tag.img")
    failing([errno.ENOTEMPTY, errno.EBUSY], os.unlink, volume)
    assert volume.read_bytes()[:7] == b"content"


def test_a_volume_in_use_cannot_be_removed_or_replaced(folder, volume):
    (folder / "other.img").write_bytes(bytes(4096))
    with open(volume, "r+b"):
        failing(errno.EBUSY, os.unlink, volume)
        failing(errno.EBUSY, os.rename, folder / "other.img", volume)
    assert volume.read_bytes()[:7] == b"content"


def test_a_snapshot_cannot_be_changed_even_by_root(folder, volume):
    snapshot = folder / "vol@tag.img"
    os.link(volume, snapshot)
    failing(errno.EROFS, open, snapshot, "r+b")
    failing(errno.EROFS, os.truncate, snapshot, 0)
    failing(errno.EROFS, os.chmod, snapshot, 0o644)
    assert snapshot.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("name", [".snap", ".sheep", ".lineage"])
def test_reserved_names_cannot_be_made_or_removed(cluster, name):
    failing([errno.EEXIST, errno.EPERM, errno.EACCES, errno.EROFS, errno.EISDIR], (cluster.mount / name).touch, 0o644,
            False)
    failing([errno.EPERM, errno.EBUSY, errno.EACCES, errno.EROFS, errno.ENOTEMPTY, errno.EINVAL], os.rmdir,
            cluster.mount / name)


def test_dot_dot_does_not_leave_the_mount(cluster, folder, volume):
    assert (folder / ".." / folder.name / "vol.img").read_bytes()[:7] == b"content"
    for name in ["../outside.img", "a/../../outside.img", ""]:
        answer = cluster.dog_text("vdi", "create", name, "1M")
        assert answer.returncode != 0, answer.stdout
        assert "why:" in answer.stderr and "do:" in answer.stderr, answer.stderr
    assert not (cluster.mount.parent / "outside.img").exists()


@pytest.mark.parametrize("size,status", [("0", 2), ("17P", 2), ("-1", 2), ("1.5", 2), ("many", 2), ("513", 2)])
def test_sizes_given_to_dog(cluster, folder, size, status):
    answer = cluster.dog_text("vdi", "create", f"{folder.name}/sized.img", "--", size)
    assert answer.returncode == status, answer.stdout + answer.stderr


def test_unknown_words_are_refused(cluster):
    for words in [["vdi", "frobnicate"], ["--frobnicate"], ["vdi", "create"], ["vdi", "info"]]:
        answer = cluster.dog_text(*words)
        assert answer.returncode == 2, words
        assert answer.stderr


def test_what_does_not_exist_is_said_so(cluster):
    for words in [["vdi", "info", "nothing.img"], ["vdi", "delete", "nothing.img"],
                  ["vdi", "snapshot", "nothing.img", "tag"], ["vdi", "rollback", "nothing.img", "tag"]]:
        answer = cluster.dog_text(*words)
        assert answer.returncode == 4, (words, answer.stderr)
        assert "nothing.img" in answer.stderr and "do:" in answer.stderr


def refused(directory, *words) -> str:
    """What `sheep run` says when it does not start."""

    result = subprocess.run([binaries() / "sheep", "run", "--socket", directory / "other.sock", *words],
                            capture_output=True, text=True, timeout=30)
    assert result.returncode != 0
    assert "why:" in result.stderr and "do:" in result.stderr, result.stderr
    return result.stderr


def test_unknown_mount_options_are_refused(directory):
    text = refused(directory, "--store", directory / "s", "--mount", directory / "m", "-o", "frobnicate=1")
    assert "frobnicate" in text


def test_a_store_that_is_in_use_is_refused(cluster, directory):
    text = refused(directory, "--store", cluster.stores[0], "--no-mount")
    assert str(cluster.stores[0]) in text
    assert cluster.status()["health"] == "healthy"


def test_a_store_of_another_cluster_is_refused(new_cluster, directory):
    first = new_cluster("first")
    second = new_cluster("second")
    foreign = first.stores[0]
    first.create("vol.img", 1 << 20)
    assert first.stop() == 0
    answer = second.dog_text("store", "add", foreign)
    assert answer.returncode != 0 and "do:" in answer.stderr
    assert second.stop() == 0
    text = refused(directory, "--store", second.stores[0], "--store", foreign, "--no-mount")
    assert "cluster" in text
    first.start()
    assert first.path("vol.img").exists()


def test_a_directory_with_foreign_files_is_refused_as_a_store(directory):
    (directory / "home").mkdir()
    (directory / "home" / "letter.txt").write_text("mine")
    refused(directory, "--store", directory / "home", "--no-mount")
    assert (directory / "home" / "letter.txt").read_text() == "mine"


def test_a_store_with_a_wiped_identity_is_refused_or_taken_as_empty_never_as_full(new_cluster):
    """An old disk that was emptied comes back under its old path: it has nothing, and must not count as having."""
    cluster = new_cluster()
    path = cluster.create("vol.img", 8 << 20)
    path.write_bytes(b"x" * 4096)
    assert cluster.stop() == 0
    shutil.rmtree(cluster.stores[0])
    cluster.stores[0].mkdir()
    cluster.start(wait=False)
    try:
        cluster.wait_ready()
    except AssertionError:
        assert str(cluster.stores[0]) in cluster.log_text() or "missing" in cluster.log_text()
        return
    assert cluster.path("vol.img").read_bytes()[:4096] == b"x" * 4096


def test_dog_without_a_daemon(directory):

    answer = subprocess.run([binaries() / "dog", "status", "--socket", directory / "none.sock"], capture_output=True,
                            text=True)
    assert answer.returncode == 3
    assert "why:" in answer.stderr and "do:" in answer.stderr


def test_a_mount_onto_a_missing_directory_is_refused(directory):
    refused(directory, "--store", directory / "s", "--mount", directory / "missing" / "deeper")


def test_qemu_img_says_why(cluster, folder):
    result = run("qemu-img", "create", "-f", "raw", folder / "vol@x.img", "1M", check=False)
    assert result.returncode != 0
