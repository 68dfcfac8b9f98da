"""Puts encoded pixels into an AVIF with colours, EXIF and XMP (ISO/IEC 23008-12, and the AV1 Image File Format)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from app.pictures.colours import CICP, nclx
from app.pictures.picture import Metadata
from model.pictures.boxes import Item, Property, items_of

PICTURE, ALPHA, EXIF, XMP = 1, 2, 3, 4
"""Numbers of the items."""

MIME_XMP = b"application/rdf+xml\0"
ALPHA_URN = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
ESSENTIAL = 0x80
"""Marks a property that readers have to understand."""

IDENTITY, BT601 = 0, 6
"""Matrix coefficients: the planes are green, blue and red, or luma and chroma."""


@dataclass(frozen=True, kw_only=True)
class _NewItem:
    number: int
    kind: bytes
    data: bytes
    content_type: bytes = b""
    refers: bytes = b""
    """Kind of its reference to the picture."""
    properties: Sequence[Property] = ()


def avif_with(encoded: bytes, metadata: Metadata, *, identity: bool, alpha: bytes | None = None) -> bytes:
    """Return an AVIF with the pixels of `encoded`, and with metadata.

    Args:
        encoded: an AVIF as libheif writes it.
        identity: its planes are RGB.
        alpha: an AVIF to take the alpha from; by default `encoded`.
    """
    items = [_picture(PICTURE, encoded, items_of(encoded).primary, _colours(metadata, identity))]
    transparent = alpha or encoded
    others = items_of(transparent).others.values()
    alphas = [item for item in others if ALPHA_URN in (item.property(b"auxC") or b"")]
    items += [_picture(ALPHA, transparent, item, []) for item in alphas]
    if metadata.exif:
        items.append(_NewItem(number=EXIF, kind=b"Exif", refers=b"cdsc", data=bytes(4) + metadata.exif))
    if metadata.xmp:
        items.append(_NewItem(number=XMP, kind=b"mime", refers=b"cdsc", data=metadata.xmp, content_type=MIME_XMP))
    head = _box(b"ftyp", b"avif", bytes(4), b"avif", b"mif1", b"miaf")
    start = len(head) + len(_meta(items, 0)) + 8
    return b"".join((head, _meta(items, start), _box(b"mdat", *(item.data for item in items))))


def _picture(number: int, encoded: bytes, item: Item, colours: Sequence[Property]) -> _NewItem:
    kept = [(kind, body) for kind, body in item.properties if kind in (b"ispe", b"pixi", b"av1C", b"auxC")]
    return _NewItem(
        number=number,
        kind=b"av01",
        data=item.data(encoded),
        refers=b"auxl" if number == ALPHA else b"",
        properties=[*kept, *colours],
    )


def _colours(metadata: Metadata, identity: bool) -> list[Property]:
    matrix = IDENTITY if identity else BT601
    named = b"nclx" + struct.pack(">HHHB", *nclx(metadata.colours), matrix, ESSENTIAL)  # full range
    if metadata.icc_profile and CICP not in metadata.colours:  # cICP overrides a profile in a PNG, but not in an AVIF
        return [(b"colr", b"prof" + metadata.icc_profile), (b"colr", named)]
    return [(b"colr", named)]


def _meta(items: Sequence[_NewItem], start: int) -> bytes:
    """Return the box that describes the items, whose bytes begin at `start`."""
    handler = _full_box(b"hdlr", bytes(4), b"pict", bytes(13))
    primary = _full_box(b"pitm", PICTURE.to_bytes(2))
    return _full_box(b"meta", handler, primary, _places(items, start), _names(items), _references(items), _known(items))


def _places(items: Sequence[_NewItem], start: int) -> bytes:
    body = struct.pack(">BBH", 0x44, 0, len(items))  # offsets and sizes of 4 bytes
    for item in items:
        body += struct.pack(">HHHII", item.number, 0, 1, start, len(item.data))
        start += len(item.data)
    return _full_box(b"iloc", body)


def _names(items: Sequence[_NewItem]) -> bytes:
    entries = [
        _full_box(b"infe", struct.pack(">HH4sx", item.number, 0, item.kind), item.content_type, version=2)
        for item in items
    ]
    return _full_box(b"iinf", len(items).to_bytes(2), *entries)


def _references(items: Sequence[_NewItem]) -> bytes:
    entries = [_box(item.refers, struct.pack(">HHH", item.number, 1, PICTURE)) for item in items if item.refers]
    return _full_box(b"iref", *entries) if entries else b""


def _known(items: Sequence[_NewItem]) -> bytes:
    properties, associations, count = [], b"", 0
    for item in items:
        if item.properties:
            count += 1
            associations += struct.pack(">HB", item.number, len(item.properties))
        for kind, body in item.properties:
            properties.append(_box(kind, body))
            associations += bytes([len(properties) | (ESSENTIAL if kind == b"av1C" else 0)])
    return _box(b"iprp", _box(b"ipco", *properties), _full_box(b"ipma", count.to_bytes(4), associations))


def _full_box(kind: bytes, *body: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, 0]), *body)


def _box(kind: bytes, *body: bytes) -> bytes:
    return b"".join(((8 + sum(map(len, body))).to_bytes(4), kind, *body))
