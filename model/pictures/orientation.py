"""EXIF's orientation, 1 to 8, of an image as Pillow has opened it."""

import re

from PIL import ExifTags, Image

from model.pictures.samples import UPRIGHT

_PNG_EXIF = ("exif", "Raw profile type exif", "XML:com.adobe.xmp")
"""Where a PNG keeps its orientation, in Pillow's names."""

SPACE = rb"http://ns.adobe.com/tiff/1.0/"
USUAL_PREFIX = b"tiff"

PREFIX = re.compile(rb"\sxmlns:([\w.-]{1,40})\s*=\s*[\"']" + re.escape(SPACE))
VALUE = re.compile(rb"[\s<]([\w.-]{1,40}):Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")
"""Matches the prefix and the value of the property, as an attribute or an element."""


def in_xmp(packet: bytes) -> int:
    """Return the orientation in an XMP packet; `UPRIGHT` if it names none.

    A packet that is broken elsewhere is searched too.

    Args:
        packet: in UTF-8, UTF-16 or UTF-32.
    """
    ascii_only = packet.replace(b"\0", b"")  # names and digits are ASCII, so this turns UTF-16 and UTF-32 into it
    prefixes = {USUAL_PREFIX, *PREFIX.findall(ascii_only)}
    values = (int(found[2]) for found in VALUE.finditer(ascii_only) if found[1] in prefixes)
    return next(values, UPRIGHT)


def orientation_of(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8; 1 (upright) if the file has no valid one."""
    try:
        if image.format == "AVIF":  # properties turn it, which Pillow shows as EXIF's; it would look into XMP, too
            exif = Image.Exif()
            exif.load(image.info.get("exif") or b"")
            said = exif.get(ExifTags.Base.Orientation, UPRIGHT)
        else:  # not the method of PNG, which decodes the picture to look for EXIF behind the pixels
            said = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:
        return UPRIGHT  # Pillow raises all kinds of errors for broken tags; the picture itself is sound
    if said is None:
        packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
        return in_xmp(packet.encode("latin-1", "ignore") if isinstance(packet, str) else packet)
    return said if isinstance(said, int) and 1 <= said <= 8 else UPRIGHT


def size_in_header(image: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of an opened picture, upright.

    Args:
        size: its width and height as stored.
    """
    if image.format == "PNG" and image.info.keys().isdisjoint(_PNG_EXIF):
        return upright_size(*size, UPRIGHT)
    return upright_size(*size, orientation_of(image))


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Return height and width after a picture has been turned upright."""
    return (width, height) if orientation >= 5 else (height, width)
