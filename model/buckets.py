"""Batches of small pictures: one array for all, in the shapes of the few batches that are captured."""

from collections.abc import Sequence

import numpy

from model.transfer import Pixels

FINE_PX, COARSE_PX, COARSE_FROM_PX = 32, 64, 256
"""Sides of a captured batch are multiples of the first, from the third on of the second: few graphs serve all sizes."""


def bucket_shape(planes: int, height: int, width: int) -> tuple[int, int, int]:
    """Round planes and sides up to those of the few batches that are captured."""
    steps = (FINE_PX if side < COARSE_FROM_PX else COARSE_PX for side in (height, width))
    height, width = (-(-side // step) * step for side, step in zip((height, width), steps, strict=True))
    return 1 << (planes - 1).bit_length(), height, width


def padded(pictures: Sequence[Pixels], sizes: Sequence[tuple[int, ...]], *, buckets: bool) -> Pixels:
    """All planes of some pictures of one depth in one array, each in the upper left of its place.

    Args:
        buckets: round the sides and the number of planes up, so that batches of like sizes share a graph.
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
