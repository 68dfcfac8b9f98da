"""Pixels as Pillow decodes them, or in another colour space than RGB -> RGB and alpha."""

import io

import numpy
import pyvips
from PIL import Image, ImageCms

from model.pictures.errors import NotAccepted
from model.pictures.samples import NO_RANGE, SLICE_ROWS, Pixels, Samples, of_channels

GREY_MODES = frozenset({"1", "L", "LA", "La"})

SRGB = "srgb"
"""libvips' own name of the profile, and of RGB of 8 bits."""


def of_image(image: Image.Image) -> Samples:
    """The samples of a loaded image.

    Raises:
        NotAccepted: its pixels are of a kind that has no fixed range.
    """
    if image.mode.startswith("I;16"):
        return of_channels(numpy.asarray(image).astype(numpy.uint16)[..., None])
    if image.mode in {"I", "F"}:
        raise NotAccepted(NO_RANGE)
    if image.mode == "CMYK":
        return Samples(colour=_cmyk_in_srgb(image), alpha=None, grey=False, converted=True)
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


def _cmyk_in_srgb(image: Image.Image) -> Pixels:
    """CMYK through its profile, or by the simple rule where it has no sound one."""
    profile = image.info.get("icc_profile") or b""
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, TypeError, OSError, ValueError):
        converted = image.convert("RGB")
    assert converted is not None  # nothing was converted in place
    return numpy.asarray(converted)


def in_srgb(inks: Pixels, profile: bytes) -> Pixels:
    """CMYK (H, W, 4) in sRGB, in the same depth: through its profile, or by the simple rule without a sound one."""
    deep = inks.dtype == numpy.uint16
    image = pyvips.Image.new_from_array(numpy.ascontiguousarray(inks)).copy(interpretation="cmyk")
    if _is_of_cmyk(profile):
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
        through: Pixels = image.icc_transform(
            SRGB, embedded=True, intent="relative", black_point_compensation=True, depth=16 if deep else 8
        ).numpy()
        return through
    whole = 65535 if deep else 255
    light = image.linear(-1, whole)
    simple: Pixels = (light[:3] * light[3] / whole).rint().cast(image.format).numpy()
    return simple


def _is_of_cmyk(profile: bytes) -> bool:
    try:
        return bool(ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip() == "CMYK")
    except (OSError, ImageCms.PyCMSError):
        return False  # there is none, or a broken one


def lab_in_srgb(lab: Pixels, *, signed: bool) -> Pixels:
    """CIE L*a*b* (H, W, 3) in sRGB, in the same depth.

    Args:
        signed: a* and b* are kept as signed numbers; else they are kept with 128 added.
    """
    deep = lab.dtype == numpy.uint16
    image = pyvips.Image.new_from_array(numpy.ascontiguousarray(lab))
    lightness = image[0] * (100 / (65535 if deep else 255))
    opponents = image[1:].copy(format="short" if deep else "char") if signed else image[1:] - 128
    bands = lightness.bandjoin(opponents / (256 if deep else 1)).cast("float").copy(interpretation="lab")
    rgb = bands.icc_export(
        output_profile=SRGB, intent="relative", black_point_compensation=True, depth=16 if deep else 8
    )
    pixels: Pixels = rgb.numpy()
    return pixels
