"""The frames of an animated PNG, each read as a PNG of its own."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from model.pictures import reading
from model.pictures.compositing import Piece, rgba
from model.pictures.errors import Damaged
from model.pictures.limits import Limits
from model.pictures.png_structure import PNG_SIGNATURE, Chunk, chunks


@dataclass(kw_only=True)
class _Stored:
    """A frame before it is decoded."""

    width: int
    height: int
    left: int
    top: int
    delay_ms: float
    disposal: int
    blend: bool
    data: list[memoryview] = field(default_factory=list)


def plays_of(file: bytes) -> int:
    """Return the number of plays of an animation; 0 for endless."""
    bodies = (chunk.body for chunk in chunks(file, whole=False) if chunk.kind == b"acTL" and len(chunk.body) == 8)
    return next((int.from_bytes(body[4:]) for body in bodies), 0)


def pieces(file: bytes, limits: Limits) -> Iterator[Piece]:
    """Decode the frames of an animated PNG of 8 bits.

    Raises:
        Damaged: one is truncated or corrupt.
    """
    header, shared = b"", [b"", b""]
    for chunk in chunks(file, whole=False):
        if chunk.kind == b"IHDR":
            header = bytes(chunk.body)
        elif chunk.kind in (b"PLTE", b"tRNS"):
            shared[chunk.kind == b"tRNS"] = _chunk(chunk.kind, chunk.body)
        elif chunk.kind == b"IDAT":
            break
    for stored in _stored(file, struct.unpack_from(">II", header)):
        size = struct.pack(">II", stored.width, stored.height)
        body = (_chunk(b"IHDR", size + header[8:]), *shared, _chunk(b"IDAT", b"".join(stored.data)))
        samples = reading.read(b"".join((PNG_SIGNATURE, *body, _chunk(b"IEND", b""))), limits).samples
        yield Piece(
            left=stored.left,
            top=stored.top,
            pixels=rgba(samples),
            grey=samples.grey,
            blend=stored.blend,
            disposal=stored.disposal,
            duration_ms=stored.delay_ms,
        )


def _stored(file: bytes, size: tuple[int, int]) -> Iterator[_Stored]:
    """Yield the frames. The default image (IDAT) is one of them only if a chunk fcTL precedes it."""
    found: _Stored | None = None
    sequence = 0
    for chunk in chunks(file, whole=False):
        if chunk.kind in (b"fcTL", b"fdAT"):
            if int.from_bytes(chunk.body[:4]) != sequence:
                raise Damaged(f"chunk {sequence} of its animation is missing, damaged or at the wrong place")
            sequence += 1
        if chunk.kind == b"fcTL":
            if found:
                yield found
            found = _control(chunk, size)
        elif found and chunk.kind == b"IDAT":
            if (found.width, found.height) != size:
                raise Damaged("its first frame has another size than the picture")
            found.data.append(chunk.body)
        elif found and chunk.kind == b"fdAT":
            found.data.append(chunk.body[4:])
    if found:
        yield found


def _control(chunk: Chunk, size: tuple[int, int]) -> _Stored:
    if len(chunk.body) != 26:
        raise Damaged(f"its chunk fcTL at byte {chunk.place} has {len(chunk.body)} bytes, not 26")
    width, height, left, top, delay, unit, disposal, blend = struct.unpack_from(">4I2H2B", chunk.body, 4)
    if not (0 < width <= size[0] - left and 0 < height <= size[1] - top and disposal < 3 and blend < 2):
        raise Damaged(
            f"its chunk fcTL at byte {chunk.place} names a place outside of the picture, or an unknown method"
        )
    delay_ms = 1000 * delay / (unit or 100)
    return _Stored(
        width=width, height=height, left=left, top=top, delay_ms=delay_ms, disposal=disposal, blend=blend == 1
    )


def _chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    return b"".join((len(body).to_bytes(4), kind, body, zlib.crc32(body, zlib.crc32(kind)).to_bytes(4)))
