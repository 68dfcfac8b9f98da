"""Turns upscaled planes into rows of the answer, as they arrive."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Executor
from functools import partial

import numpy
from numpy.typing import NDArray

from app.pictures.alpha import AlphaRows
from app.pictures.colour_lock import ColourLock
from app.pictures.layout import Layout
from app.pictures.picture import SLICE_ROWS, Picture, Pixels, max_level
from app.pictures.resize import Planes, RowResizer, WrappedResizer
from app.threads import in_thread

LUMA = numpy.array((0.299, 0.587, 0.114), numpy.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


class Postprocessor:
    """Turns the network's planes into the pixels of an answer. Rows go in and come out in order.

    Alpha is brought back to its levels; see `app.pictures.alpha`. Where the answer's size is not the network's, or
    colours are locked, rows come out some rows after those that went in.

    Args:
        scale: of the planes, relative to the picture.
        layout: of the answer.
        colour_lock: keep the low frequencies of the upload.
        wraps: opposite edges of the picture meet.
    """

    def __init__(
        self, picture: Picture, scale: int, layout: Layout, *, colour_lock: bool = False, wraps: bool = False
    ) -> None:
        self._picture = picture
        self._layout = layout
        self._stages: list[Callable[[Planes], Planes]] = []
        alpha = picture.alpha
        made, wanted = (scale * picture.height, scale * picture.width), (layout.height, layout.width)
        if alpha is not None:
            is_relative = picture.own_alpha is not None
            self._stages.append(AlphaRows(alpha, made, wraps=wraps, is_relative=is_relative).rows)
        if colour_lock:
            self._stages.append(ColourLock(picture.planes[0], scale).rows)
        if made != wanted:
            resize = (WrappedResizer(made, wanted) if wraps else RowResizer(made, wanted)).rows
            if alpha is None:
                self._stages.append(resize)
            else:
                weighted, straight = partial(_weighted, fills=layout.fills_clear), partial(_straight, like=alpha)
                self._stages += [weighted, resize, straight, AlphaRows(alpha, wanted, wraps=wraps).rows]

    def rows(self, upscaled: Pixels) -> Pixels:
        """Return the next rows of the answer (some or none, W, C), from the next rows of its planes (N, some, W, 3).

        The last rows of the planes give all that remain.
        """
        slices = range(0, upscaled.shape[1], SLICE_ROWS)
        made = [self._slice(upscaled[:, top : top + SLICE_ROWS]) for top in slices]
        return made[0] if len(made) == 1 else numpy.concatenate([self._layout.empty(rows=0), *made])

    def _slice(self, planes: Planes) -> Pixels:
        for stage in self._stages:
            planes = stage(planes)
        return self._pixels(planes)

    def _pixels(self, planes: Pixels) -> Pixels:
        colour, layout = planes[0], self._layout
        if self._picture.grey or self._picture.neutral:
            luma = (colour @ LUMA)[..., None].round().astype(planes.dtype)
            colour = luma.repeat(1 if layout.grey else 3, axis=-1)
        if len(planes) == 2:
            alpha = planes[1, :, :, :1]
            if layout.transparent:
                seen = colour if layout.fills_clear else numpy.where(alpha > 0, colour, 0).astype(planes.dtype)
                colour = numpy.concatenate((seen, alpha), axis=-1)
            else:
                colour = _on_white(colour, alpha)
        return _of_depth(colour, layout.bits)


def _weighted(planes: Pixels, *, fills: bool) -> Planes:
    """Multiply colour by alpha, for a linear filter: (2, H, W, 3) to (1, H, W, 4) with alpha.

    Args:
        fills: append the colour itself, for pixels whose alpha is 0.
    """
    colour, alpha = planes[0].astype(numpy.float32), planes[1, :, :, :1].astype(numpy.float32)
    parts = (colour * (alpha / max_level(planes)), alpha) + ((colour,) if fills else ())
    return numpy.concatenate(parts, axis=-1)[None]


def _straight(weighted: Planes, *, like: Pixels) -> Planes:
    """Undo `_weighted`, in the depth of `like`."""
    whole = max_level(like)
    least = whole / 510  # half a level of 8 bits, below which the quotient is noise
    product, alpha, filled = numpy.split(weighted[0], (3, 4), axis=-1)
    colour = product * (whole / numpy.maximum(alpha, least))
    if filled.shape[-1]:
        colour = numpy.where(alpha < least, filled, colour)
    return numpy.stack((colour, numpy.broadcast_to(alpha, colour.shape))).round().clip(0, whole).astype(like.dtype)


def _on_white(colour: Pixels, alpha: Pixels) -> Pixels:
    white = max_level(colour)
    share: NDArray[numpy.float32] = alpha.astype(numpy.float32) / numpy.float32(white)
    mixed = white - (white - colour.astype(numpy.float32)) * share
    return mixed.round().astype(colour.dtype)


def _of_depth(pixels: Pixels, bits: int) -> Pixels:
    """Convert levels to 8 or 16 bits, rounded."""
    if bits == 8 and pixels.dtype == numpy.uint16:
        return ((pixels.astype(numpy.uint32) + 128) // 257).astype(numpy.uint8)
    if bits == 16 and pixels.dtype == numpy.uint8:
        return pixels.astype(numpy.uint16) * numpy.uint16(257)
    return pixels


async def postprocessed(
    upscaled: AsyncIterator[Pixels], make: Callable[[], Postprocessor], codecs: Executor
) -> AsyncGenerator[Pixels, None]:
    """Turn the rows of upscaled planes into those of an answer, in threads.

    Args:
        make: returns the postprocessor; it reads the whole upload.
    """
    postprocessor = await in_thread(codecs, make)
    async for planes in upscaled:
        if len(rows := await in_thread(codecs, partial(postprocessor.rows, planes))):
            yield rows
