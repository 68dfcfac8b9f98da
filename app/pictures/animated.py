"""Encode upscaled frames as an animation; each is stored as the rectangle in which it differs from the one before."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy

from app.pictures.encode import PNG, png_layout
from app.pictures.layout import AnswerFormat, Layout
from app.pictures.picture import Pixels
from app.pictures.webp import webp_file
from app.pictures.webp_animation import MAX_DURATION_MS, WebpFrame, webp_animation
from app.png import animation as apng
from app.png.deflate import Compression
from app.threads import in_thread


@dataclass(frozen=True, kw_only=True)
class UpscaledFrame:
    """The pixels of a frame (H, W, C)."""

    pixels: Pixels
    duration_ms: float


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """A part of a picture, in px."""

    left: int
    top: int
    width: int
    height: int

    def of(self, pixels: Pixels) -> Pixels:
        """Cut it out of a picture."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


def encoded_animation(
    frames: AsyncIterable[UpscaledFrame],
    layout: Layout,
    form: AnswerFormat,
    pool: Executor,
    *,
    count: int,
    plays: int,
    quality: int | None = None,
    compression: Compression = "fast",
) -> AsyncGenerator[bytes, None]:
    """Encode an animation in pieces: an APNG while its frames arrive, a WebP at the end.

    Args:
        frames: of the layout, in order.
        pool: runs the encoding.
        count: number of frames.
        plays: number of plays; 0 for endless.
        quality, compression: see `app.pictures.encode.encoded`.
    """
    if form is PNG:
        return _apng(frames, layout, pool, count, plays, compression)
    return _webp(frames, layout, pool, plays, quality)


async def _apng(
    frames: AsyncIterable[UpscaledFrame],
    layout: Layout,
    pool: Executor,
    count: int,
    plays: int,
    compression: Compression,
) -> AsyncGenerator[bytes, None]:
    yield apng.head(png_layout(layout), count, plays)
    sequence, compress = 0, partial(apng.compressed, compression=compression)
    async for place, frame, pixels in _changes(frames, pool, compress):
        made = apng.ApngFrame(
            left=place.left,
            top=place.top,
            width=place.width,
            height=place.height,
            delay_ms=frame.duration_ms,
            pixels=pixels,
        )
        chunks, sequence = apng.frame_chunks(made, sequence)
        yield chunks
    yield apng.tail()


async def _webp(
    frames: AsyncIterable[UpscaledFrame], layout: Layout, pool: Executor, plays: int, quality: int | None
) -> AsyncGenerator[bytes, None]:
    made, shown_ms, ended_ms = list[WebpFrame](), 0.0, 0
    encode = partial(webp_file, layout=layout.without_metadata(), quality=quality)
    async for place, frame, file in _changes(frames, pool, encode):
        shown_ms += frame.duration_ms
        duration_ms = min(round(shown_ms) - ended_ms, MAX_DURATION_MS)  # so that rounding errors do not add up
        ended_ms = round(shown_ms)
        made.append(
            WebpFrame(
                left=place.left,
                top=place.top,
                width=place.width,
                height=place.height,
                duration_ms=duration_ms,
                file=file,
            )
        )
    size = layout.width, layout.height
    yield await in_thread(
        pool,
        partial(webp_animation, made, layout.metadata, size=size, transparent=layout.transparent, plays=plays),
    )


async def _changes(
    frames: AsyncIterable[UpscaledFrame], pool: Executor, encode: Callable[[Pixels], bytes]
) -> AsyncIterator[tuple[Rectangle, UpscaledFrame, bytes]]:
    """Yield the rectangle that changes in each frame, the frame, and the encoded pixels of the rectangle."""
    before: Pixels | None = None
    async for frame in frames:

        def work(pixels: Pixels = frame.pixels, before: Pixels | None = before) -> tuple[Rectangle, bytes]:
            place = changed_rectangle(pixels, before)
            return place, encode(numpy.ascontiguousarray(place.of(pixels)))

        place, file = await in_thread(pool, work)
        yield place, frame, file
        before = frame.pixels


def changed_rectangle(pixels: Pixels, before: Pixels | None) -> Rectangle:
    """Return the smallest rectangle around all differences that begins at even px; a single px where there are none."""
    height, width = pixels.shape[:2]
    if before is None:
        return Rectangle(left=0, top=0, width=width, height=height)
    differs = (pixels != before).any(axis=-1)
    rows, columns = numpy.flatnonzero(differs.any(axis=1)), numpy.flatnonzero(differs.any(axis=0))
    if not len(rows):
        return Rectangle(left=0, top=0, width=1, height=1)
    left, top = int(columns[0]) // 2 * 2, int(rows[0]) // 2 * 2
    return Rectangle(left=left, top=top, width=int(columns[-1]) + 1 - left, height=int(rows[-1]) + 1 - top)
