"""Answers in JPEG XL, where the extra `jxl` is installed: it is optional because the plugin is under the GPL.

The plugin writes 8 bits and no colour profile.
"""

import io
from contextlib import suppress
from functools import cache
from importlib import import_module

from PIL import Image

from app.pictures.layout import AnswerFormat, Layout
from app.pictures.picture import Pixels

PLUGIN = "pillow_jxl"

QUALITY = 90
EFFORT = 3
"""From 1 to 9: 7 took six times as long for files a fifth smaller."""

JXL = AnswerFormat(
    name="jxl",
    media_type="image/jxl",
    max_side_px=65_500,
    max_px=2**26,
    depths=(8,),
    transparent=True,
    grey=True,
    icc=False,
    max_dpi=0,
    lossless_at=frozenset({100}),
    encoder_bytes_per_px=60,  # measured: 44 to 51,
)

TIFF_OFFSET = bytes(4)
"""Precedes EXIF in its box (ISO/IEC 18181-2), which the plugin leaves to its callers."""


@cache
def is_installed() -> bool:
    """Return True if the plugin is installed, and make it known to Pillow."""
    with suppress(ImportError):
        import_module(PLUGIN)
        return True
    return False


def jxl_file(pixels: Pixels, layout: Layout) -> bytes:
    """Encode an answer (H, W, C), without loss where the quality is 100."""
    metadata = layout.metadata
    options = {"exif": TIFF_OFFSET + metadata.exif} if metadata.exif else {}
    options |= {"xmp": metadata.xmp} if metadata.xmp else {}
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if layout.channels == 1 else pixels).save(
        file,
        "JXL",
        lossless=layout.lossless,
        quality=layout.quality or QUALITY,
        effort=EFFORT,
        num_threads=0,
        **options,
    )
    return file.getvalue()
