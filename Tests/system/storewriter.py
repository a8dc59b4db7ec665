# Writes parts of a store by the documented format (man/sheepfold-store-format.7), for tests that need more than can be
# made through a mount in reasonable time. Independent of the product, like the reader beside it.
import struct
from pathlib import Path

from crc32c import crc32c
from storereader import Damage, files


def _sealed(content: bytearray) -> bytearray:
    struct.pack_into("<I", content, len(content) - 4, crc32c(content[:-4]))
    return content


def mark_unclean(store: Path):
    """As if the daemon had been killed."""
    path = files(store, "superblock")[0]
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 12, 0)
    path.write_bytes(_sealed(content))


def multiply_entries(store: Path, count: int):
    """Makes both index images of a store that was closed say that its first copy is there `count` times, under indices
    from 0 on. There are no object files for them."""
    paths = files(store, "index")
    newest = bytearray(max((path.read_bytes() for path in paths),
                           key=lambda content: struct.unpack_from("<I", content, 12)))
    checkpoint, terms = struct.unpack_from("<I", newest, 12)[0], struct.unpack_from("<I", newest, 44)[0]
    at = 64 + 8 * terms
    number, _, _, generations, _ = struct.unpack_from("<QQIIQ", newest, at)
    if generations != 1:
        raise Damage(f"{store}: the first copy has {generations} generations")
    rest = bytes(newest[at + 8:at + 56])
    volume = number >> 32 << 32
    entries = b"".join(struct.pack("<Q", volume | index) + rest for index in range(count))
    content = newest[:at] + entries + bytes(4)
    struct.pack_into("<Q", content, 48, count)
    for path in paths:
        # The older image says the same, under the number before.
        slot = int(path.name[-1])
        struct.pack_into("<I", content, 12, checkpoint if checkpoint & 1 == slot else checkpoint - 1)
        path.write_bytes(_sealed(content))
