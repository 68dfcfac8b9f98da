"""The chunks of a PNG, walked over before a decoder sees them: whether all are whole, and which it should see."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.errors import Unprocessable
from app.pictures.limits import Limits

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits of a sample, by colour type."""

TRANSPARENT_COLOUR_BYTES = {0: 2, 2: 6}
"""Of a chunk tRNS, by colour type; of a palette it may have any size."""

COLOUR_BYTES = {b"sRGB": 1, b"gAMA": 4}
"""Of chunks that name the colours, so that EXIF does not, by kind."""

TEXTS = (b"tEXt", b"zTXt", b"iTXt")
KEPT_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""Beginnings of those that say what an answer says again: XMP, and EXIF as ImageMagick writes it."""


@dataclass(frozen=True, kw_only=True)
class PngHeader:
    """What decides how the pixels of a PNG are read."""

    bits: int
    colour_type: int
    has_transparent_colour: bool
    frames: int
    still: bytes
    """The file without what animates it and without what no answer says again: a fault in there costs nothing."""


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    kind: bytes
    place: int
    body: memoryview
    sound: bool
    """Its checksum is right."""

    @property
    def end(self) -> int:
        return self.place + 12 + len(self.body)


def png_header(upload: bytes, limits: Limits, *, whole: bool = True) -> PngHeader:
    """Walk over the chunks of a PNG.

    Args:
        whole: check the pixels' checksums, too, which takes time.

    Raises:
        Unprocessable: one that is needed is truncated, missing or damaged.
        TooLarge: one that holds no pixels is larger than the settings allow.
    """
    kinds: set[bytes] = set()
    dropped: list[tuple[int, int]] = []
    frames, bits, colour_type, before = 0, 0, 0, b""
    for chunk in _chunks(upload, whole):
        if chunk.kind == b"IHDR":
            width, height, bits, colour_type = _picture(chunk.body)
            limits.check_size(width, height, len(upload))
        elif not kinds:
            raise Unprocessable("the PNG file begins with another chunk than IHDR")
        if chunk.kind == b"IDAT" != before and b"IDAT" in kinds:
            raise Unprocessable(f"the PNG file is corrupt: a chunk {_name(before)} lies between its chunks IDAT")
        before = chunk.kind
        if chunk.kind not in (b"IDAT", b"fdAT"):
            limits.check_metadata(f"the PNG's chunk {_name(chunk.kind)} at byte {chunk.place}", len(chunk.body))
        if chunk.kind == b"fcTL":
            frames = limits.check_frames(frames + 1)
        if _is_critical(chunk.kind) or _is_kept(chunk, colour_type):
            kinds.add(chunk.kind)
        else:
            dropped.append((chunk.place, chunk.end))
    for needed in (b"IHDR", b"IDAT"):
        if needed not in kinds:
            raise Unprocessable(f"the PNG file has no chunk {_name(needed)}")
    if colour_type == 3 and b"PLTE" not in kinds:
        raise Unprocessable("the PNG file has pixels of a palette, and no chunk PLTE")
    return PngHeader(
        bits=bits,
        colour_type=colour_type,
        has_transparent_colour=b"tRNS" in kinds and colour_type != 3,
        frames=max(1, frames),
        still=_without(upload, dropped),
    )


def _is_critical(kind: bytes) -> bool:
    return not kind[0] & 0x20


def _is_kept(chunk: _Chunk, colour_type: int) -> bool:
    """Whether a chunk that a picture can do without is for the decoder."""
    size = len(chunk.body)
    if chunk.kind == b"tRNS":
        return colour_type == 3 or TRANSPARENT_COLOUR_BYTES.get(colour_type) == size
    if not chunk.sound:
        return False
    start = bytes(chunk.body[:81])
    if chunk.kind == b"iCCP":
        return start.partition(b"\0")[2][:1] == b"\0"  # the only compression that there is
    if chunk.kind in COLOUR_BYTES:
        return COLOUR_BYTES[chunk.kind] == size
    return chunk.kind == b"eXIf" or (chunk.kind == b"pHYs" and size == 9) or (chunk.kind in TEXTS and _says(start))


def _says(text: bytes) -> bool:
    return text.startswith(KEPT_TEXTS)


def _without(upload: bytes, parts: Sequence[tuple[int, int]]) -> bytes:
    if not parts:
        return upload
    ends, starts = [0, *(end for _, end in parts)], [*(start for start, _ in parts), len(upload)]
    return b"".join(upload[end:start] for end, start in zip(ends, starts, strict=True))


def _chunks(upload: bytes, whole: bool) -> Iterator[_Chunk]:
    view, place = memoryview(upload), len(PNG_SIGNATURE)
    while True:
        if place + 12 > len(view):
            raise Unprocessable(f"the PNG file is truncated: it ends at byte {len(view)}, before its chunk IEND")
        size, kind = struct.unpack(">I4s", view[place : place + 8])
        body, end = view[place + 8 : place + 8 + size], place + 12 + size
        if end > len(view):
            raise Unprocessable(
                f"the PNG file is truncated: its chunk {_name(kind)} at byte {place} has {size} bytes, "
                f"and the file ends at byte {len(view)}"
            )
        sound = (kind == b"IDAT" and not whole) or _checksum(view, end) == zlib.crc32(body, zlib.crc32(kind))
        if not sound and (_is_critical(kind) or kind == b"tRNS"):
            raise Unprocessable(f"the PNG file is corrupt: its chunk {_name(kind)} at byte {place} fails its checksum")
        if kind == b"IEND":
            return
        yield _Chunk(kind=kind, place=place, body=body, sound=sound)
        place = end


def _checksum(view: memoryview, end: int) -> int:
    return int.from_bytes(view[end - 4 : end])


def _picture(header: memoryview) -> tuple[int, int, int, int]:
    """Width, height, bits and colour type."""
    if len(header) != 13:
        raise Unprocessable(f"the PNG file is corrupt: its chunk IHDR has {len(header)} bytes, not 13")
    width, height, bits, colour_type, compression, filtering, interlacing = struct.unpack(">IIBBBBB", header)
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise Unprocessable(f"the PNG file is corrupt: it says that it has {width} x {height} px")
    if bits not in PNG_DEPTHS.get(colour_type, ()):
        raise Unprocessable(f"the PNG file is corrupt: there is no colour type {colour_type} with {bits} bits")
    if compression or filtering or interlacing > 1:
        raise Unprocessable(
            "the PNG file is corrupt: it names a compression, filter or interlacing that does not exist"
        )
    return width, height, bits, colour_type


def _name(kind: bytes) -> str:
    return repr(kind.decode("latin-1"))[1:-1]
