"""Read pixels that Pillow would reduce or misread: HEIC, PNG and AVIF of over 8 bits, a PNG's transparent colour.

libvips, and the reader of HEIC, get the file only after its size has been checked, and are given the format.
"""

import re
from dataclasses import replace

import numpy
import pyvips

from model.pictures import chroma, heic
from model.pictures.boxes import Items
from model.pictures.errors import Damaged, NotAccepted, PictureError, one_line
from model.pictures.limits import Limits
from model.pictures.samples import NO_RANGE, SLICE_ROWS, Pixels, Samples, divide_by_alpha, of_channels

NOT_KNOWN = re.compile(
    r"not supported|unsupported|not a whole number|out of range|not \d bands|not (been built in|configured)"
)
"""Matches errors of libvips and libheif about a kind of file that they do not support, in contrast to a broken one."""

LOADERS = {
    "PNG": pyvips.Image.pngload_buffer,
    "AVIF": pyvips.Image.heifload_buffer,
}


class Unsupported(Exception):
    """libvips does not read this kind of file; Pillow does, with 8 bits."""


def bits_of_avif(upload: bytes) -> int:
    """Return the bits of a sample, from the header.

    Raises:
        pyvips.Error: it is broken.
    """
    return int(pyvips.Image.heifload_buffer(upload).get("bits-per-sample"))


def rare_avif_size(upload: bytes, limits: Limits) -> tuple[int, int, int, bool]:
    """Return height, width, bits and transparency of an AVIF that Pillow does not know, without decoding it.

    Raises:
        NotAccepted, OverLimit: libvips does not know it either, or more than the limits allow.
        pyvips.Error: it is broken.
    """
    image = _loaded(upload, "AVIF")
    limits.check_size(image.width, image.height, len(upload))
    return image.height, image.width, 16 if image.format == "ushort" else 8, bool(image.hasalpha())


def _loaded(upload: bytes, file_format: str) -> pyvips.Image:
    image = LOADERS[file_format](upload, access="sequential", fail_on="error")
    if image.format not in ("uchar", "ushort"):
        raise NotAccepted(f"{NO_RANGE} (these are of the kind {image.format})")
    return image


def refusal(file_format: str, error: Exception) -> PictureError:
    """Return the error for a file that a decoder failed to read: of an unsupported kind, or broken."""
    for line in str(error).splitlines():
        if NOT_KNOWN.search(line):
            return NotAccepted(
                f"a {file_format} of this rare kind is not accepted ({line.strip()[:200]}); save it as PNG"
            )
    return Damaged(f"the {file_format} file is truncated or corrupt ({one_line(error)})")


def samples(upload: bytes, file_format: str, items: Items | None) -> Samples:
    """Return the pixels of a PNG as stored, or of an AVIF or HEIC upright, in their full depth.

    Args:
        items: those of an AVIF or HEIC.

    Raises:
        Unsupported: libvips does not read this kind of file.
        NotAccepted: they are of a kind that has no fixed range.
        pyvips.Error, Exception: the file is broken.
    """
    if file_format == "PNG":
        return of_channels(_decoded(upload, file_format)[1])
    pixels = _of_heic(upload) if file_format == "HEIF" else _of_avif(upload)
    return _as_stored(of_channels(pixels, upright=True), items)


def _as_stored(found: Samples, items: Items | None) -> Samples:
    """Return samples of an AVIF or HEIC as its boxes describe them."""
    if items is None:
        return found
    if chroma.is_grey(items):
        found = replace(found, grey=True)
    elif not found.grey and (shared := chroma.subsampling(items)) != (1, 1):
        found = replace(found, colour=chroma.smooth(found.colour, shared, chroma.luma_of(items)))
    if items.premultiplied and found.alpha is not None:
        divide_by_alpha(found.colour, found.alpha)
    return found


def _of_avif(upload: bytes) -> Pixels:
    """Samples (H, W, C) of 8 or 16 bits."""
    image, pixels = _decoded(upload, "AVIF")
    return _from_upper_bits(pixels, int(image.get("bits-per-sample"))) if pixels.dtype == numpy.uint16 else pixels


def _decoded(upload: bytes, file_format: str) -> tuple[pyvips.Image, Pixels]:
    try:
        image = _loaded(upload, file_format)
        return image, image.numpy().reshape(image.height, image.width, image.bands)
    except pyvips.Error as error:
        if NOT_KNOWN.search(str(error)):
            raise Unsupported from error
        raise


def _of_heic(upload: bytes) -> Pixels:
    """Samples (H, W, C) of 8 or 16 bits."""
    file = heic.open_deep(upload)
    image = file[file.primary_index]
    pixels = numpy.array(image)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return _from_upper_bits(pixels, int(image.info["bit_depth"])) if pixels.dtype == numpy.uint16 else pixels


def _from_upper_bits(pixels: Pixels, bits: int) -> Pixels:
    """Stretch 10 or 12 bits, kept in the upper ones of 16, to 16 bits, so that white is white."""
    whole = numpy.empty_like(pixels)
    for top in range(0, len(pixels), SLICE_ROWS):
        levels = (pixels[top : top + SLICE_ROWS] >> (16 - bits)).astype(numpy.uint32)
        whole[top : top + SLICE_ROWS] = (levels * 65535 + (2 ** (bits - 1) - 1)) // (2**bits - 1)
    return whole
