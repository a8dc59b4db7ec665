# An independent reader of a catalog image, written from sheepfold-store-format(7): which views of a volume can be
# reached, and how many copies it has. An image is the state at one point of the log; each start writes one.
# It must never import the product's code.
import struct
from dataclasses import dataclass
from pathlib import Path

from crc32c import crc32c

MAGIC, FORMAT, WORDS = 0x6D494353, 3, 65536 // 64


@dataclass
class Volume:
    copies: int
    # (top generation, [(first, last) generation that the view does not look at]) of all views that can be reached.
    views: list

    @staticmethod
    def generations(view, present) -> list:
        """Those of `present` that the view looks through, ascending."""
        top, hidden = view
        return [g for g in sorted(present) if g <= top and not any(first <= g <= last for first, last in hidden)]


class _Fields:
    def __init__(self, content: bytes):
        self.content, self.at = content, 0

    def take(self, layout: str):
        values = struct.unpack_from("<" + layout, self.content, self.at)
        self.at += struct.calcsize("<" + layout)
        return values if len(values) > 1 else values[0]

    def string(self) -> str:
        count = self.take("I")
        self.at += count
        return self.content[self.at - count:self.at].decode()

    def all(self, item) -> list:
        return [item() for _ in range(self.take("I"))]

    def optional(self, item):
        return item() if self.take("B") else None

    # The records, in the order of the state.

    def range_set(self):
        if self.take("B") == 2:
            self.at += WORDS * 8

    def ring(self):
        self.take("q")
        self.all(lambda: self.take("QQQ"))

    def store(self):
        self.take("QI")
        self.string()
        self.take("QQB24s")
        self.string()
        self.take("Q")
        self.all(self.range_set)
        self.take("B")
        self.optional(lambda: self.take("Q"))

    def attributes(self):
        self.take("IIIQQQ")

    def directory(self):
        self.take("II")
        self.string()
        self.attributes()

        def group():
            self.string()
            self.take("Q")
            self.all(lambda: self.take("II"))
        self.all(group)

    def snapshot(self) -> tuple:
        self.string()
        generation = self.take("I")
        hidden = self.all(lambda: self.take("II"))
        self.take("QQ")
        self.optional(lambda: self.take("Q"))
        self.attributes()
        self.take("QBq")
        return generation, hidden

    def volume(self) -> tuple:
        number, _ = self.take("II")
        self.string()
        self.take("Q")
        self.optional(lambda: self.take("Q"))
        copies = self.take("q")
        wanted = self.optional(lambda: self.take("q"))
        current = self.take("I")
        hidden = self.all(lambda: self.take("II"))
        views = self.all(self.snapshot)
        self.optional(lambda: self.take("IIQ"))
        self.attributes()
        self.optional(lambda: self.take("IQI"))
        self.take("IQ")
        if not self.take("B"):
            views.append((current, hidden))
        return number, Volume(wanted or copies, views)


def read(store: Path) -> dict:
    """Volume id -> Volume, from the newest image of the store's catalog."""
    image = max(Path(store).glob("catalog/*.state"), key=lambda path: int(path.stem, 16))
    content = image.read_bytes()
    assert struct.unpack_from("<I", content, len(content) - 4)[0] == crc32c(content[:-4]), f"{image} is damaged"
    fields = _Fields(content)
    assert fields.take("IH") == (MAGIC, FORMAT), f"{image} is of another format"
    fields.take("QQI")
    fields.take("16sQ")
    fields.take("qqQQ")
    fields.take("II")
    fields.all(lambda: fields.take("Q"))
    fields.all(lambda: fields.all(lambda: fields.take("Q")))
    fields.take("QqB")
    fields.all(fields.store)
    fields.ring()
    fields.optional(fields.ring)
    fields.all(fields.directory)
    return dict(fields.all(fields.volume))
