"""Convert Pillow's images, CMYK and CIELAB to RGB and alpha."""

import io

import numpy
import pyvips
from PIL import Image, ImageCms

from model.pictures.errors import NotAccepted
from model.pictures.samples import NO_RANGE, SLICE_ROWS, Pixels, Samples, max_level, of_channels

GREY_MODES = frozenset({"1", "L", "LA", "La"})

SRGB = "srgb"
"""libvips' own name of the profile."""

D50 = numpy.array((0.96422, 1.0, 0.82521), numpy.float32)
"""X, Y and Z of the white that Lab is relative to."""

LINEAR_SRGB_OF_XYZ = numpy.array(
    ((3.1338561, -1.6168667, -0.4906146), (-0.9787684, 1.9161415, 0.0334540), (0.0719453, -0.2289914, 1.4052427)),
    numpy.float32,
)
"""From XYZ of D50, adapted to sRGB's D65 by Bradford's method."""


def of_image(image: Image.Image) -> Samples:
    """Return the samples of a loaded image.

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
    """Convert an image to a mode, (H, W, C), a few rows at a time; as a whole it would be in memory four times."""
    levels = numpy.empty((image.height, image.width, len(mode)), numpy.uint8)
    for top in range(0, image.height, SLICE_ROWS):
        rows = image.crop((0, top, image.width, min(top + SLICE_ROWS, image.height)))
        straight = rows.convert("LA") if rows.mode == "La" else rows  # Pillow converts La to nothing else
        levels[top : top + SLICE_ROWS] = numpy.asarray(straight.convert(mode))
    return levels


def _cmyk_in_srgb(image: Image.Image) -> Pixels:
    """Convert CMYK to sRGB through its profile, or by the simple formula without a valid one."""
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
    """Convert CMYK (H, W, 4) to sRGB of the same depth: through its profile, or by the simple formula without one."""
    if _is_sound(profile):
        image = pyvips.Image.new_from_array(numpy.ascontiguousarray(inks)).copy(interpretation="cmyk")
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
        depth = 8 * inks.itemsize
        through: Pixels = image.icc_transform(
            SRGB, embedded=True, intent="relative", black_point_compensation=True, depth=depth
        ).numpy()
        return through
    whole = numpy.uint32(max_level(inks))
    colour = numpy.empty((*inks.shape[:2], 3), inks.dtype)
    for top in range(0, len(inks), SLICE_ROWS):
        light = whole - inks[top : top + SLICE_ROWS].astype(numpy.uint32)
        colour[top : top + SLICE_ROWS] = (light[..., :3] * light[..., 3:] + whole // 2) // whole
    return colour


def _is_sound(profile: bytes) -> bool:
    """Return True for a valid CMYK profile; libvips would replace a broken one by its own."""
    try:
        found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        ImageCms.buildTransform(found, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
    except (OSError, ImageCms.PyCMSError):
        return False
    return True


def lab_in_srgb(lab: Pixels, *, signed: bool) -> Pixels:
    """Convert CIELAB (H, W, 3) of D50 to sRGB of the same depth, by CIE's formulas.

    Args:
        signed: a* and b* are stored as signed numbers, else with 128 added.
    """
    whole, unit = max_level(lab), 1 if lab.dtype == numpy.uint8 else 256
    colour = numpy.empty(lab.shape, lab.dtype)
    for top in range(0, len(lab), SLICE_ROWS):
        rows = numpy.ascontiguousarray(lab[top : top + SLICE_ROWS])
        opponents = (
            rows[..., 1:].view(f"i{lab.itemsize}").astype(numpy.float32)
            if signed
            else rows[..., 1:] - numpy.float32(128)
        )
        middle = (rows[..., 0] * numpy.float32(100 / whole) + 16) / 116
        roots = numpy.stack(
            (middle + opponents[..., 0] / (500 * unit), middle, middle - opponents[..., 1] / (200 * unit)), axis=-1
        )
        xyz = numpy.where(roots > 6 / 29, roots * roots * roots, (roots - 4 / 29) * (3 * (6 / 29) ** 2)) * D50
        linear = (xyz @ LINEAR_SRGB_OF_XYZ.T).clip(0, 1)
        encoded = numpy.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
        colour[top : top + SLICE_ROWS] = (encoded * whole).round()
    return colour
