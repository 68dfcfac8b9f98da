"""Pixels as a file keeps them -> colour that the network can see."""

import io
from dataclasses import dataclass

import numpy
from PIL import Image, ImageCms

from app.errors import UnsupportedFormat
from app.pictures.picture import SLICE_ROWS, Pixels

GREY_MODES = frozenset({"1", "L", "LA", "La"})
OTHER_SPACES = {"CMYK": "CMYK", "LAB": "LAB"}
"""Modes of which the answer is sRGB, since neither the network nor a PNG knows them."""

NO_RANGE = "signed, 32-bit and floating-point pixels have no fixed range; send 8 or 16 bits for each channel"


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Pixels as they lie in the file, not turned."""

    colour: Pixels
    """RGB (H, W, 3)."""
    alpha: Pixels | None
    """(H, W)."""
    grey: bool
    converted: bool = False
    """They were converted to sRGB; the file's colour profile is not theirs."""
    upright: bool = False
    """They were turned already as the file wants it."""


def of_channels(pixels: Pixels, *, converted: bool = False, upright: bool = False) -> Samples:
    """Samples (H, W, C) of grey, grey with alpha, RGB or RGBA."""
    channels = pixels.shape[-1]
    grey, alpha = channels < 3, channels in (2, 4)
    colour = pixels[..., :1].repeat(3, axis=-1) if grey else pixels[..., :3]
    opacity = pixels[..., -1] if alpha else None
    return Samples(colour=colour, alpha=opacity, grey=grey, converted=converted, upright=upright)


def of_image(image: Image.Image) -> Samples:
    """The samples of a loaded image.

    Raises:
        UnsupportedFormat: its pixels are of a kind that has no fixed range.
    """
    if image.mode.startswith("I;16"):
        return of_channels(_sixteen_bits(image)[..., None])
    if image.mode in {"I", "F"}:
        raise UnsupportedFormat(NO_RANGE)
    if image.mode in OTHER_SPACES:
        return Samples(colour=_in_srgb(image), alpha=None, grey=False, converted=True)
    grey = image.mode in GREY_MODES
    if image.has_transparency_data:
        pixels = _levels(image, "RGBA")
        return Samples(colour=pixels[..., :3], alpha=pixels[..., 3], grey=grey)
    return Samples(colour=_levels(image, "RGB"), alpha=None, grey=grey)


def _levels(image: Image.Image, mode: str) -> Pixels:
    """Samples (H, W, C) of a mode, a few rows at a time: converted as a whole, they would be in memory four times."""
    levels = numpy.empty((image.height, image.width, len(mode)), numpy.uint8)
    for top in range(0, image.height, SLICE_ROWS):
        rows = image.crop((0, top, image.width, min(top + SLICE_ROWS, image.height)))
        straight = rows.convert("LA") if rows.mode == "La" else rows  # which Pillow converts to nothing else
        levels[top : top + SLICE_ROWS] = numpy.asarray(straight.convert(mode))
    return levels


def _sixteen_bits(image: Image.Image) -> Pixels:
    """Levels of 16 bits; those of a file with fewer, 12 for one, are stretched to them."""
    levels = numpy.asarray(image).astype(numpy.uint32)
    bits_said = getattr(image, "tag_v2", {}).get(258, (16,))
    bits = bits_said[0] if isinstance(bits_said, tuple) else bits_said
    most = 2**bits - 1 if isinstance(bits, int) and 8 < bits < 16 else 65535
    return ((levels * 65535 + most // 2) // most).clip(0, 65535).astype(numpy.uint16)


def _in_srgb(image: Image.Image) -> Pixels:
    """CMYK through its profile, or by the simple rule where it has no sound one; Lab."""
    srgb = ImageCms.createProfile("sRGB")
    profile = image.info.get("icc_profile") or b""
    try:
        source = ImageCms.createProfile("LAB") if image.mode == "LAB" else ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            image,
            source,
            srgb,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, TypeError, OSError, ValueError):
        converted = image.convert("RGB")
    assert converted is not None  # nothing was converted in place
    return numpy.asarray(converted)
