# Mounting as everybody mounts: mount -t fuse.sheep, its options, several mounts of one daemon, and every way to
# unmount.
import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from cluster import binaries
from system import is_mounted, run, unmount, wait_until


@pytest.fixture(scope="module", autouse=True)
def mount_program():
    """What an installation puts there; taken away again if it was not there."""
    path = Path("/sbin/mount.fuse.sheep")
    if path.exists():
        yield
        return
    path.unlink(missing_ok=True)
    path.symlink_to(binaries() / "sheep")
    try:
        yield
    finally:
        path.unlink()


@contextlib.contextmanager
def extra_mount(cluster, path, options=""):
    path.mkdir(exist_ok=True)
    words = ["mount", "-t", "fuse.sheep", "none", path] + (["-o", options] if options else [])
    run(*words, env=cluster.environment)
    try:
        # mount returns when it works, not before.
        assert is_mounted(path)
        os.listdir(path)
        yield path
    finally:
        unmount(path)


@pytest.mark.parametrize("way", [["umount"], ["fusermount3", "-u"], ["fusermount", "-u"]])
def test_mount_and_every_way_to_unmount(cluster, directory, way):
    with extra_mount(cluster, directory / "m", "_netdev") as path:
        (path / f"{way[0]}.img").write_bytes(b"x" * 512)
        assert cluster.path(f"{way[0]}.img").read_bytes() == b"x" * 512
        run(*way, path)
        wait_until(lambda: not is_mounted(path), 10, "the unmounting")
    assert cluster.path(f"{way[0]}.img").exists()


def test_read_only(cluster, directory):
    cluster.path("ro.img").write_bytes(b"x" * 512)
    with extra_mount(cluster, directory / "m", "ro") as path:
        assert (path / "ro.img").read_bytes() == b"x" * 512
        with pytest.raises(OSError) as caught:
            open(path / "ro.img", "r+b")
        assert caught.value.errno == 30


def test_a_subdirectory(cluster, directory):
    (cluster.mount / "images" / "100").mkdir(parents=True)
    (cluster.mount / "images" / "100" / "a.img").write_bytes(b"x" * 512)
    with extra_mount(cluster, directory / "m", "subdir=images/100") as path:
        assert os.listdir(path) == ["a.img"] or sorted(os.listdir(path)) == [".lineage", "a.img"]


def test_hidden_snapshots(cluster, directory):
    volume = cluster.path("hidden.img")
    volume.write_bytes(b"x" * 512)
    os.link(volume, cluster.path("hidden@tag.img"))
    with extra_mount(cluster, directory / "m", "snapshots=hidden") as path:
        assert "hidden@tag.img" not in os.listdir(path)
        # Not listed, but there for whoever knows it.
        assert (path / "hidden@tag.img").read_bytes() == b"x" * 512


def test_cp_is_a_clone_when_asked_for(cluster, directory):
    volume = cluster.path("dense.img")
    with open(volume, "wb") as file:
        file.truncate(64 << 20)
        file.write(b"data")
    with extra_mount(cluster, directory / "m", "cp=clone") as path:
        run("cp", path / "dense.img", path / "cloned.img")
        assert cluster.dog("vdi", "info", "cloned.img")["parent"]
        run("cmp", path / "dense.img", path / "cloned.img")


def test_unknown_options_and_remount_are_refused(cluster, directory):
    (directory / "m").mkdir()
    for options in ["frobnicate", "snapshots=perhaps"]:
        answer = subprocess.run(["mount", "-t", "fuse.sheep", "none", directory / "m", "-o", options], env=cluster.environment,
                                capture_output=True, text=True)
        assert answer.returncode != 0 and not is_mounted(directory / "m")


def test_mount_without_a_daemon_says_how_to_start_it(directory):
    (directory / "m").mkdir()
    environment = {**os.environ, "SHEEP_SOCKET": str(directory / "none")}
    answer = subprocess.run(["mount", "-t", "fuse.sheep", "none", directory / "m"], env=environment,
                            capture_output=True, text=True)
    assert answer.returncode != 0
    assert "sheep run" in answer.stderr


def test_unmounting_does_not_stop_the_node(new_cluster):
    cluster = new_cluster()
    cluster.path("vol.img").write_bytes(b"x" * 512)
    run("fusermount3", "-u", cluster.mount)
    wait_until(lambda: not is_mounted(cluster.mount), 10, "the unmounting")
    assert cluster.dog("vdi", "list")[0]["path"].strip("/") == "vol.img"
    run(cluster.binaries / "sheep", "mount", cluster.mount, env=cluster.environment)
    assert cluster.path("vol.img").read_bytes() == b"x" * 512


def test_an_open_file_keeps_umount_from_succeeding(new_cluster):
    cluster = new_cluster()
    with open(cluster.path("vol.img"), "wb"):
        assert run("umount", cluster.mount, check=False).returncode != 0
        assert cluster.dog_text("umount").returncode == 5
    cluster.dog("umount")
    wait_until(lambda: not is_mounted(cluster.mount), 10, "the unmounting")


def test_a_daemon_killed_while_it_tells_a_mount_what_changed_can_end(new_cluster, directory):
    """The kernel locks a directory for `ln` until the daemon has answered, and for a notification about a name in it,
    which cannot be interrupted:

        ln through one mount        daemon                            ln through the other
                                    answers, invalidates the name     locks the directory, asks
                                    waits for that lock
                                    SIGKILL: must end all the same    waits for an answer of the next daemon
    """
    cluster = new_cluster()
    cluster.path("vol.img").write_bytes(b"x" * 4096)
    with extra_mount(cluster, directory / "m") as second:
        done, failures = threading.Event(), []

        def link_and_unlink(mount, tag):
            try:
                while not done.is_set():
                    os.link(mount / "vol.img", mount / f"vol@{tag}.img")
                    os.unlink(mount / f"vol@{tag}.img")
            except OSError as error:
                failures.append(error)
        threads = [threading.Thread(target=link_and_unlink, args=(mount, f"{mount.name}{number}"))
                   for mount in (cluster.mount, second) for number in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(8):
                time.sleep(random.uniform(0.1, 0.4))
                cluster.process.send_signal(signal.SIGKILL)
                cluster.process.wait(5)
                cluster.start(wait=False)
        finally:
            done.set()
            for thread in threads:
                thread.join(30)
        assert not failures and not any(thread.is_alive() for thread in threads), failures
        cluster.wait_ready()
