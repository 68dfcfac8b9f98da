"""Boxes of ISO media files, and the items of an AVIF or HEIC (ISO/IEC 14496-12 and 23008-12)."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from model.pictures.errors import OverLimit

Property = tuple[bytes, bytes]
"""Kind and content of a property of an item."""

MAX_EXTENTS = 10_000
"""Maximum parts of all items: real ones have one, or one for each of their layers."""


@dataclass(kw_only=True)
class Item:
    """One item: a picture, its alpha, or metadata."""

    kind: bytes = b""
    properties: list[Property] = field(default_factory=list)
    references: dict[bytes, list[int]] = field(default_factory=dict)
    """Numbers of the items that it refers to, by the kind of the reference."""
    extents: list[tuple[int, int]] = field(default_factory=list)
    """Offsets and sizes of its parts in the file; empty if they are stored elsewhere."""

    @property
    def size_bytes(self) -> int:
        """Size of its bytes."""
        return sum(size for _, size in self.extents)

    def property(self, kind: bytes) -> bytes | None:
        """Return the content of its first property of a kind."""
        return next((body for name, body in self.properties if name == kind), None)

    def data(self, file: bytes) -> bytes:
        """Return its bytes."""
        return b"".join(file[offset : offset + size] for offset, size in self.extents)


@dataclass(frozen=True, kw_only=True)
class Items:
    """The items of a file, by number."""

    number: int
    """Number of the primary item."""
    primary: Item
    others: Mapping[int, Item]
    premultiplied: bool
    """The colour of the primary item is multiplied by its alpha."""

    @property
    def nclx(self) -> tuple[int, int, int] | None:
        """Colour primaries, transfer characteristics and matrix, as ITU-T H.273 numbers them; None if not named."""
        named = (body for kind, body in self.primary.properties if kind == b"colr" and body[:4] == b"nclx")
        body = next((body for body in named if len(body) >= 11), None)
        if body is None:
            return None
        primaries, transfer, matrix = struct.unpack_from(">HHH", body, 4)
        return (primaries, transfer, matrix) if max(primaries, transfer, matrix) < 256 else None


def boxes(file: bytes, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each box between two places of a file, and where its content begins and ends."""
    while place + 8 <= end:
        size, kind = struct.unpack_from(">I4s", file, place)
        head = 16 if size == 1 else 8
        if size == 1:
            size = int.from_bytes(file[place + 8 : place + 16])
        if not head <= size <= end - place:
            size = end - place
        yield kind, place + head, place + size
        place += size


def has_items(file: bytes) -> bool:
    """Return False for an AVIF or HEIC that has frames of an animation alone."""
    return any(kind == b"meta" for kind, *_ in boxes(file, 0, len(file)))


def items_of(file: bytes) -> Items:
    """Read the items of an AVIF or HEIC with their properties and places.

    Raises:
        OverLimit: more than `MAX_EXTENTS`.
        KeyError, IndexError, StopIteration, struct.error: the file is broken.
    """
    meta = next((start, end) for kind, start, end in boxes(file, 0, len(file)) if kind == b"meta")
    inner = {kind: file[start:end] for kind, start, end in boxes(file, meta[0] + 4, meta[1])}
    said = _Reader(inner[b"pitm"])
    number = said.number(2 if said.full_box() == 0 else 4)
    found = places_in(file, meta)
    about = inner[b"iprp"]
    properties = [(kind, about[start:end]) for kind, start, end in boxes(about, 0, len(about))]
    container = dict(properties)[b"ipco"]
    known = [(kind, container[start:end]) for kind, start, end in boxes(container, 0, len(container))]
    for kind, body in properties:
        if kind == b"ipma":
            _read_associations(_Reader(body), known, found)
    _read_kinds(inner.get(b"iinf", bytes(6)), found)
    _read_references(inner.get(b"iref", bytes(4)), found)
    primary = found.pop(number)
    premultiplied = b"prem" in primary.references
    return Items(number=number, primary=primary, others=found, premultiplied=premultiplied)


def places_in(file: bytes, meta: tuple[int, int]) -> dict[int, Item]:
    """Read where the bytes of the items of a box `meta` are.

    Raises:
        OverLimit: more than `MAX_EXTENTS`.
        KeyError, IndexError, struct.error: the box is broken.
    """
    spans = {kind: (start, end) for kind, start, end in boxes(file, meta[0] + 4, meta[1])}
    begin, end = spans[b"iloc"]
    found: dict[int, Item] = {}
    _read_extents(_Reader(file[begin:end]), found, ((0, len(file)), spans.get(b"idat", (0, 0))))
    return found


class _Reader:
    """Reads numbers one after another."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0
        self.flags = 0

    def number(self, size: int) -> int:
        """Return the next number; 0 for a size of 0."""
        end = self._place + size
        if end > len(self._content):
            raise IndexError(f"a box ends at byte {len(self._content)}, before byte {end}")
        value = int.from_bytes(self._content[self._place : end])
        self._place = end
        return value

    def full_box(self) -> int:
        """Read the head of a full box and return its version."""
        version, self.flags = self.number(1), self.number(3)
        return version


def _read_extents(reader: _Reader, found: dict[int, Item], spans: Sequence[tuple[int, int]]) -> None:
    """Read where the bytes of items are.

    Args:
        spans: begin and end of the sources that offsets count from: the file, and its box for small items.
    """
    left, version = MAX_EXTENTS, reader.full_box()
    offset_and_length, base_and_index = reader.number(1), reader.number(1)
    offset_size, length_size = offset_and_length >> 4, offset_and_length & 15
    base_size, index_size = base_and_index >> 4, base_and_index & 15 if version else 0
    for _ in range(reader.number(4 if version == 2 else 2)):
        item = found.setdefault(reader.number(4 if version == 2 else 2), Item())
        source = reader.number(2) & 15 if version else 0
        reader.number(2)  # which file
        base = reader.number(base_size)
        extents = reader.number(2)
        if (left := left - extents) < 0:
            raise OverLimit(
                f"the AVIF or HEIC has items in more than {MAX_EXTENTS} parts, which is the limit; save it again"
            )
        for _ in range(extents):
            reader.number(index_size)
            offset, size = reader.number(offset_size), reader.number(length_size)
            if source < len(spans):  # others are not read by any decoder
                begin, end = spans[source]
                place = min(begin + base + offset, end)
                item.extents.append((place, min(size, end - place) if size else end - place))


def _read_kinds(entries: bytes, found: dict[int, Item]) -> None:
    for _, start, end in boxes(entries, 6 if entries[0] == 0 else 8, len(entries)):
        reader = _Reader(entries[start:end])
        if (version := reader.full_box()) >= 2:
            item = found.setdefault(reader.number(2 if version == 2 else 4), Item())
            reader.number(2)  # protection
            item.kind = reader.number(4).to_bytes(4)


def _read_references(entries: bytes, found: dict[int, Item]) -> None:
    size = 2 if entries[0] == 0 else 4
    for kind, start, end in boxes(entries, 4, len(entries)):
        reader = _Reader(entries[start:end])
        item = found.setdefault(reader.number(size), Item())
        item.references.setdefault(kind, []).extend(reader.number(size) for _ in range(reader.number(2)))


def _read_associations(reader: _Reader, known: list[Property], found: dict[int, Item]) -> None:
    version = reader.full_box()
    size = 2 if reader.flags & 1 else 1
    for _ in range(reader.number(4)):
        item = found.setdefault(reader.number(2 if version == 0 else 4), Item())
        for _ in range(reader.number(1)):
            index = reader.number(size) & (0x7FFF if size == 2 else 0x7F)
            if 0 < index <= len(known):
                item.properties.append(known[index - 1])
