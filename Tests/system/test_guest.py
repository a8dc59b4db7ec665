# A virtual machine on a volume: it boots, writes, is snapshotted while it writes, and every kind of clone boots.
import os
import shutil

import pytest

import guest
from system import run


@pytest.fixture(scope="module")
def snapshotted(cluster):
    """A volume with a guest that writes, and a snapshot taken while it did; the number of files that were safe then."""
    volume = cluster.create("vm.img", 256 << 20)
    guest.make_root(volume)
    with guest.Guest(volume, "write", cluster.directory / "console") as running:
        running.wait_for("GUEST-WROTE", count=20)
        safe = running.wrote()
        os.link(volume, cluster.path("vm@running.img"))
        running.wait_for("GUEST-WROTE", count=safe + 20)
        running.assert_no_error()
    return safe


def ways(cluster):
    snapshot = cluster.path("vm@running.img")
    return {
        "cp": lambda name: run("cp", snapshot, cluster.path(name)),
        "ln": lambda name: os.link(snapshot, cluster.path(name)),
        "mkdir": lambda name: os.mkdir(cluster.mount / ".lineage" / "vm.img" / "running" / name),
        "dog": lambda name: cluster.dog("vdi", "clone", "vm@running.img", name),
    }


@pytest.mark.parametrize("way", ["cp", "ln", "mkdir", "dog"])
def test_a_clone_of_a_running_guests_snapshot_boots_and_is_clean(cluster, snapshotted, directory, way):
    name = f"clone-{way}.img"
    ways(cluster)[way](name)
    assert guest.boot_and_check(cluster.path(name), directory / "console") >= snapshotted
    guest.fsck(cluster.path(name))


def test_the_guests_own_volume_is_clean_after_its_end(cluster, snapshotted, directory):
    assert guest.boot_and_check(cluster.path("vm.img"), directory / "console") >= snapshotted + 20
    guest.fsck(cluster.path("vm.img"))


def test_a_snapshot_boots_read_only_through_an_overlay(cluster, snapshotted, directory):
    overlay = directory / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", cluster.path("vm@running.img"), overlay)
    assert guest.boot_and_check(overlay, directory / "console", image_format="qcow2") >= snapshotted


def test_a_guest_boots_from_a_qcow2_on_the_mount(cluster, snapshotted, directory):
    image = cluster.path("vm.qcow2")
    run("qemu-img", "convert", "-O", "qcow2", cluster.path("vm.img"), image)
    assert guest.boot_and_check(image, directory / "console", image_format="qcow2") >= snapshotted


def test_a_second_guest_on_the_same_volume_is_refused(cluster, snapshotted, directory):
    with guest.Guest(cluster.path("vm.img"), "write", directory / "console") as first:
        first.wait_for("GUEST-STARTED")
        with guest.Guest(cluster.path("vm.img"), "write", directory / "console-2") as second:
            second.wait_end(60)
            assert second.process.returncode != 0
            assert 'Failed to get "write" lock' in second.console()
        first.assert_no_error()


def test_a_copy_outside_the_mount_is_the_same(cluster, snapshotted, directory):
    copy = directory / "copy.img"
    shutil.copyfile(cluster.path("vm@running.img"), copy)
    run("cmp", copy, cluster.path("vm@running.img"))
