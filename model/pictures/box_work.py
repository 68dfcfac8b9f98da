"""Limit what a decoder works through for an AVIF or HEIC: its boxes may say that only little of it is shown.

Tiles may be far larger than the picture that they cover, pictures may be put together from others many times over, and
coded data may hold larger frames than its box says, and hidden ones.
"""

import math
import struct
from collections import defaultdict

from model.pictures.av1 import frame_px
from model.pictures.boxes import Item, Items, boxes
from model.pictures.errors import Damaged, OverLimit
from model.pictures.limits import Limits
from model.pictures.units import Units

MAX_FACTOR = 8
"""Pixels to work through for each that is shown: four layers, and as many of alpha."""

SMALL_PX = 2**21
"""Pixels that count as shown even where fewer are: small pictures may have tiles of the usual size."""

ITEM_PX = 64 * 64
"""Pixels that count for each item at least: a decoder is set up for it."""

MAX_DEPTH = 8
"""Maximum items within items: real ones are made of coded ones, or of a picture in tiles."""

DERIVED = {b"grid": 4, b"iovl": 10}
"""Kinds of derived items, which are put together from others, and the offset of their size in their data."""

ALPHAS = (b":alpha", b":auxid:1")
"""Parts of the names of alpha planes."""


def check_work(file: bytes, items: Items | None, limits: Limits) -> None:
    """Refuse an AVIF or HEIC whose decoder would work through far more pixels than are shown.

    Args:
        file: one with boxes that were checked.
        items: its items.

    Raises:
        OverLimit: it is one, or the limits do not allow its size.
        Damaged: the data of its items is broken.
        KeyError, IndexError, struct.error: its boxes are broken.
    """
    units = Units()
    worked = [_work_of_items(file, items, units)] if items else []
    worked += _work_of_tracks(file, _inside(file, (0, len(file))).get(b"moov", (0, 0)), units)
    for width, height, px in worked:
        limits.check_size(width, height, len(file))
        limit_px = MAX_FACTOR * max(width * height, SMALL_PX)
        if px > limit_px:
            raise OverLimit(
                f"the AVIF or HEIC shows {width} x {height} px, and has {px} px in its tiles, layers and hidden "
                f"frames; the limit is {limit_px} px; save it again"
            )


def _work_of_items(file: bytes, items: Items, units: Units) -> tuple[int, int, int]:
    """Return width and height of the primary picture, and the pixels behind it."""
    return *_size(items.primary), _Work(file, items, units).px(items.number)


def _size(item: Item) -> tuple[int, int]:
    """Return the largest size that an item says."""
    width = height = 0
    for kind, body in item.properties:
        if kind == b"ispe":
            said = struct.unpack_from(">II", body, 4)
            width, height = max((width, height), said, key=math.prod)
    return width, height


class _Work:
    """Adds up pixels of items, and of those that they are made of."""

    def __init__(self, file: bytes, items: Items, units: Units) -> None:
        self._file = file
        self._units = units
        self._items = {items.number: items.primary, **items.others}
        self._alphas = defaultdict[int, list[int]](list)
        for number, item in self._items.items():
            if any(name in (item.property(b"auxC") or b"") for name in ALPHAS):
                for shown in item.references.get(b"auxl", ()):
                    self._alphas[shown].append(number)
        self._known: dict[int, int] = {}
        self._joined_bytes = 0

    def px(self, number: int, depth: int = 0) -> int:
        """Return the pixels that a decoder works through for an item."""
        if number not in self._known:
            if depth > MAX_DEPTH:
                raise OverLimit(
                    f"the AVIF or HEIC has items within items to a depth of over {MAX_DEPTH}; save it again"
                )
            item = self._items.get(number, Item())
            parts_px = sum(self.px(part, depth + 1) for part in item.references.get(b"dimg", ()))
            alphas_px = sum(self.px(alpha, depth + 1) for alpha in self._alphas[number])
            self._known[number] = max(ITEM_PX, self._own_px(item), parts_px) + alphas_px
        return self._known[number]

    def _own_px(self, item: Item) -> int:
        width, height = _size(item)
        px = width * height
        if item.kind in DERIVED:
            data, place = bytes(self._data(item)[:18]), DERIVED[item.kind]
            return max(px, int(math.prod(struct.unpack_from(">II" if data[1] & 1 else ">HH", data, place))))
        if item.kind == b"av01":
            return max(px, frame_px(self._data(item), self._units))
        if item.kind == b"hvc1" and (setup := item.property(b"hvcC")):
            return px * _hevc_pictures(self._data(item), (setup[21] & 3) + 1, self._units)
        return px

    def _data(self, item: Item) -> memoryview:
        if len(item.extents) < 2:
            place, size = next(iter(item.extents), (0, 0))
            return memoryview(self._file)[place : place + size]
        self._joined_bytes += item.size_bytes
        if self._joined_bytes > len(self._file):
            raise Damaged("the AVIF or HEIC file is corrupt: the parts of its items overlap")
        return memoryview(item.data(self._file))


def _hevc_pictures(data: memoryview, length_bytes: int, units: Units) -> int:
    """Return the number of pictures in HEVC data, hidden ones included.

    Args:
        length_bytes: bytes of the length in front of each NAL unit.
        units: counts those of the file.
    """
    pictures = place = 0
    while place + length_bytes + 2 < len(data):
        units.count()
        size = int.from_bytes(data[place : place + length_bytes])
        kind, begins_picture = data[place + length_bytes] >> 1 & 63, data[place + length_bytes + 2] >> 7
        pictures += bool(kind < 32 and begins_picture)
        place += length_bytes + size
    return pictures


def _work_of_tracks(file: bytes, film: tuple[int, int], units: Units) -> list[tuple[int, int, int]]:
    """Return width and height of each track in AV1, and the pixels behind its first frame."""
    worked = []
    for kind, start, end in boxes(file, *film):
        table = _inside(file, (start, end), b"mdia", b"minf", b"stbl") if kind == b"trak" else {}
        head = _inside(file, (start, end)).get(b"tkhd")
        if head and table.keys() >= {b"stsd", b"stsz"}:
            codecs = {codec for codec, *_ in boxes(file, table[b"stsd"][0] + 8, table[b"stsd"][1])}
            if b"av01" in codecs:
                place = head[0] + (76 if file[head[0]] == 0 else 88)
                width, height = struct.unpack_from(">II", file, place)
                worked.append((width >> 16, height >> 16, frame_px(_first_sample(file, table), units)))
    return worked


def _inside(file: bytes, span: tuple[int, int], *path: bytes) -> dict[bytes, tuple[int, int]]:
    """Return the boxes in a part of a file, by their kind, or within those on a path from there."""
    found = {kind: (start, end) for kind, start, end in boxes(file, *span)}
    for kind in path:
        found = {inner: (start, end) for inner, start, end in boxes(file, *found.get(kind, (0, 0)))}
    return found


def _first_sample(file: bytes, table: dict[bytes, tuple[int, int]]) -> memoryview:
    """Return the first frame of a track, as its tables say where it is."""
    sizes = table[b"stsz"][0]
    same, _, first = struct.unpack_from(">III", file, sizes + 4)
    if b"co64" in table:
        (place,) = struct.unpack_from(">Q", file, table[b"co64"][0] + 8)
    else:
        (place,) = struct.unpack_from(">I", file, table[b"stco"][0] + 8)
    return memoryview(file)[place : place + (same or first)]
