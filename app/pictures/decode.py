"""Bytes of an upload -> Picture. The format is told by content, never by name; limits are checked before decoding."""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy
from PIL import Image, ImageOps, UnidentifiedImageError

from app.errors import TooLarge, Unprocessable, UnsupportedFormat
from app.pictures.picture import Metadata, Picture, Pixels, planes_of

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""The formats that are accepted, in Pillow's names."""

BROKEN = (OSError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, struct.error, zlib.error)
"""What Pillow's decoders raise over a broken file: whatever it happens to trip over."""

GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"})


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the header of an upload tells, before anything is decoded."""

    planes: int
    """Most that the picture may have: two where it may be transparent."""
    height: int
    width: int
    """Both as stored, not upright."""


def read_header(upload: bytes, *, max_px: int) -> Header:
    """Look at the header of an upload.

    Raises:
        UnsupportedFormat: not one of `FORMATS`.
        TooLarge: more than `max_px` pixels.
        Unprocessable: the header is corrupt.
    """
    image = _open(upload, max_px)
    return Header(planes=1 + image.has_transparency_data, height=image.height, width=image.width)


def decode(upload: bytes, *, max_px: int, max_width_px: int) -> Picture:
    """Decode the first frame of an upload, upright.

    Raises:
        UnsupportedFormat: not one of `FORMATS`, or pixels of a kind that has no fixed range.
        TooLarge: more than `max_px` pixels, which the header tells, or upright wider than `max_width_px`.
        Unprocessable: truncated or corrupt.
    """
    image = _open(upload, max_px)
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.width > max_width_px:
            raise TooLarge(f"it is {upright.width} px wide; the limit is {max_width_px} px; send parts of it")
        return _picture(upright)
    except BROKEN as error:
        raise Unprocessable(f"the {image.format} file is truncated or corrupt ({_one_line(error)})") from error


def _open(upload: bytes, max_px: int) -> Image.Image:
    accepted = ", ".join(FORMATS)
    try:
        image = Image.open(io.BytesIO(upload), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UnsupportedFormat(f"the upload is not a picture in a known format; accepted are {accepted}") from error
    except Image.DecompressionBombError as error:
        raise TooLarge(f"the picture has far more than {max_px} px, the limit; send a smaller one") from error
    except BROKEN as error:
        raise Unprocessable(f"the header of the picture is corrupt ({_one_line(error)})") from error
    if image.width * image.height > max_px:
        raise TooLarge(
            f"the picture has {image.width} x {image.height} = {image.width * image.height} px; "
            f"the limit is {max_px} px; send a smaller one or parts of it"
        )
    return image


def _picture(image: Image.Image) -> Picture:
    profile = image.info.get("icc_profile")
    grey = image.mode in GREY_MODES
    alpha: Pixels | None = None
    if image.mode.startswith("I;16"):
        # Pillow would clip these to 255 instead of scaling them.
        image = Image.fromarray((numpy.asarray(image).astype(numpy.uint32) // 257).astype(numpy.uint8))
    elif image.mode in {"I", "F"}:
        raise UnsupportedFormat("pixels of 32 bits have no fixed range; send 8 or 16 bits for each channel")
    elif image.mode in {"CMYK", "YCbCr", "LAB", "HSV"}:
        profile = None  # it describes the upload's own colour space, and the answer is RGB
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = numpy.array(image.getchannel("A"))
    colour = numpy.array(image.convert("RGB"))
    planes = colour[None] if alpha is None or alpha.min() == 255 else planes_of(colour, alpha)
    metadata = Metadata(icc_profile=profile if isinstance(profile, bytes) else None)
    return Picture(planes=planes, grey=grey, bits=8, metadata=metadata)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
