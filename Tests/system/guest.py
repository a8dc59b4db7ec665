# A small guest that boots from a disk image: Debian's cloud kernel, an initramfs that mounts /dev/vda, and a root file
# system whose /init is the scenario. Runs under software emulation (TCG), so that it works where KVM does not.
# It must never be given a disk that anything else has mounted.
import fcntl
import gzip
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path

# What the guest needs of the kernel's modules; what they depend on is added.
MODULES = ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"]

INITRAMFS_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /mnt
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t sysfs none /sys
/bin/busybox mount -t devtmpfs none /dev
for m in $(/bin/busybox cat /modules.order); do /bin/busybox insmod /modules/$m; done
n=0
while [ ! -b /dev/vda ] && [ $n -lt 100 ]; do /bin/busybox usleep 100000; n=$((n+1)); done
/bin/busybox mount -t ext4 /dev/vda /mnt || { echo GUEST-FAILED mount; /bin/busybox poweroff -f; }
/bin/busybox mount --move /dev /mnt/dev
exec /bin/busybox switch_root /mnt /init
"""

ROOT_PROLOGUE = """#!/bin/sh
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
echo GUEST-STARTED
"""

# Writes files for as long as it runs, each with its checksum, and says what is safely on the disk.
WRITER = ROOT_PROLOGUE + """
mkdir -p /data
i=$(ls /data | grep -c sum$)
while true; do
    dd if=/dev/urandom of=/data/$i bs=4k count=$((i % 13 + 1)) 2>/dev/null && (cd /data && md5sum $i > $i.sum) && sync \\
        && echo "GUEST-WROTE $i" || echo "GUEST-ERROR $i"
    i=$((i+1))
    [ $i -gt 100000 ] && break
done
"""

# Checks every file that has a checksum, then powers off.
CHECKER = ROOT_PROLOGUE + """
cd /data
good=0; bad=0
for s in *.sum; do
    [ -s $s ] || continue
    if md5sum -c $s >/dev/null 2>&1; then good=$((good+1)); else bad=$((bad+1)); echo "GUEST-ERROR $s"; fi
done
echo "GUEST-CHECKED good=$good bad=$bad"
cd /; sync
umount /proc; mount -o remount,ro /
echo GUEST-DONE
poweroff -f
"""


# The scenario is chosen on the kernel's command line, so that a snapshot of a writing guest can boot as a checker.
SCENARIOS = {"write": WRITER, "check": CHECKER}
ROOT_INIT = """#!/bin/sh
/bin/mount -t proc none /proc
scenario=$(/bin/sed -n 's/.*scenario=\\([a-z]*\\).*/\\1/p' /proc/cmdline)
/bin/umount /proc
exec /bin/sh /scenario/$scenario
"""


def cache_directory() -> Path:
    """Where the kernel is kept between runs."""
    for candidate in [os.environ.get("SHEEP_TEST_CACHE"), "/var/cache/sheepfold-test",
                      os.path.join(tempfile.gettempdir(), "sheepfold-test-cache")]:
        if not candidate:
            continue
        try:
            os.makedirs(candidate, exist_ok=True)
            if os.access(candidate, os.W_OK):
                return Path(candidate)
        except OSError:
            continue
    raise RuntimeError("no directory to keep the guest's kernel in: set SHEEP_TEST_CACHE")


def _cpio(entries) -> bytes:
    """A newc archive of (name, mode, content)."""
    out = bytearray()
    for number, (name, mode, content) in enumerate(list(entries) + [("TRAILER!!!", 0, b"")]):
        encoded = name.encode() + b"\0"
        fields = [number + 1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0]
        out += b"070701" + b"".join(b"%08X" % f for f in fields) + encoded
        out += b"\0" * (-len(out) % 4) + content
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def _download_kernel(cache: Path) -> Path:
    """Debian's cloud kernel unpacked; returns the tree."""
    tree = cache / "kernel"
    if (tree / "ready").exists():
        return tree
    shutil.rmtree(tree, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        os.chmod(scratch, 0o755)
        def download():
            depends = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], text=True,
                                     capture_output=True).stdout
            for line in depends.splitlines():
                if "linux-image-" in line and "Depends" in line:
                    subprocess.run(["apt-get", "-qq", "download", line.split()[-1]], cwd=scratch,
                                   stderr=subprocess.DEVNULL)
            return next(Path(scratch).glob("*.deb"), None)
        deb = download()
        if deb is None:
            # No lists of packages on this machine, or old ones.
            subprocess.run(["apt-get", "-qq", "update"], check=True, stdout=subprocess.DEVNULL)
            deb = download()
        if deb is None:
            raise RuntimeError("the guest's kernel, linux-image-cloud-amd64, cannot be downloaded")
        subprocess.run(["dpkg", "-x", deb, tree], check=True)
    (tree / "ready").touch()
    return tree


def _modules(tree: Path) -> list:
    """The files of MODULES and of what they need, in the order of loading; those built in have none."""
    files = {path.stem.replace("-", "_"): path for path in tree.rglob("*.ko")}
    chosen = []

    def add(name):
        path = files.get(name.replace("-", "_"))
        if path is None or path in chosen:
            return
        needs = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for need in (needs.group(1).decode().split(",") if needs else []):
            if need:
                add(need)
        chosen.append(path)

    for name in MODULES:
        add(name)
    return chosen


def kernel_and_initramfs():
    """Paths of the guest's kernel and initramfs; made on the first call, kept afterwards."""
    cache = cache_directory()
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tree = _download_kernel(cache)
        kernel = next((tree / "boot").glob("vmlinuz-*"))
        initramfs = cache / "initramfs.gz"
        chosen = _modules(tree)
        entries = [(d, stat.S_IFDIR | 0o755, b"") for d in ["bin", "dev", "proc", "sys", "mnt", "modules"]]
        entries.append(("bin/busybox", stat.S_IFREG | 0o755, _busybox().read_bytes()))
        entries.append(("init", stat.S_IFREG | 0o755, INITRAMFS_INIT.encode()))
        entries.append(("modules.order", stat.S_IFREG | 0o644, "\n".join(p.name for p in chosen).encode() + b"\n"))
        for path in chosen:
            entries.append((f"modules/{path.name}", stat.S_IFREG | 0o644, path.read_bytes()))
        # In one step: another run's guest may be reading it.
        fresh = cache / "initramfs.new"
        fresh.write_bytes(gzip.compress(_cpio(entries), 1))
        fresh.replace(initramfs)
    return kernel, initramfs


def _busybox() -> Path:
    for candidate in ["/usr/bin/busybox", "/bin/busybox"]:
        if os.path.exists(candidate):
            return Path(candidate)
    raise RuntimeError("busybox is missing: contrib/packages test")


def make_root(image: Path, size_bytes: int = 256 << 20):
    """Writes a bootable root file system into `image`, which is made or grown to `size_bytes`."""
    with tempfile.TemporaryDirectory() as root:
        for d in ["bin", "dev", "proc", "sys", "data", "scenario"]:
            os.mkdir(f"{root}/{d}")
        shutil.copy(_busybox(), f"{root}/bin/busybox")
        applets = subprocess.run([_busybox(), "--list"], check=True, text=True, capture_output=True).stdout.split()
        for applet in applets:
            if applet != "busybox":
                os.symlink("busybox", f"{root}/bin/{applet}")
        Path(f"{root}/init").write_text(ROOT_INIT)
        os.chmod(f"{root}/init", 0o755)
        for name, script in SCENARIOS.items():
            Path(f"{root}/scenario/{name}").write_text(script)
        descriptor = os.open(image, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.ftruncate(descriptor, size_bytes)
        finally:
            os.close(descriptor)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^metadata_csum_seed", "-d", root, image], check=True,
                       stderr=subprocess.DEVNULL)


def fsck(image: Path):
    """Fails unless the image's file system is clean once its journal is replayed. Returns e2fsck's output."""
    replay = subprocess.run(["e2fsck", "-p", "-E", "journal_only", image], text=True, capture_output=True)
    check = subprocess.run(["e2fsck", "-f", "-n", image], text=True, capture_output=True)
    if check.returncode != 0:
        raise AssertionError(f"{image} is damaged:\n{replay.stdout}{check.stdout}{check.stderr}")
    return check.stdout


class Guest:
    """A running qemu with one virtio disk. Use as a context manager: it never outlives the block."""

    def __init__(self, image, scenario: str, log: Path, cache: str = "none", image_format: str = "raw",
                 extra=(), memory: str = "192M", qemu_drive: str = ""):
        kernel, initramfs = kernel_and_initramfs()
        self.log = Path(log)
        self._output = open(self.log, "wb")
        drive = f"file={image},format={image_format},if=virtio,cache={cache}" + qemu_drive
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", memory, "-nodefaults", "-no-reboot",
             "-display", "none", "-serial", "stdio", "-drive", drive, "-kernel", kernel, "-initrd", initramfs,
             "-append", f"console=ttyS0 panic=-1 quiet loglevel=4 random.trust_cpu=on scenario={scenario}", *extra],
            stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT)

    def console(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, marker: str, timeout_seconds: float = 180, count: int = 1) -> str:
        """Waits until `marker` has come `count` times; returns the rest of its last line."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            text = self.console()
            if text.count(marker) >= count:
                tail = text.rsplit(marker, 1)[1]
                if "\n" in tail:
                    return tail.split("\n", 1)[0].strip()
            if "Kernel panic" in text or "GUEST-FAILED" in text:
                raise AssertionError(f"the guest failed:\n{text[-3000:]}")
            if self.process.poll() is not None:
                raise AssertionError(f"qemu ended with {self.process.returncode} before {marker!r}:\n{text[-3000:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no {marker!r} within {timeout_seconds} s:\n{text[-3000:]}")
            time.sleep(0.05)

    def wait_end(self, timeout_seconds: float = 180):
        self.process.wait(timeout_seconds)

    def wrote(self) -> int:
        """How many files the writer has reported as safely on the disk."""
        return self.console().count("GUEST-WROTE")

    def assert_no_error(self):
        text = self.console()
        for bad in ["I/O error", "GUEST-ERROR", "EXT4-fs error", "Remounting filesystem read-only", "Buffer I/O"]:
            if bad in text:
                raise AssertionError(f"the guest saw {bad!r}:\n{text[-3000:]}")

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._output.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def boot_and_check(image, log: Path, timeout_seconds: float = 180, **options) -> int:
    """Boots `image` as a checker; returns how many files were right, fails when one was not."""
    with Guest(image, "check", log, **options) as guest:
        report = guest.wait_for("GUEST-CHECKED", timeout_seconds)
        guest.wait_for("GUEST-DONE", timeout_seconds)
        guest.assert_no_error()
    fields = dict(field.split("=") for field in report.split())
    if int(fields["bad"]) != 0:
        raise AssertionError(f"the guest found damaged files: {report}")
    return int(fields["good"])
