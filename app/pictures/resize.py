"""Resizes a picture row by row: Pillow's antialiased Lanczos filter on rows as they arrive."""

import math

import numpy
from numpy.typing import NDArray
from PIL import Image

from app.pictures.picture import Pixels, most

FILTER = Image.Resampling.LANCZOS
"""Resampling filter; Pillow widens its support for reductions, so nothing aliases."""

LOBES = 3
"""Support of the filter on either side, in px of whichever picture is smaller."""

Planes = NDArray[numpy.uint8 | numpy.float32]


class RowResizer:
    """Resizes planes (N, H, W, 3) of 8 or 16 bits. Rows go in and come out in order.

    Each row is filtered when it arrives. The columns follow for some rows of the result at a time, once all rows below
    that their filter reaches have arrived. So it holds as many rows as the filter spans, of the result's width. The
    result is that of Pillow on the whole picture, to one level. Pictures of over twice their width in height may differ
    more next to black or white: Pillow filters their columns first, and clips between both steps.

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

    def rows(self, planes: Pixels) -> Pixels:
        """Return the next rows of the result (N, some or none, W, 3), from the next rows of the planes."""
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
        return made if made.dtype == planes.dtype else made.round().clip(0, most(planes)).astype(planes.dtype)


def _resized(planes: Planes, height: int, width: int, rows: tuple[float, float]) -> Planes:
    """Resize a range of rows of planes (N, H, W, 3); the filter sees the rows around it."""
    if planes.shape[1:3] == (height, width) and rows == (0, height):
        return planes
    result = numpy.empty((len(planes), height, width, 3), planes.dtype)
    if height == 0 or planes.shape[1] == 0:
        return result
    box = (0, rows[0], planes.shape[2], rows[1])
    for plane, target in zip(planes, result, strict=True):
        if planes.dtype == numpy.uint8:
            target[:] = numpy.asarray(Image.fromarray(plane).resize((width, height), FILTER, box))
            continue
        for channel in range(3):
            target[..., channel] = Image.fromarray(plane[..., channel]).resize((width, height), FILTER, box)
    return result
