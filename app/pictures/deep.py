"""Pixels that Pillow would cut down, misread or not read: more than 8 bits, a PNG's transparent colour, rare kinds.

libvips, and for HEIC pi-heif, get the file only after its size has been checked, and are told the format.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy
import pi_heif
import pyvips

from app.errors import ServiceError, Unprocessable, UnsupportedFormat
from app.pictures.colour import NO_RANGE, Samples, of_channels
from app.pictures.limits import Limits
from app.pictures.picture import Pixels, most
from app.pictures.tiff_planes import Planes, planes_apart

SRGB = "srgb"
"""libvips' own name of the profile."""

NOT_KNOWN = re.compile(
    r"not supported|unsupported|not a whole number|out of range|not \d bands|not (been built in|configured)"
)
"""In the text of libvips or libheif where it does not know a kind of file, which is not the file's fault."""

LOADERS = {
    "PNG": pyvips.Image.pngload_buffer,
    "TIFF": pyvips.Image.tiffload_buffer,
    "AVIF": pyvips.Image.heifload_buffer,
}


class Unsupported(Exception):
    """Pillow reads this kind of file, with 8 bits, and libvips does not read it."""


def bits_of_avif(upload: bytes) -> int:
    """Bits of a sample, from the header.

    Raises:
        pyvips.Error: it is broken.
    """
    return int(pyvips.Image.heifload_buffer(upload).get("bits-per-sample"))


@dataclass(frozen=True, kw_only=True)
class RareHeader:
    """What the header of a file tells that Pillow does not know."""

    height: int
    width: int
    bits: int
    transparent: bool


def rare_header(upload: bytes, file_format: str, limits: Limits) -> RareHeader:
    """Look at the header of a file that Pillow does not know, a TIFF of deep grey with alpha for one; decodes nothing.

    Raises:
        UnsupportedFormat, TooLarge, Unprocessable: see `png_of_rare`.
    """
    with _blaming(file_format):
        image = _small_enough(upload, file_format, limits)
        bits = 16 if image.format == "ushort" else 8
        return RareHeader(height=image.height, width=image.width, bits=bits, transparent=bool(image.hasalpha()))


def png_of_rare(upload: bytes, file_format: str, limits: Limits) -> bytes:
    """The first picture of a file that Pillow does not know, in a PNG that it does.

    Raises:
        UnsupportedFormat: libvips does not know it either, or its pixels are of a kind that has no fixed range.
        TooLarge: more than the limits allow.
        Unprocessable: it is broken.
    """
    with _blaming(file_format):
        image = _as_rgb(_small_enough(upload, file_format, limits))
        if image.bands > 4:
            image = image[:3]
        file: bytes = image.pngsave_buffer(compression=1)
        return file


def _small_enough(upload: bytes, file_format: str, limits: Limits) -> pyvips.Image:
    image = _loaded(upload, file_format)
    limits.check_size(image.width, image.height, len(upload))
    return image


def _loaded(upload: bytes, file_format: str) -> pyvips.Image:
    image = LOADERS[file_format](upload, access="sequential", fail_on="error")
    if image.format not in ("uchar", "ushort"):
        raise UnsupportedFormat(f"{NO_RANGE} (these are of the kind {image.format})")
    return image


@contextmanager
def _blaming(file_format: str) -> Iterator[None]:
    try:
        yield
    except pyvips.Error as error:
        raise refusal(file_format, error) from error


def refusal(file_format: str, error: Exception) -> ServiceError:
    """Why a file is not accepted over whose pixels a decoder has tripped: of a rare kind, or broken."""
    for line in str(error).splitlines():
        if NOT_KNOWN.search(line):
            return UnsupportedFormat(
                f"a {file_format} of this rare kind is not accepted ({line.strip()[:200]}); save it as PNG"
            )
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return Unprocessable(f"the {file_format} file is truncated or corrupt ({reason})")


def samples(upload: bytes, file_format: str) -> Samples:
    """The pixels as they lie in a PNG or TIFF, or upright those of an AVIF or HEIC, in the depth that they have there.

    Colour that a TIFF keeps multiplied by alpha is divided by it, which libvips does.

    Raises:
        Unsupported: see there.
        UnsupportedFormat: they are of a kind that has no fixed range.
        pyvips.Error, Exception: the file is broken.
    """
    if file_format == "HEIF":
        return of_channels(_of_heic(upload), upright=True)
    try:
        loaded = _loaded(upload, file_format)
        image = _as_rgb(loaded)
        pixels: Pixels = image.numpy().reshape(image.height, image.width, image.bands)
    except pyvips.Error as error:
        if not NOT_KNOWN.search(str(error)):
            raise
        if file_format == "TIFF" and (planes := planes_apart(upload)):
            return of_channels(_joined(planes))
        raise Unsupported from error
    upright = file_format == "AVIF"
    if upright and pixels.dtype == numpy.uint16:
        pixels = _from_upper_bits(pixels, int(image.get("bits-per-sample")))
    pixels = pixels[..., :3] if pixels.shape[-1] > 4 else pixels
    return of_channels(pixels, converted=_needs_conversion(loaded), upright=upright)


def _joined(planes: Planes) -> Pixels:
    """Samples (H, W, C) of channels that lie apart."""
    channels = [_loaded(file, "TIFF").numpy() for file in planes.files]
    pixels: Pixels = numpy.stack([channel.reshape(channel.shape[:2]) for channel in channels], axis=-1)
    if planes.multiplied:
        alpha = numpy.maximum(pixels[..., -1:], 1).astype(numpy.float32)
        straight = pixels[..., :-1] / alpha * numpy.float32(most(pixels))
        pixels[..., :-1] = straight.round().clip(0, most(pixels))
    return pixels


def _needs_conversion(image: pyvips.Image) -> bool:
    return bool(image.interpretation == "cmyk" or image.interpretation.startswith("lab"))


def _as_rgb(image: pyvips.Image) -> pyvips.Image:
    """CMYK and Lab in sRGB, through the profile or by the simple rule; others as they are."""
    if not _needs_conversion(image):
        return image
    whole, name = (65535, "rgb16") if image.format == "ushort" else (255, "srgb")
    if image.interpretation != "cmyk" or image.get_typeof("icc-profile-data") != 0:
        deep = 16 if image.format == "ushort" else 8
        return image.icc_transform(SRGB, embedded=True, depth=deep, intent="relative", black_point_compensation=True)
    light = image.linear(-1, whole)
    return (light[:3] * light[3] / whole).rint().cast(image.format).copy(interpretation=name)


def _of_heic(upload: bytes) -> Pixels:
    """Samples (H, W, C) of 16 bits.

    Raises:
        Unsupported: its colour is multiplied by alpha.
    """
    file = pi_heif.open_heif(io.BytesIO(upload), convert_hdr_to_8bit=False)
    image = file[file.primary_index]
    if image.mode.startswith("RGBa"):
        raise Unsupported
    pixels = numpy.array(image)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return _from_upper_bits(pixels, int(image.info["bit_depth"])) if pixels.dtype == numpy.uint16 else pixels


def _from_upper_bits(pixels: Pixels, bits: int) -> Pixels:
    """10 or 12 bits that lie in the upper ones of 16 -> 16 bits, so that white is white."""
    levels = (pixels >> (16 - bits)).astype(numpy.uint32)
    whole: Pixels = ((levels * 65535 + (2 ** (bits - 1) - 1)) // (2**bits - 1)).astype(numpy.uint16)
    return whole
