"""Upscaled planes -> bytes of the answer."""

import io

from PIL import Image

from app.pictures.picture import Picture, Pixels, colour_and_alpha

COMPRESS_LEVEL = 1
"""zlib's fastest: Pillow's default takes several times as long for a somewhat smaller file."""


def encode_png(upscaled: Pixels, original: Picture) -> bytes:
    """Encode upscaled planes (N, H, W, 3) as a PNG of the upload's kind.

    Grey stays grey, transparency and the colour profile stay.
    """
    if len(upscaled) == 1:
        image = Image.fromarray(upscaled[0])
    else:
        colour, alpha = colour_and_alpha(upscaled, original.planes)
        image = Image.fromarray(colour)
        image.putalpha(Image.fromarray(alpha))
    if original.grey:
        image = image.convert("L" if len(upscaled) == 1 else "LA")
    answer = io.BytesIO()
    image.save(answer, "PNG", compress_level=COMPRESS_LEVEL, icc_profile=original.icc_profile)
    return answer.getvalue()
