"""PNG encoders by name: the service's, the service's with other deflates, and those of other libraries.

`ours` lets the service's encoder run with another `deflate` of its strips, so that only compression differs: the same
filters, strips and threads.
"""

import asyncio
import io
import os
import weakref
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from types import ModuleType
from unittest.mock import patch

import numpy
from isal import isal_zlib
from PIL import Image

from app.png import encoder
from app.png.encoder import PngLayout, png_pieces
from app.png.filters import Bytes, SampleArray
from model.transfer import Pixels

Encode = Callable[[Pixels], bytes]
"""Encodes uint8 RGB (H, W, 3) as a PNG file."""

Deflate = Callable[..., tuple[memoryview | bytes, ...]]
"""Signature of `app.png.deflate.deflated`."""

REFERENCE = "Pillow, level 1"
RAW_DEFLATE = -15
ZLIB_LEVELS = (1, 6)
"""With `Z_RLE`, levels differ only in how zlib buffers; measuring both shows that."""


def encoders(stack: ExitStack) -> dict[str, Encode]:
    """Return every encoder that is installed; thread pools close with the stack."""
    found: dict[str, Encode] = {REFERENCE: partial(_pillow, level=1), "Pillow, its default": _pillow}
    found |= _other_libraries()
    counts = sorted({1, os.cpu_count() or 1})
    pools = {threads: stack.enter_context(ThreadPoolExecutor(threads)) for threads in counts}
    for name, deflate in _deflates():
        found[f"ours with {name}, 1 thread"] = ours(pools[1], 1, deflate)
    for threads, pool in pools.items():
        found[f"ours, {threads} thread{'s' if threads > 1 else ''}"] = ours(pool, threads)
    return found


def ours(pool: ThreadPoolExecutor, threads: int, deflate: Deflate | None = None) -> Encode:
    """Return the service's encoder for a whole picture, or a copy of it that compresses with `deflate`."""

    async def rows(picture: Pixels) -> AsyncIterator[SampleArray]:
        yield picture

    async def encoded(picture: Pixels) -> bytes:
        height, width, channels = picture.shape
        layout = PngLayout(width=width, height=height, channels=channels, bits=8)
        return b"".join([piece async for piece in png_pieces(layout, rows(picture), pool, ahead=threads)])

    loop = asyncio.new_event_loop()  # one for all pictures, as in the service

    def encode(picture: Pixels) -> bytes:
        with patch.object(encoder, "deflated", deflate) if deflate else nullcontext():
            return loop.run_until_complete(encoded(picture))

    weakref.finalize(encode, loop.close)
    return encode


def _deflates() -> Iterator[tuple[str, Deflate]]:
    """Yield the deflates of libraries, each with the interface of the service's."""
    yield "ISA-L, level 2", _isal
    yield from ((f"zlib's Z_RLE, level {level}", partial(_run_lengths, zlib, level)) for level in ZLIB_LEVELS)
    with suppress(ModuleNotFoundError):
        from zlib_ng import zlib_ng

        yield from ((f"zlib-ng's Z_RLE, level {level}", partial(_run_lengths, zlib_ng, level)) for level in ZLIB_LEVELS)


def _run_lengths(library: ModuleType, level: int, filtered: Bytes, *, last: bool, work: Bytes) -> tuple[bytes, ...]:
    """Compress with Huffman codes and matches at distance 1 only, as zlib's manual advises for PNG."""
    del work
    compressor = library.compressobj(level, library.DEFLATED, RAW_DEFLATE, 9, library.Z_RLE)
    return compressor.compress(filtered), compressor.flush(library.Z_FINISH if last else library.Z_SYNC_FLUSH)


def _isal(filtered: Bytes, *, last: bool, work: Bytes) -> tuple[bytes, ...]:
    del work
    compressor = isal_zlib.compressobj(2, wbits=RAW_DEFLATE)
    return compressor.compress(filtered), compressor.flush(isal_zlib.Z_FINISH if last else isal_zlib.Z_SYNC_FLUSH)


def _other_libraries() -> dict[str, Encode]:
    found: dict[str, Encode] = {}
    with suppress(ModuleNotFoundError):
        import cv2

        found["OpenCV, its default"] = lambda picture: cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    with suppress(ModuleNotFoundError):
        import imagecodecs

        found["imagecodecs, libpng, level 1"] = lambda picture: bytes(imagecodecs.png_encode(picture, level=1))
        found["imagecodecs, libspng, level 1"] = lambda picture: bytes(imagecodecs.spng_encode(picture, level=1))
    with suppress(ModuleNotFoundError, OSError):  # OSError: without libvips itself
        import pyvips

        def vips(picture: Pixels, **options: object) -> bytes:
            return bytes(pyvips.Image.new_from_array(picture).pngsave_buffer(compression=1, **options))

        found["libvips, level 1"] = vips
        found["libvips, level 1, all filters"] = partial(vips, filter="all")
    return found


def _pillow(picture: Pixels, level: int = 6) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=level)
    return file.getvalue()


def check(name: str, file: bytes, picture: Pixels) -> None:
    """Read a file back with Pillow.

    Raises:
        ValueError: it holds another picture.
    """
    with Image.open(io.BytesIO(file)) as image:
        if not numpy.array_equal(numpy.asarray(image.convert("RGB")), picture):
            raise ValueError(f"{name} wrote another picture than it was given")
