"""Answers in AVIF: libvips encodes the pixels, and `avif_boxes` puts them into a file with the metadata.

Pillow's encoder has 8 bits only. libvips rewrites EXIF and cannot name colours, so only its pixels are used.
"""

from dataclasses import replace

import numpy
import pyvips

from app.pictures.avif_boxes import avif_with
from app.pictures.colours import CICP
from app.pictures.layout import AnswerFormat, Layout
from app.pictures.picture import SLICE_ROWS, Pixels

QUALITY = 90
EFFORT = 0
"""From 0 to 9: at 4, the encoder took twenty times as long for files a fifth smaller."""

AVIF = AnswerFormat(
    name="avif",
    media_type="image/avif",
    max_side_px=32_768,  # readers allow no more
    max_px=2**26,
    depths=(8, 10, 12),
    transparent=True,
    grey=False,
    colours=frozenset({CICP}),
    max_dpi=0,
    lossless_at=frozenset({100}),
    encoder_bytes_per_px=60,  # measured: 32 to 49
)


def avif_file(pixels: Pixels, layout: Layout) -> bytes:
    """Encode an answer (H, W, C), without loss where the quality is 100; the colours are never subsampled.

    Alpha is always lossless, so clear and solid areas stay as they are.
    """
    samples = _samples(pixels, layout)
    alpha = None
    if layout.transparent and not layout.lossless:
        samples, alone = samples[..., :3].copy(), samples.copy()
        alone[..., :3] = 0
        alpha = _encoded(alone, replace(layout, quality=100))
    return avif_with(_encoded(samples, layout), layout.metadata, identity=layout.lossless, alpha=alpha)


def _encoded(samples: Pixels, layout: Layout) -> bytes:
    image = pyvips.Image.new_from_array(samples)
    file: bytes = image.copy(interpretation="srgb" if layout.bits == 8 else "rgb16").heifsave_buffer(
        compression="av1",
        bitdepth=layout.bits,
        Q=layout.quality or QUALITY,
        lossless=layout.lossless,
        effort=EFFORT,
        subsample_mode="off",
        keep="none",
    )
    return file


def _samples(pixels: Pixels, layout: Layout) -> Pixels:
    """Return RGB with or without alpha, rounded to the bits of the file, which are the upper ones of 16."""
    if layout.grey:
        pixels = pixels[..., [0, 0, 0, -1] if layout.transparent else [0, 0, 0]]
    if layout.bits == 8:
        return pixels
    highest, samples = 2**layout.bits - 1, numpy.empty(pixels.shape, numpy.uint16)
    for top in range(0, len(pixels), SLICE_ROWS):
        levels = (pixels[top : top + SLICE_ROWS].astype(numpy.uint32) * highest + 32767) // 65535
        samples[top : top + SLICE_ROWS] = levels << (16 - layout.bits)
    return samples
