# What snapshots cost the writes and the reads that come after them: the first write to each block after a snapshot, and
# reads of a volume with many. Measured in whatever the caller counts: the tests count system calls and bytes, which a busy
# machine does not change; the benchmark counts CPU time. Ordinary rounds stand between the others, so that what changes
# with the time changes both.
import os

from stamped import BLOCK, AlignedBuffer

# Blocks of a round; every 32nd block of a volume of 256 MiB, so that each object has some.
BLOCKS = 2048


def median(costs):
    return sorted(costs)[len(costs) // 2]


def first_writes(cluster, used, rounds: int = 5) -> tuple:
    """`used(cluster)` grows with the cost. The medians of rounds of ordinary writes, and of first writes after a
    snapshot."""
    volume = cluster.create("first-writes.img", 256 << 20)
    buffer = AlignedBuffer(BLOCK)
    descriptor = os.open(volume, os.O_RDWR | os.O_DIRECT)
    try:
        def cost(byte):
            before = used(cluster)
            for block in range(BLOCKS):
                buffer.write_at(descriptor, bytes([byte]) * BLOCK, block * 32 * BLOCK)
            return used(cluster) - before
        cost(1)
        ordinary, first = [], []
        for number in range(rounds):
            os.link(volume, cluster.path(f"first-writes@t{number}.img"))
            first.append(cost(2 * number + 2))
            ordinary.append(cost(2 * number + 3))
        return median(ordinary), median(first)
    finally:
        os.close(descriptor)


def reads(cluster, used, snapshots: int = 200, rounds: int = 5) -> tuple:
    """The medians of rounds of reads of a volume without a snapshot, and of one with many."""
    buffer = AlignedBuffer(BLOCK)
    descriptors = []
    try:
        for name, count in [("none", 0), ("many", snapshots)]:
            volume = cluster.create(f"{name}.img", 8 << 20)
            descriptor = os.open(volume, os.O_RDWR | os.O_DIRECT)
            descriptors.append(descriptor)
            for block in range(BLOCKS):
                buffer.write_at(descriptor, b"a" * BLOCK, block * BLOCK)
            for number in range(count):
                os.link(volume, cluster.path(f"{name}@t{number}.img"))
                buffer.write_at(descriptor, b"b" * BLOCK, number * 9 * BLOCK)
            os.fsync(descriptor)

        def cost(descriptor):
            before = used(cluster)
            for _ in range(4):
                for block in range(BLOCKS):
                    buffer.read_at(descriptor, BLOCK, block * BLOCK)
            return used(cluster) - before
        for descriptor in descriptors:
            cost(descriptor)
        costs = [[cost(descriptor) for descriptor in descriptors] for _ in range(rounds)]
        return tuple(median(column) for column in zip(*costs))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
