"""Walk over the chunks of a PNG before decoding: all must be whole, and the decoder gets only those it needs."""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from model.pictures.errors import Damaged, NotAccepted, OverLimit
from model.pictures.limits import Limits

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits of a sample, by colour type."""

MAX_COLOURS = 256
"""Maximum colours of a palette."""

TRANSPARENT_COLOUR_BYTES = {0: (2,), 2: (6,), 3: range(MAX_COLOURS + 1)}
"""Sizes that a chunk tRNS may have, by colour type."""

MAX_CHUNKS = 2**16
"""Maximum chunks of a file; each costs time. Files with IDAT of 512 bytes reach it with 32 MiB."""

TEXTS = (b"tEXt", b"zTXt", b"iTXt")
ORIENTING_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""Beginnings of texts that may hold the orientation: XMP, and EXIF as ImageMagick writes it."""


@dataclass(frozen=True, kw_only=True)
class PngHeader:
    """The fields that decide how the pixels of a PNG are read."""

    size: tuple[int, int]
    """Width and height."""
    bits: int
    has_transparent_colour: bool
    frames: int
    still: bytes
    """The file without animation and without unused chunks, so that errors in these do not matter."""
    place: tuple[int, int] = (0, 0)
    """Left and top of `still` in the picture, which is clear around it."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of the file."""

    kind: bytes
    place: int
    body: memoryview
    sound: bool
    """Its checksum is right."""

    @property
    def end(self) -> int:
        """Offset of the next one."""
        return self.place + 12 + len(self.body)


Keeps = Callable[[Chunk], bool]
"""Returns True for an optional chunk that is used."""


def png_header(upload: bytes, limits: Limits, keeps: Keeps, *, whole: bool = True) -> PngHeader:
    """Walk over the chunks of a PNG.

    Args:
        keeps: chooses the optional chunks to keep; those that the pixels need are always kept.
        whole: check the pixels' checksums, too, which takes time.

    Raises:
        NotAccepted: it is one that only Apple's devices read.
        Damaged: a chunk that is needed is truncated, missing or damaged.
        OverLimit: a chunk that is read and holds no pixels is larger than the limits allow.
    """
    kinds: set[bytes] = set()
    keywords: set[bytes] = set()
    dropped: list[tuple[int, int]] = []
    size, bits, colour_type, before = (0, 0), 0, 0, b""
    animated, frames = False, 0
    for chunk in chunks(upload, whole=whole):
        if chunk.kind == b"IHDR":
            size, bits, colour_type = _picture(chunk.body)
            limits.check_size(*size, len(upload))
        elif chunk.kind == b"CgBI" and not kinds:
            raise NotAccepted("a PNG as Xcode makes it for iOS (CgBI) is not accepted; send the original PNG")
        elif not kinds:
            raise Damaged("the PNG file begins with another chunk than IHDR")
        if chunk.kind == b"IDAT" != before and b"IDAT" in kinds:
            raise Damaged(f"the PNG file is corrupt: a chunk {_name(before)} lies between its chunks IDAT")
        before = chunk.kind
        animated = animated or (announces_animation(chunk) and b"IDAT" not in kinds)
        if chunk.kind == b"fcTL":
            frames = limits.check_frames(frames + 1)
        if _is_shown(chunk, colour_type, keeps) and _is_first(chunk, keywords):
            kinds.add(chunk.kind)
            if chunk.kind not in (b"IDAT", b"fdAT"):
                limits.check_metadata(f"the PNG's chunk {_name(chunk.kind)} at byte {chunk.place}", len(chunk.body))
        else:
            dropped.append((chunk.place, chunk.end))
    for needed in (b"IHDR", b"IDAT"):
        if needed not in kinds:
            raise Damaged(f"the PNG file has no chunk {_name(needed)}")
    if colour_type == 3 and b"PLTE" not in kinds:
        raise Damaged("the PNG file has pixels of a palette, and no chunk PLTE of 256 colours or fewer")
    return PngHeader(
        size=size,
        bits=bits,
        has_transparent_colour=b"tRNS" in kinds and colour_type != 3,
        frames=max(1, frames) if animated else 1,
        still=_without(upload, dropped),
    )


def announces_animation(chunk: Chunk) -> bool:
    """Return True for a valid chunk acTL; without one before IDAT, the file is a still picture."""
    valid = chunk.kind == b"acTL" and chunk.sound and len(chunk.body) == 8
    return valid and 0 < int.from_bytes(chunk.body[:4]) < 2**31


def keeps_orientation(chunk: Chunk) -> bool:
    """Return True if an optional chunk may hold the orientation: EXIF, or XMP."""
    return chunk.kind == b"eXIf" or (chunk.kind in TEXTS and bytes(chunk.body[:81]).startswith(ORIENTING_TEXTS))


def _is_critical(kind: bytes) -> bool:
    return not kind[0] & 0x20


def _is_shown(chunk: Chunk, colour_type: int, keeps: Keeps) -> bool:
    """Return True if a decoder gets a chunk. Each frame repeats PLTE and tRNS, so they must have a valid size."""
    if chunk.kind == b"PLTE":
        return len(chunk.body) <= 3 * MAX_COLOURS
    if chunk.kind == b"tRNS":
        return len(chunk.body) in TRANSPARENT_COLOUR_BYTES.get(colour_type, ())
    return _is_critical(chunk.kind) or (chunk.sound and keeps(chunk))


def _is_first(chunk: Chunk, keywords: set[bytes]) -> bool:
    """Return False for a text with a keyword that was seen before: a decoder decompresses each."""
    if chunk.kind not in TEXTS:
        return True
    keyword = bytes(chunk.body[:80]).partition(b"\0")[0]
    is_first = keyword not in keywords
    keywords.add(keyword)
    return is_first


def _without(upload: bytes, parts: Sequence[tuple[int, int]]) -> bytes:
    if not parts:
        return upload
    ends, starts = [0, *(end for _, end in parts)], [*(start for start, _ in parts), len(upload)]
    return b"".join(upload[end:start] for end, start in zip(ends, starts, strict=True))


def chunks(upload: bytes, *, whole: bool) -> Iterator[Chunk]:
    """Yield the chunks of a PNG before its end; see `png_header`."""
    view, place = memoryview(upload), len(PNG_SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if place + 12 > len(view):
            raise Damaged(f"the PNG file is truncated: it ends at byte {len(view)}, before its chunk IEND")
        size, kind = struct.unpack(">I4s", view[place : place + 8])
        body, end = view[place + 8 : place + 8 + size], place + 12 + size
        if end > len(view):
            raise Damaged(
                f"the PNG file is truncated: its chunk {_name(kind)} at byte {place} has {size} bytes, "
                f"and the file ends at byte {len(view)}"
            )
        sound = (kind == b"IDAT" and not whole) or _checksum(view, end) == zlib.crc32(body, zlib.crc32(kind))
        if not sound and (_is_critical(kind) or kind == b"tRNS"):
            raise Damaged(f"the PNG file is corrupt: its chunk {_name(kind)} at byte {place} fails its checksum")
        if kind == b"IEND":
            return
        yield Chunk(kind=kind, place=place, body=body, sound=sound)
        place = end
    raise OverLimit(f"the PNG has more than {MAX_CHUNKS} chunks, which is the limit; save it again")


def _checksum(view: memoryview, end: int) -> int:
    return int.from_bytes(view[end - 4 : end])


def _picture(header: memoryview) -> tuple[tuple[int, int], int, int]:
    """Return the size, bits and colour type."""
    if len(header) != 13:
        raise Damaged(f"the PNG file is corrupt: its chunk IHDR has {len(header)} bytes, not 13")
    width, height, bits, colour_type, compression, filtering, interlacing = struct.unpack(">IIBBBBB", header)
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise Damaged(f"the PNG file is corrupt: it says that it has {width} x {height} px")
    if bits not in PNG_DEPTHS.get(colour_type, ()):
        raise Damaged(f"the PNG file is corrupt: there is no colour type {colour_type} with {bits} bits")
    if compression or filtering or interlacing > 1:
        raise Damaged("the PNG file is corrupt: it names a compression, filter or interlacing that does not exist")
    return (width, height), bits, colour_type


def _name(kind: bytes) -> str:
    return repr(kind.decode("latin-1"))[1:-1]
