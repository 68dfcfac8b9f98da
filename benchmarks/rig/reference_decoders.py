"""Other decoders of picture files, upright, which share only libraries with ours."""

import io
from collections.abc import Callable, Mapping

import numpy
import pyvips
from numpy.typing import NDArray
from PIL import Image, ImageOps

from app.pictures.picture import Picture, Pixels

Decoder = Callable[[bytes], Pixels | None]
"""File -> samples (H, W, C) of grey or RGB with or without alpha, or None for other kinds; may raise any exception."""

MAX_PX = 2**25
"""Larger pictures are skipped."""


def by_pillow(upload: bytes) -> Pixels | None:
    """Decode with Pillow."""
    image: Image.Image = Image.open(io.BytesIO(upload))
    if image.width * image.height > MAX_PX:
        return None
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return numpy.asarray(image).astype(numpy.uint16)[..., None]
    if image.mode in ("I", "F", "CMYK", "LAB", "YCbCr", "HSV"):
        return None
    return numpy.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def by_libvips(upload: bytes) -> Pixels | None:
    """Decode with libvips."""
    image = pyvips.Image.new_from_buffer(upload, "", fail_on="error").autorot()
    rgb = image.format in ("uchar", "ushort") and not image.interpretation.startswith(("cmyk", "lab"))
    if not rgb or image.width * image.height > MAX_PX:
        return None
    pixels: Pixels = image.numpy().reshape(image.height, image.width, image.bands)
    return pixels


def by_opencv(upload: bytes) -> Pixels | None:
    """Decode with OpenCV, which ignores the orientation."""
    import cv2  # in the extra `bench`

    pixels = cv2.imdecode(numpy.frombuffer(upload, numpy.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("not read")
    if pixels.dtype not in (numpy.uint8, numpy.uint16):
        return None
    if pixels.ndim == 2:
        return numpy.asarray(pixels)[..., None]
    return numpy.concatenate((pixels[..., 2::-1], pixels[..., 3:]), axis=-1)


REFERENCE_DECODERS: Mapping[str, Decoder] = {"Pillow": by_pillow, "libvips": by_libvips, "OpenCV": by_opencv}


def difference(picture: Picture, seen: Pixels) -> float:
    """Return the largest visible difference in 8-bit levels; infinite between different sizes."""
    height, width, channels = seen.shape
    if (height, width) != (picture.height, picture.width) or channels > 4:
        return float("inf")
    ours, theirs = _of_255(picture.planes), _of_255(seen)
    colour = theirs[..., :1] if channels < 3 else theirs[..., :3]
    alpha = theirs[..., -1] if channels in (2, 4) else numpy.full((height, width), 255.0, numpy.float32)
    opacity = ours[1, ..., 0] if picture.transparent else numpy.full_like(alpha, 255)
    visible = (opacity > 0) & (alpha > 0)
    of_colour = numpy.abs(ours[0] - colour)[visible].max(initial=0)
    return float(max(of_colour, numpy.abs(opacity - alpha).max(initial=0)))


def _of_255(levels: Pixels) -> NDArray[numpy.float32]:
    return levels.astype(numpy.float32) / numpy.float32(257 if levels.dtype == numpy.uint16 else 1)
