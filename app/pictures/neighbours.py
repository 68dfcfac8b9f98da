"""Filters over the pixels around each pixel."""

from typing import Any

import numpy
from numpy.typing import NDArray

Levels = NDArray[numpy.float32]

BLUR_PX = 3
"""Pixels that `blurred` takes off each side."""

GAUSSIAN: Levels = numpy.exp(-(numpy.arange(-BLUR_PX, BLUR_PX + 1) ** 2) / 2).astype(numpy.float32)
"""Weights of a Gaussian with a sigma of 1 px."""
GAUSSIAN /= GAUSSIAN.sum()


def with_margin(pixels: NDArray[Any], rows: slice, margin_px: int, *, wraps: bool = False) -> NDArray[Any]:
    """Return some rows of pixels (H, W, ...) with a margin on all sides.

    Args:
        wraps: the margin continues at the opposite edge; otherwise it repeats the pixels of the edge.
    """
    places = numpy.arange(rows.start - margin_px, rows.stop + margin_px)
    sides = [(0, 0), (margin_px, margin_px), *[(0, 0)] * (pixels.ndim - 2)]
    around = pixels.take(places, axis=0, mode="wrap" if wraps else "clip")
    return numpy.pad(around, sides, mode="wrap" if wraps else "edge")


def blurred(pixels: Levels) -> Levels:
    """Blur pixels (H, W, ...) by a Gaussian with a sigma of 1 px."""
    height, width = pixels.shape[0] - 2 * BLUR_PX, pixels.shape[1] - 2 * BLUR_PX
    down = numpy.zeros((height, *pixels.shape[1:]), numpy.float32)
    for row, weight in enumerate(GAUSSIAN):
        down += weight * pixels[row : row + height]
    across = numpy.zeros((height, width, *pixels.shape[2:]), numpy.float32)
    for column, weight in enumerate(GAUSSIAN):
        across += weight * down[:, column : column + width]
    return across


def extreme(pixels: NDArray[Any], choose: numpy.ufunc, *, step: int = 1) -> NDArray[Any]:
    """Return the minimum or the maximum of each pixel (H, W) and eight around it; takes `step` px off each side.

    Args:
        choose: `numpy.minimum` or `numpy.maximum`.
        step: distance of the others in px.
    """
    first, middle, last = slice(None, -2 * step), slice(step, -step), slice(2 * step, None)
    down = choose(choose(pixels[first], pixels[middle]), pixels[last])
    across: NDArray[Any] = choose(choose(down[:, first], down[:, middle]), down[:, last])
    return across
