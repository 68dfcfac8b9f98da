"""Interpolate the subsampled chroma of HEIC and AVIF, which libheif enlarges by repetition.

Most photographs in these formats have chroma of half the size. The network would sharpen the stairs of repeated
samples. Here each sample is placed in the middle of its pixels, and the pixels between are interpolated linearly, as
JPEG decoders do.
"""

import numpy
import pyvips

from model.pictures.boxes import Item, Items
from model.pictures.samples import Pixels, max_level

CHROMA = [[1, -1, 0], [0, -1, 1]]
"""Red minus green and blue minus green: whatever the file's matrix, they depend on the chroma samples only."""

LUMA = {1: (0.2126, 0.0722), 7: (0.212, 0.087), 8: (0.25, 0.25), 9: (0.2627, 0.0593)}
"""Shares of red and blue in luma, by the matrix coefficients of ITU-T H.273 (BT.709, SMPTE 240, YCgCo, BT.2020)."""
BT601 = (0.299, 0.114)

DERIVED = 12
LUMA_OF_PRIMARIES = {
    1: (0.2126, 0.0722),
    5: (0.222, 0.0713),
    6: (0.2124, 0.0866),
    7: (0.2124, 0.0866),
    9: (0.2627, 0.0593),
    11: (0.2095, 0.0689),
    12: (0.229, 0.0793),
}
"""The same for matrices derived from the colour primaries, by the number of the primaries."""

TOLERANCE = 1 / 255
"""Maximum mean difference of repeated samples from their mean, caused by rounding and clipping; 1 is white."""


def subsampling(items: Items) -> tuple[int, int]:
    """Return how many rows and columns share a chroma sample in an AVIF or HEIC: 1 or 2 each."""
    for item in (items.primary, *items.others.values()):  # a picture of tiles has no codec of its own
        if not item.property(b"auxC") and (found := _of_codec(item)):
            return found
    return 1, 1


def is_grey(items: Items) -> bool:
    """Return True for an AVIF without colour, which decoders return as RGB."""
    av1 = items.primary.property(b"av1C") or b""
    return len(av1) > 2 and av1[2] & 0x10 > 0


def _of_codec(item: Item) -> tuple[int, int] | None:
    if (av1 := item.property(b"av1C")) and len(av1) > 2:
        return 1 + (av1[2] >> 2 & 1), 1 + (av1[2] >> 3 & 1)
    if (hevc := item.property(b"hvcC")) and len(hevc) > 16:
        return {1: (2, 2), 2: (1, 2)}.get(hevc[16] & 3, (1, 1))
    return None


def luma_of(items: Items) -> tuple[float, float]:
    """Return the shares of red and blue in the luma of an AVIF or HEIC; BT.601's unless it names others."""
    if items.nclx is None:
        return BT601
    primaries, _, matrix = items.nclx
    return LUMA_OF_PRIMARIES.get(primaries, BT601) if matrix == DERIVED else LUMA.get(matrix, BT601)


def smooth(colour: Pixels, shared: tuple[int, int], luma: tuple[float, float]) -> Pixels:
    """Interpolate the chroma of RGB (H, W, 3) between its stored samples; luma stays the same.

    Returns the picture unchanged if its samples are not repeated: libheif itself interpolates pictures that are turned,
    or cropped at odd positions.

    Args:
        shared: rows and columns that share a chroma sample, see `subsampling`.
        luma: see `luma_of`.
    """
    down, across = shared
    height, width = colour.shape[:2]
    image = pyvips.Image.new_from_array(numpy.ascontiguousarray(colour))
    chroma = image.recomb(CHROMA)
    stored = chroma.shrink(across, down, ceil=True).copy_memory()
    repeated = stored.zoom(across, down).crop(0, 0, width, height)
    if (repeated - chroma).abs().avg() > TOLERANCE * max_level(colour):
        return colour
    enlarged = stored.affine(
        (across, 0, 0, down),
        interpolate=pyvips.Interpolate.new("bilinear"),
        oarea=(0, 0, width, height),
        odx=(across - 1) / 2,
        ody=(down - 1) / 2,
        extend="copy",
    )
    red, blue = luma
    change = (enlarged - chroma).recomb([[1 - red, -blue], [-red, -blue], [-red, 1 - blue]])
    smoothed: Pixels = (image + change).rint().cast(image.format).numpy()
    return smoothed
