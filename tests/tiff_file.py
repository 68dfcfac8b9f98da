"""TIFFs of every layout, written by hand: the libraries that read them write only some."""

import io
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy
from numpy.typing import NDArray
from PIL import Image

Levels = NDArray[numpy.uint16]


def _by_pillow(name: str) -> Callable[[bytes], bytes]:
    """A codec that the standard library lacks: the only strip of a picture of one row."""

    def packed(rows: bytes) -> bytes:
        made = io.BytesIO()
        Image.frombytes("L", (len(rows), 1), rows).save(made, "TIFF", compression=name)
        fields = Image.open(made).tag_v2  # type: ignore[attr-defined]  # of a TIFF
        (place,), (size,) = fields[273], fields[279]
        return made.getvalue()[place : place + size]

    return packed


COMPRESSIONS: Mapping[int, Callable[[bytes], bytes]] = {
    1: bytes,
    5: _by_pillow("tiff_lzw"),
    8: zlib.compress,
    32773: lambda rows: b"".join(bytes((0, byte)) for byte in rows),  # PackBits, which packs nothing here
    34925: lzma.compress,
    50000: _by_pillow("zstd"),
}

Value = tuple[int, bytes] | Sequence[int]
"""Numbers, or a field type and bytes."""


@dataclass(frozen=True, kw_only=True)
class Tiff:
    """A layout in which levels (H, W, C) are written."""

    bits: int = 8
    photometric: int | None = 2
    order: str = "<"
    big: bool = False
    compression: int = 1
    predictor: int = 1
    planar: bool = False
    tile_px: int | None = None
    rows_per_strip: int = 3
    extra: Sequence[int] | None = None
    fields: Mapping[int, Value] = field(default_factory=dict)
    """Others, or some of the above again."""
    inside: Sequence[Mapping[int, Value]] = ()
    """Fields of directories that hang below this one."""
    after: Sequence[Mapping[int, Value]] = ()
    """Fields of directories that follow."""

    def file(self, levels: Levels) -> bytes:
        """The file."""
        height, width, channels = levels.shape
        parts = [
            COMPRESSIONS[self.compression](self._packed(part, channels))
            for plane in self._planes(levels)
            for part in plane
        ]
        body, offsets = bytes(16), []
        for part in parts:
            body += bytes(len(body) % 2)
            offsets.append(len(body))
            body += part
        sizes = [len(part) for part in parts]
        fields: dict[int, Value] = {256: [width], 257: [height], 258: [self.bits] * channels, 259: [self.compression]}
        fields |= {} if self.photometric is None else {262: [self.photometric]}
        fields |= {277: [channels], 284: [2 if self.planar else 1], 317: [self.predictor]}
        fields |= {} if self.extra is None else {338: self.extra}
        if self.tile_px is None:
            fields |= {273: offsets, 278: [self.rows_per_strip], 279: sizes}
        else:
            fields |= {322: [self.tile_px], 323: [self.tile_px], 324: offsets, 325: sizes}
        below = []
        for inner in self.inside:
            body += bytes(len(body) % 2)
            below.append(len(body))
            body += self._directory(inner, len(body), follows=False)
        fields |= {330: below} if below else {}
        chain = [fields | dict(self.fields), *self.after]
        first = len(body) + len(body) % 2
        for number, one in enumerate(chain):
            body += bytes(len(body) % 2)
            body += self._directory(one, len(body), follows=number + 1 < len(chain))
        signature = (b"II" if self.order == "<" else b"MM") + struct.pack(self.order + "H", 43 if self.big else 42)
        head = signature + struct.pack(self.order + ("HHQ" if self.big else "I"), *([8, 0] if self.big else []), first)
        return head + body[len(head) :]

    def _planes(self, levels: Levels) -> list[list[Levels]]:
        channels = levels.shape[-1]
        planes = [levels[..., n : n + 1] for n in range(channels)] if self.planar else [levels]
        return [self._parts(plane) for plane in planes]

    def _parts(self, plane: Levels) -> list[Levels]:
        height, width = plane.shape[:2]
        if self.tile_px is None:
            return [plane[top : top + self.rows_per_strip] for top in range(0, height, self.rows_per_strip)]
        side = self.tile_px
        padded = numpy.pad(plane, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
        return [
            padded[top : top + side, left : left + side]
            for top in range(0, height, side)
            for left in range(0, width, side)
        ]

    def _packed(self, part: Levels, channels: int) -> bytes:
        if self.predictor == 2:
            part = numpy.diff(part, axis=1, prepend=numpy.zeros_like(part[:, :1]))
        rows = part.reshape(len(part), -1)
        if self.bits == 16:
            return rows.astype(self.order + "u2").tobytes()
        singly = (rows[..., None] >> numpy.arange(self.bits)[::-1]) & 1
        return numpy.packbits(singly.reshape(len(part), -1).astype(numpy.uint8), axis=1).tobytes()

    def _directory(self, fields: Mapping[int, Value], place: int, *, follows: bool) -> bytes:
        word, size = ("Q", 8) if self.big else ("I", 4)
        count = "Q" if self.big else "H"
        after = place + struct.calcsize("=" + count) + len(fields) * (20 if self.big else 12) + size
        entries, values = b"", b""
        for tag, value in sorted(fields.items()):
            kind, packed, number = self._value(value)
            entries += struct.pack(self.order + "HH" + word, tag, kind, number)
            entries += (
                packed.ljust(size, b"\0")
                if len(packed) <= size
                else struct.pack(self.order + word, after + len(values))
            )
            values += packed + bytes(len(packed) % 2) if len(packed) > size else b""
        end = after + len(values)
        following = struct.pack(self.order + word, end + end % 2 if follows else 0)
        return struct.pack(self.order + count, len(fields)) + entries + following + values

    def _value(self, value: Value) -> tuple[int, bytes, int]:
        if isinstance(value, tuple):
            kind, packed = value
            assert isinstance(packed, bytes)
            return kind, packed, len(packed) // (8 if kind == 5 else 1)
        long = any(number > 65535 for number in value)
        return (4, 3)[not long], struct.pack(f"{self.order}{len(value)}{'HI'[long]}", *value), len(value)
