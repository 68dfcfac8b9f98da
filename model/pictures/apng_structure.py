"""The frames of an animated PNG as the file stores them, each as a PNG of its own."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from model.pictures import png_structure
from model.pictures.errors import Damaged
from model.pictures.limits import Limits
from model.pictures.png_structure import PNG_SIGNATURE, Chunk, Keeps, PngHeader, announces_animation, chunks

OF_FRAMES = frozenset({b"acTL", b"fcTL", b"fdAT", b"IDAT"})
"""Chunks that belong to the animation or to one frame; all frames have the others in common."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The chunks that all frames have in common."""

    header: bytes
    """Contents of IHDR."""
    others: Sequence[bytes]


@dataclass(kw_only=True)
class StoredFrame:
    """A frame before it is decoded."""

    width: int
    height: int
    left: int
    top: int
    delay_ms: float
    disposal: int
    blend: bool
    data: list[memoryview] = field(default_factory=list)

    def png(self, shared: Shared) -> bytes:
        """Return the frame as a file of its own."""
        header = struct.pack(">II", self.width, self.height) + shared.header[8:]
        data = _chunk(b"IDAT", b"".join(self.data))
        return b"".join((PNG_SIGNATURE, _chunk(b"IHDR", header), *shared.others, data, _chunk(b"IEND", b"")))


def header_as_shown(upload: bytes, limits: Limits, keeps: Keeps, *, whole: bool = True) -> PngHeader:
    """Walk over the chunks of a PNG as `png_structure.png_header` does.

    Where a browser never shows the picture in IDAT, `still` has the first frame of the animation in its place.
    """
    header = png_structure.png_header(upload, limits, keeps, whole=whole)
    first = _first_instead_of_idat(upload, header.size)
    if first is None:
        return header
    return replace(header, still=first.png(shared_of(header.still)), place=(first.left, first.top))


def _first_instead_of_idat(file: bytes, size: tuple[int, int]) -> StoredFrame | None:
    """Return the first frame of an animation without the picture in IDAT.

    None where that picture is the first frame, where there is no animation, and where its beginning is broken: then
    the picture in IDAT is all that there is to show.
    """
    animated = False
    for chunk in chunks(file, whole=False):
        if chunk.kind == b"fcTL" or (chunk.kind == b"IDAT" and not animated):
            return None
        if chunk.kind == b"IDAT":
            break
        animated = animated or announces_animation(chunk)
    try:
        first = next(stored_frames(file, size), None)
    except Damaged:
        return None
    return first if first and any(first.data) else None


def shared_of(file: bytes) -> Shared:
    """Return the chunks of a PNG that all frames have in common."""
    header, others = b"", []
    for chunk in chunks(file, whole=False):
        if chunk.kind == b"IHDR":
            header = bytes(chunk.body)
        elif chunk.kind not in OF_FRAMES:
            others.append(file[chunk.place : chunk.end])
    return Shared(header=header, others=others)


def stored_frames(file: bytes, size: tuple[int, int]) -> Iterator[StoredFrame]:
    """Yield the frames. The picture in IDAT is one of them only if a chunk fcTL precedes it.

    Args:
        size: width and height of the picture.

    Raises:
        Damaged: a chunk of the animation is missing, damaged or at the wrong place.
    """
    found: StoredFrame | None = None
    sequence = 0
    for chunk in chunks(file, whole=False):
        if found and chunk.kind == b"fcTL":
            yield found
            found = None
        if chunk.kind in (b"fcTL", b"fdAT"):
            if not chunk.sound or int.from_bytes(chunk.body[:4]) != sequence:
                raise Damaged(f"chunk {sequence} of its animation is missing, damaged or at the wrong place")
            sequence += 1
        if chunk.kind == b"fcTL":
            found = _control(chunk, size)
        elif found and chunk.kind == b"IDAT":
            if (found.width, found.height) != size:
                raise Damaged("its first frame has another size than the picture")
            found.data.append(chunk.body)
        elif found and chunk.kind == b"fdAT":
            found.data.append(chunk.body[4:])
    if found:
        yield found


def _control(chunk: Chunk, size: tuple[int, int]) -> StoredFrame:
    if len(chunk.body) != 26:
        raise Damaged(f"its chunk fcTL at byte {chunk.place} has {len(chunk.body)} bytes, not 26")
    width, height, left, top, delay, unit, disposal, blend = struct.unpack_from(">4I2H2B", chunk.body, 4)
    if not (0 < width <= size[0] - left and 0 < height <= size[1] - top and disposal < 3 and blend < 2):
        raise Damaged(
            f"its chunk fcTL at byte {chunk.place} names a place outside of the picture, or an unknown method"
        )
    delay_ms = 1000 * delay / (unit or 100)
    return StoredFrame(
        width=width, height=height, left=left, top=top, delay_ms=delay_ms, disposal=disposal, blend=blend == 1
    )


def _chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    return b"".join((len(body).to_bytes(4), kind, body, zlib.crc32(body, zlib.crc32(kind)).to_bytes(4)))
