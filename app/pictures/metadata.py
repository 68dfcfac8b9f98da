"""What a file says beside its pixels: what of it is kept, and what is made true for the answer."""

import math
import re
from typing import Literal

from PIL import ExifTags, Image

from app.pictures.picture import Metadata

MetadataRule = Literal["keep", "keep-gps", "strip"]
"""Keep all but the place, keep all, or keep only what the pixel values mean (the colour profile)."""

UPRIGHT = 1

IN_TIFF = frozenset({269, 270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432, 34665, 34853, 40091, 40092, 40093})
"""Fields of a TIFF that describe the picture; the others describe how the file keeps its pixels."""

UNTRUE = (0xA002, 0xA003)
"""EXIF's width and height of the picture, which the answer has others of."""

GPS_IN_XMP = re.compile(
    rb"""\sexif:GPS\w+\s*=\s*("[^"]*"|'[^']*')|<exif:GPS(\w+)[^>]*>.*?</exif:GPS\2\s*>""", re.DOTALL
)
ORIENTATION_IN_XMP = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)\d")


def orientation_of(image: Image.Image) -> int:
    """How the stored pixels have to be turned, 1 to 8; 1, which is not at all, where nothing sensible is said."""
    try:
        said = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except Exception:
        return UPRIGHT  # whatever Pillow trips over in a broken tag: the picture itself is sound
    return said if isinstance(said, int) and 1 <= said <= 8 else UPRIGHT


def metadata_of(image: Image.Image, rule: MetadataRule) -> Metadata:
    """What an answer says again of what the file of a loaded image says. What is broken is dropped."""
    profile = image.info.get("icc_profile")
    profile = profile if isinstance(profile, bytes) and profile else None
    if rule == "strip":
        return Metadata(icc_profile=profile)
    place = rule == "keep-gps"
    return Metadata(icc_profile=profile, exif=_exif(image, place), xmp=_xmp(image, place), dpi=_dpi(image))


def _exif(image: Image.Image, place: bool) -> bytes | None:
    try:
        said = image.getexif()
        kept = Image.Exif()
        for tag in list(said):
            wanted = tag in IN_TIFF if image.format == "TIFF" else tag not in (ExifTags.Base.XMLPacket,)
            if wanted and tag != ExifTags.Base.Orientation and (place or tag != ExifTags.IFD.GPSInfo):
                _keep(said, kept, tag)
        return kept.tobytes().removeprefix(b"Exif\0\0") if len(kept) else None
    except Exception:
        return None  # as above


def _keep(said: Image.Exif, kept: Image.Exif, tag: int) -> None:
    """Take over one tag, if it can be written again."""
    try:
        if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            inner = {name: value for name, value in said.get_ifd(tag).items() if name not in UNTRUE}
            whole = {name: value for name, value in inner.items() if _can_be_written(tag, {name: value})}
            if whole:
                kept[tag] = whole
        elif _can_be_written(tag, said[tag]):
            kept[tag] = said[tag]
    except Exception:
        return  # as above


def _can_be_written(tag: int, value: object) -> bool:
    alone = Image.Exif()
    alone[tag] = value
    try:
        return bool(alone.tobytes())
    except Exception:
        return False  # as above


def _xmp(image: Image.Image, place: bool) -> bytes | None:
    said = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    said = said.encode() if isinstance(said, str) else said
    if not isinstance(said, bytes):
        return None
    said = ORIENTATION_IN_XMP.sub(rb"\g<1>1", said.rstrip(b"\0"))
    if not place:
        said = GPS_IN_XMP.sub(b"", said)
        if b"GPS" in said:
            return None  # in a form that nobody foresaw
    return said or None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    try:
        across, down = (float(per_inch) for per_inch in image.info["dpi"])
    except Exception:
        return None  # there is none, or no sensible one
    sane = all(math.isfinite(per_inch) and 1 <= per_inch <= 100_000 for per_inch in (across, down))
    return (across, down) if sane else None
