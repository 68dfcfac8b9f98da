"""What a file says around its pixels, read without decoding any: whether it is whole, how many frames it has."""

import itertools
import struct
from collections.abc import Iterator

from app.errors import TooLarge, Unprocessable, UnsupportedFormat
from app.pictures.limits import Limits
from app.pictures.png_chunks import PNG_SIGNATURE

MOST_SCANS = 100
"""A progressive JPEG has about ten. Each one costs a pass over the whole picture, however few bytes it has."""

FRAMES_OF_JPEG = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
READABLE_FRAMES_OF_JPEG = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
"""Markers of a frame: sequential and progressive, with Huffman's or arithmetic codes."""

BMP_HEADERS = frozenset(size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124))

TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value, by field type."""


def known_format(upload: bytes) -> str | None:
    """The format by its signature, in Pillow's name; None for what is not accepted, or not for certain."""
    signatures = (("PNG", PNG_SIGNATURE), ("JPEG", b"\xff\xd8\xff"), ("GIF", b"GIF87a"), ("GIF", b"GIF89a"))
    for name, signature in signatures:
        if upload.startswith(signature):
            return name
    if upload[:4] == b"RIFF" and upload[8:12] == b"WEBP":
        return "WEBP"
    if upload[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if upload[:2] == b"BM" and upload[14:18] in BMP_HEADERS:
        return "BMP"
    brands = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys((b"heic", b"heix", b"heim", b"heis"), "HEIF")
    return brands.get(upload[8:12]) if upload[4:8] == b"ftyp" else None


def check_before_opening(upload: bytes, limits: Limits) -> None:
    """Refuse what costs too much, or worse, already when a decoder looks at the header.

    Raises:
        TooLarge, Unprocessable, UnsupportedFormat: see below.
    """
    if upload.startswith(b"GIF8"):
        _check_gif_size(upload, limits)
    elif upload.startswith(b"\xff\xd8"):
        _check_jpeg_kind(upload)
    elif upload[4:8] == b"ftyp":
        _check_item_names(upload)


def _check_jpeg_kind(upload: bytes) -> None:
    """Refuse the kinds of JPEG that hardly any decoder reads."""
    place = 2
    while place + 5 <= len(upload) and upload[place] == 0xFF:
        marker = upload[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in FRAMES_OF_JPEG:
            if marker not in READABLE_FRAMES_OF_JPEG:
                raise UnsupportedFormat("a lossless or hierarchical JPEG is not accepted; save it as an ordinary one")
            if upload[place + 4] != 8:
                raise UnsupportedFormat(
                    f"a JPEG of {upload[place + 4]} bits is not accepted; save it with 8, or as PNG"
                )
            return
        else:
            place += 2 + int.from_bytes(upload[place + 2 : place + 4])


def check_scans(upload: bytes) -> None:
    """Refuse a JPEG that would be decoded over and over.

    Raises:
        TooLarge: more than `MOST_SCANS`.
    """
    scans = upload.count(b"\xff\xda")  # in data of pixels a 0 follows each 255
    if scans > MOST_SCANS:
        raise TooLarge(f"the JPEG has {scans} scans; the limit is {MOST_SCANS}; save it as a baseline JPEG")


def _check_item_names(upload: bytes) -> None:
    """Refuse a HEIC of which an item's kind is no text: pi-heif 1.4 ends the process over it."""
    for kind, start, end in _boxes(upload, 0, len(upload)):
        if kind != b"meta":
            continue
        for inner, inner_start, inner_end in _boxes(upload, start + 4, end):
            if inner == b"iinf":
                first = inner_start + (6 if upload[inner_start : inner_start + 1] == b"\0" else 8)
                for item, item_start, item_end in _boxes(upload, first, inner_end):
                    if item == b"infe":
                        _check_item(upload[item_start:item_end], item_start)


def _check_item(item: bytes, place: int) -> None:
    said = item[8 if item[:1] == b"\2" else 10 :]  # after version, number and protection
    kind, (_, *rest) = said[:4], said[4:].split(b"\0")
    try:
        b"".join((kind, *rest)).decode()
    except UnicodeDecodeError as error:
        raise Unprocessable(f"the HEIC file is corrupt: the kind of its item at byte {place} is no text") from error


def _boxes(upload: bytes, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each box between two places of an ISO media file, and where its content begins and ends."""
    while place + 8 <= end:
        size, kind = struct.unpack_from(">I4s", upload, place)
        head = 16 if size == 1 else 8
        if size == 1:
            size = int.from_bytes(upload[place + 8 : place + 16])
        if not head <= size <= end - place:
            size = end - place
        yield kind, place + head, place + size
        place += size


def gif_frames(upload: bytes, limits: Limits) -> int:
    """Frames of a GIF; as many as can be found where its end is missing.

    Raises:
        TooLarge: more than the settings allow.
    """
    frames = 0
    for _ in _gif_frames(upload):
        frames = limits.check_frames(frames + 1)
    return max(1, frames)


def _check_gif_size(upload: bytes, limits: Limits) -> None:
    """Refuse a GIF that is too large, or whose first frame is: Pillow makes room for it when it opens the file."""
    if len(upload) < 10:
        return
    width, height = struct.unpack_from("<HH", upload, 6)
    for place in itertools.islice(_gif_frames(upload), 1):
        left, top, across, down = struct.unpack_from("<4H", upload, place + 1)
        width, height = max(width, left + across), max(height, top + down)
    limits.check_size(width, height, len(upload))


def _gif_frames(upload: bytes) -> Iterator[int]:
    """Where the frames of a GIF begin."""
    try:
        place = 13 + _colour_table_bytes(upload[10])
        while (kind := upload[place]) != 0x3B:
            if kind == 0x2C:
                after = place + 10 + _colour_table_bytes(upload[place + 9])
                yield place
                place = after + 1
            elif kind == 0x21:
                place += 2
            else:
                return
            while size := upload[place]:
                place += 1 + size
            place += 1
    except IndexError:
        return


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
