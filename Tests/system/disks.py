# Disks for stores that can be small, be filled, and die: a file system on a loop device over an export of
# qemu-storage-daemon. When the daemon is killed, every read, write and sync of the file system fails with EIO, as with
# a disk whose controller is gone.
import contextlib
import os
import signal
import subprocess
from pathlib import Path

from powerloss import make_filesystem
from system import loop_device, mounted, unmount, wait_until


class FailingDisk:
    """A file system of `size_bytes`, mounted at `.mountpoint` while the context lasts."""

    def __init__(self, directory: Path, size_bytes: int, filesystem: str = "ext4"):
        self.directory = Path(directory)
        self.size_bytes = size_bytes
        self.filesystem = filesystem
        self.mountpoint = self.directory / "disk"
        self._stack = contextlib.ExitStack()
        self._process = None

    def __enter__(self):
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            image = self.directory / "disk.img"
            with open(image, "wb") as file:
                file.truncate(self.size_bytes)
            make_filesystem(image, self.filesystem)
            export = self.directory / "export"
            export.touch()
            self._process = subprocess.Popen(
                ["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=disk,filename={image}",
                 "--export", f"type=fuse,id=e,node-name=disk,mountpoint={export},writable=on"])
            self._stack.callback(unmount, export)
            self._stack.callback(self.die)

            def is_exported():
                with open("/proc/self/mountinfo") as table:
                    return any(line.split()[4] == str(export) for line in table)
            wait_until(is_exported, 10, "the export of a disk")
            device = self._stack.enter_context(loop_device(export))
            self._stack.enter_context(mounted(device, self.mountpoint))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_):
        self._stack.close()

    def die(self):
        """From now on everything fails with EIO."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def fill(self, leave_bytes: int = 0) -> Path:
        """Writes a file of somebody else's until `leave_bytes` are free; returns it."""
        path = self.mountpoint / "somebody-elses-file"
        size = 0
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            step = 64 << 20
            while step >= 4096:
                space = os.statvfs(self.mountpoint)
                if space.f_bavail * space.f_frsize - step < leave_bytes:
                    step //= 2
                    continue
                try:
                    os.posix_fallocate(descriptor, size, step)
                    size += step
                except OSError:
                    step //= 2
        finally:
            os.close(descriptor)
        return path
