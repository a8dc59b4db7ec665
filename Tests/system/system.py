# Small things that every rig needs: running commands, scratch directories, mounts and loop devices that are surely
# undone. Everything is ended by what was started here, never by a name.
import contextlib
import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16

# 1 is the length of contrib/test; contrib/soak sets more.
SCALE = float(os.environ.get("SHEEP_TEST_SCALE", "1"))


def run(*command, check=True, timeout=120, **options):
    """Runs a command; its output is in the error when it fails."""
    result = subprocess.run([str(c) for c in command], text=True, capture_output=True, timeout=timeout, **options)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result


def fallocate(descriptor: int, mode: int, offset: int, length: int):
    if _libc.fallocate(descriptor, mode, offset, length) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def wait_until(condition, timeout_seconds: float, what: str, step_seconds: float = 0.02):
    """The first true value of `condition`; fails when there is none in time."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_seconds} s")
        time.sleep(step_seconds)


# The scratch directories there are now.
scratches = []


@contextlib.contextmanager
def scratch(name: str):
    """A directory that is gone afterwards; under $SHEEP_TEST_DIR, or the system's temporary one."""
    path = Path(tempfile.mkdtemp(prefix=f"sheep-{name}-", dir=os.environ.get("SHEEP_TEST_DIR")))
    scratches.append(path)
    try:
        yield path
    finally:
        scratches.remove(path)
        shutil.rmtree(path, ignore_errors=True)


def is_mounted(path) -> bool:
    # mountinfo writes a blank as \\040; scratch names have none.
    with open("/proc/self/mountinfo") as table:
        return any(line.split()[4] == str(path) for line in table)


def abort_mount(path):
    """Ends a FUSE mount's connection: what waits in it fails. Starts no process."""
    force = 1
    _libc.umount2(os.fsencode(path), force)


def unmount(path):
    """Unmounts whatever is mounted there, lazily when it has to be."""
    # More than one may lie on top of each other.
    for _ in range(4):
        if not is_mounted(path):
            return
        try:
            if subprocess.run(["umount", str(path)], capture_output=True, timeout=20).returncode == 0:
                continue
        except subprocess.TimeoutExpired:
            pass
        subprocess.run(["umount", "-l", str(path)], capture_output=True, timeout=20)


@contextlib.contextmanager
def loop_device(file, *options):
    """A loop device over `file`."""
    device = run("losetup", "--find", "--show", *options, file).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], capture_output=True)


@contextlib.contextmanager
def mounted(device, directory, *options):
    Path(directory).mkdir(parents=True, exist_ok=True)
    run("mount", *options, device, directory)
    try:
        yield Path(directory)
    finally:
        unmount(directory)
