"""Turns upscaled planes into rows of the answer, as they arrive."""

import numpy
from numpy.typing import NDArray
from PIL import Image

from app.pictures.colour_lock import colour_correction
from app.pictures.encode import Layout
from app.pictures.picture import Picture, Pixels, most

SLICE_ROWS = 64
"""Rows processed at a time once all rows are there, which keeps temporary arrays small."""

LUMA = numpy.array((0.299, 0.587, 0.114), numpy.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


FILTER = Image.Resampling.LANCZOS
"""Resampling filter; Pillow widens its support for reductions, so nothing aliases."""


class Postprocessor:
    """Turns the network's planes into the pixels of an answer. Rows go in and come out in order.

    Alpha is clipped to the range of the low-res pixels around it, so clear areas stay clear and solid ones solid. Where
    the answer's size is not the network's, or colours are locked, all rows come out at the end.

    Args:
        scale: of the network.
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
        self._colour_lock = colour_lock
        self._limits = _alpha_limits(picture.planes[1, :, :, 0], wraps=wraps) if picture.transparent else None
        height, width = scale * picture.height, scale * picture.width
        at_once = colour_lock or (layout.height, layout.width) != (height, width)
        shape = (len(picture.planes), height, width, 3)
        self._held: Pixels | None = numpy.empty(shape, picture.planes.dtype) if at_once else None
        self._done = 0

    def rows(self, upscaled: Pixels) -> Pixels:
        """Return the next rows of the answer (some or none, W, C), from the next rows of its planes (N, some, W, 3)."""
        bounded = self._bounded(upscaled)
        top, self._done = self._done, self._done + upscaled.shape[1]
        if self._held is None:
            return self._pixels(bounded)
        self._held[:, top : self._done] = bounded
        return self._nothing()

    def rest(self) -> Pixels:
        """Return the rows that could not be returned before the last one arrived."""
        if self._held is None:
            return self._nothing()
        planes, self._held = self._held, None
        if self._colour_lock:
            for rows, correction in colour_correction(planes[0], self._picture.planes[0], SLICE_ROWS):
                planes[0, rows] = (planes[0, rows] + correction).round().clip(0, most(planes))
        planes = _resized(planes, self._layout.height, self._layout.width)
        slices = range(0, planes.shape[1], SLICE_ROWS)
        return numpy.concatenate([self._pixels(planes[:, top : top + SLICE_ROWS]) for top in slices])

    def _nothing(self) -> Pixels:
        return self._layout.empty(rows=0)

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
    around = numpy.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return around.min(axis=(2, 3)), around.max(axis=(2, 3))


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


def _resized(planes: Pixels, height: int, width: int) -> Pixels:
    """Resize planes (N, H, W, 3), keeping their depth; unchanged if they already have the size."""
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
