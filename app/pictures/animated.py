"""Encode upscaled frames as an animation; each is stored as the rectangle in which it differs from the one before."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy
from numpy.typing import NDArray

from app.pictures.encode import PNG, png_layout
from app.pictures.layout import Layout
from app.pictures.picture import Pixels
from app.pictures.webp import webp_file
from app.pictures.webp_animation import webp_animation
from app.png import animation as apng
from app.png.animation import EncodedFrame
from app.threads import in_thread


@dataclass(frozen=True, kw_only=True)
class UpscaledFrame:
    """The pixels of a frame (H, W, C)."""

    pixels: Pixels
    duration_ms: float


def encoded_animation(
    frames: AsyncIterable[UpscaledFrame], layout: Layout, pool: Executor, *, count: int, plays: int
) -> AsyncGenerator[bytes, None]:
    """Encode an animation in pieces: an APNG while its frames arrive, a WebP at the end.

    Args:
        frames: of the layout, in order.
        pool: runs the encoding.
        count: number of frames.
        plays: number of plays; 0 for endless.
    """
    if layout.format is PNG:
        return _apng(frames, layout, pool, count, plays)
    return _webp(frames, layout, pool, plays)


async def _apng(
    frames: AsyncIterable[UpscaledFrame], layout: Layout, pool: Executor, count: int, plays: int
) -> AsyncGenerator[bytes, None]:
    yield apng.head(png_layout(layout), count, plays)
    sequence = 0
    async for frame in _changes(frames, pool, partial(apng.compressed, compression=layout.compression)):
        chunks, sequence = apng.frame_chunks(frame, sequence)
        yield chunks
    yield apng.tail()


async def _webp(
    frames: AsyncIterable[UpscaledFrame], layout: Layout, pool: Executor, plays: int
) -> AsyncGenerator[bytes, None]:
    encode = partial(webp_file, layout=layout.without_metadata())
    changes = [frame async for frame in _changes(frames, pool, encode)]
    yield await in_thread(pool, partial(webp_animation, changes, layout, plays))


async def _changes(
    frames: AsyncIterable[UpscaledFrame], pool: Executor, encode: Callable[[Pixels], bytes]
) -> AsyncIterator[EncodedFrame]:
    """Encode the rectangle that changes in each frame."""
    before: Pixels | None = None
    async for frame in frames:
        yield await in_thread(pool, partial(_change, frame, before, encode))
        before = frame.pixels


def _change(frame: UpscaledFrame, before: Pixels | None, encode: Callable[[Pixels], bytes]) -> EncodedFrame:
    rows, columns = _changed(frame.pixels, before)
    part = numpy.ascontiguousarray(frame.pixels[rows, columns])
    return EncodedFrame(
        left=columns.start,
        top=rows.start,
        width=part.shape[1],
        height=part.shape[0],
        duration_ms=frame.duration_ms,
        data=encode(part),
    )


def _changed(pixels: Pixels, before: Pixels | None) -> tuple[slice, slice]:
    """Return the rows and columns around all differences, which begin at even px; a single px where there are none."""
    if before is None:
        return slice(0, pixels.shape[0]), slice(0, pixels.shape[1])
    differs = (pixels != before).any(axis=-1)
    return _span(differs.any(axis=1)), _span(differs.any(axis=0))


def _span(differs: NDArray[numpy.bool_]) -> slice:
    places = numpy.flatnonzero(differs)
    return slice(int(places[0]) // 2 * 2, int(places[-1]) + 1) if len(places) else slice(0, 1)
