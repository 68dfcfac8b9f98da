"""Recognise the format of a file, and refuse dangerous files before a decoder opens them."""

import struct

from model.pictures import bmp, jpeg
from model.pictures.box_data import check_data
from model.pictures.box_structure import check_boxes
from model.pictures.box_work import check_work
from model.pictures.boxes import Items, has_items, items_of
from model.pictures.errors import Damaged
from model.pictures.limits import Limits
from model.pictures.png_structure import PNG_SIGNATURE

BMP_HEADERS = frozenset(size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124))


def known_format(upload: bytes) -> str | None:
    """Return the format by its signature, in Pillow's name; None if it is not accepted, or not certain."""
    signatures = (("PNG", PNG_SIGNATURE), ("JPEG", b"\xff\xd8\xff"), ("GIF", b"GIF87a"), ("GIF", b"GIF89a"))
    for name, signature in signatures:
        if upload.startswith(signature):
            return name
    if upload[:4] == b"RIFF" and upload[8:12] == b"WEBP":
        return "WEBP"
    if upload[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if upload[:2] == b"BM" and upload[14:18] in BMP_HEADERS:
        return "BMP"
    brands = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys((b"heic", b"heix", b"heim", b"heis"), "HEIF")
    return brands.get(upload[8:12]) if upload[4:8] == b"ftyp" else None


def formats_to_open(upload: bytes) -> tuple[str, ...]:
    """Return the formats as which Pillow may open a file, in its names.

    Pillow accepts more signatures than `known_format`, such as `MM*` for a TIFF, but checks less than we do.
    """
    if known := known_format(upload):
        return (known,)
    return ("AVIF", "HEIF") if upload[4:8] == b"ftyp" else ()


def check_before_opening(upload: bytes, limits: Limits) -> Items | None:
    """Refuse files that cost too much, or crash the process, as soon as a decoder reads the header.

    Returns:
        The items of an AVIF or HEIC, if it has any.

    Raises:
        OverLimit, Damaged, NotAccepted: see below.
    """
    if upload.startswith(b"\xff\xd8"):
        jpeg.check_header(upload)
    elif upload[4:8] == b"ftyp":
        check_boxes(upload)
        try:
            items = items_of(upload) if has_items(upload) else None
            check_data(upload, items, limits)
            check_work(upload, items, limits)
        except (KeyError, IndexError, struct.error) as error:
            text = "the AVIF or HEIC file is truncated or corrupt: its boxes do not say where it is"
            raise Damaged(text) from error
        return items
    return None


def for_decoder(upload: bytes, known: str | None) -> bytes:
    """Return a checked file without those parts that would only cost a decoder time."""
    if known == "JPEG":
        return jpeg.without_unread(upload)
    return bmp.without_excess(upload) if known == "BMP" else upload
