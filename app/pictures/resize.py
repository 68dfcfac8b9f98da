"""The network's own size -> the size that a caller asked for."""

import numpy
from PIL import Image

from app.pictures.picture import Pixels, most

FILTER = Image.Resampling.LANCZOS
"""With a support that grows with the reduction, so nothing aliases."""


def resized(planes: Pixels, height: int, width: int) -> Pixels:
    """Planes (N, H, W, 3) in another size, on the levels that they have; unchanged if it is theirs already."""
    if planes.shape[1:3] == (height, width):
        return planes
    result = numpy.empty((len(planes), height, width, 3), planes.dtype)
    for plane, target in zip(planes, result, strict=True):
        if planes.dtype == numpy.uint8:
            target[:] = numpy.asarray(Image.fromarray(plane).resize((width, height), FILTER))
            continue
        for channel in range(3):
            levels = Image.fromarray(plane[..., channel].astype(numpy.float32)).resize((width, height), FILTER)
            target[..., channel] = numpy.asarray(levels).round().clip(0, most(planes))
    return result
