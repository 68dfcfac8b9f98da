"""Resizes a picture row by row: Pillow's antialiased Lanczos filter on rows as they arrive."""

import math
from typing import Any

import numpy
from numpy.typing import NDArray
from PIL import Image

from app.pictures.picture import max_level

FILTER = Image.Resampling.LANCZOS
"""Resampling filter; Pillow widens its support for reductions, so nothing aliases."""

LOBES = 3
"""Support of the filter on either side, in px of whichever picture is smaller."""

Planes = NDArray[Any]
"""Levels of 8 bits, or float32."""


class RowResizer:
    """Resizes planes (N, H, W, C) of 8 bits (C = 3), 16 bits or float32. Rows go in and come out in order.

    Each row is filtered when it arrives. Columns are filtered for a few rows of the result at a time, once all rows
    that the filter reaches have arrived. So it holds as many rows as the filter spans, at the width of the result. The
    result is that of Pillow on the rows of the whole picture and then on its columns, to one level. In one call, Pillow
    filters the columns of some tall pictures first; as it clips in between, these differ next to black or white.

    Args:
        source: height and width of the planes.
        target: of the result.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        self._source, self._target = source, target
        self._ratio = source[0] / target[0]
        self._reach = LOBES * max(1.0, self._ratio) + 1  # a row more, since Pillow's coordinates have 32 bits
        self._held: Planes | None = None
        self._first = 0  # row of the source that is held first
        self._made = 0

    def rows(self, planes: Planes) -> Planes:
        """Return the next rows of the result (N, some or none, W, C), from the next rows of the planes."""
        height, width = self._target
        levels: Planes = planes if planes.dtype == numpy.uint8 else planes.astype(numpy.float32)
        wide = _resized(levels, levels.shape[1], width, (0, levels.shape[1]))
        held = wide if self._held is None else numpy.concatenate((self._held, wide), axis=1)
        arrived = self._first + held.shape[1]
        ready = math.floor((arrived - self._reach) / self._ratio + 0.5)
        end = height if arrived == self._source[0] else min(max(ready, self._made), height)
        top, bottom = (row * self._ratio - self._first for row in (self._made, end))
        made = _resized(held, end - self._made, width, (max(0.0, top), min(bottom, held.shape[1])))
        self._made = end
        first = max(self._first, math.floor((end + 0.5) * self._ratio - self._reach))
        self._held, self._first = held[:, first - self._first :].copy(), first
        return _levels(made, planes)


class WrappedResizer:
    """Resizes planes (N, H, W, C) whose opposite edges meet. The whole result is returned with the last rows.

    Args:
        source, target: see `RowResizer`.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        self._source, self._target = source, target
        self._held: list[Planes] = []
        self._arrived = 0

    def rows(self, planes: Planes) -> Planes:
        """Return no rows, or with the last rows of the planes the result."""
        self._held.append(planes)
        self._arrived += planes.shape[1]
        if self._arrived < self._source[0]:
            return numpy.empty((len(planes), 0, self._target[1], planes.shape[3]), planes.dtype)
        whole = numpy.concatenate(self._held, axis=1)
        self._held = []
        ratios = [side / wanted for side, wanted in zip(self._source, self._target, strict=True)]
        rows, columns = (math.ceil(LOBES * max(1.0, ratio)) + 1 for ratio in ratios)
        padded = numpy.pad(whole, ((0, 0), (rows, rows), (columns, columns), (0, 0)), mode="wrap")
        (height, width), target = self._source, self._target
        box = (columns, rows, columns + width, rows + height)
        levels: Planes = padded if planes.dtype == numpy.uint8 else padded.astype(numpy.float32)
        made = numpy.stack([_filtered(plane, (target[1], target[0]), box) for plane in levels])
        return _levels(made, planes)


def _levels(made: Planes, planes: Planes) -> Planes:
    """Convert to the depth of some planes."""
    return made if made.dtype == planes.dtype else made.round().clip(0, max_level(planes)).astype(planes.dtype)


def _resized(planes: Planes, height: int, width: int, rows: tuple[float, float]) -> Planes:
    """Resize a range of rows of planes (N, H, W, C); the filter sees the rows around it."""
    if height == 0 or planes.shape[1] == 0:
        return numpy.empty((len(planes), height, width, planes.shape[3]), planes.dtype)
    if planes.shape[1:3] == (height, width) and rows[0] == 0 and rows[1] == height:
        return planes
    box = (0, rows[0], planes.shape[2], rows[1])
    return numpy.stack([_filtered(plane, (width, height), box) for plane in planes])


def _filtered(plane: Planes, size: tuple[int, int], box: tuple[float, float, float, float]) -> Planes:
    if plane.dtype == numpy.uint8:
        return numpy.asarray(Image.fromarray(plane).resize(size, FILTER, box))
    channels = [Image.fromarray(plane[..., channel]).resize(size, FILTER, box) for channel in range(plane.shape[-1])]
    return numpy.stack([numpy.asarray(channel) for channel in channels], axis=-1)
