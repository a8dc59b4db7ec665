# An embedded cluster under test: `sheep run` with stores and a mount in a scratch directory, killed, restarted, asked
# through `dog --json`. Whatever happens, it leaves no process, mount or file behind: the holder of the mount survives
# the daemon by design, so it is found by the paths that only this cluster uses.
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from launcher import Launcher
from system import abort_mount, is_mounted, run, unmount, wait_until

ROOT = Path(__file__).resolve().parents[2]


def binaries() -> Path:
    """The directory of sheep, dog and sheep-holder: $SHEEP_BIN, or the release build."""
    return Path(os.environ.get("SHEEP_BIN", ROOT / ".build" / "release"))


class DogError(AssertionError):
    """dog ended with an error: `.status` is its exit code, `.text` what it said."""

    def __init__(self, command, status, text):
        super().__init__(f"dog {' '.join(map(str, command))}: exit {status}\n{text}")
        self.status = status
        self.text = text


class Cluster:
    """Use as a context manager. `stores` directories are made under `directory`, or taken from `store_paths`."""
    DogError = DogError

    def __init__(self, directory: Path, stores: int = 3, store_paths=None, options=(), environment=None,
                 start: bool = True, binary_directory: Path = None, prefix=(), inherited=None):
        self.directory = Path(directory)
        self.mount = self.directory / "mnt"
        self.socket = self.directory / "run" / "sheep.sock"
        self.log = self.directory / "sheep.log"
        self.faults = self.directory / "faults"
        self.stores = [Path(p) for p in store_paths] if store_paths else [
            self.directory / f"store{i}" for i in range(stores)]
        self.options = list(options)
        # Words before each command, such as setpriv's.
        self.prefix = list(prefix)
        # {name: descriptor}, to be handed over as a service manager does.
        self.inherited = inherited
        self.environment = {**os.environ, "SHEEP_SOCKET": str(self.socket), **(environment or {})}
        self.binaries = binary_directory or binaries()
        self.process = None
        self._launcher = None
        self._starts_by_itself = start
        for path in [self.mount, self.socket.parent]:
            path.mkdir(parents=True, exist_ok=True)

    # Life

    def start(self, wait: bool = True, timeout_seconds: float = 30):
        command = self._command()
        if self.inherited:
            self.process = self._start_with_descriptors(command)
        else:
            if self._launcher is None:
                self._launcher = Launcher()
            self.process = self._launcher.start(command, self.environment, self.log, self.mount)
        if wait:
            self.wait_ready(timeout_seconds)
        return self

    def _command(self) -> list:
        command = [*self.prefix, self.binaries / "sheep", "run", "--socket", self.socket, "--mount", self.mount,
                   "--test-faults", self.faults]
        for store in self.stores:
            store.mkdir(parents=True, exist_ok=True)
            command += ["--store", store]
        return [str(c) for c in command + self.options]

    def _start_with_descriptors(self, command):
        """As a service manager starts it: sd_listen_fds(3)."""
        descriptors = list(self.inherited.values())
        environment = {**self.environment, "LISTEN_FDS": str(len(descriptors)),
                       "LISTEN_FDNAMES": ":".join(self.inherited)}

        def prepare():
            # Out of the way first: a target number may be one of the sources.
            high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 200) for descriptor in descriptors]
            for number, descriptor in enumerate(high):
                os.dup2(descriptor, 3 + number)
        with open(self.log, "ab") as log:
            return subprocess.Popen(["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command], env=environment,
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                    preexec_fn=prepare, pass_fds=range(3, 3 + len(descriptors)))

    def wait_ready(self, timeout_seconds: float = 30):
        """Until the daemon answers dog and the mount answers."""
        def answers():
            if self.process.poll() is not None:
                raise AssertionError(f"sheep ended with {self.process.returncode}:\n{self.log_text()[-3000:]}")
            if not is_mounted(self.mount):
                return False
            asked = subprocess.run([*self.prefix, str(self.binaries / "dog"), "status", "--json"], env=self.environment,
                                   capture_output=True, timeout=20)
            return asked.returncode == 0 and os.path.isdir(self.mount / ".sheep")
        wait_until(answers, timeout_seconds, "sheep answering", 0.05)

    def kill(self, number: int = signal.SIGKILL):
        """Ends the daemon at once; the mount stays with its holder."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
        if self.process:
            self.process.wait()

    def restart(self, **options):
        self.kill()
        return self.start(**options)

    def kill_and_restart_later(self, delay_seconds: float):
        """Kills after a delay and starts again, while the caller goes on. Join the result."""
        return Restart(self, self._launcher.restart_later(
            self.process, delay_seconds, self._command(), self.environment, self.log, self.mount))

    def stop_and_start(self):
        """As for an upgrade: SIGTERM, with files open, and the next daemon takes the mount up."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.start()

    def stop(self, timeout_seconds: float = 30):
        """As an administrator would: SIGTERM. Returns the exit code; the mount must be gone if no file was open."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_seconds)

    def clean_up(self):
        self.kill()
        # A test that failed may have files of the mount open: starting any program would wait for the daemon (see the
        # launcher). So the connection ends first, without one.
        if is_mounted(self.mount):
            abort_mount(self.mount)
        # Without a daemon a plain umount would wait for an answer.
        if is_mounted(self.mount):
            subprocess.run(["fusermount3", "-u", "-z", self.mount], capture_output=True)
        unmount(self.mount)
        for pid in self._own_processes():
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + 3
        while self._own_processes() and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in self._own_processes():
            os.kill(pid, signal.SIGKILL)
        if self._launcher:
            self._launcher.close()
            self._launcher = None

    def _own_processes(self):
        """Processes of the product whose command line names our mount or socket: the holder."""
        marks = [str(self.mount), str(self.socket.parent)]
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if Path(words[0]).name in ("sheep", "sheep-holder") and any(m in w for w in words for m in marks):
                found.append(int(entry))
        return found

    def __enter__(self):
        try:
            if self._starts_by_itself:
                self.start()
        except BaseException:
            self.clean_up()
            raise
        return self

    def __exit__(self, *_):
        self.clean_up()

    # Asking

    def dog(self, *words, check: bool = True, timeout_seconds: float = 120):
        """The parsed answer of `dog ... --json`."""
        result = subprocess.run([*self.prefix, str(self.binaries / "dog"), *map(str, words), "--json"], env=self.environment,
                                capture_output=True, text=True, timeout=timeout_seconds)
        if check and result.returncode != 0:
            raise DogError(words, result.returncode, result.stdout + result.stderr)
        text = result.stdout.strip()
        return json.loads(text) if text else {}

    def dog_text(self, *words, timeout_seconds: float = 120) -> subprocess.CompletedProcess:
        """dog as a person sees it."""
        return subprocess.run([*self.prefix, str(self.binaries / "dog"), *map(str, words)], env=self.environment,
                              capture_output=True, text=True, timeout=timeout_seconds)

    def status(self) -> dict:
        answer = self.dog("status")
        return answer.get("status", answer)

    def store_states(self) -> dict:
        """Directory of each store -> its state (up, down, out)."""
        return {store["path"]: store["state"] for store in self.status()["stores"]}

    def wait_healthy(self, timeout_seconds: float = 60):
        """Until every copy is complete and nothing moves."""
        def healthy():
            status = self.status()
            return status["health"] == "healthy" and status["recovery"]["phase"] == "idle"
        try:
            wait_until(healthy, timeout_seconds, "full redundancy", 0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.dog_text('status').stdout}") from error

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def memory_bytes(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
        return 0

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def inject(self, *faults: str):
        """Makes the disks fail, from the next second on: lines like `eio-read STORE-DIRECTORY` (Runtime's FaultFile);
        none: they work again."""
        self.faults.write_text("".join(f"{fault}\n" for fault in faults))
        time.sleep(1.5)

    # Volumes

    def path(self, name: str) -> Path:
        return self.mount / name

    def create(self, name: str, size: int) -> Path:
        run("qemu-img", "create", "-q", "-f", "raw", self.path(name), size)
        return self.path(name)

    def quiesce(self):
        """Everything on the disks of the stores, the daemon stopped, the mount gone: copies can be compared."""
        self.wait_healthy()
        self.stop()
        wait_until(lambda: not is_mounted(self.mount), 10, "the unmounting")


class Restart:
    """A restart that is under way."""

    def __init__(self, cluster: Cluster, wait):
        self._cluster, self._wait = cluster, wait

    def join(self):
        self._cluster.process = self._wait()


def wipe(path: Path):
    """Empties a store's directory, as a new disk would be."""
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
