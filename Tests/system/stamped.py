# Blocks that say who wrote them: what was written, what was flushed when, and what may therefore be read later.
# The oracle of the power-loss, kill and overlap tests. It must never accept a block that nobody wrote whole.
import mmap
import os
import random
import struct
import zlib
from dataclasses import dataclass, field

BLOCK = 4096
_HEADER = struct.Struct("<8sQQQ")
_MAGIC = b"STAMPED1"


def stamp(block: int, sequence: int, writer: int = 0) -> bytes:
    """The content of `block` as write number `sequence` of `writer` leaves it."""
    header = _HEADER.pack(_MAGIC, block, sequence, writer)
    body = random.Random(f"{block}/{sequence}/{writer}").randbytes(BLOCK - len(header) - 4)
    return header + body + struct.pack("<I", zlib.crc32(header + body))


def read_stamp(content: bytes, block: int):
    """(sequence, writer) of a block; None for zeros; an error when it is torn, or another block's."""
    if content == bytes(BLOCK):
        return None
    magic, number, sequence, writer = _HEADER.unpack_from(content)
    if magic != _MAGIC or struct.unpack("<I", content[-4:])[0] != zlib.crc32(content[:-4]):
        raise AssertionError(f"block {block} is torn or foreign: {content[:32].hex()}")
    if number != block:
        raise AssertionError(f"block {block} holds what belongs to block {number}")
    return sequence, writer


class AlignedBuffer:
    """Memory that O_DIRECT takes."""

    def __init__(self, size: int):
        self.memory = mmap.mmap(-1, max(size, BLOCK))

    def write_at(self, descriptor: int, data: bytes, offset: int):
        self.memory[:len(data)] = data
        written = os.pwritev(descriptor, [memoryview(self.memory)[:len(data)]], offset)
        if written != len(data):
            raise AssertionError(f"short write: {written} of {len(data)} at {offset}")

    def read_at(self, descriptor: int, size: int, offset: int) -> bytes:
        count = os.preadv(descriptor, [memoryview(self.memory)[:size]], offset)
        return self.memory[:count]


@dataclass
class History:
    """What one writer did to one file, with the log position (`LoggedDisk.position`) of each flush."""
    # block -> [sequence, ...] in the order of writing
    writes: dict = field(default_factory=dict)
    # (highest sequence written before the flush began, position when it had returned)
    flushes: list = field(default_factory=list)
    # sequence -> position when its write had begun
    begun: list = field(default_factory=list)

    def flushed_at(self, position: int) -> int:
        """The highest sequence that is surely durable at a log position."""
        return max((sequence for sequence, at in self.flushes if at <= position), default=-1)

    def check(self, read_block, position: int) -> dict:
        """Holds every block against what it may be at `position`; returns counts. `read_block(block) -> bytes`."""
        safe = self.flushed_at(position)
        begun = max((s for s, at in enumerate(self.begun) if at <= position), default=-1)
        counts = {"flushed": 0, "later": 0, "lost": 0}
        for block, sequences in sorted(self.writes.items()):
            content = read_block(block)
            found = read_stamp(content, block)
            last_safe = max((s for s in sequences if s <= safe), default=None)
            sequence = -1 if found is None else found[0]
            if last_safe is not None and sequence < last_safe:
                raise AssertionError(f"block {block}: write {last_safe} was flushed, but {sequence} is there")
            if sequence >= 0 and sequence not in sequences:
                raise AssertionError(f"block {block}: write {sequence} was never made")
            if sequence > begun:
                raise AssertionError(f"block {block}: write {sequence} is there before it was made")
            newest = max((s for s in sequences if s <= begun), default=-1)
            if last_safe is not None and sequence == last_safe:
                counts["flushed"] += 1
            if sequence > safe:
                counts["later"] += 1
            if sequence < newest:
                counts["lost"] += 1
            if read_block(block) != content:
                raise AssertionError(f"block {block} changed between two reads")
        return counts


class StampedWriter:
    """Writes random blocks of a file and keeps the history."""

    def __init__(self, path, blocks: int, seed: int, position=lambda: 0, direct: bool = True, writer: int = 0):
        flags = os.O_RDWR | os.O_CREAT | (os.O_DIRECT if direct else 0)
        self.descriptor = os.open(path, flags, 0o644)
        self.blocks = blocks
        self.random = random.Random(seed)
        self.position = position
        self.history = History()
        self.writer = writer
        self._sequence = 0
        self._buffer = AlignedBuffer(64 * BLOCK)

    def write(self, count: int = 1):
        """One write of `count` neighbouring blocks (1 to 64)."""
        first = self.random.randrange(self.blocks - count + 1)
        data = bytearray()
        position = self.position()
        for block in range(first, first + count):
            data += stamp(block, self._sequence, self.writer)
            self.history.writes.setdefault(block, []).append(self._sequence)
            self.history.begun.append(position)
            self._sequence += 1
        self._buffer.write_at(self.descriptor, bytes(data), first * BLOCK)

    def flush(self, really: bool = True):
        last = self._sequence - 1
        if really:
            os.fdatasync(self.descriptor)
        self.history.flushes.append((last, self.position()))

    def close(self):
        os.close(self.descriptor)


def block_reader(path, direct: bool = True):
    """A function that reads one block of `path`; short reads are zeros. `.close()` ends it."""
    descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    buffer = AlignedBuffer(BLOCK)

    def read(block: int) -> bytes:
        return buffer.read_at(descriptor, BLOCK, block * BLOCK).ljust(BLOCK, b"\0")
    read.close = lambda: os.close(descriptor)
    return read
