# Ends a test that hangs. A signal alone does not: whoever waits for an answer of a mount whose daemon does not answer is
# not woken by it. So the mounts of the test are aborted first, which fails everything that waits in them; then the test
# gets its exception, and its fixtures clean up. Starts no process: that could wait for the same mount.
import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time

from system import scratches

_libc = ctypes.CDLL(None, use_errno=True)
MNT_FORCE, MNT_DETACH = 1, 2


class Hung(Exception):
    """The test took longer than it may."""


def own_mounts() -> list:
    """Mounts of ours below the scratch directories of this process, the innermost first."""
    with open("/proc/self/mountinfo") as table:
        lines = [line.split() for line in table]
    paths = [words[4] for words in lines if "fuse.sheep" in words]
    return [path for path in reversed(paths) if any(path.startswith(f"{directory}/") for directory in scratches)]


class Watchdog:
    def __init__(self):
        self._lock = threading.Lock()
        self._deadline = None
        signal.signal(signal.SIGALRM, self._raise)
        threading.Thread(target=self._watch, daemon=True).start()

    def guard(self, seconds: float):
        with self._lock:
            self._deadline = time.monotonic() + seconds

    def release(self):
        with self._lock:
            self._deadline = None

    def _raise(self, *_):
        raise Hung("it took too long; where every thread was is on standard error")

    def _watch(self):
        while True:
            time.sleep(1)
            with self._lock:
                if self._deadline is None or time.monotonic() < self._deadline:
                    continue
                # Again later, should the clean-up hang too.
                self._deadline = time.monotonic() + 60
            faulthandler.dump_traceback(file=sys.__stderr__, all_threads=True)
            for path in own_mounts():
                # Aborts the connection; what waits for an answer gets an error.
                _libc.umount2(os.fsencode(path), MNT_FORCE | MNT_DETACH)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
