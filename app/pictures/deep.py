"""Pixels that Pillow would cut down or misread, through libvips: more than 8 bits, and a PNG's transparent colour.

It gets the file only after its size has been checked, and is told the format that it has to be.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy
import pyvips

from app.errors import Unprocessable, UnsupportedFormat
from app.pictures.colour import Samples, of_channels
from app.pictures.limits import Limits
from app.pictures.picture import Pixels, most

SRGB = "srgb"
"""libvips' own name of the profile."""

NOT_KNOWN = "not supported"
"""In libvips' text where it does not know a kind of file, which is not the file's fault."""


class Unsupported(Exception):
    """Pillow reads this kind of file, with 8 bits, and libvips does not read it."""


def bits_of_avif(upload: bytes) -> int:
    """Bits of a sample, from the header.

    Raises:
        pyvips.Error: it is broken.
    """
    return int(pyvips.Image.heifload_buffer(upload).get("bits-per-sample"))


@dataclass(frozen=True, kw_only=True)
class TiffHeader:
    """What the header of a TIFF tells that Pillow does not know."""

    height: int
    width: int
    bits: int
    transparent: bool


def tiff_header(upload: bytes, limits: Limits) -> TiffHeader:
    """Look at the header of a TIFF that Pillow does not know, 16-bit grey with alpha for one; decodes nothing.

    Raises:
        UnsupportedFormat, TooLarge, Unprocessable: see `png_of_tiff`.
    """
    with _blaming_tiff():
        image = _tiff(upload, limits)
        bits = 16 if image.format == "ushort" else 8
        return TiffHeader(height=image.height, width=image.width, bits=bits, transparent=bool(image.hasalpha()))


def png_of_tiff(upload: bytes, limits: Limits) -> bytes:
    """The first picture of a TIFF that Pillow does not know, in a PNG that it does.

    Raises:
        UnsupportedFormat: its pixels are of a kind that has no fixed range.
        TooLarge: more than the limits allow.
        Unprocessable: it is broken, or libvips does not know it either.
    """
    with _blaming_tiff():
        file: bytes = _tiff(upload, limits).pngsave_buffer(compression=1)
        return file


def _tiff(upload: bytes, limits: Limits) -> pyvips.Image:
    image = pyvips.Image.tiffload_buffer(upload, access="sequential", fail_on="truncated")
    _check_range(image)
    limits.check_size(image.width, image.height, len(upload))
    return image


@contextmanager
def _blaming_tiff() -> Iterator[None]:
    try:
        yield
    except pyvips.Error as error:
        reason = " ".join(str(error).split())[:200]
        raise Unprocessable(f"the TIFF file is truncated, corrupt or of an unknown kind ({reason})") from error


def _check_range(image: pyvips.Image) -> None:
    if image.format not in ("uchar", "ushort"):
        raise UnsupportedFormat(f"pixels of the kind {image.format} have no fixed range; send 8 or 16 bits")


def samples(upload: bytes, file_format: str) -> Samples:
    """The pixels as they lie in a PNG, TIFF or AVIF, in the depth that they have there.

    Colour that a TIFF keeps multiplied by alpha is divided by it, which libvips does.

    Raises:
        Unsupported: see there.
        UnsupportedFormat: they are of a kind that has no fixed range.
        pyvips.Error: the file is broken.
    """
    load = {
        "PNG": pyvips.Image.pngload_buffer,
        "TIFF": pyvips.Image.tiffload_buffer,
        "AVIF": pyvips.Image.heifload_buffer,
    }[file_format]
    try:
        image = load(upload, access="sequential", fail_on="truncated")
        _check_range(image)
        has_profile = image.get_typeof("icc-profile-data") != 0
        converted = image.interpretation == "cmyk" or image.interpretation.startswith("lab")
        if converted and (has_profile or image.interpretation != "cmyk"):
            deep = 16 if image.format == "ushort" else 8
            image = image.icc_transform(
                SRGB, embedded=True, depth=deep, intent="relative", black_point_compensation=True
            )
        pixels: Pixels = image.numpy().reshape(image.height, image.width, image.bands)
    except pyvips.Error as error:
        if NOT_KNOWN in str(error):
            raise Unsupported from error
        raise
    if image.interpretation == "cmyk":
        pixels = _by_the_simple_rule(pixels)
    if file_format == "AVIF" and pixels.dtype == numpy.uint16:
        pixels = _from_upper_bits(pixels, int(image.get("bits-per-sample")))
    return of_channels(pixels[..., :3] if pixels.shape[-1] > 4 else pixels, converted=converted)


def _by_the_simple_rule(cmyk: Pixels) -> Pixels:
    """RGB of CMYK that has no profile."""
    whole = most(cmyk)
    light = (whole - cmyk).astype(numpy.float32)
    rgb: Pixels = (light[..., :3] * light[..., 3:4] / whole).round().astype(cmyk.dtype)
    return rgb


def _from_upper_bits(pixels: Pixels, bits: int) -> Pixels:
    """10 or 12 bits that lie in the upper ones of 16 -> 16 bits, so that white is white."""
    levels = (pixels >> (16 - bits)).astype(numpy.uint32)
    whole: Pixels = ((levels * 65535 + (2 ** (bits - 1) - 1)) // (2**bits - 1)).astype(numpy.uint16)
    return whole
