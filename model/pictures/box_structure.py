"""Check the boxes of an AVIF or HEIC before a decoder opens it."""

from collections import Counter
from collections.abc import Iterator

from model.pictures.boxes import boxes
from model.pictures.errors import Damaged, OverLimit

CONTAINERS = {b"meta": 4, b"iprp": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}
"""Boxes that contain others, and the offset of the first one."""

MAX_BOXES = 20_000
"""Maximum boxes of a file: real ones have a few for each item."""

MAX_ITEMS = 1000
"""Maximum items: large pictures have up to some hundreds of tiles. libavif searches its list of items for each entry,
while nothing else runs: 40,000 took a second."""

MAX_FRAMES = 10_000
"""Maximum entries of a table of frames. libavif searches one for each entry of another: 20,000 took 0.2 seconds."""

TABLES = {
    b"iinf": (4, 1, MAX_ITEMS),
    b"iloc": (6, 2, MAX_ITEMS),
    b"ipma": (4, 0, MAX_ITEMS),
    b"stsz": (8, 0, MAX_FRAMES),
} | dict.fromkeys((b"co64", b"stco", b"stsc", b"stss", b"stts"), (4, 0, MAX_FRAMES))
"""Offset of the entry count in a box, the version from which it has 4 bytes instead of 2, and the maximum count."""

UNIQUE = frozenset(
    {b"meta", b"moov", b"pitm", b"iloc", b"iinf", b"iref", b"iprp", b"ipco", b"idat"}
    | {b"tkhd", b"mdia", b"minf", b"stbl", b"stsd", b"stsz", b"stco", b"co64"}
)
"""Boxes that a box has once: of two, decoders read one or the other."""

LISTS = frozenset({b"grpl", b"iref"})
"""Boxes that list item numbers without a count."""

BYTES_PER_ITEM = 16
"""Bytes of these lists per item, up to `MAX_ITEMS`: a reference to a tile has 2."""


def check_boxes(file: bytes) -> None:
    """Refuse boxes that cost a decoder too much before it knows the size, or that crash the process.

    Raises:
        OverLimit: more boxes or entries than any real file has.
        Damaged: two boxes where there has to be one, and see `_check_item`.
    """
    entries: Counter[bytes] = Counter()
    for kind, start, end in _all_boxes(file):
        if kind == b"infe":
            _check_item(file[start:end], start)
        number, limit = _entries(file, kind, start, end)
        entries[kind] += number
        if entries[kind] > limit:
            name = kind.decode()
            text = f"the AVIF or HEIC has {entries[kind]} entries in its `{name}`; the limit is {limit}"
            raise OverLimit(f"{text}; save it with fewer tiles or frames")


def _all_boxes(file: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield each box down to those with tables and items, as `boxes` does."""
    number, places = 0, [(0, len(file))]
    while places:
        seen = set[bytes]()
        for kind, start, end in boxes(file, *places.pop()):
            if kind in seen & UNIQUE:
                raise Damaged(f"the AVIF or HEIC file is corrupt: it has two boxes `{kind.decode()}` in one place")
            seen.add(kind)
            if (number := number + 1) > MAX_BOXES:
                raise OverLimit(f"the AVIF or HEIC has more than {MAX_BOXES} boxes, which is the limit; save it again")
            yield kind, start, end
            if kind in CONTAINERS:
                places.append((start + CONTAINERS[kind], end))
            elif kind == b"iinf":
                places.append((start + (6 if file[start : start + 1] == b"\0" else 8), end))


def _entries(file: bytes, kind: bytes, start: int, end: int) -> tuple[int, int]:
    """Return the number of entries that a box announces, and the limit."""
    if kind in LISTS:
        return (end - start) // BYTES_PER_ITEM, MAX_ITEMS
    if kind not in TABLES:
        return 0, 0
    offset, wide, limit = TABLES[kind]
    size = 4 if file[start : start + 1] >= bytes((wide,)) else 2
    return int.from_bytes(file[start + offset : start + offset + size]), limit


def _check_item(item: bytes, place: int) -> None:
    """Refuse an item whose kind is not text: pi-heif 1.4 aborts the process."""
    said = item[8 if item[:1] == b"\2" else 10 :]  # after version, number and protection
    kind, (_, *rest) = said[:4], said[4:].split(b"\0")
    try:
        b"".join((kind, *rest)).decode()
    except UnicodeDecodeError as error:
        raise Damaged(f"the HEIC file is corrupt: the kind of its item at byte {place} is not text") from error
