"""The optional chunks of a PNG that an answer repeats: colours, and texts such as generation parameters."""

import re
import zlib
from dataclasses import dataclass, field
from typing import Literal

from app.pictures.colours import CICP, SIZES, has_effect
from model.pictures.png_structure import TEXTS, Chunk, keeps_orientation

MetadataRule = Literal["keep", "keep-gps", "strip"]
"""Keep everything but the location, keep everything, or keep only the colour profile."""

MAX_TEXTS = 200
"""Texts of one picture; further ones are left out."""

INFLATED_FACTOR = 4
"""Bytes to decompress for each byte of text that may be kept: some texts turn out to be broken, or too large."""

MAX_EXPANSION = 1032
"""Bytes that one of deflate becomes at most."""

Text = tuple[bytes, bytes]
"""Kind and content of a text chunk."""

KEYWORD = re.compile(rb"[\x21-\x7e\xa1-\xff](?:[\x20-\x7e\xa1-\xff]{0,77}[\x21-\x7e\xa1-\xff])?")
ABOUT_THE_FILE = re.compile(rb":|Raw profile type", re.IGNORECASE)
"""Matches keywords about the old file, as ImageMagick (`exif:`, `date:`) and thumbnailers (`Thumb::`) write them."""
LOCATION = re.compile(rb"gps|location", re.IGNORECASE)


@dataclass(kw_only=True)
class PngChunks:
    """Collects the chunks of one file.

    Args:
        max_text_bytes: for all texts together, decompressed.
        rule: which texts are kept.
    """

    max_text_bytes: int
    rule: MetadataRule = "keep"
    colours: dict[bytes, bytes] = field(default_factory=dict)
    texts: list[Text] = field(default_factory=list)
    texts_left_out: bool = False
    """A sound text was larger than allowed, or there were too many."""
    _inspected: int = 0
    _has_profile: bool = False
    _to_inflate: int = field(init=False)

    def __post_init__(self) -> None:
        self._to_inflate = INFLATED_FACTOR * self.max_text_bytes

    def reads(self, chunk: Chunk) -> bool:
        """Collect an optional chunk, or return True for one that the decoder reads."""
        if keeps_orientation(chunk):  # EXIF and XMP
            return True
        if chunk.kind == b"iCCP":
            is_first, self._has_profile = not self._has_profile, True
            return is_first and bytes(chunk.body[:81]).partition(b"\0")[2][:1] == b"\0"  # the only compression method
        if SIZES.get(chunk.kind) == len(chunk.body):
            self._add_colours(chunk.kind, bytes(chunk.body))
            return False
        if chunk.kind in TEXTS:
            self._add_text(chunk)
        return chunk.kind == b"pHYs" and len(chunk.body) == 9

    def _add_colours(self, kind: bytes, body: bytes) -> None:
        if kind != CICP or has_effect(body):
            self.colours.setdefault(kind, body)

    def _add_text(self, chunk: Chunk) -> None:
        body = bytes(chunk.body)
        keyword, separator, rest = body.partition(b"\0")
        about_the_file = ABOUT_THE_FILE.search(keyword) or (self.rule != "keep-gps" and LOCATION.search(keyword))
        if self.rule == "strip" or not separator or not KEYWORD.fullmatch(keyword) or about_the_file:
            return
        if self._inspected == MAX_TEXTS:
            self.texts_left_out = True
            return
        self._inspected += 1  # broken ones count, too: they cost as much time
        size = self._expanded_bytes(chunk.kind, rest)
        if size is None:
            return
        if size > self.max_text_bytes:
            self.texts_left_out = True
            return
        self.max_text_bytes -= size
        self.texts.append((chunk.kind, body))

    def _expanded_bytes(self, kind: bytes, rest: bytes) -> int | None:
        """Return the decompressed size of a text, or more than the limit where that is passed; None if it is broken."""
        if kind == b"tEXt":
            return len(rest)
        if kind == b"zTXt":
            return self._inflated_bytes(rest[1:]) if rest[:1] == b"\0" else None
        flags, parts = rest[:2], rest[2:].split(b"\0", 2)  # language, translated keyword, text
        if len(parts) < 3 or flags not in (b"\0\0", b"\1\0"):
            return None
        return len(parts[2]) if flags == b"\0\0" else self._inflated_bytes(parts[2])

    def _inflated_bytes(self, data: bytes) -> int | None:
        most = min(self.max_text_bytes, self._to_inflate)
        inflater = zlib.decompressobj()
        try:
            size = len(inflater.decompress(data, most + 1))
        except zlib.error:
            self._to_inflate -= min(most, MAX_EXPANSION * len(data))
            return None
        self._to_inflate -= min(most, size)
        if size > most:
            return self.max_text_bytes + 1
        return size if inflater.eof else None
