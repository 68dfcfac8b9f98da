"""Metadata as written by cameras and programs, and files with it."""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from tests.app.conftest import noise

EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}


@dataclass(frozen=True)
class Entry:
    """A field: its tag, its type, and its bytes or the entries of the IFD that it points to."""

    tag: int
    kind: int
    content: "bytes | Sequence[Entry]"


def text(tag: int, content: bytes) -> Entry:
    """Make a field of text."""
    return Entry(tag, ASCII, content + b"\0")


def tiff_structure(entries: Sequence[Entry], order: str = "<") -> bytes:
    """Make EXIF from the entries, in their order."""
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(order + "HI", 42, 8) + _ifd(entries, 8, order)


def _ifd(entries: Sequence[Entry], at: int, order: str) -> bytes:
    table, behind = struct.pack(order + "H", len(entries)), b""
    start = at + 2 + 12 * len(entries) + 4
    for entry in entries:
        offset = struct.pack(order + "I", start + len(behind))
        if not isinstance(entry.content, bytes):
            table += struct.pack(order + "HHI4s", entry.tag, LONG, 1, offset)
            behind += _ifd(entry.content, start + len(behind), order)
            continue
        count, value = len(entry.content) // SIZES[entry.kind], entry.content
        if len(value) > 4:
            behind, value = behind + value + bytes(len(value) % 2), offset
        table += struct.pack(order + "HHI4s", entry.tag, entry.kind, count, value)
    return table + bytes(4) + behind


def number(tag: int, value: int, order: str = "<", kind: int = SHORT) -> Entry:
    """Make a field of one integer."""
    return Entry(tag, kind, struct.pack(order + ("H" if kind == SHORT else "I"), value))


def adobe_exif(space: int = 65535, index: bytes | None = b"R03", order: str = "<") -> bytes:
    """Make the EXIF of a camera set to Adobe RGB."""
    camera = [number(0xA001, space, order)]
    if index:
        camera.append(Entry(INTEROP_IFD, LONG, [text(1, index), Entry(2, UNDEFINED, b"0100")]))
    return tiff_structure([text(0x10F, b"Maker"), Entry(EXIF_IFD, LONG, camera)], order)


RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "drone-dji": "http://www.dji.com/drone-dji/1.0/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "GPano": "http://ns.google.com/photos/1.0/panorama/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "crs": "http://ns.adobe.com/camera-raw-settings/1.0/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
    "mine": "urn:example:mine",
}
TITLE = '<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Quay</rdf:li></rdf:Alt></dc:title>'


def xmp(elements: str = "", attributes: str = "", *, title: str = TITLE) -> str:
    """Make a packet with a title, and with elements and attributes of one description."""
    spaces = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}>'
        f'<rdf:Description rdf:about="" {spaces} {attributes}>{title}{elements}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta>\n   \n<?xpacket end="w"?>'
    )


def jpeg(
    *segments: bytes, mode: str = "RGB", exif: bytes = b"", xmp: bytes = b"", icc_profile: bytes | None = None
) -> bytes:
    """Make a JPEG of noise.

    Args:
        segments: contents of further APP1 segments.
        mode: of its pixels.
        exif: a TIFF structure.
        xmp: a packet.
        icc_profile: any bytes.
    """
    contents = [*([b"Exif\0\0" + exif] if exif else []), *([b"http://ns.adobe.com/xap/1.0/\0" + xmp] if xmp else [])]
    extra = b"".join(b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content for content in (*contents, *segments))
    file = io.BytesIO()
    image: Image.Image = noise(10, 7, mode=mode)
    image.save(file, "JPEG", icc_profile=icc_profile)
    whole = file.getvalue()
    return whole[:2] + extra + whole[2:]
