"""Answers in JPEG."""

import io

from PIL import Image

from app.pictures.exif import EXIF_NAME
from app.pictures.layout import AnswerFormat, Layout
from app.pictures.picture import Pixels

QUALITY = 95
"""Default quality: high, to keep the detail just generated."""

SEGMENT_BYTES = 65_533
"""Maximum bytes of EXIF or XMP, including their name."""
XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"

JPEG = AnswerFormat(
    name="jpeg",
    media_type="image/jpeg",
    max_side_px=65_500,  # the file could have 65535, but libjpeg reads at most this
    depths=(8,),
    transparent=False,
    grey=True,
    max_dpi=65_535,
    lossless_at=frozenset(),
    max_exif_bytes=SEGMENT_BYTES - len(EXIF_NAME),
    max_xmp_bytes=SEGMENT_BYTES - len(XMP_NAME),
)


def jpeg_file(pixels: Pixels, layout: Layout) -> bytes:
    """Encode an answer (H, W, C); the colours are never subsampled."""
    metadata = layout.metadata
    options: dict[str, object] = {"exif": EXIF_NAME + metadata.exif} if metadata.exif else {}
    options |= {"xmp": metadata.xmp} if metadata.xmp else {}
    options |= {"dpi": metadata.dpi} if metadata.dpi else {}
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if layout.grey else pixels).save(
        file,
        "jpeg",
        quality=layout.quality or QUALITY,
        subsampling="4:4:4",
        icc_profile=metadata.icc_profile,
        **options,
    )
    return file.getvalue()
