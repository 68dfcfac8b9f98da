"""The structure of a file around its pixels: its format, and what must be refused before a decoder opens it."""

from model.pictures import gif, jpeg
from model.pictures.boxes import boxes
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


def check_before_opening(upload: bytes, limits: Limits) -> None:
    """Refuse what costs too much, or ends the process, as soon as a decoder looks at the header.

    Raises:
        OverLimit, Damaged, NotAccepted: see below.
    """
    if upload.startswith(b"GIF8"):
        gif.check_size(upload, limits)
    elif upload.startswith(b"\xff\xd8"):
        jpeg.check_kind(upload)
    elif upload[4:8] == b"ftyp":
        _check_item_names(upload)


def _check_item_names(upload: bytes) -> None:
    """Refuse a HEIC with an item whose kind is not text: pi-heif 1.4 ends the process over it."""
    for kind, start, end in boxes(upload, 0, len(upload)):
        if kind != b"meta":
            continue
        for inner, inner_start, inner_end in boxes(upload, start + 4, end):
            if inner == b"iinf":
                first = inner_start + (6 if upload[inner_start : inner_start + 1] == b"\0" else 8)
                for item, item_start, item_end in boxes(upload, first, inner_end):
                    if item == b"infe":
                        _check_item(upload[item_start:item_end], item_start)


def _check_item(item: bytes, place: int) -> None:
    said = item[8 if item[:1] == b"\2" else 10 :]  # after version, number and protection
    kind, (_, *rest) = said[:4], said[4:].split(b"\0")
    try:
        b"".join((kind, *rest)).decode()
    except UnicodeDecodeError as error:
        raise Damaged(f"the HEIC file is corrupt: the kind of its item at byte {place} is not text") from error
