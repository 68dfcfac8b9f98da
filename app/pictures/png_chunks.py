"""The optional chunks of a PNG that an answer repeats."""

from model.pictures.png_structure import Chunk

COLOUR_BYTES = {b"sRGB": 1, b"gAMA": 4}
"""Sizes of chunks that name the colours and so override EXIF."""

TEXTS = (b"tEXt", b"zTXt", b"iTXt")
KEPT_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""Beginnings of text chunks that an answer repeats: XMP, and EXIF as written by ImageMagick."""


def is_kept(chunk: Chunk, colour_type: int) -> bool:
    """Return True for an optional chunk that an answer repeats."""
    size = len(chunk.body)
    start = bytes(chunk.body[:81])
    if chunk.kind == b"iCCP":
        return start.partition(b"\0")[2][:1] == b"\0"  # the only compression method
    if chunk.kind in COLOUR_BYTES:
        return COLOUR_BYTES[chunk.kind] == size
    return chunk.kind == b"eXIf" or (chunk.kind == b"pHYs" and size == 9) or (chunk.kind in TEXTS and _says(start))


def _says(text: bytes) -> bool:
    return text.startswith(KEPT_TEXTS)
