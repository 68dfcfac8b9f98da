"""Answers in WebP."""

import io

from PIL import Image

from app.pictures.exif import EXIF_NAME
from app.pictures.layout import AnswerFormat, Layout
from app.pictures.picture import Pixels

WEBP = AnswerFormat(
    name="webp",
    media_type="image/webp",
    max_side_px=16_383,
    depths=(8,),
    transparent=True,
    grey=False,
    max_dpi=0,
    lossless_at=frozenset({None, 100}),
    animated=True,
)

LOSSLESS_EFFORT = 50
"""Effort of libwebp to make a lossless file smaller, 0 to 100."""


def webp_file(pixels: Pixels, layout: Layout) -> bytes:
    """Encode an answer (H, W, C), without loss where no quality is given, or 100."""
    metadata = layout.metadata
    options: dict[str, object] = {"exif": EXIF_NAME + metadata.exif} if metadata.exif else {}
    options |= {"xmp": metadata.xmp} if metadata.xmp else {}
    options |= {"icc_profile": metadata.icc_profile} if metadata.icc_profile else {}
    quality = LOSSLESS_EFFORT if layout.lossless else layout.quality
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if layout.channels == 1 else pixels).save(
        file, "webp", lossless=layout.lossless, quality=quality, **options
    )
    return file.getvalue()
