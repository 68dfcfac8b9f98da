"""Metadata of an upload: what an answer repeats of it, and what is made true for the answer.

Only what is on the lists of `exif.py` and `xmp_names.py` travels, and a colour profile where it describes the pixels.
"""

import math
from contextlib import suppress
from typing import Literal

import pyvips
from PIL import ExifTags, Image

from app.pictures.exif import Exif, read_exif, tiff_value
from app.pictures.icc import adobe_rgb, sound_profile, space_of
from app.pictures.picture import Metadata
from app.pictures.xmp import EXTENSION_NAME, kept_xmp

MetadataRule = Literal["keep", "keep-gps", "strip"]
"""Keep all but the place, keep all, or keep only what the pixel values mean (the colour profile)."""


def metadata_of(
    image: Image.Image,
    upload: bytes,
    rule: MetadataRule,
    *,
    grey: bool = False,
    converted: bool = False,
    directory: int | None = None,
) -> Metadata:
    """Metadata of an answer. What is broken in that of the upload is dropped.

    Args:
        image: the loaded image.
        upload: the file that it comes from.
        rule: what to keep.
        grey: the picture has no colour.
        converted: its colours were converted to sRGB.
        directory: where the picture's directory begins in a TIFF, which may have others before it.
    """
    exif = _exif(image, upload) if directory is None else read_exif(upload, directory)
    profile = None if converted else _profile(image, upload, exif, grey=grey)
    if rule == "strip":
        return Metadata(icc_profile=profile)
    if exif and converted:
        exif = exif.without_colour()
    if exif and rule != "keep-gps":
        exif = exif.without_place()
    packet = _packet(image) if directory is None else tiff_value(upload, ExifTags.Base.XMLPacket, directory)
    return Metadata(
        icc_profile=profile,
        exif=exif.to_bytes() if exif else None,
        xmp=_xmp(image, packet, place=rule == "keep-gps"),
        dpi=_dpi(image),
    )


def _profile(image: Image.Image, upload: bytes, exif: Exif | None, *, grey: bool) -> bytes | None:
    """The profile of the pixels: the file's, or Adobe RGB where only EXIF names the colours.

    A grey picture may have one of RGB, in which each of its levels stands for three equal ones. AVIF and HEIC
    always name their colours, and a PNG may.
    """
    profile = sound_profile(image.info.get("icc_profile"))
    if profile and (grey or space_of(profile) == b"RGB "):
        return profile
    named = upload[4:8] == b"ftyp" or not image.info.keys().isdisjoint({"srgb", "gamma"})
    return adobe_rgb() if exif and exif.says_adobe_rgb and not named else None


def _exif(image: Image.Image, upload: bytes) -> Exif | None:
    """EXIF as it is in the file: Pillow and pi-heif would write text of it with other bytes."""
    if upload[4:12] in (b"ftypavif", b"ftypavis"):
        with suppress(pyvips.Error):
            return read_exif(pyvips.Image.heifload_buffer(upload).get("exif-data"))
    said = image.info.get("exif")
    if said is None:
        with suppress(KeyError, ValueError):  # as ImageMagick writes it: some words, and lines of hexadecimal digits
            said = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    return read_exif(said) if isinstance(said, bytes) else None


def _packet(image: Image.Image) -> bytes | None:
    said = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(said, str):
        return said.encode("latin-1", "ignore")  # Pillow takes the bytes of a PNG's text for Latin-1
    return said if isinstance(said, bytes) else None


def _xmp(image: Image.Image, packet: bytes | None, *, place: bool) -> bytes | None:
    segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
    parts = (content for name, content in segments if name == "APP1" and content.startswith(EXTENSION_NAME))
    return kept_xmp(packet, parts, place=place) if packet else None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    try:
        across, down = (float(per_inch) for per_inch in image.info["dpi"])
    except Exception:
        return None  # there is none, or no sensible one
    sane = all(math.isfinite(per_inch) and 1 <= per_inch <= 100_000 for per_inch in (across, down))
    return (across, down) if sane else None
