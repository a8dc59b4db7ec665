# A random tester in the manner of fsx (Apple, 1991): random operations on volumes, a model of each in memory beside
# it, and every read compared. An operation is a line of numbers that is resolved against the model when it runs, so a
# failing list can be replayed, and shrunk by leaving operations out.
# It must never let an operation that failed go by: every error that the model does not expect is a difference.
import errno
import json
import mmap
import os
import random
import shutil
import time
from pathlib import Path

from system import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, fallocate

OBJECT = 4 << 20
SECTOR = 512
MAXIMUM_SIZE = 5 * OBJECT
MAXIMUM_VOLUMES = 4
MAXIMUM_SNAPSHOTS = 6

WEIGHTS = {
    "write": 30, "append": 8, "read": 20, "direct_write": 20, "direct_read": 10, "truncate": 3, "allocate": 1,
    "punch": 6, "zero": 4,
    "copy": 5, "mmap_write": 5, "mmap_read": 4, "sync": 4, "reopen": 2, "holes": 2,
    "snapshot": 2, "read_snapshot": 4, "clone": 1, "rollback": 1, "delete_snapshot": 2, "delete_volume": 1,
    "flatten": 1, "resize": 1, "compare": 1, "kill": 1,
}


class Difference(AssertionError):
    pass


class PlainTarget:
    """Files of an ordinary file system; snapshots and clones are copies. Proves the tester itself."""
    # An ordinary file system wants O_DIRECT aligned; the mount takes any alignment.
    direct_alignment = SECTOR

    def __init__(self, directory: Path):
        self.directory = Path(directory)

    def path(self, volume: str) -> Path:
        return self.directory / f"{volume}.img"

    def snapshot_path(self, volume: str, tag: str) -> Path:
        return self.directory / f"{volume}@{tag}.img"

    def snapshot(self, volume, tag, way):
        shutil.copyfile(self.path(volume), self.snapshot_path(volume, tag))

    def clone(self, volume, tag, new, way):
        shutil.copyfile(self.snapshot_path(volume, tag), self.path(new))

    def rollback(self, volume, tag):
        shutil.copyfile(self.snapshot_path(volume, tag), self.path(volume))

    def delete_snapshot(self, volume, tag):
        self.snapshot_path(volume, tag).unlink()

    def delete_volume(self, volume):
        self.path(volume).unlink()

    def flatten(self, volume):
        """The volume holds all its blocks itself; it may be no clone."""

    def resize(self, volume, size):
        """As the administrator does, beside whoever has it open."""
        os.truncate(self.path(volume), size)

    def kill(self, delay_seconds: float):
        pass

    # Of a cluster only.
    def fault(self, number): pass
    def heal(self): pass
    def add_store(self): pass
    def remove_store(self, number): pass
    def scrub(self): pass
    def check(self, volume): pass
    def copies(self, volume, number): pass
    def restart(self): pass

    def settle(self):
        """Waits until what `kill` began has ended."""

    def remove_all(self):
        for path in self.directory.glob("v*.img"):
            path.unlink()


class BrokenTarget(PlainTarget):
    """The negative control: some snapshots miss the last bytes that were written before them."""

    def snapshot(self, volume, tag, way):
        super().snapshot(volume, tag, way)
        size = os.path.getsize(self.snapshot_path(volume, tag))
        if size > SECTOR:
            with open(self.snapshot_path(volume, tag), "r+b") as file:
                file.seek(size // 2)
                byte = file.read(1)
                file.seek(size // 2)
                file.write(bytes([byte[0] ^ 1]))


class ClusterTarget(PlainTarget):
    """Volumes of a running cluster (`cluster.Cluster`)."""
    direct_alignment = 1

    def __init__(self, cluster, directory: str = ""):
        super().__init__(cluster.mount / directory)
        self.cluster = cluster
        self.inside = directory + "/" if directory else ""
        self._restart = None

    def dog(self, *words, **options):
        """Unlike a file's, its calls end with the daemon: it is asked when no kill is on its way."""
        if self._restart:
            self.settle()
            self.cluster.wait_ready()
        return self.cluster.dog(*words, **options)

    def lineage(self, volume) -> Path:
        """The volume's directory in the family tree: a clone stands below the snapshot it was made from."""
        name = f"{volume}.img"
        for path, directories, _ in os.walk(self.cluster.mount / ".lineage" / self.inside):
            if name in directories:
                return Path(path) / name
        raise Difference(f"{name} is not in the family tree")

    def snapshot(self, volume, tag, way):
        if way % 3 == 0:
            self.dog("vdi", "snapshot", f"{self.inside}{volume}.img", tag)
        elif way % 3 == 1:
            os.mkdir(self.lineage(volume) / tag)
        else:
            os.link(self.path(volume), self.snapshot_path(volume, tag))

    def clone(self, volume, tag, new, way):
        if way % 4 == 0:
            self.dog("vdi", "clone", f"{self.inside}{volume}@{tag}.img", f"{self.inside}{new}.img")
        elif way % 4 == 1:
            os.mkdir(self.lineage(volume) / tag / f"{new}.img")
        elif way % 4 == 2:
            os.link(self.snapshot_path(volume, tag), self.path(new))
        else:
            source = os.open(self.snapshot_path(volume, tag), os.O_RDONLY)
            new_file = os.open(self.path(new), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                size = os.fstat(source).st_size
                done = 0
                while done < size:
                    count = os.copy_file_range(source, new_file, size - done, done, done)
                    if count == 0:
                        raise Difference(f"copy_file_range of a snapshot ended at {done} of {size}")
                    done += count
            finally:
                os.close(source)
                os.close(new_file)

    def rollback(self, volume, tag):
        # The kernel tells of the last close asynchronously; until then the volume is in use (exit status 5).
        for attempt in range(200):
            try:
                return self.dog("vdi", "rollback", f"{self.inside}{volume}.img", tag)
            except self.cluster.DogError as error:
                if error.status != 5 or attempt == 199:
                    raise
                time.sleep(0.02)

    def flatten(self, volume):
        try:
            os.getxattr(self.path(volume), "user.sheep.parent")
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            return
        self.dog("vdi", "flatten", f"{self.inside}{volume}.img")

    def resize(self, volume, size):
        self.dog("vdi", "resize", f"{self.inside}{volume}.img", str(size))

    def delete_snapshot(self, volume, tag):
        self.snapshot_path(volume, tag).unlink()

    def kill(self, delay_seconds):
        self.settle()
        self._restart = self.cluster.kill_and_restart_later(delay_seconds)

    def settle(self):
        if self._restart:
            self._restart.join()
            self._restart = None

    def remove_all(self):
        self.settle()
        for path in sorted(self.directory.glob("v*@*.img")):
            path.unlink()
        for path in sorted(self.directory.glob("v*.img"), reverse=True):
            path.unlink()


class FailingClusterTarget(ClusterTarget):
    """The same while the cluster changes under it: one store at a time fails and is replaced, others come and go, copies
    are scrubbed and checked, volumes get another number of copies."""
    WEIGHTS = {**WEIGHTS, "kill": 0.3, "fault": 0.4, "heal": 0.6, "add_store": 0.2, "remove_store": 0.2, "scrub": 0.3,
               "check": 0.5, "copies": 0.3, "restart": 0.2}

    def __init__(self, cluster, spare: Path, directory: str = ""):
        super().__init__(cluster, directory)
        self.spare, self.bad = spare, None
        self.made = len(cluster.stores)

    def status(self) -> dict:
        answer = self.dog("status")
        return answer.get("status", answer)

    def _is_healthy(self) -> bool:
        status = self.status()
        return not self.bad and status["health"] == "healthy" and status["recovery"]["phase"] == "idle"

    def _new_store(self) -> Path:
        self.made += 1
        return self.spare / f"store{self.made}"

    def fault(self, number):
        # Bounded: the next one only when every copy is complete again.
        if self._is_healthy():
            self.bad = self.cluster.stores[number % len(self.cluster.stores)]
            kind = ["eio-read", "eio-write", "eio-sync"][number // 8 % 3]
            self.cluster.faults.write_text(f"{kind} {self.bad}\n")

    def heal(self):
        if not self.bad:
            return
        self.settle()
        self.cluster.faults.write_text("")
        # The daemon looks at the file each second.
        time.sleep(1.2)
        state = {store["path"]: store["state"] for store in self.status()["stores"]}[str(self.bad)]
        if state != "up":
            new = self._new_store()
            self.dog("store", "replace", self.bad, new)
            self.cluster.stores = [new if store == self.bad else store for store in self.cluster.stores]
        self.bad = None

    def add_store(self):
        if len(self.cluster.stores) < 5 and self._is_healthy():
            new = self._new_store()
            self.dog("store", "add", new)
            self.cluster.stores.append(new)

    def remove_store(self, number):
        if len(self.cluster.stores) > 3 and self._is_healthy():
            gone = self.cluster.stores[number % len(self.cluster.stores)]
            self.dog("store", "remove", gone)
            # While it is being emptied it is still needed.
            deadline = time.monotonic() + 60
            while any(store["path"] == str(gone) for store in self.status()["stores"]):
                if time.monotonic() > deadline:
                    raise Difference(f"store {gone} is not gone 60 s after it was removed")
                time.sleep(0.1)
            self.cluster.stores.remove(gone)

    def scrub(self):
        try:
            self.dog("scrub", "start", "--deep")
        except self.cluster.DogError as error:
            # One is running.
            if error.status != 5:
                raise

    def check(self, volume):
        # While something is made anew, copies are missing.
        wanted = self._is_healthy()
        answer = self.dog("vdi", "check", f"{self.inside}{volume}.img", check=False)
        report = answer.get("check", answer)
        bad = report["blocksBad"] and not self.bad
        if report["copiesDifferent"] or bad or wanted and report["copiesMissing"] and self._is_healthy():
            raise Difference(f"dog vdi check {volume}: {report}")

    def copies(self, volume, number):
        os.setxattr(self.path(volume), "user.sheep.copies", str(2 + number % 2).encode())

    def restart(self):
        """As a service manager does on an upgrade, with files open."""
        self.settle()
        self.cluster.stop_and_start()


def generate(seed: int, count: int, kills: bool = True, weights=None) -> list:
    """`count` operations: (name, five random numbers)."""
    choice = random.Random(seed)
    table = dict(weights or WEIGHTS)
    if not kills:
        table.pop("kill", None)
    names, odds = list(table), list(table.values())
    return [[name] + [choice.getrandbits(40) for _ in range(5)] for name in choice.choices(names, odds, k=count)]


class Runner:
    """Runs operations on a target and on the model."""

    def __init__(self, target):
        self.target = target
        self.models = {}
        self.snapshots = {}
        # (volume, whether with O_DIRECT) -> descriptor
        self.handles = {}
        self.counter = 0
        self.with_clones = set()
        self.buffer = mmap.mmap(-1, 4 << 20)

    # Handles

    def handle(self, volume: str, direct: bool = False) -> int:
        key = (volume, direct)
        if key not in self.handles:
            flags = os.O_RDWR | (os.O_DIRECT if direct else 0)
            self.handles[key] = os.open(self.target.path(volume), flags)
        return self.handles[key]

    def close_handles(self, volume=None):
        for key in [k for k in self.handles if volume is None or k[0] == volume]:
            os.close(self.handles.pop(key))

    # Choosing from random numbers

    def volume(self, number: int) -> str:
        names = sorted(self.models)
        return names[number % len(names)]

    def some_snapshot(self, number: int):
        names = sorted(self.snapshots)
        return names[number % len(names)] if names else None

    @staticmethod
    def extent(size: int, a: int, b: int, alignment: int = 1):
        """(offset, length) within size; length by a mixture from single bytes to a MiB."""
        limits = [16, SECTOR, 4096, 4096, 16384, 65536, 65536, 1 << 20]
        length = 1 + b // 16 % limits[b % len(limits)]
        if b % 3 == 0:
            length = max(1, length // 4096) * 4096
        offset = a % max(1, size)
        if a % 3 == 0:
            offset = offset // 4096 * 4096
        if a % 17 == 0:
            # Around the border of two objects.
            offset = max(0, min(size - 1, (offset // OBJECT + 1) * OBJECT - length // 2))
        offset = offset // alignment * alignment
        length = min((length + alignment - 1) // alignment * alignment, (size - offset) // alignment * alignment)
        return offset, length

    # Comparing

    def expect(self, what: str, offset: int, got: bytes, wanted: bytes):
        if got == wanted:
            return
        if len(got) != len(wanted):
            raise Difference(f"{what}: {len(got)} bytes at {offset}, not {len(wanted)}")
        first = next(i for i in range(len(got)) if got[i] != wanted[i])
        last = max(i for i in range(len(got)) if got[i] != wanted[i])
        raise Difference(
            f"{what}: bytes {offset + first} to {offset + last} differ (block {(offset + first) // 4096} of object "
            f"{(offset + first) // OBJECT}): got {got[first:first + 16].hex()}, not {wanted[first:first + 16].hex()}")

    def compare_all(self):
        for volume, model in sorted(self.models.items()):
            self.compare(self.target.path(volume), model, volume)
        for (volume, tag), content in sorted(self.snapshots.items()):
            self.compare(self.target.snapshot_path(volume, tag), content, f"{volume}@{tag}")

    def compare(self, path, model, what):
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != len(model):
                raise Difference(f"{what}: size {os.fstat(file.fileno()).st_size}, not {len(model)}")
            for offset in range(0, len(model), 1 << 20):
                got = os.pread(file.fileno(), 1 << 20, offset)
                self.expect(what, offset, got, bytes(model[offset:offset + (1 << 20)]))

    # Operations

    def start(self, size: int = 2 * OBJECT):
        self.target.remove_all()
        self.new_volume("v0", bytearray(size))
        with open(self.target.path("v0"), "wb") as file:
            file.truncate(size)

    def new_volume(self, name, model):
        self.models[name] = model
        self.counter += 1

    def run(self, operation):
        name, *numbers = operation
        getattr(self, "do_" + name)(*numbers)

    def do_write(self, v, a, b, seed, _, direct=False):
        volume = self.volume(v)
        model = self.models[volume]
        alignment = self.target.direct_alignment if direct else 1
        offset, length = self.extent(len(model), a, b, alignment)
        if length <= 0:
            return
        data = random.Random(seed).randbytes(length)
        if direct:
            self.buffer[:length] = data
            written = os.pwritev(self.handle(volume, True), [memoryview(self.buffer)[:length]], offset)
        else:
            written = os.pwrite(self.handle(volume), data, offset)
        if written != length:
            raise Difference(f"{volume}: wrote {written} of {length} at {offset}")
        model[offset:offset + length] = data

    def do_append(self, v, a, b, seed, count):
        """Runs of writes at and beyond the end, of which the daemon sees some far ahead."""
        volume = self.volume(v)
        model = self.models[volume]
        for step in range(1 + count % 8):
            gap = a % 70000 if a % 5 == step else 0
            data = random.Random(seed + step).randbytes(1 + b % [100, SECTOR, 4096, 70000][count % 4])
            end = len(model) + gap + len(data)
            if end > MAXIMUM_SIZE:
                return
            written = os.pwrite(self.handle(volume), data, len(model) + gap)
            if written != len(data):
                raise Difference(f"{volume}: wrote {written} of {len(data)} beyond the end")
            model.extend(bytes(gap) + data)
        if os.fstat(self.handle(volume)).st_size != len(model):
            raise Difference(f"{volume}: size {os.fstat(self.handle(volume)).st_size}, not {len(model)}, after appending")

    def do_allocate(self, v, a, *_):
        volume = self.volume(v)
        model = self.models[volume]
        size = 1 + a % MAXIMUM_SIZE
        fallocate(self.handle(volume), 0, 0, size)
        if size > len(model):
            model.extend(bytes(size - len(model)))

    def do_direct_write(self, v, a, b, seed, x):
        self.do_write(v, a, b, seed, x, direct=True)

    def do_read(self, v, a, b, *_, direct=False):
        volume = self.volume(v)
        model = self.models[volume]
        offset, length = self.extent(len(model), a, b, self.target.direct_alignment if direct else 1)
        if length <= 0:
            return
        if direct:
            count = os.preadv(self.handle(volume, True), [memoryview(self.buffer)[:length]], offset)
            got = self.buffer[:count]
        else:
            got = os.pread(self.handle(volume), length, offset)
        self.expect(volume, offset, got, bytes(model[offset:offset + length]))

    def do_direct_read(self, v, a, b, *_):
        self.do_read(v, a, b, direct=True)

    def do_truncate(self, v, a, b, *_):
        volume = self.volume(v)
        model = self.models[volume]
        unit = [SECTOR, 4096, 65536, OBJECT][b % 4]
        size = max(SECTOR, min(MAXIMUM_SIZE, a % MAXIMUM_SIZE // unit * unit))
        os.ftruncate(self.handle(volume), size)
        if size < len(model):
            del model[size:]
        else:
            model.extend(bytes(size - len(model)))

    def do_punch(self, v, a, b, c, *_, mode=FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE):
        volume = self.volume(v)
        model = self.models[volume]
        offset, length = self.extent(len(model), a, b)
        if c % 4 == 0:
            length = min(len(model) - offset, length * 64)
        if length <= 0:
            return
        fallocate(self.handle(volume), mode, offset, length)
        model[offset:offset + length] = bytes(length)

    def do_zero(self, v, a, b, c, *_):
        self.do_punch(v, a, b, c, mode=FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE)

    def do_copy(self, v, a, b, w, c):
        destination, source = self.volume(v), self.volume(w)
        snapshot = self.some_snapshot(w) if c % 3 == 0 else None
        content = self.snapshots[snapshot] if snapshot else self.models[source]
        model = self.models[destination]
        from_, length = self.extent(len(content), c, b)
        to = a % len(model)
        if b % 2:
            # Whole blocks, which may be shared instead of copied.
            from_, to, length = from_ // 4096 * 4096, to // 4096 * 4096, max(4096, length // 4096 * 4096)
        if a % 7 == 0:
            to = len(model)
        length = min(length, len(content) - from_, (MAXIMUM_SIZE if a % 7 == 0 else len(model)) - to)
        if length <= 0:
            return
        if not snapshot and source == destination and abs(from_ - to) < length:
            return
        descriptor = (os.open(self.target.snapshot_path(*snapshot), os.O_RDONLY) if snapshot else self.handle(source))
        try:
            done = 0
            while done < length:
                count = os.copy_file_range(
                    descriptor, self.handle(destination), length - done, from_ + done, to + done)
                if count == 0:
                    raise Difference(f"copy_file_range ended after {done} of {length}")
                done += count
        finally:
            if snapshot:
                os.close(descriptor)
        model[to:to + length] = bytes(content[from_:from_ + length])

    def do_mmap_write(self, v, a, b, seed, _):
        volume = self.volume(v)
        model = self.models[volume]
        offset, length = self.extent(len(model), a, b)
        if length <= 0:
            return
        start = offset // mmap.PAGESIZE * mmap.PAGESIZE
        data = random.Random(seed).randbytes(length)
        with mmap.mmap(self.handle(volume), offset + length - start, offset=start) as memory:
            memory[offset - start:offset - start + length] = data
            memory.flush()
        model[offset:offset + length] = data

    def do_mmap_read(self, v, a, b, *_):
        volume = self.volume(v)
        model = self.models[volume]
        offset, length = self.extent(len(model), a, b)
        if length <= 0:
            return
        start = offset // mmap.PAGESIZE * mmap.PAGESIZE
        with mmap.mmap(self.handle(volume), offset + length - start, prot=mmap.PROT_READ, offset=start) as memory:
            got = memory[offset - start:offset - start + length]
        self.expect(f"{volume} (mapped)", offset, got, bytes(model[offset:offset + length]))

    def do_sync(self, v, *_):
        os.fsync(self.handle(self.volume(v)))

    def do_reopen(self, v, *_):
        self.close_handles(self.volume(v))

    def do_holes(self, v, a, *_):
        """What the file calls a hole must be zeros."""
        volume = self.volume(v)
        model = self.models[volume]
        descriptor = self.handle(volume)
        at = a % len(model)
        for _ in range(8):
            try:
                hole = os.lseek(descriptor, at, os.SEEK_HOLE)
                if hole >= len(model):
                    return
                try:
                    end = os.lseek(descriptor, hole, os.SEEK_DATA)
                except OSError:
                    end = len(model)
                if any(model[hole:end]):
                    raise Difference(f"{volume}: {hole} to {end} is called a hole, but holds data")
                at = end
                if at >= len(model):
                    return
            except OSError as error:
                raise Difference(f"{volume}: SEEK_HOLE at {at} of {len(model)}: {error}") from error

    def do_snapshot(self, v, way, *_):
        volume = self.volume(v)
        if len(self.snapshots) >= MAXIMUM_SNAPSHOTS:
            return
        tag = f"t{self.counter}"
        self.counter += 1
        self.target.snapshot(volume, tag, way)
        self.snapshots[(volume, tag)] = bytes(self.models[volume])

    def do_read_snapshot(self, n, a, b, *_):
        snapshot = self.some_snapshot(n)
        if not snapshot:
            return
        content = self.snapshots[snapshot]
        offset, length = self.extent(len(content), a, b)
        with open(self.target.snapshot_path(*snapshot), "rb", buffering=0) as file:
            got = os.pread(file.fileno(), length, offset)
        self.expect("@".join(snapshot), offset, got, content[offset:offset + length])

    def do_clone(self, n, way, *_):
        snapshot = self.some_snapshot(n)
        if not snapshot or len(self.models) >= MAXIMUM_VOLUMES:
            return
        new = f"v{self.counter}"
        self.target.clone(*snapshot, new, way)
        self.with_clones.add(snapshot[0])
        self.new_volume(new, bytearray(self.snapshots[snapshot]))

    def do_rollback(self, n, *_):
        snapshot = self.some_snapshot(n)
        if not snapshot:
            return
        volume, tag = snapshot
        self.close_handles(volume)
        self.target.rollback(volume, tag)
        self.models[volume] = bytearray(self.snapshots[snapshot])
        self.compare(self.target.path(volume), self.models[volume], f"{volume} after rollback")

    def do_delete_snapshot(self, n, *_):
        snapshot = self.some_snapshot(n)
        if snapshot:
            self.target.delete_snapshot(*snapshot)
            del self.snapshots[snapshot]

    def do_delete_volume(self, v, *_):
        volume = self.volume(v)
        if len(self.models) < 2 or any(s[0] == volume for s in self.snapshots):
            return
        self.close_handles(volume)
        self.delete_when_closed(volume)
        del self.models[volume]

    def delete_when_closed(self, volume):
        # The kernel sends the last close of a file asynchronously.
        deadline = time.monotonic() + 10
        while True:
            try:
                return self.target.delete_volume(volume)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def do_flatten(self, v, *_):
        volume = self.volume(v)
        # One with snapshots is refused; also with removed ones that clones keep.
        if not any(s[0] == volume for s in self.snapshots) and volume not in self.with_clones:
            self.target.flatten(volume)

    def do_resize(self, v, a, *_):
        volume = self.volume(v)
        model = self.models[volume]
        size = min(MAXIMUM_SIZE, len(model) + a % (2 * OBJECT)) // SECTOR * SECTOR
        if size > len(model):
            self.target.resize(volume, size)
            # Whoever goes by the new size has asked for it; the kernel keeps the old one for copy_file_range till then.
            for direct in [False, True]:
                if (volume, direct) in self.handles:
                    os.fstat(self.handles[volume, direct])
            if os.stat(self.target.path(volume)).st_size != size:
                raise Difference(f"{volume}: resized to {size}, but it has {os.stat(self.target.path(volume)).st_size}")
            model.extend(bytes(size - len(model)))

    def do_compare(self, *_):
        self.compare_all()

    def do_kill(self, delay, *_):
        self.target.kill(delay % 50 / 1000)

    def do_fault(self, number, *_):
        self.target.fault(number)

    def do_heal(self, *_):
        self.target.heal()

    def do_add_store(self, *_):
        self.target.add_store()

    def do_remove_store(self, number, *_):
        self.target.remove_store(number)

    def do_scrub(self, *_):
        self.target.scrub()

    def do_check(self, v, *_):
        self.target.check(self.volume(v))

    def do_copies(self, v, number, *_):
        self.target.copies(self.volume(v), number)

    def do_restart(self, *_):
        self.target.restart()

    def close(self):
        self.target.settle()
        self.close_handles()


def execute(target, operations, seconds: float = 0):
    """Runs operations from a fresh volume, until they or `seconds` (0: no limit) end. Returns how many ran; raises a
    Difference whose `index` says which operation found it."""
    runner = Runner(target)
    deadline = time.monotonic() + seconds if seconds else None
    done = 0
    try:
        runner.start()
        for done, operation in enumerate(operations, 1):
            runner.run(operation)
            if deadline and time.monotonic() > deadline:
                break
        runner.target.settle()
        runner.compare_all()
        return done
    except (OSError, AssertionError) as error:
        difference = Difference(f"operation {done} {operations[done - 1][:1] if operations else ''}: {error}")
        difference.index = done
        raise difference from error
    finally:
        runner.close()


def shrink(make_target, operations, seconds: float = 60) -> list:
    """A shorter list that still fails (delta debugging: leave out ever smaller pieces)."""
    deadline = time.monotonic() + seconds

    def fails(candidate):
        try:
            execute(make_target(), candidate)
        except Difference as difference:
            return difference.index
        return 0

    piece = max(1, len(operations) // 2)
    while piece >= 1 and time.monotonic() < deadline:
        at = 0
        while at < len(operations) and time.monotonic() < deadline:
            candidate = operations[:at] + operations[at + piece:]
            index = fails(candidate)
            if index:
                operations = candidate[:index]
            else:
                at += piece
        piece //= 2
    return operations


def test_target(make_target, seed: int, seconds: float, kills: bool, save: Path, shrink_seconds: float = 60,
                weights=None) -> int:
    """Runs for `seconds`; on a difference writes the operations, shrunk, to `save`, and fails with the seed."""
    operations = generate(seed, max(1000, int(seconds * 3000)), kills, weights)
    try:
        return execute(make_target(), operations, seconds)
    except Difference as difference:
        failing = operations[:difference.index]
        shorter = shrink(make_target, failing, shrink_seconds)
        save.write_text(json.dumps(shorter))
        raise AssertionError(
            f"{difference}\nseed {seed}; {len(failing)} operations, shrunk to {len(shorter)}, in {save}; "
            f"again: python3 fsx.py --replay {save} --directory DIRECTORY") from difference


test_target.__test__ = False


def main():
    import argparse
    parser = argparse.ArgumentParser(description="Random tester of files; by default of an ordinary directory.")
    parser.add_argument("--directory", required=True, help="where the files are made; those named v*.img are removed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--replay", help="a list of operations saved by a failure")
    arguments = parser.parse_args()
    target = PlainTarget(Path(arguments.directory))
    if arguments.replay:
        operations, seconds = json.loads(Path(arguments.replay).read_text()), 0
    else:
        operations, seconds = generate(arguments.seed, int(arguments.seconds * 3000)), arguments.seconds
    print(f"seed {arguments.seed}: {execute(target, operations, seconds)} operations without a difference")


if __name__ == "__main__":
    main()
