"""What a file says around its pixels, read without decoding any: whether it is whole, how many frames it has."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.errors import TooLarge, Unprocessable
from app.pictures.limits import Limits

MOST_SCANS = 100
"""A progressive JPEG has about ten. Each one costs a pass over the whole picture, however few bytes it has."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits of a sample, by colour type."""
ANIMATING = frozenset({b"acTL", b"fcTL", b"fdAT"})

TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value, by field type."""


@dataclass(frozen=True, kw_only=True)
class PngHeader:
    """What decides how the pixels of a PNG are read."""

    bits: int
    colour_type: int
    has_transparent_colour: bool
    frames: int
    still: bytes
    """The file without what animates it: a fault in later frames does not cost the first picture."""


def known_format(upload: bytes) -> str | None:
    """The format by its signature, in Pillow's name; None for what has no long one (BMP) or is not accepted."""
    for name, signature in (("PNG", PNG_SIGNATURE), ("JPEG", b"\xff\xd8\xff"), ("GIF", b"GIF87a"), ("GIF", b"GIF89a")):
        if upload.startswith(signature):
            return name
    if upload[:4] == b"RIFF" and upload[8:12] == b"WEBP":
        return "WEBP"
    if upload[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    brands = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys((b"heic", b"heix", b"heim", b"heis"), "HEIF")
    return brands.get(upload[8:12]) if upload[4:8] == b"ftyp" else None


def png_header(upload: bytes, limits: Limits) -> PngHeader:
    """Walk over the chunks of a PNG.

    Raises:
        Unprocessable: one is truncated, missing or damaged.
        TooLarge: one that holds no pixels is larger than the settings allow.
    """
    kinds: set[bytes] = set()
    animating: list[tuple[int, int]] = []
    frames, bits, colour_type = 0, 0, 0
    for place, kind, body in _png_chunks(upload):
        if kind == b"IHDR":
            width, height, bits, colour_type = _png_kind(body)
            limits.check_size(width, height, len(upload))
        elif not kinds:
            raise Unprocessable("the PNG file begins with another chunk than IHDR")
        if kind not in (b"IDAT", *ANIMATING):
            limits.check_metadata(f"the PNG's chunk {_name(kind)} at byte {place}", len(body))
        if kind == b"fcTL":
            frames = limits.check_frames(frames + 1)
        if kind in ANIMATING:
            animating.append((place, place + 12 + len(body)))
        kinds.add(kind)
    for needed in (b"IHDR", b"IDAT"):
        if needed not in kinds:
            raise Unprocessable(f"the PNG file has no chunk {_name(needed)}")
    if colour_type == 3 and b"PLTE" not in kinds:
        raise Unprocessable("the PNG file has pixels of a palette, and no chunk PLTE")
    transparent = b"tRNS" in kinds and colour_type in (0, 2)
    return PngHeader(
        bits=bits,
        colour_type=colour_type,
        has_transparent_colour=transparent,
        frames=max(1, frames),
        still=_without(upload, animating),
    )


def _without(upload: bytes, parts: Sequence[tuple[int, int]]) -> bytes:
    if not parts:
        return upload
    ends, starts = [0, *(end for _, end in parts)], [*(start for start, _ in parts), len(upload)]
    return b"".join(upload[end:start] for end, start in zip(ends, starts, strict=True))


def _png_chunks(upload: bytes) -> Iterator[tuple[int, bytes, memoryview]]:
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
        critical = not kind[0] & 0x20
        if critical and struct.unpack(">I", view[end - 4 : end])[0] != zlib.crc32(body, zlib.crc32(kind)):
            raise Unprocessable(f"the PNG file is corrupt: its chunk {_name(kind)} at byte {place} fails its checksum")
        if kind == b"IEND":
            return
        yield place, kind, body
        place = end


def _png_kind(header: memoryview) -> tuple[int, int, int, int]:
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


def check_scans(upload: bytes) -> None:
    """Refuse a JPEG that would be decoded over and over.

    Raises:
        TooLarge: more than `MOST_SCANS`.
    """
    scans = upload.count(b"\xff\xda")  # in data of pixels a 0 follows each 255
    if scans > MOST_SCANS:
        raise TooLarge(f"the JPEG has {scans} scans; the limit is {MOST_SCANS}; save it as a baseline JPEG")


def gif_frames(upload: bytes, limits: Limits) -> int:
    """Frames of a GIF; as many as can be found where its end is missing.

    Raises:
        TooLarge: more than the settings allow.
    """
    frames = 0
    try:
        place = 13 + _colour_table_bytes(upload[10])
        while (kind := upload[place]) != 0x3B:
            if kind == 0x2C:
                frames = limits.check_frames(frames + 1)
                place += 11 + _colour_table_bytes(upload[place + 9])
            elif kind == 0x21:
                place += 2
            else:
                break
            while size := upload[place]:
                place += 1 + size
            place += 1
    except IndexError:
        pass
    return max(1, frames)


def _colour_table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def tiff_frames(upload: bytes, limits: Limits) -> int:
    """Pictures in a TIFF; as many as can be found where the chain of them is broken.

    Raises:
        TooLarge: more than the settings allow, or one of their fields is.
    """
    order = "<" if upload[:2] == b"II" else ">"
    big = upload[2:4] in (b"+\0", b"\0+")
    count, entry = (8, 20) if big else (2, 12)
    seen: set[int] = set()
    try:
        (place,) = struct.unpack_from(order + "IQ"[big], upload, 8 if big else 4)
        while place and place not in seen:
            seen.add(place)
            limits.check_frames(len(seen))
            (fields,) = struct.unpack_from(order + "HQ"[big], upload, place)
            first = place + count
            if first + entry * fields > len(upload):
                break
            if len(seen) == 1:
                _check_fields(upload, order, big, range(first, first + entry * fields, entry), limits)
            (place,) = struct.unpack_from(order + "IQ"[big], upload, first + entry * fields)
    except struct.error:
        pass
    return max(1, len(seen))


def _check_fields(upload: bytes, order: str, big: bool, places: range, limits: Limits) -> None:
    tile = [1, 1]
    for place in places:
        tag, kind, values = struct.unpack_from(order + ("HHQ" if big else "HHI"), upload, place)
        limits.check_metadata(f"the TIFF's field {tag}", values * TIFF_BYTES.get(kind, 1))
        if tag in (322, 323) and values == 1:
            at = place + (12 if big else 8)
            (tile[tag - 322],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), upload, at)
    if tile[0] * tile[1] > limits.max_picture_px:
        raise TooLarge(f"the TIFF has tiles of {tile[0]} x {tile[1]} px; the limit is {limits.max_picture_px} px")
