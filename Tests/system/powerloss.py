# Loss of power, for real: a file system under test lives on a disk whose every write and flush is logged; replaying the
# log to a cut gives the disk as it was at that instant, where writes that no flush followed may be there or not.
#
#   backing file <- qemu blklogwrites (+ log) <- FUSE export <- loop device <- file system under test
#
# A cut's disk is a qcow2 overlay over the replayed base, exported the same way, so that a cut costs no copy.
# The log's format is that of the kernel's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst).
# It must never hand out a disk that contains less than what was flushed, or more than was written before the cut.
import contextlib
import os
import random
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from system import loop_device, mounted, run, unmount, wait_until

SECTOR = 512
LOG_MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


@contextlib.contextmanager
def export(mountpoint: Path, *block_devices, node: str):
    """A qemu-storage-daemon that shows `node` as the file `mountpoint`, for as long as the block runs."""
    mountpoint.touch()
    command = ["qemu-storage-daemon"]
    for device in block_devices:
        command += ["--blockdev", device]
    command += ["--export", f"type=fuse,id=e,node-name={node},mountpoint={mountpoint},writable=on"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        def is_ready():
            if process.poll() is not None:
                raise AssertionError(f"qemu-storage-daemon: {process.stdout.read().decode()}")
            with open("/proc/self/mountinfo") as table:
                return any(line.split()[4] == str(mountpoint) for line in table)
        wait_until(is_ready, 10, "the export of the disk", 0.005)
        yield mountpoint
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        unmount(mountpoint)


class LoggedDisk:
    """A disk with a file system, mounted at `.mountpoint` while the context lasts; all its writes are logged."""

    def __init__(self, directory: Path, size_bytes: int = 1 << 30, filesystem: str = "ext4"):
        self.directory = Path(directory)
        self.filesystem = filesystem
        self.size_bytes = size_bytes
        self.base = self.directory / "base.img"
        self.log = self.directory / "writes.log"
        self.mountpoint = self.directory / "disk"
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            backing = self.directory / "live.img"
            for path in [backing, self.base]:
                with open(path, "wb") as file:
                    file.truncate(self.size_bytes)
            self.log.touch()
            # The file system is made before the log begins, in both.
            make_filesystem(backing, self.filesystem)
            run("cp", "--sparse=always", backing, self.base)
            file = self._stack.enter_context(export(
                self.directory / "live-export",
                f"driver=file,node-name=data,filename={backing},discard=unmap",
                f"driver=file,node-name=log,filename={self.log}",
                f"driver=blklogwrites,node-name=logged,file=data,log=log,log-sector-size={SECTOR},discard=unmap",
                node="logged"))
            device = self._stack.enter_context(loop_device(file))
            self._stack.enter_context(mounted(device, self.mountpoint))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_):
        self._stack.close()
        with contextlib.suppress(OSError):
            (self.directory / "live.img").unlink()

    def position(self) -> int:
        """How far the log is now. What a sync that has returned made durable lies before it."""
        return os.stat(self.log).st_size


def make_filesystem(file: Path, kind: str):
    if kind == "xfs":
        run("mkfs.xfs", "-q", "-f", file)
    else:
        # Nothing initialised lazily: a kernel thread's writes would pad the log.
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", file)


@dataclass
class LogEntry:
    sector: int
    sectors: int
    flags: int
    # Where its data is in the log; an entry ends behind its data.
    data: int
    end: int


def read_log(path: Path) -> list:
    """The entries of a log, oldest first; one that is not whole ends it."""
    size = os.path.getsize(path)
    entries = []
    with open(path, "rb") as log:
        magic, version, _, sector = struct.unpack("<QQQI", log.read(28))
        if magic != LOG_MAGIC or version != 1 or sector != SECTOR:
            raise AssertionError(f"not a log of writes: magic {magic:x}, version {version}, sector {sector}")
        at = SECTOR
        while at + SECTOR <= size:
            log.seek(at)
            number, count, flags, data_length = struct.unpack("<QQQQ", log.read(32))
            has_data = not flags & (DISCARD | MARK)
            length = count * SECTOR if has_data else (data_length if flags & MARK else 0)
            end = at + SECTOR + (length + SECTOR - 1) // SECTOR * SECTOR
            if number == 0 and count == 0 and flags == 0:
                break
            if end > size:
                break
            entries.append(LogEntry(number, count, flags, at + SECTOR, end))
            at = end
    return entries


class Replay:
    """Gives the disks of a log's cuts, which must be asked for in ascending order."""

    def __init__(self, disk: LoggedDisk):
        self.disk = disk
        self.entries = read_log(disk.log)
        self._applied = 0
        self._log = open(disk.log, "rb")
        self._base = os.open(disk.base, os.O_RDWR)
        # For each entry the number of entries that a flush at or before it made durable.
        self._durable = []
        durable = 0
        for number, entry in enumerate(self.entries):
            if entry.flags & FLUSH:
                durable = number + 1
            self._durable.append(durable)

    def close(self):
        self._log.close()
        os.close(self._base)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def cuts(self, count: int, seed: int, start: int = 0) -> list:
        """`count` random cuts (numbers of entries), ascending, none before log position `start`."""
        first = next((i for i, e in enumerate(self.entries) if e.end > start), len(self.entries))
        choice = random.Random(seed)
        return sorted(choice.randint(first, len(self.entries)) for _ in range(count))

    def position(self, cut: int) -> int:
        """The log position at a cut, to be compared with LoggedDisk.position()."""
        return self.entries[cut - 1].end if cut else 0

    def _apply(self, descriptor: int, entry: LogEntry):
        if entry.flags & (DISCARD | MARK):
            # A disk may or may not forget what is discarded.
            return
        offset, left, data = entry.sector * SECTOR, entry.sectors * SECTOR, entry.data
        while left:
            step = min(left, 1 << 20)
            self._log.seek(data)
            os.pwrite(descriptor, self._log.read(step), offset)
            offset, left, data = offset + step, left - step, data + step

    @contextlib.contextmanager
    def disk_at(self, cut: int, keep: float = 1.0, seed: int = 0):
        """The file system as it was after `cut` entries, mounted. Of the writes after the last flush a random part
        `keep` is there: 1 is the order of writing, less is a disk that wrote its cache in an order of its own."""
        durable = self._durable[cut - 1] if cut else 0
        if durable < self._applied:
            raise ValueError("cuts must ascend")
        for entry in self.entries[self._applied:durable]:
            self._apply(self._base, entry)
        self._applied = durable
        overlay = self.disk.directory / "cut.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", self.disk.base, overlay)
        choice = random.Random(f"{seed}/{cut}")
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(export(
                self.disk.directory / "cut-export", f"driver=file,node-name=f,filename={overlay}",
                "driver=qcow2,node-name=q,file=f", node="q"))
            descriptor = os.open(file, os.O_RDWR)
            try:
                for entry in self.entries[durable:cut]:
                    if keep >= 1 or choice.random() < keep:
                        self._apply(descriptor, entry)
            finally:
                os.close(descriptor)
            device = stack.enter_context(loop_device(file))
            yield stack.enter_context(mounted(device, self.disk.directory / "cut"))
        overlay.unlink()
