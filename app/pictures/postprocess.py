"""Turns upscaled planes into rows of the answer, as they arrive."""

from collections.abc import Callable

import numpy
from numpy.typing import NDArray

from app.pictures.colour_lock import ColourLock
from app.pictures.encode import Layout
from app.pictures.picture import Picture, Pixels, most
from app.pictures.resize import RowResizer, WrappedResizer

SLICE_ROWS = 64
"""Rows processed at a time, which keeps temporary arrays small."""

LUMA = numpy.array((0.299, 0.587, 0.114), numpy.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


class Postprocessor:
    """Turns the network's planes into the pixels of an answer. Rows go in and come out in order.

    Alpha is clipped to the range of the low-res pixels around it, so clear areas stay clear and solid ones solid. Where
    the answer's size is not the network's, or colours are locked, rows come out some rows after those that went in.

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
        self._scale = scale
        self._layout = layout
        self._limits = _alpha_limits(picture.planes[1, :, :, 0], wraps=wraps) if picture.transparent else None
        self._stages: list[Callable[[Pixels], Pixels]] = []
        if colour_lock:
            self._stages.append(ColourLock(picture.planes[0], scale).rows)
        made, wanted = (scale * picture.height, scale * picture.width), (layout.height, layout.width)
        if made != wanted:
            resizer = WrappedResizer(made, wanted) if wraps else RowResizer(made, wanted)
            self._stages.append(resizer.rows)
        self._done = 0

    def rows(self, upscaled: Pixels) -> Pixels:
        """Return the next rows of the answer (some or none, W, C), from the next rows of its planes (N, some, W, 3).

        The last rows of the planes give all that remain.
        """
        slices = range(0, upscaled.shape[1], SLICE_ROWS)
        made = [self._slice(upscaled[:, top : top + SLICE_ROWS]) for top in slices]
        return made[0] if len(made) == 1 else numpy.concatenate([self._layout.empty(rows=0), *made])

    def _slice(self, planes: Pixels) -> Pixels:
        bounded = self._bounded(planes)
        self._done += planes.shape[1]
        for stage in self._stages:
            bounded = stage(bounded)
        return self._pixels(bounded)

    def _bounded(self, upscaled: Pixels) -> Pixels:
        if self._limits is None:
            return upscaled
        below = numpy.arange(self._done, self._done + upscaled.shape[1]) // self._scale
        least, largest = (limit[below].repeat(self._scale, axis=1) for limit in self._limits)
        alpha = upscaled[1].mean(axis=-1, dtype=numpy.float32).round().astype(upscaled.dtype).clip(least, largest)
        return numpy.stack((upscaled[0], numpy.broadcast_to(alpha[..., None], upscaled[0].shape)))

    def _pixels(self, planes: Pixels) -> Pixels:
        colour, layout = planes[0], self._layout
        if self._picture.grey:
            colour = (colour @ LUMA)[..., None].round().astype(planes.dtype)
        if len(planes) == 2:
            alpha = planes[1, :, :, :1]
            if layout.transparent:
                colour = numpy.concatenate((numpy.where(alpha > 0, colour, 0).astype(planes.dtype), alpha), axis=-1)
            else:
                colour = _on_white(colour, alpha)
        return _of_depth(colour, layout.bits)


def _alpha_limits(alpha: Pixels, *, wraps: bool) -> tuple[Pixels, Pixels]:
    """Return the minimum and the maximum alpha (H, W) of each pixel and its eight neighbours."""
    padded = numpy.pad(alpha, 1, mode="wrap" if wraps else "edge")
    return _of_neighbours(padded, numpy.minimum), _of_neighbours(padded, numpy.maximum)


def _of_neighbours(padded: Pixels, choose: numpy.ufunc) -> Pixels:
    of_columns = choose(choose(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    chosen: Pixels = choose(choose(of_columns[:-2], of_columns[1:-1]), of_columns[2:])
    return chosen


def _on_white(colour: Pixels, alpha: Pixels) -> Pixels:
    white = most(colour)
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
