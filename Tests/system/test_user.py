# An ordinary user (uid 1000) runs a cluster of his own: mounts, uses it, unmounts with fusermount3 -u.
import os
import shutil
import stat
import subprocess

import pytest

from cluster import Cluster, binaries
from system import is_mounted, run, wait_until

UID = 1000
AS_USER = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all"]


@pytest.fixture
def user_cluster(directory):
    # Distributions let everybody open it; some machines do not.
    mode = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    os.chmod("/dev/fuse", 0o666)
    # The programs, where this user can reach them.
    programs = directory / "bin"
    programs.mkdir()
    for name in ["sheep", "dog", "sheep-holder"]:
        shutil.copy(binaries() / name, programs)
    os.chmod(directory, 0o755)
    home = directory / "home"
    cluster = Cluster(home, start=False, prefix=AS_USER, binary_directory=programs)
    for path in [home, cluster.mount, cluster.socket.parent, *cluster.stores]:
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, UID, UID)
    try:
        cluster.start(wait=False)
        # Another user's mount does not let root in; the user looks himself.
        wait_until(lambda: as_user("test", "-d", cluster.mount / ".sheep", check=False).returncode == 0, 30,
                   "the user's mount")
        yield cluster
    finally:
        cluster.clean_up()
        os.chmod("/dev/fuse", mode)


def as_user(*command, check=True):
    return run(*AS_USER, *command, check=check)


def test_a_user_mounts_uses_and_unmounts(user_cluster):
    cluster = user_cluster
    volume = cluster.mount / "vol.img"
    as_user("qemu-img", "create", "-q", "-f", "raw", volume, "64M")
    as_user("qemu-io", "-f", "raw", "-t", "none", "-c", "write -P 3 1M 1M", "-c", "flush", volume)
    as_user("ln", volume, cluster.mount / "vol@tag.img")
    as_user("cp", cluster.mount / "vol@tag.img", cluster.mount / "clone.img")
    as_user("qemu-io", "-f", "raw", "-c", "read -P 3 1M 1M", cluster.mount / "clone.img")
    assert as_user("stat", "-c", "%u", volume).stdout.strip() == str(UID)
    as_user("fusermount3", "-u", cluster.mount)
    wait_until(lambda: not is_mounted(cluster.mount), 10, "the unmounting")
    # The node goes on as a replica, and mounts again when asked.
    assert cluster.dog("status")["volumeCount"] == 2
    as_user(cluster.binaries / "sheep", "mount", "--socket", cluster.socket, cluster.mount)
    as_user("qemu-io", "-f", "raw", "-c", "read -P 3 1M 1M", volume)


def test_a_users_mount_survives_a_kill(user_cluster):
    cluster = user_cluster
    volume = cluster.mount / "vol.img"
    as_user("qemu-img", "create", "-q", "-f", "raw", volume, "16M")
    bench = subprocess.Popen([*AS_USER, "qemu-img", "bench", "-f", "raw", "-t", "none", "-w", "-c", "5000", "-d", "8",
                              volume], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    cluster.kill()
    cluster.start(wait=False)
    output, _ = bench.communicate(timeout=60)
    assert bench.returncode == 0, output


def test_others_may_not_ask_a_users_daemon(user_cluster):
    answer = run("setpriv", "--reuid=1001", "--regid=1001", "--clear-groups", user_cluster.binaries / "dog", "status",
                 "--socket", user_cluster.socket, check=False)
    assert answer.returncode in (3, 9)
