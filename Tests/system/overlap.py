# Writers that overlap: many threads write to the same blocks of one file at the same time. Afterwards each block must
# be one writer's, whole; what the copies of the stores hold is compared by `storereader`.
# It must never serialise the writers: their races are the point.
import os
import random
import threading

from stamped import BLOCK, AlignedBuffer, read_stamp, stamp


def write_concurrently(path, blocks: int, threads: int = 16, writes: int = 300, seed: int = 1, flush_every: int = 0):
    """Each thread makes `writes` writes of 1 to 16 blocks, all within the same few `blocks`. Errors are raised."""
    errors = []
    gate = threading.Barrier(threads)

    def work(number: int):
        choice = random.Random(f"{seed}/{number}")
        buffer = AlignedBuffer(16 * BLOCK)
        descriptor = os.open(path, os.O_RDWR | os.O_DIRECT)
        try:
            # Made beforehand, so that the threads spend their time in the kernel.
            plan = []
            for sequence in range(writes):
                count = choice.choice([1, 1, 1, 2, 4, 16])
                first = choice.randrange(blocks - count + 1)
                data = b"".join(stamp(first + i, sequence, number) for i in range(count))
                plan.append((first * BLOCK, data))
            gate.wait()
            for sequence, (offset, data) in enumerate(plan):
                buffer.write_at(descriptor, data, offset)
                if flush_every and sequence % flush_every == 0:
                    os.fdatasync(descriptor)
        except BaseException as error:  # noqa: BLE001 - reported by the caller
            errors.append(error)
            gate.abort()
        finally:
            os.close(descriptor)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise AssertionError(f"{len(errors)} writers failed, the first with {errors[0]!r}") from errors[0]


def check_blocks(path, blocks: int) -> dict:
    """Every block is zeros or one write of one thread; returns writer -> number of blocks, None for zeros."""
    owners = {}
    with open(path, "rb", buffering=0) as file:
        for block in range(blocks):
            found = read_stamp(os.pread(file.fileno(), BLOCK, block * BLOCK), block)
            writer = None if found is None else found[1]
            owners[writer] = owners.get(writer, 0) + 1
    return owners
