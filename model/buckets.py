"""Batches of small pictures: one array for all of them, in few different shapes, each captured once."""

from collections.abc import Sequence

import numpy

from model.transfer import Pixels

FINE_PX, COARSE_PX, COARSE_FROM_PX = 32, 64, 256
"""Sides of a captured batch are multiples of `FINE_PX`; from `COARSE_FROM_PX` on, of `COARSE_PX`."""


def bucket_shape(planes: int, height: int, width: int) -> tuple[int, int, int]:
    """Round the number of planes and the sides up to those of a captured batch."""
    steps = (FINE_PX if side < COARSE_FROM_PX else COARSE_PX for side in (height, width))
    height, width = (-(-side // step) * step for side, step in zip((height, width), steps, strict=True))
    return 1 << (planes - 1).bit_length(), height, width


def padded(pictures: Sequence[Pixels], sizes: Sequence[tuple[int, ...]], *, buckets: bool) -> Pixels:
    """Copy the planes of pictures of one depth into one array, each to the upper left.

    Args:
        buckets: round the sides and the number of planes up, so that batches of similar sizes share a graph.
    """
    planes, height, width = len(sizes), max(height for height, _ in sizes), max(width for _, width in sizes)
    if buckets:
        planes, height, width = bucket_shape(planes, height, width)
    together = numpy.zeros((planes, height, width, 3), pictures[0].dtype)
    filled = 0
    for picture in pictures:
        together[filled : filled + len(picture), : picture.shape[1], : picture.shape[2]] = picture
        filled += len(picture)
    return together
