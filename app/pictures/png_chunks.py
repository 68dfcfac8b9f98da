"""The optional chunks of a PNG that an answer repeats."""

from model.pictures.png_structure import Chunk

COLOUR_BYTES = {b"sRGB": 1, b"gAMA": 4}
"""Of chunks that name the colours, so that EXIF does not, by kind."""

TEXTS = (b"tEXt", b"zTXt", b"iTXt")
KEPT_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""Beginnings of those that say what an answer says again: XMP, and EXIF as ImageMagick writes it."""


def is_kept(chunk: Chunk, colour_type: int) -> bool:
    """Tell if an answer repeats an optional chunk."""
    size = len(chunk.body)
    start = bytes(chunk.body[:81])
    if chunk.kind == b"iCCP":
        return start.partition(b"\0")[2][:1] == b"\0"  # the only compression that there is
    if chunk.kind in COLOUR_BYTES:
        return COLOUR_BYTES[chunk.kind] == size
    return chunk.kind == b"eXIf" or (chunk.kind == b"pHYs" and size == 9) or (chunk.kind in TEXTS and _says(start))


def _says(text: bytes) -> bool:
    return text.startswith(KEPT_TEXTS)
