"""Encodes rows as a PNG file, in pieces that can be sent before the last rows exist.

Rows are collected into strips, which threads filter and compress in parallel. Each strip is a run of deflate blocks
that ends on a byte boundary, so the strips in order form one zlib stream; only the checksum spans all of it.

PNG specification, third edition: https://www.w3.org/TR/png-3/
"""

import asyncio
import math
import struct
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy
from isal import isal_zlib

from app.png.deflate import Compression, deflated, max_deflated_bytes
from app.png.filters import Bytes, SampleArray, filter_rows

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Colour types by number of channels: grey, grey with alpha, RGB and RGBA."""
MAX_SIDE_PX = 2**31 - 1
"""Maximum width and height of a PNG."""

STRIP_BYTES: Mapping[Compression, int] = {"fast": 256 * 1024, "small": 2**20}
"""Maximum bytes of a strip before compression, unless a single row has more. No repeats are found across strips."""
ZLIB_HEADER = b"\x78\x01"
ADLER_BASE = 65521


@dataclass(frozen=True, kw_only=True)
class PngLayout:
    """The header and metadata of a PNG.

    Raises:
        ValueError: a PNG cannot have this size or format.
    """

    width: int
    height: int
    channels: int
    """1 grey, 2 grey with alpha, 3 RGB, 4 RGBA."""
    bits: int
    """Bits of each sample: 8 or 16."""
    icc_profile: bytes | None = None
    exif: bytes | None = None
    """A TIFF structure, with or without the `Exif` that precedes it in a JPEG."""
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    colours: Sequence[tuple[bytes, bytes]] = ()
    """Kinds and contents of chunks that describe the colours, such as gAMA."""
    texts: Sequence[tuple[bytes, bytes]] = ()
    """Kinds and contents of text chunks."""
    compression: Compression = "fast"

    def __post_init__(self) -> None:
        if not (1 <= self.width <= MAX_SIDE_PX and 1 <= self.height <= MAX_SIDE_PX):
            raise ValueError(f"{self.width} x {self.height} px; a PNG has 1 to {MAX_SIDE_PX} px per side")
        if self.channels not in COLOUR_TYPES or self.bits not in (8, 16):
            raise ValueError(
                f"{self.channels} channels of {self.bits} bits; supported are 1 to 4 channels of 8 or 16 bits"
            )

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel in the file."""
        return self.channels * self.bits // 8

    @property
    def strip_rows(self) -> int:
        """Rows of each strip: even heights, so that threads finish together."""
        most = max(1, STRIP_BYTES[self.compression] // (self.width * self.pixel_bytes))
        return -(-self.height // -(-self.height // most))

    def head(self) -> bytes:
        """Return the file up to its pixels."""
        size = struct.pack(">IIBBBBB", self.width, self.height, self.bits, COLOUR_TYPES[self.channels], 0, 0, 0)
        return SIGNATURE + chunk(b"IHDR", size) + b"".join(chunk(kind, body) for kind, body in self._metadata())

    def _metadata(self) -> Iterator[tuple[bytes, bytes]]:
        if self.icc_profile:
            yield b"iCCP", b"ICC profile\0\0" + isal_zlib.compress(self.icc_profile, isal_zlib.ISAL_BEST_COMPRESSION)
        for kind, body in self.colours:
            if kind != b"sRGB" or not self.icc_profile:  # only one of the two is allowed
                yield kind, body
        if self.dpi:
            yield b"pHYs", struct.pack(">IIB", *(round(per_inch / 0.0254) for per_inch in self.dpi), 1)
        if self.exif:
            yield b"eXIf", self.exif.removeprefix(b"Exif\0\0")
        if self.xmp:
            yield b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + self.xmp
        yield from self.texts


async def png_pieces(
    layout: PngLayout, rows: AsyncIterable[SampleArray], pool: Executor, *, ahead: int = 4
) -> AsyncGenerator[bytes, None]:
    """Encode rows as they arrive; a finished piece is yielded before more rows are requested.

    Holds one piece of rows and `ahead` strips, whatever the height of the picture. A consumer that does not want the
    rest closes the generator (`aclose`), which drops strips that no thread has started.

    Args:
        layout: of the rows.
        rows: arrays (H, W, channels) of uint8 or uint16, depending on the layout's bits; together as high as the
            picture.
        pool: compresses strips.
        ahead: maximum strips in the pool.

    Raises:
        ValueError: the rows do not fit the layout; the file ends early, so no reader takes it for complete.
    """
    loop = asyncio.get_running_loop()
    strips = _Strips(layout)
    checksum = 1
    running: deque[asyncio.Future[_Deflated]] = deque()
    yield layout.head() + chunk(b"IDAT", ZLIB_HEADER)
    try:
        async for piece in rows:
            cut = strips.cut(piece)
            while True:
                while len(running) < ahead and (strip := next(cut, None)) is not None:
                    running.append(loop.run_in_executor(pool, partial(_deflate, strip, layout)))
                if not running:
                    break
                deflated = await running.popleft()
                checksum = _joined_checksum(checksum, deflated)
                yield deflated.chunk
    finally:
        for future in running:
            future.cancel()
    if strips.missing_rows:
        raise ValueError(f"{strips.missing_rows} of {layout.height} rows are missing")
    yield chunk(b"IDAT", checksum.to_bytes(4)) + chunk(b"IEND", b"")


@dataclass(frozen=True, kw_only=True)
class _Strip:
    parts: tuple[SampleArray, ...]
    above: SampleArray | None
    """The row before it; None at the top."""
    last: bool


@dataclass(frozen=True, kw_only=True)
class _Deflated:
    chunk: bytes
    checksum: int
    filtered_bytes: int


class _Strips:
    """Cuts pieces of any height into strips of equal height."""

    def __init__(self, layout: PngLayout) -> None:
        self._layout = layout
        self._parts: list[SampleArray] = []
        self._above: SampleArray | None = None
        self.missing_rows = layout.height

    def cut(self, piece: SampleArray) -> Iterator[_Strip]:
        """Yield the strips that a piece completes; its remaining rows are kept for the next call."""
        layout = self._layout
        dtype = numpy.uint8 if layout.bits == 8 else numpy.uint16
        if piece.shape[1:] != (layout.width, layout.channels) or piece.dtype != dtype or len(piece) > self.missing_rows:
            raise ValueError(f"rows {piece.shape} of {piece.dtype} do not fit {layout}")
        while len(piece):
            wanted = layout.strip_rows - sum(map(len, self._parts))
            part, piece = piece[:wanted], piece[wanted:]
            self._parts.append(part)
            self.missing_rows -= len(part)
            if len(part) == wanted or not self.missing_rows:
                yield _Strip(parts=tuple(self._parts), above=self._above, last=not self.missing_rows)
                self._parts, self._above = [], part[-1]


class _ThreadBuffers(threading.local):
    """Buffers that a thread reuses for each strip: allocating new memory takes as long as filtering."""

    def array(self, name: str, shape: tuple[int, ...]) -> Bytes:
        """Return an uninitialised array."""
        size, kept = math.prod(shape), self.__dict__.get(name)
        if kept is None or kept.size < size:
            kept = self.__dict__[name] = numpy.empty(size, numpy.uint8)
        return cast(Bytes, kept[:size].reshape(shape))


_buffers = _ThreadBuffers()


def _deflate(strip: _Strip, layout: PngLayout) -> _Deflated:
    """Filter and compress a strip; runs in a thread."""
    filtered = _buffers.array("filtered", (sum(map(len, strip.parts)), 1 + layout.width * layout.pixel_bytes))
    above, top = strip.above, 0
    for part in strip.parts:
        filter_rows(part, above, filtered[top : top + len(part)])
        above, top = part[-1], top + len(part)
    work = _buffers.array("deflated", (max_deflated_bytes(filtered.size),))
    body = deflated(filtered, last=strip.last, work=work, compression=layout.compression)
    return _Deflated(chunk=chunk(b"IDAT", *body), checksum=isal_zlib.adler32(filtered), filtered_bytes=filtered.size)


def _joined_checksum(before: int, strip: _Deflated) -> int:
    """Combine the Adler-32 of the bytes so far with that of a strip (RFC 1950, section 9)."""
    sum_before, weighted_before = before & 0xFFFF, before >> 16
    sum_strip, weighted_strip = strip.checksum & 0xFFFF, strip.checksum >> 16
    total = (sum_before + sum_strip - 1) % ADLER_BASE
    weighted = (weighted_before + weighted_strip + strip.filtered_bytes * (sum_before - 1)) % ADLER_BASE
    return weighted << 16 | total


def chunk(kind: bytes, *body: bytes | memoryview) -> bytes:
    """Return a chunk of a PNG with its length and checksum."""
    checksum = 0
    for part in (kind, *body):
        checksum = isal_zlib.crc32(part, checksum)
    return b"".join((sum(map(len, body)).to_bytes(4), kind, *body, checksum.to_bytes(4)))
