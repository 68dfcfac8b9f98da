"""Transparent pictures as the network sees them: faint colours corrected, alpha relative to what is around; and back.

A network hollows strokes that are neither clear nor solid. In the range of alpha around them they are solid.
"""

import itertools
from typing import Literal

import numpy
from numpy.typing import NDArray

from app.pictures.neighbours import BLUR_PX, Levels, blurred, extreme, with_margin
from model.pictures.samples import SLICE_ROWS, Pixels, max_level

RANGE_PX = 4
"""Pixels on each side of a pixel that make up its range. With fewer, thin strokes lose their peaks."""

TRUSTED_ALPHA = 0.25
"""Alpha, in shares of the maximum, from which a colour is taken as it is. Below, it has rounding errors."""


def as_seen(planes: Pixels, *, wraps: bool) -> Pixels:
    """Return colour and alpha (2, H, W, 3) as a network sees them.

    Args:
        wraps: opposite edges of the picture meet.
    """
    seen, (colour, alpha) = planes.copy(), (planes[0], planes[1, :, :, 0])
    for top in range(0, len(alpha), SLICE_ROWS):
        rows = slice(top, min(top + SLICE_ROWS, len(alpha)))
        _correct_faint(seen[0, rows], colour, alpha, rows, wraps=wraps)
        least, largest = local_range(alpha, rows, wraps=wraps)
        share = (alpha[rows] - least) / (largest - least)
        seen[1, rows] = (share * max_level(alpha)).round()[..., None]
    return seen


def _correct_faint(corrected: Pixels, colour: Pixels, alpha: Pixels, rows: slice, *, wraps: bool) -> None:
    """Mix the faint colours of some rows, in place, with the mean of those around them, each weighted by its alpha."""
    trusted = TRUSTED_ALPHA * max_level(alpha)
    if int(alpha[rows].min()) >= trusted:
        return
    weights = with_margin(alpha, rows, BLUR_PX, wraps=wraps).astype(numpy.float32)[..., None]
    sums = blurred(with_margin(colour, rows, BLUR_PX, wraps=wraps) * weights)
    weight = blurred(weights)[..., 0]
    faint = (alpha[rows] < trusted) & (weight > 0)
    own = corrected[faint].astype(numpy.float32)
    share = (alpha[rows][faint] / numpy.float32(trusted))[:, None]
    around = sums[faint] / weight[faint][:, None]
    corrected[faint] = (own + (1 - share) * (around - own)).round().clip(0, max_level(colour))


def local_range(alpha: Pixels, rows: slice, *, wraps: bool) -> tuple[Levels, Levels]:
    """Return the least and the largest alpha around each pixel of some rows: smooth, whole levels, at least one apart.

    They include the pixel's own alpha. Where all is the same, it is the largest, so solid, unless it is clear.
    """
    margin_px = RANGE_PX + BLUR_PX
    around = with_margin(alpha, rows, margin_px, wraps=wraps)
    own = around[margin_px:-margin_px, margin_px:-margin_px].astype(numpy.float32)
    least, largest = (
        blurred(extreme(extreme(around, choose), choose, step=RANGE_PX - 1).astype(numpy.float32)).round()
        for choose in (numpy.minimum, numpy.maximum)
    )
    largest = numpy.maximum(largest, numpy.maximum(own, 1))
    return numpy.minimum(least, numpy.minimum(own, largest - 1)), largest


class AlphaRows:
    """Brings enlarged or resized alpha back to its levels. Rows go in and come out in order.

    Flat areas, which are squares of four or more equal pixels, stay in the range of the pixels around them, so clear
    ones stay clear, and solid ones solid. In relative alpha, those in between keep theirs, or come near to a neighbour
    by linear interpolation: in the middle of them the range turns over, and the network draws lines there.

    Args:
        alpha: of the upload, (H, W).
        size: height and width of the planes that go in.
        wraps: opposite edges of the picture meet.
        is_relative: what goes in is relative alpha, enlarged.
    """

    def __init__(self, alpha: Pixels, size: tuple[int, int], *, wraps: bool, is_relative: bool = False) -> None:
        self._alpha = alpha
        self._size = size
        self._wraps = wraps
        self._is_relative = is_relative
        self._done = 0

    def rows(self, planes: Pixels) -> Pixels:
        """Return the next planes (2, some, W, 3); their alpha is that of the mean channel."""
        if not planes.shape[1]:
            return planes
        rows = slice(self._done, self._done + planes.shape[1])
        self._done = rows.stop
        red, green, blue = (planes[1, :, :, channel].astype(numpy.float32) for channel in range(3))
        alpha: Levels = (red + green + blue) / numpy.float32(3)
        lowest, highest = self._limits(rows)
        if self._is_relative:
            least, largest, smooth = self._enlarged(rows)
            alpha = least + alpha / max_level(planes) * (largest - least)
            lowest, highest = numpy.minimum(lowest, smooth), numpy.maximum(highest, smooth)
        alpha = alpha.clip(lowest, highest).round().astype(planes.dtype)
        return numpy.stack((planes[0], numpy.broadcast_to(alpha[..., None], planes[0].shape)))

    def _enlarged(self, rows: slice) -> tuple[Levels, Levels, Levels]:
        """Return the local range and alpha itself for some rows of the planes, enlarged by linear interpolation."""
        height, width = self._alpha.shape
        mode: Literal["wrap", "clip"] = "wrap" if self._wraps else "clip"
        above, below_share = _between(rows, self._size[0] // height)
        left, right_share = _between(slice(self._size[1]), self._size[1] // width)
        first, last = int(above[0]), int(above[-1]) + 1
        if not self._wraps:
            first, last = max(first, 0), min(last, height - 1)

        def enlarged(limit: Levels) -> Levels:
            start, end = (limit.take(left + place, axis=1, mode=mode) for place in (0, 1))
            wide = start + right_share * (end - start)
            start, end = (wide.take(above - first + place, axis=0, mode="clip") for place in (0, 1))
            return start + below_share[:, None] * (end - start)

        own = slice(first, last + 1)
        least, largest = local_range(self._alpha, own, wraps=self._wraps)
        alpha = with_margin(self._alpha, own, 0, wraps=self._wraps).astype(numpy.float32)
        return enlarged(least), enlarged(largest), enlarged(alpha)

    def _limits(self, rows: slice) -> tuple[Pixels, Pixels]:
        """Return the least and the largest alpha that some rows may have."""
        (height, width), (made_height, made_width) = self._alpha.shape, self._size
        tops = numpy.arange(rows.start, rows.stop + 1) * height // made_height
        lefts = numpy.arange(made_width) * width // made_width
        own = slice(int(tops[0]), max(int(tops[-1]), int(tops[-2]) + 1))
        side = int(not self._wraps)
        above, below = side * (own.start == 0), side * (own.stop == height)
        inside = slice(above, own.stop - own.start + 2 - below), slice(side, width + 2 - side)
        around = with_margin(self._alpha, own, 1, wraps=self._wraps)
        least, largest = flat_limits(around, inside, keeps=self._is_relative)

        def sampled(limit: Pixels, choose: numpy.ufunc) -> Pixels:
            return _sampled(_sampled(limit, lefts, 1, choose), tops[:-1] - tops[0], 0, choose)

        return sampled(least, numpy.minimum), sampled(largest, numpy.maximum)


def flat_limits(around: Pixels, inside: tuple[slice, slice], *, keeps: bool) -> tuple[Pixels, Pixels]:
    """Return the least and the largest alpha (H, W) around each pixel of flat areas; for others, all levels.

    Args:
        around: alpha with a margin of 1 px.
        inside: rows and columns of it whose pixels are not repeated.
        keeps: flat areas that are neither clear nor solid keep their alpha.
    """
    least, largest = extreme(around, numpy.minimum), extreme(around, numpy.maximum)
    part, flat = around[inside], numpy.zeros(around.shape, bool)
    first = part[:-1, :-1]
    square = (first == part[:-1, 1:]) & (first == part[1:, :-1]) & (first == part[1:, 1:])
    for row, column in itertools.product((0, 1), (0, 1)):
        flat[inside][row : row + square.shape[0], column : column + square.shape[1]] |= square
    own, flat = around[1:-1, 1:-1], flat[1:-1, 1:-1]
    free = ~flat & (least < largest)
    least[free], largest[free] = 0, max_level(around)
    if keeps:
        kept = flat & (own > 0) & (own < max_level(around))
        least[kept] = largest[kept] = own[kept]
    return least, largest


def _between(places: slice, scale: int) -> tuple[NDArray[numpy.intp], Levels]:
    """Return the pixel of the upload before each place of an enlarged side, and the share of the next one."""
    position = (numpy.arange(places.start or 0, places.stop) + 0.5) / scale - 0.5
    before = numpy.floor(position).astype(numpy.intp)
    return before, (position - before).astype(numpy.float32)


def _sampled(limit: Pixels, starts: NDArray[numpy.intp], axis: int, choose: numpy.ufunc) -> Pixels:
    """Return the limit from each place to the next one; a side that is enlarged repeats them."""
    if len(starts) >= limit.shape[axis]:
        return limit.take(starts, axis=axis)
    reduced: Pixels = choose.reduceat(limit, starts, axis=axis)
    return reduced
