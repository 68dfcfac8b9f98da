"""Self-ensemble: upscale a picture in eight orientations, and return the mean of the results.

Timofte et al. 2016, "Seven ways to improve example-based single image super resolution"; the ESRGAN paper calls it x8.
Results have 16 bits, so only the mean is rounded to the depth of the picture.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple, Protocol

import numpy
from numpy.typing import NDArray

from model.device import memory_errors
from model.edges import Edges
from model.transfer import Pixels

Totals = NDArray[numpy.uint32]
"""Sums of 16-bit levels."""

DEEPER = 257
"""65535 / 255: the factor from 8-bit to 16-bit levels."""


class Orientation(NamedTuple):
    """One of the eight orientations of a picture."""

    transposed: bool
    upside_down: bool
    mirrored: bool

    def of(self, picture: NDArray[Any]) -> NDArray[Any]:
        """Return a turned view of a picture (N, H, W, C); writing to it changes the picture."""
        turned = picture.swapaxes(1, 2) if self.transposed else picture
        return turned[:, :: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]


ORIENTATIONS = tuple(Orientation(*which) for which in product((False, True), repeat=3))
"""All orientations: the first changes nothing, the first four keep height and width."""


class StreamUpscaler(Protocol):
    """Upscales the orientations in bands; see `model.reliable.ReliableUpscaler` and `model.rows.Passes`."""

    def stream(self, picture: Pixels, band_rows: int, *, edges: Edges) -> Iterator[Pixels]:
        """Upscale one picture in bands of rows."""


class BatchUpscaler(Protocol):
    """Upscales the orientations together; see `model.reliable.ReliableUpscaler`."""

    def batch(self, pictures: Sequence[Pixels], edges: Edges) -> Sequence[Pixels]:
        """Upscale pictures (N, H, W, 3) together, whole."""


def ensemble_batch(upscaler: BatchUpscaler, pictures: Sequence[Pixels], edges: Edges = "auto") -> list[Pixels]:
    """Upscale small pictures together, each in all orientations; each as if it were alone, and in its own depth.

    Args:
        edges: see `model.edges.Edges`.
    """
    deep = [_deep(picture) for picture in pictures]
    totals: dict[int, Totals] = {}
    for orientations in (ORIENTATIONS[:4], ORIENTATIONS[4:]):  # separately, so that different sizes need no padding
        which = list(product(range(len(deep)), orientations))
        upscaled = upscaler.batch(
            [numpy.ascontiguousarray(orientation.of(deep[number])) for number, orientation in which], edges
        )
        for (number, orientation), made in zip(which, upscaled, strict=True):
            total = orientation.of(totals.setdefault(number, numpy.zeros(made.shape, numpy.uint32)))
            total += made
    return [_mean(totals[number], picture.dtype) for number, picture in enumerate(pictures)]


def ensemble_stream(
    upscaler: StreamUpscaler, picture: Pixels, *, scale: int, band_px: int, edges: Edges = "auto"
) -> Iterator[Pixels]:
    """Upscale one picture of any size, one orientation after the other, in bands of at most `band_px` LR px or one row.

    Keeps the sum of the orientations in memory: 4 bytes for each sample of the answer.

    Args:
        scale: the upscaler's.
        edges: see `model.edges.Edges`.

    Yields:
        The next rows of the result, (N, some rows or none, scale * W, 3): none until the last orientation, the upright.
    """
    deep = _deep(picture)
    planes, height, width, _ = picture.shape
    with memory_errors():
        total: Totals = numpy.zeros((planes, scale * height, scale * width, 3), numpy.uint32)
    for orientation in reversed(ORIENTATIONS):
        low_res, target, done = numpy.ascontiguousarray(orientation.of(deep)), orientation.of(total), 0
        for rows in upscaler.stream(low_res, max(1, band_px // (planes * low_res.shape[2])), edges=edges):
            band = target[:, done : done + rows.shape[1]]
            band += rows
            done += rows.shape[1]
            yield _mean(band if orientation is ORIENTATIONS[0] else total[:, :0], picture.dtype)


def _deep(picture: Pixels) -> Pixels:
    """Convert a picture to 16 bits."""
    return picture * numpy.uint16(DEEPER) if picture.dtype == numpy.uint8 else picture


def _mean(total: Totals, depth: "numpy.dtype[numpy.uint8 | numpy.uint16]") -> Pixels:
    """Return the mean of all orientations, rounded to the levels of a depth."""
    divisor = numpy.uint32(len(ORIENTATIONS) * (DEEPER if depth == numpy.uint8 else 1))
    mean: Pixels = ((total + divisor // 2) // divisor).astype(depth)
    return mean
