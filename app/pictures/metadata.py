"""Metadata of an upload: what an answer repeats, corrected to be true of the answer.

Only what is on the lists of `exif.py` and `xmp_names.py` is kept, and a colour profile if it describes the pixels.
"""

from contextlib import suppress

import pyvips
from PIL import ExifTags, Image

from app.pictures.colours import NAMING, Colours, of_light, of_nclx
from app.pictures.exif import Exif, read_exif, tiff_value
from app.pictures.icc import adobe_rgb, space_of, usable_profile
from app.pictures.picture import Metadata
from app.pictures.png_chunks import MetadataRule, PngChunks
from app.pictures.xmp import EXTENSION_NAME, kept_xmp
from model.pictures.boxes import Items
from model.pictures.picture_file import FilePicture


def metadata_of(file: FilePicture, upload: bytes, rule: MetadataRule, chunks: PngChunks) -> Metadata:
    """Return the metadata of an answer; corrupt parts of the upload's are dropped.

    Args:
        rule: what to keep.
        chunks: those of a PNG.
    """
    image, directory, converted, turned = file.image, file.directory, file.samples.converted, file.orientation >= 5
    exif = _exif(image, upload) if directory is None else read_exif(upload, directory)
    named = upload[4:8] == b"ftyp" or not chunks.colours.keys().isdisjoint(NAMING)
    profile = None if converted else _profile(image, None if named else exif, grey=file.samples.grey)
    colours = {} if converted else _colours(file.items, chunks, profile)
    if rule == "strip":
        return Metadata(icc_profile=profile, colours=colours)
    dpi = _dpi(image, exif, turned=turned)
    if exif and converted:
        exif = exif.without_colour()
    if exif and turned:
        exif = exif.turned()
    if exif and rule != "keep-gps":
        exif = exif.without_location()
    packet = _packet(image) if directory is None else tiff_value(upload, ExifTags.Base.XMLPacket, directory)
    return Metadata(
        icc_profile=profile,
        exif=exif.to_bytes() if exif else None,
        xmp=_xmp(image, packet, location=rule == "keep-gps", turned=turned),
        dpi=dpi,
        colours=colours,
        texts=tuple(chunks.texts),
        texts_left_out=chunks.texts_left_out,
    )


def _colours(items: Items | None, chunks: PngChunks, profile: bytes | None) -> Colours:
    """Return the descriptions of the colours other than a profile; in an AVIF or HEIC, a profile takes precedence."""
    if items is None:
        return chunks.colours
    colours = of_nclx(*items.nclx[:2]) if items.nclx and not profile else {}
    if not colours:
        return {}
    return {**colours, **of_light(items.primary.property(b"mdcv"), items.primary.property(b"clli"))}


def _profile(image: Image.Image, exif: Exif | None, *, grey: bool) -> bytes | None:
    """Return the profile of the pixels: the file's, or Adobe RGB where only EXIF names the colours.

    A grey picture may have an RGB profile, in which each of its levels stands for three equal ones.

    Args:
        exif: None if the file names the colours without a profile, too: AVIF and HEIC always do, and a PNG may.
    """
    profile = usable_profile(image.info.get("icc_profile"))
    if profile and (grey or space_of(profile) == b"RGB "):
        return profile
    return adobe_rgb() if exif and exif.is_adobe_rgb else None


def _exif(image: Image.Image, upload: bytes) -> Exif | None:
    """Read EXIF from the bytes of the file: Pillow and pi-heif re-encode some of its text."""
    if upload[4:12] in (b"ftypavif", b"ftypavis"):
        with suppress(pyvips.Error):
            return read_exif(pyvips.Image.heifload_buffer(upload).get("exif-data"))
    found = image.info.get("exif")
    if found is None:
        with suppress(KeyError, ValueError):  # ImageMagick's format: a few words, then lines of hexadecimal digits
            found = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    return read_exif(found) if isinstance(found, bytes) else None


def _packet(image: Image.Image) -> bytes | None:
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(found, str):
        return found.encode("latin-1", "ignore")  # Pillow decodes a PNG's text as Latin-1
    return found if isinstance(found, bytes) else None


def _xmp(image: Image.Image, packet: bytes | None, *, location: bool, turned: bool) -> bytes | None:
    segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
    parts = (content for name, content in segments if name == "APP1" and content.startswith(EXTENSION_NAME))
    return kept_xmp(packet, parts, location=location, turned=turned) if packet else None


def _dpi(image: Image.Image, exif: Exif | None, *, turned: bool) -> tuple[float, float] | None:
    """Return the resolution that the file itself names, else EXIF's; Pillow makes some up."""
    guessed = image.format == "TIFF" or (image.format in ("JPEG", "MPO") and image.info.get("jfif_unit") not in (1, 2))
    for said in (None if guessed else image.info.get("dpi"), exif.dpi if exif else None):
        if said and all(1 <= per_inch <= 100_000 for per_inch in said):
            across, down = map(float, said)
            return (down, across) if turned else (across, down)
    return None
